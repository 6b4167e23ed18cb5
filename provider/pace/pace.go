// Package pace keeps a process from asking a service more than the service
// wants to answer. A Pacer does nothing until the service says for the first
// time that it is asked too much; from then on it lets calls through at a rate
// that it finds out by itself, and it gives the limit up again once the service
// has been content for a while.
//
// Whoever waits is served by turns, one tenant after the other, so that one
// tenant's storm does not starve another's calls. Nothing here knows what a
// call is: a store acquires before each attempt and says afterwards how it went.
package pace

import (
	"container/list"
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

// Outcome is how a call went, as far as pacing goes.
type Outcome int

const (
	// Answered: the service did what it was asked, or refused it for a reason
	// that has nothing to do with how often it is asked.
	Answered Outcome = iota
	// Throttled: the service asked to be asked less.
	Throttled
	// Failed: there was no answer, or one of a broken service; says nothing
	// about rates.
	Failed
)

// How the rate is found: it grows by a share of itself until the service
// refuses again, which is the ceiling; from then on it is lowered by a factor
// at every refusal and grows by steps (additive increase, multiplicative
// decrease).
const (
	window     = time.Second // successes in it are the first estimate
	firstShare = 0.5         // of that estimate, to begin with: the service is behind already
	search     = 0.3         // growth in a second while there is no ceiling, as a share of the rate
	decrease   = 0.7         // at every refusal after the first
	increase   = 0.05        // growth in a second below a ceiling, as a share of the rate after the last refusal
	minRate    = 2.0         // calls a second
	// Recovery: a refusal that nothing was answered beside is an outage, not a
	// ceiling. With none for calm, the rate grows by regain in a second up to
	// most of the ceiling; with none for sure, beyond it.
	calm    = 500 * time.Millisecond
	sure    = 1500 * time.Millisecond
	most    = 0.8
	regain  = 4.0
	beyond  = 4.0
	content = 30 * time.Second // without a refusal, and the limit is given up
	maxHold = 30 * time.Second // of a Retry-After

	// Calls at once, to begin with: what a service that is full already has to
	// refuse at most. One more for every few that are answered.
	firstFlight = 24
	moreFlight  = 0.25
	minFlight   = 8
)

// ErrFull is the answer to a caller that finds the queue full.
var ErrFull = errors.New("too many calls wait for their turn already")

// Options bound a Pacer. The zero Options are usable.
type Options struct {
	MaxInFlight int // calls at once; default 64
	MaxQueue    int // callers that wait; default 50,000
	// Now and AfterFunc are the clock; by default the real one.
	Now       func() time.Time
	AfterFunc func(time.Duration, func()) (stop func() bool)
}

// Pacer is safe for concurrent use.
type Pacer struct {
	opts Options

	mu       sync.Mutex
	inFlight int
	holds    map[string]int // of them, by tenant
	flight   float64        // how many may be in flight now
	waiting  int
	tenants  map[string]*tenant
	turns    *list.List // of tenants with callers that wait
	armed    bool       // a timer will dispatch

	rate      float64 // calls a second; 0 is no limit
	step      float64 // by which the rate grows in a second; 0 while there is no ceiling
	ceiling   float64 // the rate at which the service refused some of the calls
	tokens    float64
	filled    time.Time // when tokens were last added
	hold      time.Time // nothing goes before
	refused   time.Time // last refusal
	epoch     int       // of the rate: a refusal of a call from an older epoch has been acted on
	successes recent
}

type tenant struct {
	name    string
	waiters *list.List
	turn    *list.Element // in turns, nil where nobody waits
}

// share is how many calls of one tenant may be in flight: half, whether others
// wait or not, so that one whose calls hang leaves room for the others.
func (p *Pacer) share() int { return max(1, p.opts.MaxInFlight/2) }

type waiter struct {
	ready chan *Grant
	at    *list.Element
	of    *tenant
}

// Grant is the leave to make one call. It must be released exactly once.
type Grant struct {
	pacer  *Pacer
	epoch  int
	tenant string
}

// New makes a Pacer without a limit.
func New(o Options) *Pacer {
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = 64
	}
	if o.MaxQueue <= 0 {
		o.MaxQueue = 50_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.AfterFunc == nil {
		o.AfterFunc = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
	}

	return &Pacer{opts: o, flight: float64(min(firstFlight, o.MaxInFlight)), tenants: map[string]*tenant{}, turns: list.New(), holds: map[string]int{}}
}

// Acquire waits for the caller's turn. It fails where ctx ends first, or with
// ErrFull.
func (p *Pacer) Acquire(ctx context.Context, tenantName string) (*Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	if p.waiting >= p.opts.MaxQueue {
		p.mu.Unlock()
		return nil, ErrFull
	}
	w := p.enqueue(tenantName)
	p.dispatch()
	p.mu.Unlock()
	select {
	case g := <-w.ready:
		return g, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case g := <-w.ready: // granted in the same moment: give it back
		p.left(g)
		p.tokens += 1
		p.dispatch()
	default:
		p.remove(w)
	}

	return nil, ctx.Err()
}

// Release says how the call went. retryAfter is what the service asked for with
// a refusal; zero where it did not say.
func (g *Grant) Release(o Outcome, retryAfter time.Duration) {
	p := g.pacer
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.opts.Now()
	p.left(g)
	switch o {
	case Answered:
		p.answered(now)
	case Throttled:
		p.throttled(now, g.epoch, retryAfter)
	}
	p.dispatch()
}

// Rate is the limit now, in calls a second; 0 where there is none.
func (p *Pacer) Rate() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate
}

// Idle says whether the pacer knows nothing worth keeping.
func (p *Pacer) Idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(p.opts.Now())
	return p.inFlight == 0 && p.waiting == 0 && p.rate == 0
}

