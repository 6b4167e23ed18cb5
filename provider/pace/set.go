package pace

import "sync"

// maxPacers bounds what is remembered of places and accounts.
const maxPacers = 1024

// Set is a Pacer for each place or account that a store asks, made when it is
// first asked. It is safe for concurrent use.
type Set[K comparable] struct {
	options Options

	mu     sync.Mutex
	pacers map[K]*Pacer
}

// NewSet makes an empty set of pacers with the same options.
func NewSet[K comparable](o Options) *Set[K] {
	return &Set[K]{options: o, pacers: map[K]*Pacer{}}
}

// Of is the pacer of a key. Those that are idle go where there are many.
func (s *Set[K]) Of(key K) *Pacer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pacers[key]; p != nil {
		return p
	}

	if len(s.pacers) >= maxPacers {
		for k, old := range s.pacers {
			if old.Idle() {
				delete(s.pacers, k)
			}
		}
	}
	p := New(s.options)
	s.pacers[key] = p

	return p
}
