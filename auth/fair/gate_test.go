package fair

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestOneTenantsStormDelaysAnotherByItsShareOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(1, 1000)
		first, err := g.Enter(t.Context(), "first")
		if err != nil {
			t.Fatalf("an empty gate lets nobody in: %v", err)
		}
		var order []string
		var mu sync.Mutex
		var all sync.WaitGroup
		enter := func(tenant string) {
			all.Go(func() {
				p, err := g.Enter(t.Context(), tenant)
				if err != nil {
					t.Errorf("%s is not let in: %v", tenant, err)
				}
				mu.Lock()
				order = append(order, tenant)
				mu.Unlock()
				p.Leave()
			})
			synctest.Wait()
		}
		for range 100 {
			enter("storm")
		}
		enter("calm")
		enter("calm")
		enter("other")
		first.Leave()
		all.Wait()
		if got, want := strings.Join(order[:6], " "), "storm calm other storm calm storm"; got != want {
			t.Errorf("let in %q, want %q", got, want)
		}
		if len(order) != 103 {
			t.Errorf("%d were let in, want 103", len(order))
		}
		empty(t, g)
	})
}

func TestATenantThatWaitsTooOftenIsToldAtOnceAndTheOthersAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(1, 3)
		x, _ := g.Enter(t.Context(), "x")
		ctx, cancel := context.WithCancel(t.Context())
		for range 3 {
			go func() { _, _ = g.Enter(ctx, "storm") }()
		}
		synctest.Wait()
		if _, err := g.Enter(t.Context(), "storm"); !errors.Is(err, ErrFull) {
			t.Errorf("the fourth of a tenant that may have three waiting: %v, want ErrFull", err)
		}
		done := make(chan *Place, 1)
		go func() {
			p, _ := g.Enter(t.Context(), "calm")
			done <- p
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		x.Leave()
		(<-done).Leave()
		empty(t, g)
	})
}

func TestNoPlaceIsLostOrGivenTwice(t *testing.T) {
	g := New(4, 50)
	var inside, most atomic.Int32
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 0))
			for range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(300))*time.Microsecond)
				if p, err := g.Enter(ctx, fmt.Sprint(r.IntN(5))); err == nil {
					n := inside.Add(1)
					if n > 4 {
						most.Store(n)
					}
					if r.IntN(3) == 0 {
						time.Sleep(time.Duration(r.IntN(100)) * time.Microsecond)
					}
					inside.Add(-1)
					p.Leave()
				}
				cancel()
			}
		})
	}
	all.Wait()
	if most.Load() > 4 {
		t.Errorf("%d were inside, want at most 4", most.Load())
	}
	empty(t, g)
}

// empty holds that a gate knows of nobody any more.
func empty(t *testing.T, g *Gate) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.held)+len(g.inside)+len(g.waiting)+g.turn.Len() != 0 {
		t.Errorf("held %d, inside %v, waiting %v, turns %d; want nobody", len(g.held), g.inside, g.waiting, g.turn.Len())
	}
}

func TestNoTenantHoldsMoreThanHalfWhetherOthersWaitOrNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(8, 100)
		inside := make(chan *Place, 100)
		for range 20 {
			go func() {
				if p, err := g.Enter(t.Context(), "storm"); err == nil {
					inside <- p
				}
			}()
		}
		synctest.Wait()
		if n := len(inside); n != 4 {
			t.Errorf("one tenant holds %d of 8 places, want 4", n)
		}
		for i := range 4 {
			p, err := g.Enter(t.Context(), fmt.Sprint("calm", i))
			if err != nil {
				t.Fatalf("another tenant is not let in beside it: %v", err)
			}
			defer p.Leave()
		}
		for range 20 {
			(<-inside).Leave()
			synctest.Wait()
		}
	})
}

func TestWorkThatWaitsGivesItsPlaceAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(1, 100)
		p, _ := g.Enter(t.Context(), "slow")
		resume := Pause(With(t.Context(), p))
		other, err := g.Enter(t.Context(), "fast")
		if err != nil {
			t.Fatalf("the place of work that waits is not free: %v", err)
		}
		resumed := make(chan struct{})
		go func() { resume(); close(resumed) }()
		synctest.Wait()
		select {
		case <-resumed:
			t.Error("two work in one place")
		default:
		}
		other.Leave()
		<-resumed
		p.Leave()
		empty(t, g)
	})
}

func TestAPlaceThatIsHeldLongShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(4, 1)
		p, _ := g.Enter(t.Context(), "a")
		time.Sleep(time.Minute)
		q, _ := g.Enter(t.Context(), "b")
		if got := g.Oldest(); got != time.Minute {
			t.Errorf("the oldest is held for %s, want 1m", got)
		}
		p.Leave()
		if got := g.Oldest(); got != 0 {
			t.Errorf("after it left the oldest is held for %s, want 0", got)
		}
		q.Leave()
	})
}
