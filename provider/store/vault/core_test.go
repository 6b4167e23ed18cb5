package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/vault"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/storetest"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/vaultcore"
)

const policy = `
path "secret/*" { capabilities = ["read", "list"] }
path "lender/creds/*" { capabilities = ["read"] }
path "pki/issue/*" { capabilities = ["update"] }
path "secret/data/hidden" { capabilities = ["deny"] }
`

// world is Vault's real core with a role for shop/api, by tokens of an issuer
// whose key it knows.
type world struct {
	core   *vaultcore.Core
	issuer *oidc.Issuer
	kinds  store.Kinds
	broker *vault.Broker
}

func begin(t *testing.T) *world {
	t.Helper()
	w := &world{core: vaultcore.Start(t), issuer: fixture.Issuer(t, "https://oidc.example")}
	w.broker = vault.New(vault.Options{})
	w.kinds = Kinds(Options{Broker: w.broker})

	w.core.Engines(t)
	w.core.Policy(t, "shop", policy)
	w.core.Trust(t, w.issuer)
	w.core.Role(t, vaultcore.Role{Name: "shop", Subjects: "system:serviceaccount:shop:api", Policy: "shop"})
	w.core.Role(t, vaultcore.Role{Name: "billing", Subjects: "system:serviceaccount:billing:*", Policy: "shop"})
	return w
}

func (w *world) identity() auth.Identity {
	raw := w.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"vault"}})
	return auth.Identity{Namespace: "shop", ServiceAccount: "api", Tokens: auth.Tokens{"vault": auth.NewToken(raw, oidc.Expiry(raw))}}
}

func (w *world) open(t testing.TB, id auth.Identity, role string) (*store.Opened, error) {
	t.Helper()
	return w.openWith(t, id, role, "")
}

// openWith opens a store with more fields, each after a comma.
func (w *world) openWith(t testing.TB, id auth.Identity, role, more string) (*store.Opened, error) {
	t.Helper()
	set := store.NewSet(store.Catalog{Kinds: w.kinds})
	text := fmt.Sprintf("stores: {v: {kind: vault, namespaces: ['*'], address: %q, auth: jwt, role: %s, timeout: 5s%s}}", w.core.Address, role, more)
	if err := set.Load(text); err != nil {
		t.Fatalf("the store has mistakes: %v", err)
	}
	return set.Open(t.Context(), store.Selector{Name: "v"}, id)
}

func (w *world) read(t *testing.T, role string, refs ...store.Ref) (*store.Opened, []store.Secret, error) {
	t.Helper()
	o, err := w.open(t, w.identity(), role)
	if err != nil {
		t.Fatalf("got the error %v, want the store open", err)
	}
	secrets, err := o.Fetch(t.Context(), refs, func(int, store.Secret) {})
	return o, secrets, err
}

func TestTheKindConformsOnVaultsRealCore(t *testing.T) {
	w := begin(t)
	storetest.Run(t, storetest.Harness{
		Identity: w.identity(), Lists: true,
		Put: func(t testing.TB, name, value string) {
			w.core.Put(t, name, map[string]string{"value": value})
		},
		Open: func(t testing.TB, id auth.Identity) *store.Opened {
			o, err := w.open(t, id, "shop")
			if err != nil {
				t.Fatalf("got the error %v, want the store open", err)
			}
			o.Store = valueOnly{o.Store.(*opened)}
			return o
		},
	})
}

// valueOnly is the one key of the conformance's secrets: in KV a secret is a
// mapping, and the suite's values are texts.
type valueOnly struct{ *opened }

func (v valueOnly) Fetch(ctx context.Context, refs []store.Ref) ([]store.Secret, error) {
	return v.FetchEach(ctx, refs, func(int, store.Secret) {})
}

func (v valueOnly) FetchEach(ctx context.Context, refs []store.Ref, answered func(int, store.Secret)) ([]store.Secret, error) {
	got, err := v.opened.FetchEach(ctx, refs, func(i int, s store.Secret) { answered(i, v.unwrap(s)) })
	for i := range got {
		got[i] = v.unwrap(got[i])
	}
	return got, err
}

func (v valueOnly) unwrap(s store.Secret) store.Secret {
	var keys struct{ Value string }
	if json.Unmarshal(s.Value, &keys) == nil {
		s.Value = store.Value(keys.Value)
	}
	return s
}

