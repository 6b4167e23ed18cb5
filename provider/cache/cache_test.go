package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
)

// world is a store whose secrets, failures and speed a test sets.
type world struct {
	mu        sync.Mutex
	values    map[string]string
	errs      map[string]*store.Error
	whole     error
	slow      time.Duration
	principal string
	config    store.Config
	fetches   [][]string
	panics    bool
	shut      bool // the namespace may not use the store any more
	opens     atomic.Int32
}

func newWorld() *world {
	return &world{values: map[string]string{"a": "1", "b": "2", "c": "3"}, errs: map[string]*store.Error{},
		config: store.Config{Name: "toy", Kind: "toy", Refresh: time.Minute, Timeout: 10 * time.Second, Digest: "d"}}
}

func (w *world) Open(_ context.Context, s store.Selector, id auth.Identity) (*store.Opened, error) {
	w.opens.Add(1)
	if s.Name == "slow" {
		time.Sleep(time.Minute / 2)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.Name == "nope" || w.shut {
		return &store.Opened{Config: store.Config{Name: s.Name}}, &store.Error{Reason: store.Denied, Store: s.Name, Text: "may not"}
	}
	return &store.Opened{Config: w.config, Store: &toy{w, id}}, nil
}

type toy struct {
	*world
	id auth.Identity
}

func (s *toy) Principal() string { return s.principal + s.id.Secrets.Digest() }

func (s *toy) Fetch(ctx context.Context, refs []store.Ref) ([]store.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, r := range refs {
		names = append(names, r.Name)
	}
	s.fetches = append(s.fetches, names)
	if s.panics {
		panic("at the disco")
	}
	if s.slow > 0 {
		s.mu.Unlock()
		select {
		case <-time.After(s.slow):
		case <-ctx.Done():
		}
		s.mu.Lock()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if s.whole != nil {
		return nil, s.whole
	}
	out, failed := make([]store.Secret, len(refs)), store.Errors{}
	for i, r := range refs {
		if r.Name == "now" {
			out[i] = store.Secret{Value: fmt.Appendf(nil, "%d%s", time.Now().UnixNano(), s.id.ServiceAccount)}
			continue
		}
		if e := s.errs[r.Name]; e != nil {
			failed[i] = e
		} else if v, ok := s.values[r.Name]; ok {
			out[i] = store.Secret{Value: store.Value(v + s.id.ServiceAccount), Version: "v" + v}
		} else {
			failed[i] = store.Errorf(store.NotFound, "not found")
		}
	}
	return out, failed.OrNil()
}

func (s *toy) Pinned(r store.Ref) bool { return r.Version != "" }

func (s *toy) List(_ context.Context, f store.Filter, limit int) ([]store.Ref, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetches = append(s.fetches, []string{"list " + f.Prefix})
	var refs []store.Ref
	for _, name := range []string{"a", "b", "c"} {
		if strings.HasPrefix(name, f.Prefix) {
			refs = append(refs, store.Ref{Name: name})
		}
	}
	if len(refs) > limit {
		return nil, store.ErrTooMany
	}
	return refs, nil
}

func (w *world) calls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.fetches)
}

var api = auth.Identity{Namespace: "shop", ServiceAccount: "api", Pod: auth.Pod{Name: "api-1", UID: "1"}}

func ask(names ...string) []plan.Query {
	var qs []plan.Query
	for i, n := range names {
		qs = append(qs, plan.Query{Field: fmt.Sprintf("objects[%d]", i), Store: store.Selector{Name: "toy"}, Ref: store.Ref{Name: n}})
	}
	return qs
}

func values(t *testing.T, answers []plan.Answer, err error) string {
	t.Helper()
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	var out []string
	for _, a := range answers {
		for _, f := range a.Found {
			out = append(out, string(f.Secret.Value)+":"+string(f.Origin))
		}
	}
	return strings.Join(out, " ")
}

func newCache(w *world) (*Cache, *fixture.Stopped) {
	c := fixture.StoppedAt(time.Unix(1_000_000, 0))
	return New(w, Options{Now: c.Now}), c
}

