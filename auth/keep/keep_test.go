package keep

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
)

// pass is a credential of the tests.
type pass struct {
	text string
	ends time.Time
}

func keeper() *Keeper[pass] {
	return New(Options[pass]{Expires: func(p pass) (time.Time, bool) { return p.ends, !p.ends.IsZero() }})
}

// desk is a peer at which one signs in.
type desk struct {
	calls atomic.Int32
	life  time.Duration
	takes time.Duration
	err   error
}

func (d *desk) at(key, place string) Asked[pass] {
	return Asked[pass]{Key: key, Place: place, Namespace: "shop", Token: auth.NewToken("t", time.Time{}),
		Exchange: func(context.Context, auth.Token) (pass, error) {
			n := d.calls.Add(1)
			time.Sleep(d.takes)
			return pass{fmt.Sprint(place, n), time.Now().Add(d.life)}, d.err
		}}
}

func TestOneExchangeServesManyCallersAndEveryPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d := keeper(), &desk{life: time.Hour, takes: 100 * time.Millisecond}
		var all sync.WaitGroup
		for i := range 60 {
			all.Go(func() {
				if _, err := k.Get(t.Context(), d.at("a", fmt.Sprint("region", i%3))); err != nil {
					t.Errorf("no credential: %v", err)
				}
			})
			if i == 0 {
				synctest.Wait() // the first is under way
			}
		}
		all.Wait()
		if n := d.calls.Load(); n != 1 {
			t.Errorf("%d exchanges for one identity in three places, want 1", n)
		}
	})
}

func TestAPlaceThatHangsHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, hangs, works := keeper(), &desk{life: time.Hour, takes: 14 * time.Second}, &desk{life: time.Hour}
		go func() { _, _ = k.Get(t.Context(), hangs.at("a", "dead")) }()
		synctest.Wait()
		began := time.Now()
		v, err := k.Get(t.Context(), works.at("a", "alive"))
		if err != nil || v.text != "alive1" {
			t.Errorf("got %q, %v; want alive1", v.text, err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("waited %s for a place that hangs", took)
		}
		synctest.Wait()
		time.Sleep(15 * time.Second)
	})
}

func TestAnIdentityThatIsShutOutLosesItsCredential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d := keeper(), &desk{life: time.Hour}
		if _, err := k.Get(t.Context(), d.at("a", "r")); err != nil {
			t.Fatalf("no credential: %v", err)
		}
		d.err = fault.Errorf(fault.Denied, "no more")
		time.Sleep(55 * time.Minute)
		if _, err := k.Get(t.Context(), d.at("a", "r")); err != nil {
			t.Errorf("the old one serves while it is renewed: %v", err)
		}
		synctest.Wait()
		if _, ok := k.Known("a"); ok {
			t.Error("a refused identity goes on with its old credential")
		}
		if _, err := k.Get(t.Context(), d.at("a", "r")); fault.ReasonOf(err) != fault.Denied {
			t.Errorf("got %v, want denied", err)
		}
	})
}

func TestAnOutageKeepsWhatStillServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d := keeper(), &desk{life: time.Hour}
		_, _ = k.Get(t.Context(), d.at("a", "r"))
		d.err = errors.New("cut")
		time.Sleep(55 * time.Minute)
		_, _ = k.Get(t.Context(), d.at("a", "r"))
		synctest.Wait()
		if _, ok := k.Known("a"); !ok {
			t.Error("an outage took a credential that has five minutes left")
		}
	})
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	k := keeper()
	for i := range maxEntries + 5 {
		k.entry(fmt.Sprint(i), time.Now())
	}
	if n := len(k.entries); n != maxEntries {
		t.Errorf("%d identities are kept, want %d", n, maxEntries)
	}
}

func TestAnExchangeThatNeedsAnotherIsNoDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d := keeper(), &desk{life: time.Hour, takes: time.Millisecond}
		var all sync.WaitGroup
		for i := range 2 * exchangesAtOnce {
			all.Go(func() {
				chain := d.at(fmt.Sprint("chain", i), "r")
				chain.Exchange = func(ctx context.Context, _ auth.Token) (pass, error) {
					return k.Get(ctx, d.at(fmt.Sprint("first", i), "r"))
				}
				if _, err := k.Get(t.Context(), chain); err != nil {
					t.Errorf("chain %d: %v", i, err)
				}
			})
		}
		all.Wait()
	})
}
