package pace

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// call makes one call that takes a moment and goes as o says.
func call(t *testing.T, p *Pacer, tenant string, o Outcome, retryAfter time.Duration) {
	t.Helper()
	g, err := p.Acquire(t.Context(), tenant)
	if err != nil {
		t.Errorf("got the error %v, want none", err)
		return
	}
	time.Sleep(time.Millisecond)
	g.Release(o, retryAfter)
}

func TestNothingIsLimitedBeforeTheFirstRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{})
		start := time.Now()
		for range 1000 {
			call(t, p, "a", Answered, 0)
		}
		if took := time.Since(start); took != time.Second || p.Rate() != 0 {
			t.Errorf(`got %v %v, where took != time.Second || p.Rate() != 0 must not be so`, took, p.Rate())
		}
		call(t, p, "a", Failed, 0)
		if p.Rate() != 0 {
			t.Error("a failure is no refusal")
		}
	})
}

func TestRefusalHalvesWhatWasSeenAndIsForgottenInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{})
		for range 100 {
			call(t, p, "a", Answered, 0)
		}
		call(t, p, "a", Throttled, 0)
		if r := p.Rate(); r != 50 {
			t.Errorf("got %v, want %v", r, 50)
		}
		time.Sleep(content + time.Second)
		if !p.Idle() || p.Rate() != 0 {
			t.Errorf(`got %v, where !p.Idle() || p.Rate() != 0 must not be so`, p.Rate())
		}
	})
}

// Calls that were under way together and are refused together are one refusal.
func TestOneWaveOfRefusalsLowersTheRateOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{})
		for range 100 {
			call(t, p, "a", Answered, 0)
		}
		var grants []*Grant
		for range 10 {
			g, err := p.Acquire(t.Context(), "a")
			if err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			grants = append(grants, g)
		}
		for _, g := range grants {
			g.Release(Throttled, 0)
		}
		if r := p.Rate(); r != 50 {
			t.Errorf("got %v, want %v", r, 50)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{})
		call(t, p, "a", Throttled, 7*time.Second)
		start := time.Now()
		call(t, p, "a", Answered, 0)
		if took := time.Since(start); took < 7*time.Second {
			t.Errorf(`got %v, where took < 7*time.Second must not be so`, took)
		}
		call(t, p, "a", Throttled, time.Hour)
		start = time.Now()
		call(t, p, "a", Answered, 0)
		if took := time.Since(start); took > maxHold+time.Second {
			t.Errorf("held up for %s", took)
		}
	})
}

func TestWhoeverLeavesTakesNobodysTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{MaxInFlight: 1})
		g, _ := p.Acquire(t.Context(), "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Acquire(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf(`got %v, where !errors.Is(err, context.DeadlineExceeded) must not be so`, err)
		}
		g.Release(Answered, 0)
		call(t, p, "a", Answered, 0)
		if !p.Idle() {
			t.Error("something is left")
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{MaxInFlight: 1, MaxQueue: 2})
		g, _ := p.Acquire(t.Context(), "a")
		for range 2 {
			go call(t, p, "a", Answered, 0)
		}
		synctest.Wait()
		if _, err := p.Acquire(t.Context(), "a"); !errors.Is(err, ErrFull) {
			t.Errorf(`got %v, where !errors.Is(err, ErrFull) must not be so`, err)
		}
		g.Release(Answered, 0)
		time.Sleep(time.Second)
	})
}

// A tenant with a thousand calls waiting delays another's one by one turn.
func TestTenantsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{MaxInFlight: 1})
		var storm sync.WaitGroup
		for range 1000 {
			storm.Go(func() { call(t, p, "storm", Answered, 0) })
		}
		synctest.Wait()
		start := time.Now()
		call(t, p, "quiet", Answered, 0)
		if took := time.Since(start); took > 3*time.Millisecond {
			t.Errorf(`got %v, where took > 3*time.Millisecond must not be so`, took)
		}
		storm.Wait()
	})
}

func TestConcurrentUseIsSafe(t *testing.T) {
	p := New(Options{MaxInFlight: 4})
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
			defer cancel()
			if g, err := p.Acquire(ctx, "x"); err == nil {
				g.Release(Answered, 0)
			}
		})
	}
	all.Wait()
	if !p.Idle() {
		t.Error("something is left")
	}
}
