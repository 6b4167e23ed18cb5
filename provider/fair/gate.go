// Package fair shares a limited number of places between tenants. Whoever
// waits is let in tenant by tenant, one after the other, so that one tenant's
// storm delays another by its share and no more; and no tenant may have more
// than a bounded number waiting.
package fair

import (
	"container/list"
	"context"
	"errors"
	"sync"
)

// ErrFull is Enter's answer where too many of the tenant wait already.
var ErrFull = errors.New("too many are waiting")

// Gate lets in a limited number at a time. It is safe for concurrent use.
type Gate struct {
	places, queue int

	mu      sync.Mutex
	inside  int
	waiting map[string]*list.List // tenant → of chan struct{}, in order of arrival
	turn    *list.List            // of tenants that wait, the next in front
}

// New makes a gate with so many places, and at most queue waiting a tenant.
func New(places, queue int) *Gate {
	return &Gate{places: places, queue: queue, waiting: map[string]*list.List{}, turn: list.New()}
}

// Enter waits for a place. Whoever got one must Leave. The error is ErrFull, or
// the context's.
func (g *Gate) Enter(ctx context.Context, tenant string) error {
	g.mu.Lock()
	if g.inside < g.places && g.turn.Len() == 0 {
		g.inside++
		g.mu.Unlock()
		return nil
	}
	line := g.waiting[tenant]
	if line == nil {
		line = list.New()
		g.waiting[tenant] = line
		g.turn.PushBack(tenant)
	}
	if line.Len() >= g.queue {
		g.mu.Unlock()
		return ErrFull
	}
	called := make(chan struct{})
	place := line.PushBack(called)
	g.mu.Unlock()

	select {
	case <-called:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-called: // at the same moment: the place goes on to the next
		g.leave()
	default:
		line.Remove(place)
		g.forget(tenant)
	}
	return ctx.Err()
}

// Leave gives a place back.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leave()
}

// leave hands the place to the tenant whose turn it is, which then waits for
// all the others.
func (g *Gate) leave() {
	next := g.turn.Front()
	if next == nil {
		g.inside--
		return
	}
	tenant := next.Value.(string)
	line := g.waiting[tenant]
	close(line.Remove(line.Front()).(chan struct{}))
	g.turn.MoveToBack(next)
	g.forget(tenant)
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