func TestFreshValueIsUsedAndAnOldOneIsReadAgain(t *testing.T) {
	w := newWorld()
	c, clock := newCache(w)
	get := func() string { a, err := c.Get(t.Context(), api, ask("a")); return values(t, a, err) }
	if got := get(); got != "1api:fetched" {
		t.Errorf("got %v, want %v", got, "1api:fetched")
	}
	w.values["a"] = "9"
	clock.Move(time.Minute - 1)
	if got := get(); got != "1api:hit" {
		t.Errorf("got %v, want %v", got, "1api:hit")
	}
	clock.Move(1)
	if got := get(); got != "9api:fetched" {
		t.Errorf("got %v, want %v", got, "9api:fetched")
	}
	if w.calls() != 2 {
		t.Errorf("%d reads", w.calls())
	}
}

func TestAnObjectsRefreshGoesOverTheStores(t *testing.T) {
	w := newWorld()
	c, clock := newCache(w)
	q := ask("a", "b")
	q[0].Refresh, q[1].Refresh = time.Second, store.Never
	for range 3 {
		if _, err := c.Get(t.Context(), api, q); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		clock.Move(time.Hour)
	}
	if got := fmt.Sprint(w.fetches); got != "[[a b] [a] [a]]" {
		t.Errorf("got %v, want %v", got, "[[a b] [a] [a]]")
	}
}

func TestNewForceRefreshTextReadsOnce(t *testing.T) {
	w := newWorld()
	c, clock := newCache(w)
	for i, force := range []string{"", "one", "one", "two", "one", ""} {
		q := ask("a")
		if q[0].Force = force; force != "" {
			q[0].Force = "mysql\x00" + force
		}
		clock.Move(time.Second)
		if _, err := c.Get(t.Context(), api, q); err != nil {
			t.Fatalf(`got %v %v, where err != nil must not be so`, i, err)
		}
	}
	if w.calls() != 3 {
		t.Errorf("%d reads: %v", w.calls(), w.fetches)
	}
}

func TestAValueNeverCrossesIdentities(t *testing.T) {
	w := newWorld()
	c, _ := newCache(w)
	for _, id := range []auth.Identity{
		api,
		{Namespace: "shop", ServiceAccount: "web"},
		{Namespace: "bank", ServiceAccount: "api"},
		{Namespace: "shop", ServiceAccount: "api", Secrets: auth.Secrets{"key": "mine"}},
		{Namespace: "shop\x00api", ServiceAccount: ""},
	} {
		a, err := c.Get(t.Context(), id, ask("a"))
		if got := values(t, a, err); got != "1"+id.ServiceAccount+":fetched" {
			t.Errorf("%s: %s", id, got)
		}
	}
	other := api
	other.Pod = auth.Pod{Name: "api-2", UID: "2"}
	a, err := c.Get(t.Context(), other, ask("a"))
	if got := values(t, a, err); got != "1api:hit" {
		t.Errorf("a second pod of one service account: %s", got)
	}
	w.principal = "another role"
	if a, err = c.Get(t.Context(), api, ask("a")); values(t, a, err) != "1api:fetched" {
		t.Error("a value crossed roles")
	}
}

func TestAStoreReadAsTheProviderIsReadOnceForAll(t *testing.T) {
	w := newWorld()
	w.config.ProviderIdentity = true
	c, _ := newCache(w)
	for _, sa := range []string{"api", "web"} {
		if _, err := c.Get(t.Context(), auth.Identity{Namespace: "shop", ServiceAccount: sa}, ask("a")); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
	}
	if w.calls() != 1 {
		t.Errorf("%d reads", w.calls())
	}
}

func TestAnEditedStoreSharesNothingWithTheOldOne(t *testing.T) {
	w := newWorld()
	c, _ := newCache(w)
	for _, digest := range []string{"before", "after"} {
		w.config.Digest = digest
		if _, err := c.Get(t.Context(), api, ask("a")); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
	}
	if w.calls() != 2 {
		t.Errorf("%d reads", w.calls())
	}
}

func TestWhatOneMountMissesIsOneBatch(t *testing.T) {
	w := newWorld()
	c, _ := newCache(w)
	a, err := c.Get(t.Context(), api, ask("a", "b", "a", "c"))
	if got := values(t, a, err); got != "1api:fetched 2api:fetched 1api:fetched 3api:fetched" {
		t.Errorf("got %v, want %v", got, "1api:fetched 2api:fetched 1api:fetched 3api:fetched")
	}
	if got := fmt.Sprint(w.fetches); got != "[[a b c]]" {
		t.Errorf("got %v, want %v", got, "[[a b c]]")
	}
	if w.opens.Load() != 1 {
		t.Errorf("the store was opened %d times", w.opens.Load())
	}
}

func TestConcurrentMissesAreOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.slow = time.Second
		c := New(w, Options{})
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				a, err := c.Get(t.Context(), api, ask("a", "b"))
				if got := values(t, a, err); got != "1api:fetched 2api:fetched" {
					t.Errorf("got %v, want %v", got, "1api:fetched 2api:fetched")
				}
			})
		}
		all.Wait()
		if w.calls() != 1 {
			t.Errorf("%d reads", w.calls())
		}
	})
}

func TestACancelledMountLeavesTheReadToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.slow = 5 * time.Second
		c := New(w, Options{})
		hasty, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			_, err := c.Get(hasty, api, ask("a"))
			if store.ReasonOf(err) != store.Unavailable {
				t.Errorf("the hasty one got %v", err)
			}
		})
		all.Go(func() {
			time.Sleep(time.Millisecond)
			a, err := c.Get(t.Context(), api, ask("a"))
			if got := values(t, a, err); got != "1api:fetched" {
				t.Errorf("got %v, want %v", got, "1api:fetched")
			}
		})
		all.Wait()
		if w.calls() != 1 {
			t.Errorf("%d reads", w.calls())
		}
	})
}

func TestAHangingStoreCostsItsTimeoutAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.slow = time.Hour
		c := New(w, Options{})
		began := time.Now()
		_, err := c.Get(t.Context(), api, ask("a"))
		if want := "toy: no answer within 10s; is the store reachable from this node?"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if took := time.Since(began); took != 10*time.Second+gather {
			t.Errorf("took %s", took)
		}
	})
}

func TestEveryFailingObjectIsReportedAndNothingIsReturned(t *testing.T) {
	w := newWorld()
	w.errs["b"] = store.RefErrorf(store.Denied, store.Ref{Name: "b"}, "access denied: role r lacks toy:Read")
	c, _ := newCache(w)
	a, err := c.Get(t.Context(), api, ask("a", "b", "x"))
	want := "toy: b: access denied: role r lacks toy:Read; toy: x: not found"
	if err == nil || err.Error() != want || a != nil {
		t.Errorf("got %v, %v; want %s", a, err, want)
	}
	if store.ReasonOf(err) != store.Denied {
		t.Errorf("got %v, want %v", store.ReasonOf(err), store.Denied)
	}
}

func TestAStoresOwnFailureIsSaidOnce(t *testing.T) {
	w := newWorld()
	w.whole = store.Errorf(store.Precondition, "no key was given")
	c, _ := newCache(w)
	_, err := c.Get(t.Context(), api, ask("a", "b", "c"))
	if err == nil || err.Error() != "toy: no key was given" {
		t.Errorf(`got %v, where err == nil || err.Error() != "toy: no key was given" must not be so`, err)
	}
	q := ask("a")
	q[0].Store.Name = "nope"
	if _, err = c.Get(t.Context(), api, q); err == nil || err.Error() != "nope: may not" || store.ReasonOf(err) != store.Denied {
		t.Errorf("got %v, which is not what this test promises", err)
	}
}

func TestMissingOptionalSecretIsLeftOutButADeniedOneIsNot(t *testing.T) {
	w := newWorld()
	w.errs["b"] = store.Errorf(store.Denied, "access denied")
	c, _ := newCache(w)
	q := ask("a", "x", "b")
	q[1].Optional, q[2].Optional = true, true
	if _, err := c.Get(t.Context(), api, q); err == nil || err.Error() != "toy: b: access denied" {
		t.Errorf(`got %v, where err == nil || err.Error() != "toy: b: access denied" must not be so`, err)
	}
	a, err := c.Get(t.Context(), api, q[:2])
	if got := values(t, a, err); got != "1api:hit" {
		t.Errorf("got %v, want %v", got, "1api:hit")
	}
}

func TestDeniedSecretIsForgotten(t *testing.T) {
	w := newWorld()
	c, clock := newCache(w)
	if _, err := c.Get(t.Context(), api, ask("a")); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	for _, reason := range []store.Reason{store.Denied, store.NotFound} {
		w.errs["a"] = store.Errorf(reason, "gone")
		clock.Move(time.Hour)
		if _, err := c.Get(t.Context(), api, ask("a")); store.ReasonOf(err) != reason {
			t.Errorf(`got %v, where store.ReasonOf(err) != reason must not be so`, err)
		}
		if len(c.entries.items) != 0 || c.entries.bytes != 0 {
			t.Error("the value is kept")
		}
	}
}

