// Package pool shares clients between those who need the same one, and closes
// what nobody uses: a client of a region or a vault holds connections, and who
// may name regions could otherwise fill the node's memory with them.
package pool

import (
	"sync"
	"time"
)

// Options of a Pool. Now and AfterFunc are the clock.
type Options[V any] struct {
	Max   int           // clients that are kept while nobody uses them; default 64
	Idle  time.Duration // how long; default 5 minutes
	Close func(V)       // nil where nothing is to be closed
	Now   func() time.Time
}

// Pool is safe for concurrent use.
type Pool[K comparable, V any] struct {
	opts Options[V]

	mu     sync.Mutex
	items  map[K]*item[V]
	closed bool
}

type item[V any] struct {
	value V
	users int
	used  time.Time
}

// New makes an empty Pool.
func New[K comparable, V any](o Options[V]) *Pool[K, V] {
	if o.Max <= 0 {
		o.Max = 64
	}
	if o.Idle <= 0 {
		o.Idle = 5 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Pool[K, V]{opts: o, items: map[K]*item[V]{}}
}

// Use gives the client of a key, made where there is none. It is not closed
// before release is called.
func (p *Pool[K, V]) Use(key K, make func() (V, error)) (v V, release func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	it := p.items[key]
	if it == nil {
		if v, err = make(); err != nil {
			return v, nil, err
		}
		it = &item[V]{value: v}
		p.items[key] = it
	}

	it.users++
	it.used = p.opts.Now()
	p.trim()

	return it.value, sync.OnceFunc(func() { p.release(it) }), nil
}

func (p *Pool[K, V]) release(it *item[V]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	it.users--
	it.used = p.opts.Now()
	p.trim()
}

// trim closes what nobody uses and is too many or too old. The caller locks.
func (p *Pool[K, V]) trim() {
	now := p.opts.Now()
	for key, it := range p.items {
		if it.users == 0 && (p.closed || now.Sub(it.used) > p.opts.Idle) {
			p.drop(key, it)
		}
	}

	for len(p.items) > p.opts.Max {
		var oldest K
		var found *item[V]
		for key, it := range p.items {
			if it.users == 0 && (found == nil || it.used.Before(found.used)) {
				oldest, found = key, it
			}
		}

		if found == nil {
			return // all are in use
		}
		p.drop(oldest, found)
	}
}

func (p *Pool[K, V]) drop(key K, it *item[V]) {
	delete(p.items, key)
	if p.opts.Close != nil {
		p.opts.Close(it.value)
	}
}

// Has says whether there is a client of a key.
func (p *Pool[K, V]) Has(key K) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.items[key] != nil
}

// Len is the number of clients there are.
func (p *Pool[K, V]) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.items)
}

// Close closes what nobody uses now, and the rest when it is released.
func (p *Pool[K, V]) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.trim()
}
