package cache

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fair"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
)

// paced is a store whose secrets take as long as they are told to; it streams.
type paced struct {
	*world
	mu    sync.Mutex
	takes map[string]time.Duration
}

func newPaced() *paced {
	p := &paced{world: newWorld(), takes: map[string]time.Duration{}}
	p.config.Timeout = 60 * time.Second
	return p
}

func (p *paced) Open(_ context.Context, s store.Selector, id auth.Identity) (*store.Opened, error) {
	config := p.config
	config.Name = s.Name
	return &store.Opened{Config: config, Store: &streamer{p, id}}, nil
}

type streamer struct {
	p  *paced
	id auth.Identity
}

func (s *streamer) Fetch(ctx context.Context, refs []store.Ref) ([]store.Secret, error) {
	return s.FetchEach(ctx, refs, func(int, store.Secret) {})
}

// FetchEach reads each secret's value when the request arrives, and answers
// after its time.
func (s *streamer) FetchEach(ctx context.Context, refs []store.Ref, answered func(int, store.Secret)) ([]store.Secret, error) {
	out := make([]store.Secret, len(refs))
	failed := store.Errors{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, r := range refs {
		all.Go(func() {
			s.p.mu.Lock()
			value, takes, err := s.p.values[r.Name], s.p.takes[r.Name], s.p.errs[r.Name]
			s.p.mu.Unlock()
			select {
			case <-time.After(takes):
			case <-ctx.Done():
				err = store.Errorf(store.Unavailable, "no answer")
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[i] = err
				return
			}
			out[i] = store.Secret{Value: store.Value(value), Version: "v" + value}
			answered(i, out[i])
		})
	}
	all.Wait()
	return out, failed.OrNil()
}

func (p *paced) set(name, value string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.values[name] = value
}

func read(t *testing.T, c *Cache, q ...plan.Query) string {
	t.Helper()
	a, err := c.Get(t.Context(), api, q)
	return values(t, a, err)
}

func TestAValuesAgeCountsFromTheStartOfItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced()
		p.config.Refresh = 30 * time.Second
		p.takes["a"] = 45 * time.Second
		c := New(p, Options{})
		done := make(chan string)
		go func() { done <- read(t, c, ask("a")...) }()
		time.Sleep(time.Second)
		p.set("a", "2") // while the first is on its way
		time.Sleep(39 * time.Second)
		// The read under way is older than 30 s already: this one is its own.
		if got := read(t, c, ask("a")...); got != "2:fetched" {
			t.Errorf("a mount 40 s into a read that takes 45 got %q under refresh 30s, want what the store has now", got)
		}
		<-done
		synctest.Wait()
	})
}

func TestAForcedTextJoinsNoOlderRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced()
		p.config.Refresh = store.Never
		p.takes["a"] = 10 * time.Second
		c := New(p, Options{})
		done := make(chan string)
		go func() { done <- read(t, c, ask("a")...) }()
		time.Sleep(time.Second)
		p.set("a", "2")
		q := ask("a")
		q[0].Force = "rotated"
		if got := read(t, c, q...); got != "2:fetched" {
			t.Errorf("a new forceRefresh text got %q, want the value of after it", got)
		}
		<-done
		if got := read(t, c, q...); got != "2:hit" {
			t.Errorf("then it got %q, want the same from memory", got)
		}
	})
}

func TestOneSecretThatHangsAgesNoOtherOfItsBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced()
		p.config.Refresh = 5 * time.Second
		p.takes["b"] = 18 * time.Second
		c := New(p, Options{})
		done := make(chan string)
		go func() { done <- read(t, c, ask("a", "b")...) }()
		time.Sleep(time.Second)
		if got := read(t, c, ask("a")...); got != "1:hit" {
			t.Errorf("a second after its answer it is %q, want it from memory though its batch goes on", got)
		}
		p.set("a", "2")
		time.Sleep(5 * time.Second)
		if got := read(t, c, ask("a")...); got != "2:fetched" {
			t.Errorf("6 s after it was read it is %q, want it read anew", got)
		}
		<-done
		if got := read(t, c, ask("a")...); got == "1:hit" {
			t.Error("the end of the batch brought the older value back")
		}
	})
}

func TestAnOlderAnswerTakesNoPlaceOfARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced()
		p.config.Refresh, p.config.MaxStale = 5*time.Second, time.Hour
		p.takes["a"] = 20 * time.Second
		c := New(p, Options{})
		go func() { _, _ = c.Get(context.Background(), api, ask("a")) }()
		time.Sleep(6 * time.Second)
		p.mu.Lock()
		p.takes["a"], p.errs["a"] = 0, store.Errorf(store.Denied, "no more")
		p.mu.Unlock()
		if _, err := c.Get(t.Context(), api, ask("a")); store.ReasonOf(err) != store.Denied {
			t.Errorf("got %v, want denied", err)
		}
		time.Sleep(20 * time.Second)
		if kept(c) != 0 {
			t.Error("the slow answer of before the refusal is kept after it")
		}
	})
}

