package pace

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// limited is a service that takes so many calls a second, and none at all for a
// while.
type limited struct {
	mu       sync.Mutex
	rate     float64
	tokens   float64
	filled   time.Time
	shut     time.Time // until then it refuses all
	refused  int
	answered int
}

func (s *limited) take() Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.tokens = min(s.rate, s.tokens+s.rate*now.Sub(s.filled).Seconds())
	s.filled = now
	if now.Before(s.shut) || s.tokens < 1 {
		s.refused++
		return Throttled
	}
	s.tokens--
	s.answered++
	return Answered
}

// ask calls the service until it answers.
func (s *limited) ask(t *testing.T, p *Pacer) {
	for {
		g, err := p.Acquire(t.Context(), "a")
		if err != nil {
			t.Errorf("no turn: %v", err)
			return
		}
		time.Sleep(20 * time.Millisecond)
		o := s.take()
		g.Release(o, 0)
		if o == Answered {
			return
		}
	}
}

func TestAfterABurstOfThrottlingCallsAreBackInFiveSecondsWithoutAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p, s := New(Options{}), &limited{rate: 100, tokens: 100, filled: began, shut: began.Add(18 * time.Second)}
		s.shut = time.Time{}
		var all sync.WaitGroup
		var mu sync.Mutex
		var late time.Duration // the longest wait of a call that began five seconds after the end
		ends := began.Add(18 * time.Second)
		for i := range 40 * 20 { // twenty a second, for forty seconds
			all.Go(func() {
				time.Sleep(time.Duration(i) * 50 * time.Millisecond)
				start := time.Now()
				s.ask(t, p)
				mu.Lock()
				defer mu.Unlock()
				if start.After(ends.Add(5 * time.Second)) {
					late = max(late, time.Since(start))
				}
			})
		}
		time.Sleep(10 * time.Second)
		s.mu.Lock()
		s.shut, s.refused = ends, 0
		s.mu.Unlock()
		time.Sleep(8 * time.Second)
		s.mu.Lock()
		burst := s.refused
		s.refused = 0
		s.mu.Unlock()
		all.Wait()

		if late > 500*time.Millisecond {
			t.Errorf("a call that began 5 s after the burst waited %s, want none to wait long", late)
		}
		if burst > 60 {
			t.Errorf("%d calls went out to a service that refused all for 8 s, want few", burst)
		}
		if s.refused > 20 {
			t.Errorf("%d were refused after the burst, want no storm", s.refused)
		}
	})
}

func TestAtAServicesLimitFewCallsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := New(Options{}), &limited{rate: 100, tokens: 100, filled: time.Now()}
		var all sync.WaitGroup
		for range 2000 {
			all.Go(func() {
				s.ask(t, p)
			})
		}
		began := time.Now()
		all.Wait()
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("2,000 calls at 100 a second took %s, want about 20 s", took)
		}
		if s.refused > 2000*3/10 {
			t.Errorf("%d of 2,000 calls were refused, want at most three in ten", s.refused)
		}
		t.Logf("%d refused beside %d answered", s.refused, s.answered)
	})
}

func TestNoTenantHasMoreThanHalfInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{MaxInFlight: 8})
		grants := make(chan *Grant, 8)
		for range 8 {
			go func() {
				if g, err := p.Acquire(t.Context(), "hangs"); err == nil {
					grants <- g
				}
			}()
		}
		synctest.Wait()
		if len(grants) != 4 {
			t.Errorf("a tenant whose calls hang has %d of 8 in flight, want 4", len(grants))
		}
		g, err := p.Acquire(t.Context(), "other")
		if err != nil {
			t.Fatalf("another gets no turn: %v", err)
		}
		g.Release(Answered, 0)
		for range 8 {
			(<-grants).Release(Failed, 0)
		}
	})
}
