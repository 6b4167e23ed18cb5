package cache

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
)

// running makes a cache that refreshes ahead, in a bubble of fake time.
func running(t *testing.T, test func(t *testing.T, w *world, c *Cache)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := New(w, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		go c.Run(ctx)
		test(t, w, c)
		cancel()
		c.Wait()
	})
}

func get(t *testing.T, c *Cache, names ...string) string {
	t.Helper()
	a, err := c.Get(t.Context(), api, ask(names...))
	return values(t, a, err)
}

func TestAUsedSecretIsRefreshedAheadOnceARefreshAndNoMountWaits(t *testing.T) {
	running(t, func(t *testing.T, w *world, c *Cache) {
		w.slow = 100 * time.Millisecond
		w.config.Refresh = 5 * time.Minute
		get(t, c, "a", "b")
		var all sync.WaitGroup
		waited := 0
		for pod := range 20 { // republished every 75 seconds each, at other times
			all.Go(func() {
				time.Sleep(time.Duration(pod) * 3 * time.Second)
				for range 48 {
					time.Sleep(75 * time.Second)
					began := time.Now()
					get(t, c, "a", "b")
					if time.Since(began) > 0 {
						waited++
					}
				}
			})
		}
		all.Wait()
		// The hour's twelve, and the first: one shift early, at most.
		if n := w.calls(); n < 12 || n > 14 {
			t.Errorf("%d reads in an hour of a refresh of 5 minutes", n)
		}
		if waited > 10 {
			t.Errorf("%d of 960 mounts waited for the store", waited)
		}
	})
}

func TestAValueIsNeverServedOlderThanItsRefresh(t *testing.T) {
	running(t, func(t *testing.T, w *world, c *Cache) {
		for i := range 600 {
			var got int64
			if _, err := fmt.Sscanf(get(t, c, "now"), "%dapi:", &got); err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			if age := time.Duration(time.Now().UnixNano() - got); age > time.Minute {
				t.Fatalf("round %d: served a value of %s with a refresh of 1m", i, age)
			}
			time.Sleep(time.Duration(1+i*7%23) * time.Second)
		}
	})
}

func TestNodesThatStartTogetherDoNotRefreshTogether(t *testing.T) {
	first := map[int]int{}
	for range 200 {
		first[int(jitter()*30)]++
	}
	if len(first) < 12 {
		t.Errorf("200 first refreshes fall into %d of 15 slots", len(first))
	}
}

func TestWhatNobodyAsksForIsNotRefreshedAndThenDropped(t *testing.T) {
	running(t, func(t *testing.T, w *world, c *Cache) {
		get(t, c, "a")
		time.Sleep(time.Hour)
		if n := w.calls(); n > 2 {
			t.Errorf("%d reads for nobody", n)
		}
		if n := kept(c); n != 0 {
			t.Errorf("%d entries for nobody", n)
		}
	})
}

func TestLoadFollowsSecretsNotPods(t *testing.T) {
	for _, pods := range []int{1, 50} {
		running(t, func(t *testing.T, w *world, c *Cache) {
			w.config.Refresh = 5 * time.Minute
			var all sync.WaitGroup
			for range pods {
				all.Go(func() {
					for range 48 {
						get(t, c, "a")
						time.Sleep(75 * time.Second)
					}
				})
			}
			all.Wait()
			if n := w.calls(); n > 14 {
				t.Errorf("%d pods: %d reads", pods, n)
			}
		})
	}
}

func TestARefreshThatIsDeniedDropsTheValueAtOnce(t *testing.T) {
	running(t, func(t *testing.T, w *world, c *Cache) {
		w.config.MaxStale = time.Hour
		get(t, c, "a")
		w.mu.Lock()
		w.errs["a"] = store.Errorf(store.Denied, "access denied")
		w.mu.Unlock()
		time.Sleep(61 * time.Second)
		if kept(c) != 0 {
			t.Error("a denied value is kept")
		}
		if _, err := c.Get(t.Context(), api, ask("a")); store.ReasonOf(err) != store.Denied {
			t.Errorf(`got %v, where store.ReasonOf(err) != store.Denied must not be so`, err)
		}
	})
}

func TestAnIdentityThatMayNotUseTheStoreAnyMoreLosesItsValues(t *testing.T) {
	running(t, func(t *testing.T, w *world, c *Cache) {
		get(t, c, "a")
		w.mu.Lock()
		w.shut = true
		w.mu.Unlock()
		time.Sleep(61 * time.Second)
		if kept(c) != 0 {
			t.Error("values of a store that is shut are kept")
		}
	})
}

