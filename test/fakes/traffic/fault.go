package traffic

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A Fault is answered instead of data. Empty fields match everything.
type Fault struct {
	Service string
	Region  string // a region, a location, a vault: what the cloud's Call.Region is
	Op      string
	ID      string // what is asked for, as the request gives it or as it resolves

	Status     int    // HTTP; the fake's own default where it is 0
	Code       string // as the cloud words it
	Message    string
	RetryAfter time.Duration

	Latency time.Duration // waits; a fault that does nothing else lets the request go on
	Hang    bool          // answers nothing until the client leaves or the fault is removed
	Garbage bool          // answers what no protocol has
	Drop    bool          // closes the connection
	Cut     bool          // begins a good answer and breaks off in the middle

	Times int // how often; 0 is always
}

// UnmarshalJSON reads the form of the observed cases: lower-case fields, with
// durations as text ("20ms"). Unknown fields are errors.
func (f *Fault) UnmarshalJSON(data []byte) error {
	var in struct {
		Service, Region, Op, ID, Code, Message string
		RetryAfter, Latency                    string
		Status, Times                          int
		Hang, Garbage, Drop, Cut               bool
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return fmt.Errorf("fault: %w", err)
	}
	*f = Fault{Service: in.Service, Region: in.Region, Op: in.Op, ID: in.ID,
		Status: in.Status, Code: in.Code, Message: in.Message,
		Hang: in.Hang, Garbage: in.Garbage, Drop: in.Drop, Cut: in.Cut, Times: in.Times}

	for text, d := range map[string]*time.Duration{in.RetryAfter: &f.RetryAfter, in.Latency: &f.Latency} {
		if text == "" {
			continue
		}
		var err error
		if *d, err = time.ParseDuration(text); err != nil {
			return fmt.Errorf("fault: %w", err)
		}
	}
	return nil
}

// Matches says whether the fault is one of this call.
func (f Fault) Matches(c *Call) bool {
	return (f.Service == "" || f.Service == c.Service) &&
		(f.Region == "" || f.Region == c.Region) &&
		(f.Op == "" || f.Op == c.Op) &&
		(f.ID == "" || slices.Contains(c.IDs, f.ID) || slices.Contains(c.Also, f.ID))
}

// answers says whether the fault replaces the answer.
func (f Fault) answers() bool {
	return f.Hang || f.Garbage || f.Drop || f.Cut || f.Code != "" || f.Status != 0
}

// A Limit is a token bucket of a service.
type Limit struct {
	Service   string  `json:"service"`
	PerSecond float64 `json:"perSecond"` // 0 removes the limit
	Burst     int     `json:"burst"`

	// Per says who shares a bucket: "" all callers and regions together,
	// "caller" each caller alone, "region" each region (location, vault) alone.
	Per string `json:"per,omitempty"`
}

type limiter struct {
	Limit
	buckets map[string]*bucket
}

type bucket struct {
	tokens float64
	last   time.Time
}

type armed struct {
	Fault
	used    int
	removed chan struct{}
}

func (a *armed) spent() bool { return a.Times > 0 && a.used >= a.Times }

type faults struct {
	mu      sync.Mutex
	armed   []*armed
	latency map[string]time.Duration
	limits  map[string]*limiter
}

// AddFault arms a fault behind those that are there; the first that matches
// answers. The returned function removes it.
func (f *faults) AddFault(fault Fault) (remove func()) {
	a := &armed{Fault: fault, removed: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = append(f.armed, a)
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if i := slices.Index(f.armed, a); i >= 0 {
			f.armed = slices.Delete(f.armed, i, i+1)
			close(a.removed)
		}
	})
}

// ClearFaults removes all faults; what hangs goes on.
func (f *faults) ClearFaults() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.armed {
		close(a.removed)
	}
	f.armed = nil
}

// Take uses up the first fault with a code that match accepts, for a fake that
// puts it inside an answer.
func (f *faults) Take(match func(Fault) bool) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.armed {
		if a.Code != "" && !a.spent() && match(a.Fault) {
			a.used++
			return a.Fault, true
		}
	}
	return Fault{}, false
}

// TakeDown makes a region refuse every connection after the handshake, until
// restore is called.
func (f *faults) TakeDown(region string) (restore func()) {
	return f.AddFault(Fault{Region: region, Drop: true})
}

// SetLatency delays every request to a service, or to all where service is
// empty; the service's own latency goes before that of all.
func (f *faults) SetLatency(service string, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latency[service] = d
}

// SetLimit throttles a service.
func (f *faults) SetLimit(l Limit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.PerSecond == 0 {
		delete(f.limits, l.Service)
		return
	}
	f.limits[l.Service] = &limiter{Limit: l, buckets: map[string]*bucket{}}
}

func (l *limiter) throttles(c *Call, now time.Time) bool {
	if l == nil {
		return false
	}

	shared := map[string]string{"caller": c.Caller, "region": c.Region}[l.Per]
	full := float64(max(l.Burst, 1))
	b := l.buckets[shared]
	if b == nil {
		b = &bucket{tokens: full, last: now}
		l.buckets[shared] = b
	}

	b.tokens = min(full, b.tokens+now.Sub(b.last).Seconds()*l.PerSecond)
	b.last = now
	if b.tokens < 1 {
		return true
	}
	b.tokens--
	return false
}
