// Package flight makes one call of what many ask for at once. Unlike the usual
// single flight, the call belongs to nobody: a caller that goes away does not
// take the answer from the others, and every caller waits no longer than its
// own context lets it.
package flight

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Group is a set of calls under way. The zero Group is ready. It is safe for
// concurrent use.
type Group[K comparable, V any] struct {
	mu    sync.Mutex
	calls map[K]*call[V]
}

type call[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// Do gives the answer of the call for key that is under way, or makes it. The
// call keeps ctx's values, not its end: it has the given time.
func (g *Group[K, V]) Do(ctx context.Context, key K, timeout time.Duration, fn func(context.Context) (V, error)) (V, error) {
	g.mu.Lock()
	c, ok := g.calls[key]
	if !ok {
		c = &call[V]{done: make(chan struct{})}
		if g.calls == nil {
			g.calls = map[K]*call[V]{}
		}
		g.calls[key] = c
		go g.run(context.WithoutCancel(ctx), key, c, timeout, fn)
	}

	g.mu.Unlock()
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

func (g *Group[K, V]) run(ctx context.Context, key K, c *call[V], timeout time.Duration, fn func(context.Context) (V, error)) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			c.err = fmt.Errorf("a fault of Coffre: %T", p)
		}
		g.mu.Lock()
		delete(g.calls, key)
		g.mu.Unlock()
		close(c.done)
	}()

	c.value, c.err = fn(ctx)
}
