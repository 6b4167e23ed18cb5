package aws

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A Fault is answered instead of data. Empty fields match everything.
type Fault struct {
	Service string
	Region  string
	Op      string
	ID      string // a secret's or parameter's name or ARN, as the request gives it or as it resolves

	Status     int // 500 where it is 0 and Code is not empty
	Code       string
	Message    string
	RetryAfter time.Duration

	Latency time.Duration // waits; a fault that does nothing else lets the request go on
	Hang    bool          // answers nothing until the client leaves or the fault is removed
	Garbage bool          // answers what no protocol has
	Drop    bool          // closes the connection

	Times int // how often; 0 is always
}

// UnmarshalJSON reads the form of the observed cases: lower-case fields, with
// durations as text ("20ms"). Unknown fields are errors.
func (f *Fault) UnmarshalJSON(data []byte) error {
	var in struct {
		Service, Region, Op, ID, Code, Message string
		RetryAfter, Latency                    string
		Status, Times                          int
		Hang, Garbage, Drop                    bool
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return fmt.Errorf("fault: %w", err)
	}
	*f = Fault{Service: in.Service, Region: in.Region, Op: in.Op, ID: in.ID,
		Status: in.Status, Code: in.Code, Message: in.Message,
		Hang: in.Hang, Garbage: in.Garbage, Drop: in.Drop, Times: in.Times}
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

// answers says whether the fault replaces the answer.
func (f *Fault) answers() bool {
	return f.Hang || f.Garbage || f.Drop || f.Code != "" || f.Status != 0
}

func (f *Fault) err() *apiError {
	e := &apiError{Status: f.Status, Code: f.Code, Message: f.Message, retryAfter: f.RetryAfter}
	if e.Status == 0 {
		e.Status = http.StatusInternalServerError
	}
	return e
}

// A Limit is a token bucket of a service, over all regions.
type Limit struct {
	Service   string  `json:"service"`
	PerSecond float64 `json:"perSecond"` // 0 removes the limit
	Burst     int     `json:"burst"`
}

type bucket struct {
	Limit
	tokens float64
	last   time.Time
}

type armed struct {
	Fault
	used    int
	removed chan struct{}
}

type faults struct {
	mu      sync.Mutex
	armed   []*armed
	latency map[string]time.Duration
	limits  map[string]*bucket
}

func (f *faults) init() {
	f.latency = map[string]time.Duration{}
	f.limits = map[string]*bucket{}
}

// AddFault arms a fault behind those that are there; the first that matches
// answers. The returned function removes it.
func (s *Server) AddFault(f Fault) (remove func()) {
	a := &armed{Fault: f, removed: make(chan struct{})}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.armed = append(s.armed, a)
	return sync.OnceFunc(func() {
		s.faults.mu.Lock()
		defer s.faults.mu.Unlock()
		if i := slices.Index(s.armed, a); i >= 0 {
			s.armed = slices.Delete(s.armed, i, i+1)
			close(a.removed)
		}
	})
}

// ClearFaults removes all faults; what hangs goes on.
func (s *Server) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	for _, a := range s.armed {
		close(a.removed)
	}
	s.armed = nil
}

// TakeDown makes a region refuse every connection after the handshake, until
// restore is called.
func (s *Server) TakeDown(region string) (restore func()) {
	return s.AddFault(Fault{Region: region, Drop: true})
}

// SetLatency delays every request to a service, or to all where service is
// empty; the service's own latency goes before that of all.
func (s *Server) SetLatency(service string, d time.Duration) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.latency[service] = d
}

// SetLimit throttles a service.
func (s *Server) SetLimit(l Limit) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	if l.PerSecond == 0 {
		delete(s.limits, l.Service)
		return
	}
	s.limits[l.Service] = &bucket{Limit: l, tokens: float64(max(l.Burst, 1)), last: s.opts.Now()}
}

// disturb does to a request what faults, latency and limits demand. It returns
// true where it has answered, and does not return where the connection is to
// be closed.
func (s *Server) disturb(w http.ResponseWriter, q *request) bool {
	wait, hit, throttled := s.strike(q)
	if !sleep(q.Context(), wait) {
		panic(http.ErrAbortHandler)
	}
	if hit == nil {
		if throttled {
			s.fail(w, q, throttling(q.service))
		}
		return throttled
	}
	switch {
	case hit.Drop:
		s.end(q, 0, "drop")
		panic(http.ErrAbortHandler)
	case hit.Hang:
		select {
		case <-hit.removed:
			return false
		case <-q.Context().Done():
			s.end(q, 0, "hang")
			panic(http.ErrAbortHandler)
		}
	case hit.Garbage:
		s.end(q, http.StatusOK, "garbage")
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html><body>It works!</body></html>\x00\xff{")
	default:
		s.fail(w, q, hit.err())
	}
	return true
}

// strike finds what happens to a request and uses it up.
func (s *Server) strike(q *request) (wait time.Duration, hit *armed, throttled bool) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	wait, own := s.latency[q.service]
	if !own {
		wait = s.latency[""]
	}
	for _, a := range s.armed {
		if !a.matches(q) || a.itemOnly(q) {
			continue
		}
		a.used++
		wait += a.Latency
		if a.answers() {
			return wait, a, false
		}
	}
	return wait, nil, s.limits[q.service].throttles(s.opts.Now())
}

func (a *armed) matches(q *request) bool {
	return (a.Times == 0 || a.used < a.Times) &&
		(a.Service == "" || a.Service == q.service) &&
		(a.Region == "" || a.Region == q.region) &&
		(a.Op == "" || a.Op == q.op) &&
		(a.ID == "" || slices.Contains(plainIDs(q.ids), a.ID))
}

// itemOnly is true of an error for one secret of a batch: BatchGetSecretValue
// lists it in Errors and answers the rest.
func (a *armed) itemOnly(q *request) bool {
	return a.ID != "" && a.Code != "" && q.op == "BatchGetSecretValue"
}

// itemFault is the error of one secret of a batch. A fault of GetSecretValue is
// one too: the batch reads each secret with that permission and that path.
func (s *Server) itemFault(q *request, names ...string) *apiError {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	for _, a := range s.armed {
		one := &request{service: q.service, region: q.region, op: "BatchGetSecretValue", ids: names}
		single := &request{service: q.service, region: q.region, op: "GetSecretValue", ids: names}
		if a.Code != "" && (a.ID != "" && a.matches(one) || a.Op == "GetSecretValue" && a.matches(single)) {
			a.used++
			return a.err()
		}
	}
	return nil
}

func (b *bucket) throttles(now time.Time) bool {
	if b == nil {
		return false
	}
	b.tokens = min(float64(max(b.Burst, 1)), b.tokens+now.Sub(b.last).Seconds()*b.PerSecond)
	b.last = now
	if b.tokens < 1 {
		return true
	}
	b.tokens--
	return false
}

// throttling is the services' own code for too many requests.
func throttling(service string) *apiError {
	switch service {
	case STS:
		return badRequest("Throttling", "Rate exceeded")
	case PodIdentity:
		return &apiError{Status: http.StatusTooManyRequests, Message: "Too Many Requests. "}
	}
	return badRequest("ThrottlingException", "Rate exceeded")
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