func TestMissesOfOneIdentityAtNearlyTheSameTimeAreOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := New(w, Options{})
		var all sync.WaitGroup
		for i, name := range []string{"a", "b", "c", "a"} {
			all.Go(func() {
				time.Sleep(time.Duration(i) * gather / 8)
				get(t, c, name)
			})
		}
		all.Go(func() { // another identity is another batch
			if _, err := c.Get(t.Context(), auth.Identity{Namespace: "bank", ServiceAccount: "x"}, ask("a")); err != nil {
				t.Errorf("got the error %v, want none", err)
			}
		})
		all.Wait()
		if w.calls() != 2 {
			t.Errorf("%v", w.fetches)
		}
	})
}

func TestTheLastGoodValueStandsInForAStoreThatIsDownAndOnlyThen(t *testing.T) {
	for name, c := range map[string]struct {
		err      *store.Error
		maxStale time.Duration
		after    time.Duration
		want     string
	}{
		"down":                 {store.Errorf(store.Unavailable, "down"), time.Hour, 30 * time.Minute, "stale"},
		"throttled":            {store.Errorf(store.Throttled, "slow down"), time.Hour, 30 * time.Minute, "stale"},
		"down for too long":    {store.Errorf(store.Unavailable, "down"), time.Hour, 61*time.Minute + time.Second, "down"},
		"down, maxStale off":   {store.Errorf(store.Unavailable, "down"), 0, 2 * time.Minute, "down"},
		"denied":               {store.Errorf(store.Denied, "access denied"), time.Hour, 2 * time.Minute, "access denied"},
		"deleted":              {store.Errorf(store.NotFound, "gone"), time.Hour, 2 * time.Minute, "gone"},
		"cannot work any more": {store.Errorf(store.Invalid, "wrong"), time.Hour, 2 * time.Minute, "wrong"},
		"key is gone":          {store.Errorf(store.Precondition, "no key"), time.Hour, 2 * time.Minute, "no key"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.config.MaxStale = c.maxStale
			cache, clock := newCache(w)
			get(t, cache, "a")
			w.whole = c.err
			clock.Move(c.after)
			a, err := cache.Get(t.Context(), api, ask("a"))
			if c.want == "stale" {
				if got := values(t, a, err); got != "1api:stale" {
					t.Errorf("got %v, want %v", got, "1api:stale")
				}
				// Never across identities: another has no last good value.
				if _, err := cache.Get(t.Context(), auth.Identity{Namespace: "shop", ServiceAccount: "web"}, ask("a")); err == nil {
					t.Error("a stale value crossed identities")
				}
				return
			}
			if err == nil || err.Error() != "toy: "+c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestAStaleValueIsForgottenOnceTheStoreSaysNo(t *testing.T) {
	w := newWorld()
	w.config.MaxStale = time.Hour
	c, clock := newCache(w)
	get(t, c, "a")
	for _, step := range []struct {
		err  *store.Error
		want string
	}{
		{store.Errorf(store.Unavailable, "down"), ""},
		{store.Errorf(store.Denied, "access denied"), "toy: access denied"},
		{store.Errorf(store.Unavailable, "down"), "toy: down"},
	} {
		w.whole = step.err
		clock.Move(2 * time.Minute)
		_, err := c.Get(t.Context(), api, ask("a"))
		if err == nil && step.want != "" || err != nil && err.Error() != step.want {
			t.Errorf("got %v, want %s", err, step.want)
		}
	}
}

func TestAStoreThatIsDownIsProbedAtGrowingIntervalsAndEverybodyElseIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.whole = store.Errorf(store.Unavailable, "connection refused")
		c := New(w, Options{})
		var all sync.WaitGroup
		for pod := range 50 {
			all.Go(func() {
				time.Sleep(time.Duration(pod) * 20 * time.Millisecond)
				for range 300 { // an hour's retries of kubelet and more
					_, err := c.Get(t.Context(), api, ask("a"))
					if store.ReasonOf(err) != store.Unavailable {
						t.Errorf(`got %v, where store.ReasonOf(err) != store.Unavailable must not be so`, err)
					}
					time.Sleep(2 * time.Second)
				}
			})
		}
		all.Wait()
		// 15,000 mounts in ten minutes; five failures, then a probe every 15 s or so.
		if n := w.calls(); n < 20 || n > 90 {
			t.Errorf("%d calls to a store that is down", n)
		}
		_, err := c.Get(t.Context(), api, ask("a"))
		if err == nil {
			t.Error("no error")
		}
		w.mu.Lock()
		w.whole = nil
		w.mu.Unlock()
		time.Sleep(longestWait + time.Second)
		if got := get(t, c, "a"); got != "1api:fetched" {
			t.Error("the store is back:", got)
		}
	})
}