func TestAMountFromMemoryNeverWaitsBehindOneThatAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced()
		c := New(p, Options{})
		gate := fair.New(4, 100)
		mount := func(id auth.Identity, q []plan.Query) (took time.Duration) {
			began := time.Now()
			place, err := gate.Enter(t.Context(), id.Namespace)
			if err != nil {
				t.Fatalf("no place: %v", err)
			}
			defer place.Leave()
			if _, err := c.Get(fair.With(t.Context(), place), id, q); err != nil {
				t.Errorf("%s gets nothing: %v", id, err)
			}
			return time.Since(began)
		}
		calm := auth.Identity{Namespace: "calm", ServiceAccount: "api", Pod: auth.Pod{UID: "c"}}
		mount(calm, ask("b"))
		p.takes["a"] = 25 * time.Second
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				mount(auth.Identity{Namespace: fmt.Sprint("storm", i%8), ServiceAccount: fmt.Sprint(i), Pod: auth.Pod{UID: fmt.Sprint(i)}}, ask("a"))
			})
		}
		time.Sleep(time.Second)
		if took := mount(calm, ask("b")); took > time.Millisecond {
			t.Errorf("a mount from memory waited %s behind those that hang", took)
		}
		all.Wait()
	})
}

func TestAProbeThatOurOwnQueueRefusedMendsNoBreaker(t *testing.T) {
	b := &breaker{}
	now := time.Unix(0, 0)
	for range breakAfter {
		b.record(now, store.Errorf(store.Unavailable, "down"))
	}
	now = now.Add(longestWait)
	if err := b.admit(now, time.Hour); err != nil {
		t.Fatalf("no probe: %v", err)
	}
	b.release()
	if b.failures != breakAfter {
		t.Error("a probe that did not go out mended the breaker")
	}
	if err := b.admit(now, time.Hour); err != nil {
		t.Errorf("the next probe does not go out: %v", err)
	}
}

func TestADeadEndpointShutsNoOther(t *testing.T) {
	p := newPaced()
	clock := fixture.StoppedAt(time.Unix(1_000_000, 0))
	c := New(p, Options{Now: clock.Now, Gather: -1})
	p.errs["a"] = store.Errorf(store.Unavailable, "down")
	for range breakAfter + 1 {
		_, _ = c.Get(t.Context(), api, []plan.Query{{Store: store.Selector{Name: "dead"}, Ref: store.Ref{Name: "a"}}})
	}
	if _, err := c.Get(t.Context(), api, []plan.Query{{Store: store.Selector{Name: "healthy"}, Ref: store.Ref{Name: "b"}}}); err != nil {
		t.Errorf("another endpoint of the kind is shut with it: %v", err)
	}
}

func TestAVolumeNeverGoesBackHoweverTheProcessEnds(t *testing.T) {
	w := newWorld()
	clock := fixture.StoppedAt(time.Unix(1_000_000, 0))
	dir := t.TempDir()
	c, err := restart(t, w, clock, dir)
	if err != nil {
		t.Fatalf("no journal: %v", err)
	}
	q := ask("a")
	q[0].Volume = "v"
	for i := range 20 {
		w.mu.Lock()
		w.values["a"] = fmt.Sprint(i)
		w.mu.Unlock()
		clock.Move(75 * time.Second)
		if got := read(t, c, q...); got != fmt.Sprintf("%dapi:fetched", i) {
			t.Fatalf("republish %d got %q", i, got)
		}
		// Killed: nothing is saved at the end.
		if c, err = restart(t, w, clock, dir); err != nil {
			t.Fatalf("not restored: %v", err)
		}
		if got := read(t, c, q...); got != fmt.Sprintf("%dapi:fetched", i) {
			t.Fatalf("after the kill it got %q, want version %d, read since its last answer", got, i)
		}
	}
}

func TestARefusalIsKeptAtOnce(t *testing.T) {
	w := newWorld()
	w.config.Refresh = store.Never
	clock := fixture.StoppedAt(time.Unix(1_000_000, 0))
	dir := t.TempDir()
	c, _ := restart(t, w, clock, dir)
	read(t, c, ask("a")...)
	w.errs["a"] = store.Errorf(store.Denied, "taken away")
	clock.Move(time.Second)
	q := ask("a")
	q[0].Force = "check"
	if _, err := c.Get(t.Context(), api, q); store.ReasonOf(err) != store.Denied {
		t.Fatalf("got %v, want denied", err)
	}
	w.whole = store.Errorf(store.Unavailable, "down")
	if c, _ = restart(t, w, clock, dir); kept(c) != 0 {
		t.Error("a value that was taken away came back with the next process")
	}
}