func TestFindIsListedAndThenReadTogether(t *testing.T) {
	w := newWorld()
	c, _ := newCache(w)
	q := []plan.Query{{Field: "objects[0]", Store: store.Selector{Name: "toy"}, Find: &store.Filter{}}}
	for _, want := range []string{"1api:fetched 2api:fetched 3api:fetched", "1api:hit 2api:hit 3api:hit"} {
		a, err := c.Get(t.Context(), api, q)
		if got := values(t, a, err); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if got := fmt.Sprint(w.fetches); got != "[[list ] [a b c]]" {
		t.Errorf("got %v, want %v", got, "[[list ] [a b c]]")
	}
	q[0].Find = &store.Filter{Prefix: "zzz"}
	if _, err := c.Get(t.Context(), api, q); err == nil || !strings.Contains(err.Error(), "toy: objects[0]: find matches no secret that service account shop/api may see") {
		t.Errorf("got %v, which is not what this test promises", err)
	}
}

// History gives two versions of every name that there is.
func (s *toy) History(_ context.Context, ref store.Ref, limit int) ([]store.Ref, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetches = append(s.fetches, []string{fmt.Sprintf("history %s %d", ref, limit)})
	if _, ok := s.values[ref.Name]; !ok {
		return nil, store.RefErrorf(store.NotFound, ref, "no such secret")
	}
	return []store.Ref{{Name: ref.Name, Version: "9"}, {Name: ref.Name, Version: "8"}}[:min(2, limit)], nil
}

func TestAHistoryIsListedAndThenReadTogether(t *testing.T) {
	w := newWorld()
	w.config.Prefix = "prod/"
	w.values["prod/a"] = "7"
	c, _ := newCache(w)
	q := []plan.Query{{Field: "objects[0]", Store: store.Selector{Name: "toy"}, Ref: store.Ref{Name: "a"}, History: 5}}
	for _, origin := range []plan.Origin{plan.Fetched, plan.Hit} {
		a, err := c.Get(t.Context(), api, q)
		if err != nil || len(a[0].Found) != 2 {
			t.Fatalf("got %v and the error %v, want two versions", a, err)
		}
		for i, version := range []string{"9", "8"} {
			if f := a[0].Found[i]; f.Ref.String() != "a@"+version || f.Origin != origin {
				t.Errorf("version %d: got %s, %s, want a@%s, %s", i, f.Ref, f.Origin, version, origin)
			}
		}
	}
	if got, want := fmt.Sprint(w.fetches), "[[history prod/a 5] [prod/a prod/a]]"; got != want {
		t.Errorf("got the requests %s, want %s", got, want)
	}

	q[0].Ref.Name, q[0].Optional = "none", true
	if a, err := c.Get(t.Context(), api, q); err != nil || len(a[0].Found) != 0 {
		t.Errorf("an optional secret that is missing: got %v and the error %v, want nothing", a, err)
	}
	q[0].Optional = false
	if _, err := c.Get(t.Context(), api, q); store.ReasonOf(err) != store.NotFound {
		t.Errorf("a secret that is missing: got %v, want that", err)
	}
}

func TestPrefixStandsBeforeEveryNameThatTheStoreSees(t *testing.T) {
	w := newWorld()
	w.config.Prefix = "prod/"
	w.values["prod/a"] = "7"
	c, _ := newCache(w)
	a, err := c.Get(t.Context(), api, ask("a"))
	if got := values(t, a, err); got != "7api:fetched" || a[0].Found[0].Ref.Name != "a" {
		t.Errorf(`got %v, where got != "7api:fetched" || a[0].Found[0].Ref.Name != "a" must not be so`, got)
	}
	_, err = c.Get(t.Context(), api, ask("b"))
	if err == nil || err.Error() != "toy: b: not found" {
		t.Errorf(`got %v, where err == nil || err.Error() != "toy: b: not found" must not be so`, err)
	}
}

func TestAPanickingStoreFailsItsMountOnly(t *testing.T) {
	w := newWorld()
	w.panics = true
	c, _ := newCache(w)
	_, err := c.Get(t.Context(), api, ask("a"))
	if err == nil || strings.Contains(err.Error(), "disco") {
		t.Errorf(`got %v, where err == nil || strings.Contains(err.Error(), "disco") must not be so`, err)
	}
	w.panics = false
	a, err := c.Get(t.Context(), api, ask("a"))
	if got := values(t, a, err); got != "1api:fetched" {
		t.Errorf("got %v, want %v", got, "1api:fetched")
	}
}

func TestCacheStaysWithinItsBounds(t *testing.T) {
	w := newWorld()
	c := New(w, Options{MaxEntries: 50, MaxBytes: 40_000})
	for i := range 500 {
		name := fmt.Sprintf("s%d", i)
		w.values[name] = strings.Repeat("x", i*10)
		if _, err := c.Get(t.Context(), api, ask(name)); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		if n, b := len(c.entries.items), c.entries.bytes; n > 50 || b > 40_000 {
			t.Fatalf("%d entries, %d bytes", n, b)
		}
	}
	var bytes int64
	listed := 0
	for _, e := range c.entries.items {
		bytes += e.key.size() + e.reading.size()
	}
	for _, h := range c.handles {
		bytes += h.bytes
	}
	for _, s := range c.entries.shares {
		listed += s.order.Len()
	}
	if bytes != c.entries.bytes || listed != len(c.entries.items) || bytes == 0 {
		t.Errorf("counted %d bytes and %d entries, kept %d and %d", c.entries.bytes, listed, bytes, len(c.entries.items))
	}
	if len(c.calls) != 0 {
		t.Error("calls are left over")
	}
	w.values["huge"] = strings.Repeat("x", 50_000)
	if _, err := c.Get(t.Context(), api, ask("huge")); err != nil || len(c.entries.items) == 0 {
		t.Error("a value over the bound must be answered, and must not empty the cache", err)
	}
}

func TestErrorsUnwrapToTheirReasons(t *testing.T) {
	err := error(Errors{&plan.QueryError{Err: store.Errorf(store.NotFound, "x")}})
	if e := new(store.Error); !errors.As(err, &e) || e.Reason != store.NotFound {
		t.Errorf(`got %v, where !errors.As(err, &e) || e.Reason != store.NotFound must not be so`, err)
	}
}

// Upstream providers read everything on every republish. Where a dialect
// promises as much, pods of one identity share the reads still.
func TestARepublishSeesAValueReadSinceTheVolumesLastAnswer(t *testing.T) {
	w := newWorld()
	c, clock := newCache(w)
	mount := func(pod string) string {
		q := ask("a")
		q[0].Volume = "mysql"
		id := api
		id.Pod.UID = pod
		a, err := c.Get(t.Context(), id, q)
		got := values(t, a, err)
		clock.Move(time.Millisecond)
		return got
	}
	for i, c := range []struct{ pod, want string }{
		{"1", "fetched"}, {"2", "hit"}, {"3", "hit"}, // three pods start
		{"1", "fetched"}, {"2", "hit"}, {"3", "hit"}, // and are republished
		{"2", "fetched"}, {"1", "hit"}, {"3", "hit"},
	} {
		if got := mount(c.pod); got != "1api:"+c.want {
			t.Errorf("%d: pod %s: %s", i, c.pod, got)
		}
	}
	if w.calls() != 3 {
		t.Errorf("%d reads", w.calls())
	}
}

func TestAPinnedVersionIsReadOnceHoweverOftenItIsRepublished(t *testing.T) {
	w := newWorld()
	c, _ := newCache(w)
	q := ask("a")
	q[0].Volume, q[0].Refresh = "mysql", store.Never
	for range 3 {
		if _, err := c.Get(t.Context(), api, q); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
	}
	if w.calls() != 1 {
		t.Errorf("%d reads", w.calls())
	}
}

func TestRememberedTimesAreBounded(t *testing.T) {
	m := newTimes()
	for i := range 3 * maxTimes {
		m.set(strings.Repeat("x", i%7)+time.Duration(i).String(), time.Time{})
	}
	if len(m.items) != maxTimes || m.order.Len() != maxTimes {
		t.Errorf("%d names and %d moments are kept, want %d", len(m.items), m.order.Len(), maxTimes)
	}
}

// A mount that was held up between its start and its look into the cache takes
// what another read meanwhile.
func TestAValueReadAfterAMountBeganIsFreshForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := New(w, Options{})
		var all sync.WaitGroup
		all.Go(func() {
			a, err := c.Get(t.Context(), api, []plan.Query{{Store: store.Selector{Name: "slow"}, Ref: store.Ref{Name: "a"}}})
			if got := values(t, a, err); got != "1api:hit" {
				t.Errorf("got %v, want %v", got, "1api:hit")
			}
		})
		all.Go(func() {
			time.Sleep(time.Second)
			get(t, c, "a")
		})
		all.Wait()
		if w.calls() != 1 {
			t.Errorf("%d reads", w.calls())
		}
	})
}