func TestOneNamespacesFailuresDoNotStopAnothersRequests(t *testing.T) {
	w := newWorld()
	c, _ := newCache(w)
	w.whole = store.Errorf(store.Unavailable, "down")
	for range 2 * breakAfter {
		_, _ = c.Get(t.Context(), api, ask("a"))
	}
	before := w.calls()
	if _, err := c.Get(t.Context(), api, ask("a")); err == nil || w.calls() != before {
		t.Error("the store is asked still", err)
	}
	w.whole = nil
	if _, err := c.Get(t.Context(), auth.Identity{Namespace: "bank", ServiceAccount: "api"}, ask("a")); err != nil {
		t.Error("another namespace pays for it:", err)
	}
}

func TestAStormOfOneNamespaceDoesNotStarveAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.slow = time.Second
		c := New(w, Options{})
		var all sync.WaitGroup
		full := 0
		for i := range 2000 { // each another service account: none shares a read
			all.Go(func() {
				_, err := c.Get(t.Context(), auth.Identity{Namespace: "storm", ServiceAccount: fmt.Sprint(i)}, ask("a"))
				if store.ReasonOf(err) == store.Throttled && err != nil {
					w.mu.Lock()
					full++
					w.mu.Unlock()
				} else if err != nil {
					t.Errorf("got the error %v, want none", err)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		if _, err := c.Get(t.Context(), auth.Identity{Namespace: "calm", ServiceAccount: "x"}, ask("a")); err != nil {
			t.Errorf("got the error %v, want none", err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the calm namespace waited %s", took)
		}
		all.Wait()
		if want := 2000 - placesAStore/2 - waitingATenant; full != want {
			t.Errorf("%d were told at once that too many wait, not %d", full, want)
		}
	})
}

func TestValuesAreWipedWhenTheyLeaveTheCache(t *testing.T) {
	w := newWorld()
	c, clock := newCache(w)
	a, err := c.Get(t.Context(), api, ask("a"))
	if got := values(t, a, err); got != "1api:fetched" {
		t.Fatalf("got %v, want %v", got, "1api:fetched")
	}
	var held store.Value
	for _, item := range c.entries.items {
		held = item.secret.Value
	}
	hit, err := c.Get(t.Context(), api, ask("a"))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	w.errs["a"] = store.Errorf(store.Denied, "access denied")
	clock.Move(time.Second)
	q := ask("a")
	q[0].Force = "now"
	if _, err := c.Get(t.Context(), api, q); err == nil {
		t.Fatal("no error")
	}
	if string(held) != "\x00\x00\x00\x00" {
		t.Error("the cache's copy is not wiped")
	}
	for _, answer := range [][]plan.Answer{a, hit} {
		if string(answer[0].Found[0].Secret.Value) != "1api" {
			t.Error("a mount's copy is wiped under its hands")
		}
	}
}

func kept(c *Cache) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries.items)
}

func TestAStoresRateLimitIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.config.RateLimit = 10
		c := New(w, Options{})
		began := time.Now()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				if _, err := c.Get(t.Context(), auth.Identity{Namespace: "shop", ServiceAccount: fmt.Sprint(i)}, ask("a")); err != nil {
					t.Errorf("got the error %v, want none", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); w.calls() != 100 || took < 8900*time.Millisecond || took > 10*time.Second {
			t.Errorf("%d calls in %s at 10 a second with a burst of 10", w.calls(), took)
		}
	})
}

func TestAClockThatGoesBackMakesEverythingOld(t *testing.T) {
	w := newWorld()
	c, clock := newCache(w)
	get(t, c, "a")
	clock.Move(30 * time.Second)
	c.Turn(t.Context())
	c.Wait()
	if kept(c) != 1 {
		t.Fatal("a clock that goes on drops values")
	}
	// It would seem 10 seconds old; how old it is nobody knows.
	clock.Move(-20 * time.Second)
	c.Turn(t.Context())
	c.Wait()
	if got := get(t, c, "a"); got != "1api:fetched" {
		t.Errorf("got %v, want %v", got, "1api:fetched")
	}
}