func TestALeaseIsIssuedRenewedAndRevokedInVault(t *testing.T) {
	w := begin(t)
	o, got, err := w.read(t, "shop", store.Ref{Name: "lender/creds/app?ttl=60s", Type: "read"})
	if err != nil {
		t.Fatalf("got the error %v, want a credential", err)
	}
	s := got[0]
	if s.Lease == "" || time.Until(s.Until) > time.Minute || time.Until(s.Until) < 30*time.Second {
		t.Fatalf("got a lease (%t) until %s, want one of a minute", s.Lease != "", s.Until)
	}

	leaser := o.Store.(store.Leaser)
	until, err := leaser.Renew(t.Context(), s.Lease)
	if err != nil || until.Before(s.Until.Add(-2*time.Second)) { // Vault counts in whole seconds
		t.Errorf("got the end %s and the error %v, want a minute from now again, which %s was", until, err, s.Until)
	}
	l, _ := leaseOf(s.Lease)
	if status, _ := w.core.Try(t, "PUT", "sys/leases/lookup", vaultcore.Body(t, map[string]string{"lease_id": l.ID})); status != 200 {
		t.Errorf("got the status %d of a lease in use, want 200", status)
	}
	// The policy does not let leases be revoked: the token's own end is theirs.
	if err := leaser.Revoke(t.Context(), []string{s.Lease}); err != nil {
		t.Errorf("got the error %v, want the lease revoked with its token", err)
	}
	if status, _ := w.core.Try(t, "PUT", "sys/leases/lookup", vaultcore.Body(t, map[string]string{"lease_id": l.ID})); status == 200 {
		t.Error("the lease lives still in Vault after it was revoked")
	}
	if _, err := leaser.Renew(t.Context(), s.Lease); store.ReasonOf(err) != store.Denied {
		t.Errorf("got the error %v of a lease that is over, want it denied", err)
	}
}

// Without the right to revoke leases the token is revoked that issued them, but
// not where others of it may be in use, from before a restart.
func TestARestoredLeaseIsRevokedAloneOrNotAtAll(t *testing.T) {
	w := begin(t)
	o, got, err := w.read(t, "shop", store.Ref{Name: "lender/creds/a", Type: "read"}, store.Ref{Name: "lender/creds/b", Type: "read"})
	if err != nil {
		t.Fatalf("got the error %v, want two credentials", err)
	}
	w.broker = vault.New(vault.Options{})
	w.kinds = Kinds(Options{Broker: w.broker})
	restarted, err := w.open(t, w.identity(), "shop")
	if err != nil {
		t.Fatalf("got the error %v, want the store open", err)
	}

	err = restarted.Store.(store.Leaser).Revoke(t.Context(), []string{got[0].Lease})
	if err == nil || !strings.Contains(err.Error(), "its policy must allow update on sys/leases/revoke") {
		t.Errorf("got the error %v, want what the policy lacks", err)
	}
	if n := len(w.core.Leases(t, "lender/creds/b")); n != 1 {
		t.Errorf("got %d leases of the other credential, want it alive", n)
	}

	w.core.Policy(t, "shop", policy+`path "sys/leases/revoke" { capabilities = ["update"] }`)
	if err := restarted.Store.(store.Leaser).Revoke(t.Context(), []string{got[0].Lease}); err != nil {
		t.Errorf("got the error %v, want the lease revoked", err)
	}
	if a, b := w.core.Leases(t, "lender/creds/a"), w.core.Leases(t, "lender/creds/b"); len(a) != 0 || len(b) != 1 {
		t.Errorf("got %d and %d leases, want the one revoked and the other alive", len(a), len(b))
	}
	if err := o.Store.(store.Leaser).Revoke(t.Context(), []string{got[1].Lease}); err != nil {
		t.Errorf("got the error %v, want the last one revoked", err)
	}
}

func TestACertificateEndsWhenItSays(t *testing.T) {
	w := begin(t)
	_, got, err := w.read(t, "shop", store.Ref{Name: "pki/issue/web?common_name=a.example.com&ttl=1h", Type: "write"})
	if err != nil {
		t.Fatalf("got the error %v, want a certificate", err)
	}
	if left := time.Until(got[0].Until); left < 55*time.Minute || left > 65*time.Minute || got[0].Lease != "" {
		t.Errorf("got %s left and a lease (%t), want an hour and none", left, got[0].Lease != "")
	}
}

func TestRefusalsOfVaultSayWhatToDo(t *testing.T) {
	w := begin(t)
	w.core.Do(t, "POST", "secret/data/gone", `{"data":{"a":"b"}}`)
	w.core.Do(t, "DELETE", "secret/data/gone", "")
	for name, c := range map[string]struct {
		role string
		ref  store.Ref
		why  store.Reason
		want string
	}{
		"denied path":     {"shop", store.Ref{Name: "hidden"}, store.Denied, `Code: 403. Errors: permission denied: a policy of role shop of auth/jwt (service account shop/api) must allow read on "secret/data/hidden"`},
		"deleted version": {"shop", store.Ref{Name: "gone"}, store.NotFound, `version 1 at "secret/data/gone" was deleted at `},
		"missing":         {"shop", store.Ref{Name: "nowhere"}, store.NotFound, `there is nothing at "secret/data/nowhere", or no such mount`},
		"wrong role":      {"nobody", store.Ref{Name: "gone"}, store.Denied, `there is no such role as "nobody"`},
		"others' role":    {"billing", store.Ref{Name: "gone"}, store.Denied, "failed to login: Code: 400"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := w.read(t, c.role, c.ref)
			if store.ReasonOf(err) != c.why || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %s %v, want %s with %s", store.ReasonOf(err), err, c.why, c.want)
			}
		})
	}

	w.core.Do(t, "PUT", "sys/seal", "")
	_, _, err := w.read(t, "shop", store.Ref{Name: "gone"})
	if store.ReasonOf(err) != store.Unavailable || !strings.Contains(err.Error(), "Vault is sealed") {
		t.Errorf("got %s %v of a sealed Vault, want it unavailable and said", store.ReasonOf(err), err)
	}
}