func TestAForcedTextIsServedOnceThroughARestart(t *testing.T) {
	w := newWorld()
	clock := fixture.StoppedAt(time.Unix(1_000_000, 0))
	dir := t.TempDir()
	c, _ := restart(t, w, clock, dir)
	q := ask("a")
	q[0].Force = "now"
	read(t, c, q...)
	c.Wait()
	clock.Move(time.Second)
	c, _ = restart(t, w, clock, dir)
	if got := read(t, c, q...); got != "1api:hit" {
		t.Errorf("after a restart a text that was served got %q, want it from memory", got)
	}
}

func TestTheKeptCacheStaysSmall(t *testing.T) {
	w := newWorld()
	clock := fixture.StoppedAt(time.Unix(1_000_000, 0))
	j, err := openJournal(t.TempDir())
	if err != nil {
		t.Fatalf("no journal: %v", err)
	}
	c := New(w, Options{Now: clock.Now, Journal: j, MaxBytes: 2 << 20, Gather: -1})
	value := fmt.Sprintf("%0100000d", 0)
	for i := range 300 {
		w.mu.Lock()
		w.values["a"] = value + fmt.Sprint(i)
		w.mu.Unlock()
		clock.Move(2 * time.Minute)
		read(t, c, ask("a")...)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.bytes > 4<<20 {
		t.Errorf("300 values of 100 KB, of which one lives, are a file of %d KiB", j.bytes>>10)
	}
}

func TestTheNamespaceThatHoldsMostGivesWay(t *testing.T) {
	w := newWorld()
	for i := range 300 {
		w.values[fmt.Sprint("big", i)] = fmt.Sprintf("%010000d", i)
	}
	c := New(w, Options{MaxBytes: 1 << 20, Gather: -1})
	get(t, c, "a", "b", "c")
	for i := range 300 {
		if _, err := c.Get(t.Context(), auth.Identity{Namespace: "storm", ServiceAccount: "x", Pod: auth.Pod{UID: "9"}}, ask(fmt.Sprint("big", i))); err != nil {
			t.Fatalf("the storm gets nothing: %v", err)
		}
	}
	if got := get(t, c, "a", "b", "c"); got != "1api:hit 2api:hit 3api:hit" {
		t.Errorf("after another namespace's storm: %q, want all from memory", got)
	}
}

func TestWhatEntriesKeepAliveIsCountedOnce(t *testing.T) {
	w := newWorld()
	w.config.Bytes = 800_000
	c := New(w, Options{MaxBytes: 16 << 20, Gather: -1})
	for i := range 50 {
		w.values[fmt.Sprint("s", i)] = "v"
		get(t, c, fmt.Sprint("s", i))
	}
	if b := c.entries.bytes; b < 800_000 || b > 1_000_000 {
		t.Errorf("50 secrets of one inline document of 800 KB count %d bytes, want it once", b)
	}
	for i := range 40 {
		id := auth.Identity{Namespace: "n", ServiceAccount: fmt.Sprint(i), Pod: auth.Pod{UID: fmt.Sprint(i)}}
		if _, err := c.Get(t.Context(), id, ask("a")); err != nil {
			t.Fatalf("identity %d gets nothing: %v", i, err)
		}
	}
	if b := c.entries.bytes; b > 16<<20 {
		t.Errorf("40 identities' documents are %d bytes, over the bound", b)
	}
}

func TestARefusalBesideAProbeSendsNoSecondOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced()
		c := New(p, Options{Gather: -1})
		p.errs["a"] = store.Errorf(store.Unavailable, "down")
		for range breakAfter {
			_, _ = c.Get(t.Context(), api, ask("a"))
		}
		time.Sleep(2 * longestWait)

		p.takes["a"] = 4 * time.Second
		go func() { _, _ = c.Get(t.Context(), api, ask("a")) }()
		time.Sleep(time.Second)
		for range 3 {
			if _, err := c.Get(t.Context(), api, ask("b")); err == nil {
				t.Error("a second request went out beside the probe")
			}
		}
		c.Wait()
	})
}

func TestAnEndpointIsBackWithTheFirstAnswerOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced()
		c := New(p, Options{Gather: -1})
		p.errs["a"] = store.Errorf(store.Unavailable, "down")
		for range breakAfter {
			_, _ = c.Get(t.Context(), api, ask("a"))
		}
		time.Sleep(2 * longestWait)

		delete(p.errs, "a")
		p.takes["hangs"] = 40 * time.Second
		go func() { _, _ = c.Get(t.Context(), api, ask("a", "hangs")) }()
		time.Sleep(time.Second)
		if got := read(t, c, ask("b")...); got != "2:fetched" {
			t.Errorf("after the first answer another secret is %q, want it read", got)
		}
		c.Wait()
	})
}
