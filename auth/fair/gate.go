// Package fair shares a limited number of places between tenants. Whoever
// waits is let in tenant by tenant, one after the other, so that one tenant's
// storm delays another by its share and no more; no tenant holds more than half
// of the places, whether others wait or not; and none may have more than a
// bounded number waiting.
package fair

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// ErrFull is Enter's answer where too many of the tenant wait already.
var ErrFull = errors.New("too many are waiting")

// Gate lets in a limited number at a time. It is safe for concurrent use.
type Gate struct {
	places, share, queue int
	now                  func() time.Time

	mu      sync.Mutex
	held    map[*Place]time.Time
	taken   int                   // places that are held
	inside  map[string]int        // tenant → places that it holds
	waiting map[string]*list.List // tenant → of *waiter, in order of arrival
	turn    *list.List            // of tenants that wait, the next in front
}

// Place is one that was entered. It belongs to one goroutine at a time.
type Place struct {
	gate   *Gate
	tenant string
	weight int // how many places it takes
}

type waiter struct {
	called chan struct{}
	place  *Place
}

// New makes a gate with so many places, and at most queue waiting a tenant.
func New(places, queue int) *Gate {
	return &Gate{
		places: places, share: max(1, places/2), queue: queue, now: time.Now,
		held: map[*Place]time.Time{}, inside: map[string]int{}, waiting: map[string]*list.List{}, turn: list.New(),
	}
}

// Enter waits for a place, which must be left. The error is ErrFull, or the
// context's.
func (g *Gate) Enter(ctx context.Context, tenant string) (*Place, error) {
	return g.EnterWith(ctx, tenant, 1)
}

// EnterWith is Enter for what takes several places at once: at most a tenant's
// share, however many are asked for.
func (g *Gate) EnterWith(ctx context.Context, tenant string, weight int) (*Place, error) {
	p := &Place{gate: g, tenant: tenant, weight: min(weight, g.share)}
	return p, p.enter(ctx)
}

func (p *Place) enter(ctx context.Context) error {
	g := p.gate
	g.mu.Lock()
	if g.waiting[p.tenant] == nil && g.fits(p) {
		g.take(p)
		g.mu.Unlock()
		return nil
	}

	line := g.waiting[p.tenant]
	if line == nil {
		line = list.New()
		g.waiting[p.tenant] = line
		g.turn.PushBack(p.tenant)
	}

	if line.Len() >= g.queue {
		g.mu.Unlock()
		return ErrFull
	}
	w := &waiter{make(chan struct{}), p}
	at := line.PushBack(w)
	g.mu.Unlock()

	select {
	case <-w.called:
		return nil
	case <-ctx.Done():
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-w.called: // at the same moment: the place goes on to the next
		g.free(p)
	default:
		line.Remove(at)
		g.forget(p.tenant)
	}

	return ctx.Err()
}

// Leave gives the place back.
func (p *Place) Leave() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.gate.free(p)
}

// Oldest is how long the place that was entered first is held; 0 where none is.
func (g *Gate) Oldest() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	var oldest time.Duration
	for _, since := range g.held {
		oldest = max(oldest, g.now().Sub(since))
	}
	return oldest
}

// fits says whether a tenant may have what a place takes. The caller locks.
func (g *Gate) fits(p *Place) bool {
	return g.taken+p.weight <= g.places && g.inside[p.tenant]+p.weight <= g.share
}

func (g *Gate) take(p *Place) {
	g.held[p] = g.now()
	g.taken += p.weight
	g.inside[p.tenant] += p.weight
}

// free takes a place back and hands out what is free, to the tenants in turn
// that hold less than their share. The caller locks.
func (g *Gate) free(p *Place) {
	delete(g.held, p)
	g.taken -= p.weight
	if g.inside[p.tenant] -= p.weight; g.inside[p.tenant] == 0 {
		delete(g.inside, p.tenant)
	}

	for e := g.turn.Front(); e != nil && g.taken < g.places; {
		next := e.Next()
		tenant := e.Value.(string)
		line := g.waiting[tenant]
		if w := line.Front().Value.(*waiter); g.fits(w.place) {
			line.Remove(line.Front())
			g.take(w.place)
			close(w.called)
			g.turn.MoveToBack(e)
			g.forget(tenant)
		}

		e = next
	}
}

// forget takes a tenant that waits no more out of the turns.
func (g *Gate) forget(tenant string) {
	if line := g.waiting[tenant]; line == nil || line.Len() > 0 {
		return
	}

	delete(g.waiting, tenant)
	for e := g.turn.Front(); e != nil; e = e.Next() {
		if e.Value == tenant {
			g.turn.Remove(e)
			return
		}
	}
}

// placeKey is under which a context carries a Place.
type placeKey struct{}

// With gives a context whose work holds the place.
func With(ctx context.Context, p *Place) context.Context {
	return context.WithValue(ctx, placeKey{}, p)
}

// Pause gives back the place that ctx carries while its work waits for
// something else than this process, so that others can work meanwhile; resume
// waits for a place again, however long ctx may have ended: the work has yet to
// clean up. A context without a place pauses nothing.
func Pause(ctx context.Context) (resume func()) {
	p, _ := ctx.Value(placeKey{}).(*Place)
	if p == nil {
		return func() {}
	}
	p.Leave()
	return func() { p.again(ctx) }
}

// again takes the place anew. Where ctx has ended, or too many wait, the work is
// let in beyond the gate's number: it is about to give up.
func (p *Place) again(ctx context.Context) {
	if p.enter(ctx) == nil {
		return
	}
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.gate.take(p)
}
