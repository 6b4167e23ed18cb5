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
		if err := g.Enter(t.Context(), "first"); err != nil {
			t.Fatal(err)
		}
		var order []string
		var mu sync.Mutex
		var all sync.WaitGroup
		enter := func(tenant string) {
			all.Go(func() {
				if err := g.Enter(t.Context(), tenant); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, tenant)
				mu.Unlock()
				g.Leave()
			})
			synctest.Wait()
		}
		for range 100 {
			enter("storm")
		}
		enter("calm")
		enter("calm")
		enter("other")
		g.Leave()
		all.Wait()
		if got := strings.Join(order[:6], " "); got != "storm calm other storm calm storm" {
			t.Error(got)
		}
		if len(order) != 103 || g.inside != 0 || len(g.waiting) != 0 || g.turn.Len() != 0 {
			t.Error(len(order), g.inside, g.waiting, g.turn.Len())
		}
	})
}

func TestATenantThatWaitsTooOftenIsToldAtOnceAndTheOthersAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(1, 3)
		_ = g.Enter(t.Context(), "x")
		ctx, cancel := context.WithCancel(t.Context())
		for range 3 {
			go func() { _ = g.Enter(ctx, "storm") }()
		}
		synctest.Wait()
		if err := g.Enter(t.Context(), "storm"); !errors.Is(err, ErrFull) {
			t.Error(err)
		}
		done := make(chan error, 1)
		go func() { done <- g.Enter(t.Context(), "calm") }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		g.Leave()
		if err := <-done; err != nil {
			t.Error(err)
		}
		g.Leave()
		if g.inside != 0 || len(g.waiting) != 0 || g.turn.Len() != 0 {
			t.Error(g.inside, g.waiting, g.turn.Len())
		}
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
				if g.Enter(ctx, fmt.Sprint(r.IntN(5))) == nil {
					n := inside.Add(1)
					if n > 4 {
						most.Store(n)
					}
					if r.IntN(3) == 0 {
						time.Sleep(time.Duration(r.IntN(100)) * time.Microsecond)
					}
					inside.Add(-1)
					g.Leave()
				}
				cancel()
			}
		})
	}
	all.Wait()
	if most.Load() > 4 {
		t.Errorf("%d were inside", most.Load())
	}
	if g.inside != 0 || len(g.waiting) != 0 || g.turn.Len() != 0 {
		t.Error(g.inside, len(g.waiting), g.turn.Len())
	}
}