func (p *Pacer) answered(now time.Time) {
	p.successes.add(now)
	p.flight = min(p.flight+moreFlight, float64(p.opts.MaxInFlight))
	// A rate that nobody is held up by has not been tried out.
	if p.rate > 0 && p.waiting > 0 {
		if p.step == 0 {
			p.rate += search // a share of the rate in a second, at a rate of calls in it
		} else {
			p.rate += p.step / p.rate
		}
	}
}

// throttled lowers the rate once for all the calls that were under way when
// the service had enough.
func (p *Pacer) throttled(now time.Time, epoch int, retryAfter time.Duration) {
	p.refused = now
	if until := now.Add(min(retryAfter, maxHold)); until.After(p.hold) {
		p.hold = until
	}
	if epoch != p.epoch {
		return
	}
	p.epoch++
	p.refill(now)
	some := float64(p.successes.count(now))
	if some > 0 {
		p.ceiling = max(p.rate, some)
	}
	if p.rate == 0 {
		p.rate, p.step = max(minRate, firstShare*some), 0
	} else {
		p.rate = max(minRate, p.rate*decrease)
		p.step = max(increase*p.rate, 0.5)
	}
	p.tokens, p.filled = 0, now
	p.flight = max(p.flight/2, float64(min(minFlight, p.opts.MaxInFlight)))
}

// forget gives the limit up where the service has been content.
func (p *Pacer) forget(now time.Time) {
	if p.rate > 0 && p.waiting == 0 && now.Sub(p.refused) > content {
		p.rate = 0
		p.epoch++
	}
}

func (p *Pacer) refill(now time.Time) {
	if p.rate > 0 {
		p.regain(now)
		burst := max(1, p.rate/20)
		p.tokens = min(burst, p.tokens+p.rate*now.Sub(p.filled).Seconds())
	}
	p.filled = now
}

// regain raises the rate for the time since it was looked at last.
func (p *Pacer) regain(now time.Time) {
	quiet := now.Sub(p.refused)
	if p.waiting == 0 || quiet < calm {
		return // a rate that nobody is held up by has not been tried out
	}
	dt := min(now.Sub(p.filled), quiet-calm).Seconds()

	switch {
	case p.rate < most*p.ceiling:
		p.rate = min(p.rate*math.Pow(regain, dt), most*p.ceiling)
	case quiet > sure:
		p.rate *= math.Pow(beyond, dt)
	}
}

// dispatch lets go whoever may, and sees to it that it is called again when the
// next one may.
func (p *Pacer) dispatch() {
	now := p.opts.Now()
	if p.waiting == 0 {
		p.forget(now)
		return
	}
	for p.waiting > 0 && p.inFlight < int(p.flight) {
		t := p.turn()
		if t == nil {
			return
		}
		if wait := p.hold.Sub(now); wait > 0 {
			p.arm(wait)
			return
		}
		if p.rate > 0 {
			p.refill(now)
			if p.tokens < 1 {
				p.arm(time.Duration((1 - p.tokens) / p.rate * float64(time.Second)))
				return
			}
			p.tokens--
		}

		p.inFlight++
		p.holds[t.name]++
		p.next(t).ready <- &Grant{pacer: p, epoch: p.epoch, tenant: t.name}
	}
}

// left counts a call out.
func (p *Pacer) left(g *Grant) {
	p.inFlight--
	if p.holds[g.tenant]--; p.holds[g.tenant] == 0 {
		delete(p.holds, g.tenant)
	}
}

// turn is the tenant who is next: nil where all who wait have their share.
func (p *Pacer) turn() *tenant {
	for e := p.turns.Front(); e != nil; e = e.Next() {
		if t := e.Value.(*tenant); p.holds[t.name] < p.share() {
			return t
		}
	}
	return nil
}

func (p *Pacer) arm(wait time.Duration) {
	if p.armed {
		return
	}
	p.armed = true
	p.opts.AfterFunc(max(wait, time.Millisecond), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.armed = false
		p.dispatch()
	})
}

func (p *Pacer) enqueue(name string) *waiter {
	t := p.tenants[name]
	if t == nil {
		t = &tenant{name: name, waiters: list.New()}
		p.tenants[name] = t
		t.turn = p.turns.PushBack(t)
	}

	w := &waiter{ready: make(chan *Grant, 1), of: t}
	w.at = t.waiters.PushBack(w)
	p.waiting++
	return w
}

// next takes the first caller of a tenant, who waits for all others then.
func (p *Pacer) next(t *tenant) *waiter {
	p.turns.MoveToBack(t.turn)
	w := t.waiters.Front().Value.(*waiter)
	p.remove(w)
	return w
}

func (p *Pacer) remove(w *waiter) {
	w.of.waiters.Remove(w.at)
	p.waiting--
	if w.of.waiters.Len() == 0 {
		p.turns.Remove(w.of.turn)
		delete(p.tenants, w.of.name)
	}
}

// recent counts successes of the last window, in slots of a tenth of it.
type recent struct {
	slots  [10]int
	newest int64 // number of the newest slot since the epoch
}

func (r *recent) advance(now time.Time) {
	n := now.UnixNano() / int64(window/time.Duration(len(r.slots)))
	for i := max(r.newest+1, n-int64(len(r.slots))+1); i <= n; i++ {
		r.slots[i%int64(len(r.slots))] = 0
	}
	r.newest = max(r.newest, n)
}

func (r *recent) add(now time.Time) {
	r.advance(now)
	r.slots[r.newest%int64(len(r.slots))]++
}

func (r *recent) count(now time.Time) int {
	r.advance(now)
	n := 0
	for _, s := range r.slots {
		n += s
	}
	return n
}
