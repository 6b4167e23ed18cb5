package vault

import (
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/cache"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	fake "github.com/coffre-csi/coffre/test/fakes/vault"
)

// node is the cache of one node before the fake Vault, on its clock.
type node struct {
	*small
	cache *cache.Cache
	told  []string // of leases that were lost

	mu     sync.Mutex
	held   int
	events map[string]int
}

func beginNode(t *testing.T, lent fake.Lent) *node {
	t.Helper()
	n := &node{small: beginSmall(t, ""), events: map[string]int{}}
	n.Lend("", "lender/creds/db", lent)
	set := store.NewSet(store.Catalog{Kinds: n.kinds})
	if err := set.Load(fmt.Sprintf("stores: {v: {kind: vault, namespaces: ['*'], address: %q, auth: jwt, role: shop}}", n.at)); err != nil {
		t.Fatalf("the store has mistakes: %v", err)
	}
	lost := func(id auth.Identity, store, secret string) {
		n.told = append(n.told, fmt.Sprintf("%s %s %s", id.Pod.Name, store, secret))
	}
	n.cache = cache.New(set, cache.Options{Now: n.clock.Now, Gather: -1, Metrics: n, LeaseIdle: time.Hour, LeaseLost: lost})
	return n
}

func (n *node) Fetched(string, string)   {}
func (n *node) Size(int, int64)          {}
func (n *node) Available(string, bool)   {}
func (n *node) Unknown(string)           {}
func (n *node) Oldest(age time.Duration) {}
func (n *node) Leases(held int)          { n.mu.Lock(); defer n.mu.Unlock(); n.held = held }
func (n *node) Leased(_, event string)   { n.mu.Lock(); defer n.mu.Unlock(); n.events[event]++ }

// mount is a pod's, of the dynamic credential; the user is who it was issued.
func (n *node) mount(t *testing.T) (user string, err error) {
	t.Helper()
	raw := n.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"vault"}, Issued: n.clock.Now()})
	id := auth.Identity{
		Namespace: "shop", ServiceAccount: "api", Pod: auth.Pod{Name: "api-0", UID: "0"},
		Tokens: auth.Tokens{"vault": auth.NewToken(raw, oidc.Expiry(raw))},
	}
	query := plan.Query{Field: "objects[0]", Store: store.Selector{Name: "v"}, Ref: store.Ref{Name: "lender/creds/db", Type: "read"}}
	answers, err := n.cache.Get(t.Context(), id, []plan.Query{query})
	if err != nil {
		return "", err
	}
	var keys struct{ Username, Password string }
	if err := json.Unmarshal(answers[0].Found[0].Secret.Value, &keys); err != nil || keys.Password != "of-"+keys.Username {
		t.Errorf("got user and password of two leases, or none: %v", err)
	}
	return keys.Username, nil
}

// pass lets time go by, with the cache's turns and a republish a minute.
func (n *node) pass(t *testing.T, minutes int) (user string, err error) {
	t.Helper()
	for range minutes {
		n.clock.Move(time.Minute)
		n.cache.Turn(t.Context())
		n.cache.Wait()
		if user, err = n.mount(t); err != nil {
			continue
		}
		if ends, _ := n.Ended(user); !n.clock.Now().Before(ends) {
			t.Errorf("the pod has %s, which Vault ended", user)
		}
	}
	return user, err
}

func (n *node) expect(t *testing.T, when string, held int, events map[string]int) {
	t.Helper()
	n.cache.Turn(t.Context())
	n.cache.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held != held || !maps.Equal(n.events, events) {
		t.Errorf("%s: got %d leases held and %v, want %d and %v", when, n.held, n.events, held, events)
	}
}

func TestMetricsCountWhatBecameOfLeases(t *testing.T) {
	n := beginNode(t, fake.Lent{TTL: 9 * time.Minute, Max: time.Hour})
	first, err := n.mount(t)
	if err != nil {
		t.Fatalf("got the error %v, want a credential", err)
	}
	n.expect(t, "issued", 1, map[string]int{"issued": 1})
	if user, _ := n.pass(t, 13); user != first {
		t.Errorf("got %s, want %s renewed", user, first)
	}
	n.expect(t, "renewed every six minutes", 1, map[string]int{"issued": 1, "renewed": 2})
}

func TestALeaseThatVaultTookAwayIsIssuedAnewAtItsRenewal(t *testing.T) {
	n := beginNode(t, fake.Lent{TTL: 9 * time.Minute, Max: time.Hour})
	first, err := n.mount(t)
	if err != nil {
		t.Fatalf("got the error %v, want a credential", err)
	}
	n.clock.Move(6*time.Minute - time.Second)
	n.RevokeAll()
	second, err := n.pass(t, 1)
	if err != nil || second == first {
		t.Errorf("got %s and the error %v, want another credential", second, err)
	}
	n.expect(t, "lost and replaced", 1, map[string]int{"issued": 2, "lost": 1})
	if n.told != nil {
		t.Errorf("got the events %q, want none: the pod has another credential", n.told)
	}
}

func TestThePodIsToldOfALeaseThatEndsWithNothingInItsPlace(t *testing.T) {
	n := beginNode(t, fake.Lent{TTL: 9 * time.Minute, Max: 9 * time.Minute})
	if _, err := n.mount(t); err != nil {
		t.Fatalf("got the error %v, want a credential", err)
	}
	n.Seal(true)
	for range 10 {
		n.clock.Move(time.Minute)
		n.cache.Turn(t.Context())
		n.cache.Wait()
	}
	if want := "api-0 v read/lender/creds/db"; len(n.told) != 1 || n.told[0] != want {
		t.Errorf("got the events %q, want one: %s", n.told, want)
	}
	n.expect(t, "lost", 0, map[string]int{"issued": 1, "lost": 1})

	n.Seal(false)
	n.clock.Move(time.Minute)
	if _, err := n.mount(t); err != nil {
		t.Errorf("got the error %v after Vault came back, want another credential", err)
	}
}

// A lease that nears its greatest age is replaced while it is good still.
func TestNoPodHasACredentialThatVaultHasEnded(t *testing.T) {
	n := beginNode(t, fake.Lent{TTL: 10 * time.Minute, Max: 30 * time.Minute})
	if _, err := n.mount(t); err != nil {
		t.Fatalf("got the error %v, want a credential", err)
	}
	if _, err := n.pass(t, 180); err != nil {
		t.Errorf("got the error %v, want a credential at any time", err)
	}
	if issued := len(n.small.Leases()); issued < 6 || issued > 8 {
		t.Errorf("got %d leases in three hours, want 6 to 8: each lives half an hour at most", issued)
	}
}
