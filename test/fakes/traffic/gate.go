// Package traffic is what every fake cloud does to a request before its service
// sees it: it records what was asked, waits as long as the real service would
// take, throttles, and does the harm that a test has ordered. The fakes of
// test/fakes embed a Gate, so that faults, limits, latency, counts and the
// control endpoint are the same for every cloud. It knows no cloud's errors:
// how a refusal is worded and encoded is each fake's own. It is never linked
// into the product.
package traffic

import (
	"context"
	"net/http"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/serve"
)

// Options are what does not change while a Gate is used.
type Options struct {
	// Now is the clock of limits and records. Latency is real time whatever
	// the clock. Default: time.Now.
	Now func() time.Time

	// Record, where set, is called with every request in the notation of
	// Call.String as it arrives, so that several fakes can share one ordered
	// record.
	Record func(call string)

	// Inside, where set, says of a fault that matches a call that it belongs
	// into the answer (one item of a batch) and not in its place. The fake
	// finds it with Take.
	Inside func(Fault, *Call) bool
}

// A Gate stands before a fake's services. All methods are safe for concurrent
// use.
type Gate struct {
	opts Options
	faults
	record
}

// New makes a gate that lets everything through.
func New(opts Options) *Gate {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	g := &Gate{opts: opts}
	g.faults.latency = map[string]time.Duration{}
	g.faults.limits = map[string]*limiter{}
	g.record.counts = map[string]int{}
	return g
}

// Now is the gate's clock.
func (g *Gate) Now() time.Time { return g.opts.Now() }

// An Outcome is what a gate makes of a request.
type Outcome int

const (
	Proceed  Outcome = iota // the service answers
	Refuse                  // the fault's status, code and message are answered
	Throttle                // the service's own words for too many requests are
	Drop                    // the connection is closed, nothing is answered
	Garbage                 // something is answered that no protocol has
	Cut                     // a good answer begins, and breaks off
)

// Judge waits as long as latency, faults and hanging demand, and says what is
// to happen to the request then. The fault is that of Refuse.
func (g *Gate) Judge(ctx context.Context, c *Call) (Outcome, Fault) {
	wait, hit, throttled := g.strike(c)

	if !sleep(ctx, wait) {
		return Drop, Fault{}
	}

	switch {
	case hit == nil && throttled:
		return Throttle, Fault{}
	case hit == nil:
		return Proceed, Fault{}
	case hit.Drop:
		g.End(c, 0, "drop")
		return Drop, hit.Fault
	case hit.Cut:
		g.End(c, http.StatusOK, "cut")
		return Cut, hit.Fault
	case hit.Garbage:
		g.End(c, http.StatusOK, "garbage")
		return Garbage, hit.Fault
	case !hit.Hang:
		return Refuse, hit.Fault
	}

	select {
	case <-hit.removed:
		return Proceed, Fault{}
	case <-ctx.Done():
		g.End(c, 0, "hang")
		return Drop, hit.Fault
	}
}

// Rubbish is what Garbage answers.
const Rubbish = "<html><body>It works!</body></html>\x00\xff{"

// Disturb is Judge for an HTTP request: it returns true where the request has
// been answered, by refuse where the outcome is Refuse or Throttle, and does
// not return where the connection is to be closed.
func (g *Gate) Disturb(w http.ResponseWriter, r *http.Request, c *Call, refuse func(Outcome, Fault)) bool {
	outcome, fault := g.Judge(r.Context(), c)
	switch outcome {
	case Proceed:
		return false
	case Drop:
		serve.Drop(r)
	case Cut:
		w.Header().Set("Content-Length", "4096")
		w.WriteHeader(http.StatusOK)
		w.Write([]byte(`{"Name":"`))
		_ = http.NewResponseController(w).Flush()
		serve.Drop(r)
	case Garbage:
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte(Rubbish))
	default:
		refuse(outcome, fault)
	}
	return true
}

// strike finds what happens to a request and uses it up.
func (g *Gate) strike(c *Call) (wait time.Duration, hit *armed, throttled bool) {
	g.faults.mu.Lock()
	defer g.faults.mu.Unlock()

	wait, own := g.latency[c.Service]
	if !own {
		wait = g.latency[""]
	}

	for _, a := range g.armed {
		inside := g.opts.Inside != nil && g.opts.Inside(a.Fault, c)
		if a.spent() || !a.Matches(c) || inside {
			continue
		}
		a.used++
		wait += a.Latency
		if a.answers() {
			return wait, a, false
		}
	}
	return wait, nil, g.limits[c.Service].throttles(c, g.opts.Now())
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
