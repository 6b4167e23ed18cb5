package cache_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/cache"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/toystore"
)

type leased struct {
	t      *testing.T
	clock  *fixture.Stopped
	server *toystore.Server
	cache  *cache.Cache
	set    *store.Set
}

func newLeased(t *testing.T) *leased {
	l := &leased{t: t, clock: fixture.StoppedAt(time.Unix(1_000_000, 0))}
	l.server = toystore.New(l.clock.Now)
	l.set = store.NewSet(store.Catalog{Kinds: l.server.Kinds()})
	if err := l.set.Load("stores: {toys: {kind: toy, namespaces: [shop], refresh: 10s}}"); err != nil {
		t.Fatalf("the store does not load: %v", err)
	}
	l.start(nil)
	return l
}

func (l *leased) start(j *cache.Journal) {
	l.cache = cache.New(l.set, cache.Options{Now: l.clock.Now, Gather: -1, Journal: j, LeaseIdle: 90 * time.Minute})
	if _, err := l.cache.Restore(); err != nil {
		l.t.Fatalf("nothing is restored: %v", err)
	}
}

func issued(force string) plan.Query {
	return plan.Query{Field: "objects[0]", Store: store.Selector{Name: "toys"}, Ref: store.Ref{Name: "issued/db"}, Force: force}
}

// mount is one republish of a pod.
func (l *leased) mount(pod int, queries ...plan.Query) []string {
	l.t.Helper()
	id := auth.Identity{Namespace: "shop", ServiceAccount: "api", Pod: auth.Pod{Name: fmt.Sprint("api-", pod), UID: fmt.Sprint(pod)}}
	answers, err := l.cache.Get(l.t.Context(), id, queries)
	if err != nil {
		l.t.Fatalf("pod %d gets nothing: %v", pod, err)
	}
	var values []string
	for _, a := range answers {
		values = append(values, string(a.Found[0].Secret.Value))
	}
	return values
}

func (l *leased) turn() {
	l.cache.Turn(l.t.Context())
	l.cache.Wait()
}

func TestThousandRepublishesAreOneLease(t *testing.T) {
	l := newLeased(t)
	for i := range 1000 {
		q := issued("")
		q.Volume = fmt.Sprint("class of pod ", i%100)
		l.mount(i%100, q)
		l.clock.Move(time.Second)
		l.turn()
	}
	if l.server.Issued != 1 {
		t.Errorf("%d leases were issued, want 1", l.server.Issued)
	}
}

func TestALeaseIsRenewedWhileAPodUsesItAndIssuedAnewBeforeItsGreatestAge(t *testing.T) {
	l := newLeased(t)
	l.server.MaxLife = 6 * time.Hour
	got := l.mount(1, issued(""))[0]
	for range 12 * 60 {
		l.clock.Move(time.Minute)
		l.turn()
		got = l.mount(1, issued(""))[0]
	}
	if l.server.Issued < 2 || l.server.Issued > 4 {
		t.Errorf("in 12 hours of leases that live 6 at most, %d were issued, want 2 to 4", l.server.Issued)
	}
	if got != fmt.Sprint("user-lease-", l.server.Issued) {
		t.Errorf("the pod has %s, of %d issued", got, l.server.Issued)
	}
}

func TestTwoObjectsOfOneMountAreOneLease(t *testing.T) {
	l := newLeased(t)
	if got := l.mount(1, issued(""), issued("")); got[0] != got[1] {
		t.Errorf("user and password of one mount are of two leases: %q", got)
	}
}

func TestForceRefreshIssuesAnewOnce(t *testing.T) {
	l := newLeased(t)
	first := l.mount(1, issued(""))[0]
	l.clock.Move(time.Second)
	second := l.mount(1, issued("please"))[0]
	third := l.mount(1, issued("please"))[0]
	if first == second || second != third || l.server.Issued != 2 {
		t.Errorf("got %s, %s, %s of %d leases; want a new one, once", first, second, third, l.server.Issued)
	}
}

func TestTheLastPodsGoingRevokesWhatItUsed(t *testing.T) {
	l := newLeased(t)
	l.mount(1, issued(""))
	l.clock.Move(time.Second)
	l.mount(1, issued("rotate")) // the one before is ended with it
	if n := l.server.Leases(); n != 2 {
		t.Fatalf("%d leases live, want the new one and the one that pods may still use", n)
	}
	for range 8 { // a driver that rotates once an hour does not ask for long
		l.clock.Move(10 * time.Minute)
		l.turn()
	}
	if n := l.server.Leases(); n == 0 {
		t.Error("got no lease 80 minutes after the pod was last asked for, want it kept up for LeaseIdle")
	}
	l.clock.Move(11 * time.Minute)
	l.turn()
	l.turn()
	if n := l.server.Leases(); n != 0 {
		t.Errorf("%d leases live after the last pod is gone, want none", n)
	}
}

func TestACleanStopRevokesUnlessTheNextProcessGoesOn(t *testing.T) {
	l := newLeased(t)
	l.mount(1, issued(""))
	l.cache.Close()
	if n := l.server.Leases(); n != 0 {
		t.Errorf("%d leases live after a clean stop, want none", n)
	}

	dir := t.TempDir()
	j, err := cache.OpenJournalIn(dir)
	if err != nil {
		t.Fatalf("no journal: %v", err)
	}
	l.start(j)
	before := l.mount(1, issued(""))[0]
	l.cache.Close()
	if j, err = cache.OpenJournalIn(dir); err != nil {
		t.Fatalf("no journal: %v", err)
	}
	l.start(j)
	if after := l.mount(1, issued(""))[0]; after != before || l.server.Leases() != 1 {
		t.Errorf("after a restart the pod has %s and %d leases live; want %s and 1", after, l.server.Leases(), before)
	}
}
