package vault

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/vault"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	fake "github.com/coffre-csi/coffre/test/fakes/vault"
	"github.com/coffre-csi/coffre/test/vaultcore"
)

// small is the strict fake with a role for shop/api, for what the core has not:
// namespaces, and time that is the test's.
type small struct {
	*fake.Server
	clock  fixture.Clock
	issuer *oidc.Issuer
	kinds  store.Kinds
	broker *vault.Broker
	at     string
}

func beginSmall(t *testing.T, namespace string) *small {
	t.Helper()
	s := &small{issuer: fixture.Issuer(t, "https://oidc.example")}
	s.Server = fake.New(s.clock.Now)
	s.AddIssuer(s.issuer.URL, s.issuer.Keys())
	s.AddRole(fake.Role{Namespace: namespace, Name: "shop", Subjects: []string{"system:serviceaccount:shop:api"}, Paths: []string{"secret/data/a", "lender/*"}})
	s.broker = vault.New(vault.Options{Now: s.clock.Now})
	s.kinds = Kinds(Options{Broker: s.broker, Now: s.clock.Now})
	s.at = fixture.Serve(t, "", s, nil).URL()
	return s
}

func (s *small) open(t *testing.T, more string) *store.Opened {
	t.Helper()
	raw := s.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"vault"}, Issued: s.clock.Now()})
	id := auth.Identity{Namespace: "shop", ServiceAccount: "api", Tokens: auth.Tokens{"vault": auth.NewToken(raw, oidc.Expiry(raw))}}
	set := store.NewSet(store.Catalog{Kinds: s.kinds})
	if err := set.Load(fmt.Sprintf("stores: {v: {kind: vault, namespaces: ['*'], address: %q, auth: jwt, role: shop%s}}", s.at, more)); err != nil {
		t.Fatalf("the store has mistakes: %v", err)
	}
	return fixture.OK[*store.Opened](t)(set.Open(t.Context(), store.Selector{Name: "v"}, id))
}

func fetch(t *testing.T, o *store.Opened, refs ...store.Ref) ([]store.Secret, error) {
	t.Helper()
	return o.Fetch(t.Context(), refs, func(int, store.Secret) {})
}

func TestASecretIsReadInItsNamespaceAndNoOther(t *testing.T) {
	s := beginSmall(t, "team/a")
	s.SetSecret("team/a", "a", map[string]string{"whose": "team"})
	s.SetSecret("", "a", map[string]string{"whose": "root"})
	got, err := fetch(t, s.open(t, ", vaultNamespace: team/a"), store.Ref{Name: "a"})
	if err != nil || string(got[0].Value) != `{"whose":"team"}` {
		t.Errorf("got %d secrets and the error %v, want the namespace's own", len(got), err)
	}

	_, err = fetch(t, s.open(t, ", vaultNamespace: team/b"), store.Ref{Name: "a"})
	if store.ReasonOf(err) != store.Denied || !strings.Contains(err.Error(), "failed to login: Code: 403") {
		t.Errorf("got %v in a namespace that is not there, want the sign-in denied", err)
	}
}

func TestAKeptTokenThatIsRefusedIsReplacedOnceAMinute(t *testing.T) {
	s := beginSmall(t, "")
	s.SetSecret("", "a", map[string]string{"k": "v"})
	o := s.open(t, "")
	read := func(name string) error { _, err := fetch(t, o, store.Ref{Name: name}); return err }
	if err := read("a"); err != nil {
		t.Fatalf("got the error %v, want the secret", err)
	}

	s.RevokeAll()
	if err := read("a"); err != nil || s.Count(fake.Login) != 2 {
		t.Errorf("got the error %v after %d sign-ins, want the secret after a second one", err, s.Count(fake.Login))
	}
	for range 5 {
		if err := read("denied"); store.ReasonOf(err) != store.Denied {
			t.Errorf("got %v, want it denied", err)
		}
	}
	if n := s.Count(fake.Login); n != 2 {
		t.Errorf("got %d sign-ins, want a denied path to be no reason for another within a minute", n)
	}
	s.clock.Move(2 * time.Minute)
	_ = read("denied")
	if n := s.Count(fake.Login); n != 3 {
		t.Errorf("got %d sign-ins, want one more after a minute: the policy may have changed", n)
	}
}

func TestAllReadsOfAMountOutliveAKeptTokenThatIsRefused(t *testing.T) {
	s := beginSmall(t, "")
	s.AddRole(fake.Role{Name: "shop", Subjects: []string{"system:serviceaccount:shop:api"}, Paths: []string{"secret/*"}})
	var refs []store.Ref
	for i := range 20 {
		s.SetSecret("", fmt.Sprint(i), map[string]string{"k": "v"})
		refs = append(refs, store.Ref{Name: fmt.Sprint(i)})
	}
	o := s.open(t, "")
	if _, err := fetch(t, o, refs[0]); err != nil {
		t.Fatalf("got the error %v, want the secret", err)
	}
	s.RevokeAll()
	if _, err := fetch(t, o, refs...); err != nil || s.Count(fake.Login) != 2 {
		t.Errorf("got the error %v after %d sign-ins, want all secrets after a second one", err, s.Count(fake.Login))
	}
}

func TestAVersionIsReadAndTheHistoryNamesThoseThatCanBe(t *testing.T) {
	w := begin(t)
	for i := range 4 {
		w.core.Put(t, "a", map[string]string{"k": fmt.Sprint(i + 1)})
	}
	w.core.Do(t, "POST", "secret/delete/a", `{"versions":[2]}`)
	w.core.Do(t, "PUT", "secret/destroy/a", `{"versions":[3]}`)

	o, got, err := w.read(t, "shop", store.Ref{Name: "a", Version: "1"}, store.Ref{Name: "a"})
	if err != nil || string(got[0].Value) != `{"k":"1"}` || string(got[1].Value) != `{"k":"4"}` {
		t.Fatalf("got %d secrets and the error %v, want the first version and the current one", len(got), err)
	}
	refs, err := o.Store.(store.Historian).History(t.Context(), store.Ref{Name: "a"}, 5)
	want := []store.Ref{{Name: "a", Version: "4"}, {Name: "a", Version: "1"}}
	if err != nil || !slices.Equal(refs, want) {
		t.Errorf("got %v and the error %v, want %v: what is deleted or destroyed cannot be gone back to", refs, err, want)
	}
	if refs, err := o.Store.(store.Historian).History(t.Context(), store.Ref{Name: "a"}, 1); err != nil || len(refs) != 1 {
		t.Errorf("got %v and the error %v, want no more than asked for", refs, err)
	}
	for version, text := range map[string]string{"3": `version 3 at "secret/data/a" was destroyed`, "9": `there is no version 9 at "secret/data/a"`, "x": "is no version of KV v2"} {
		if _, _, err := w.read(t, "shop", store.Ref{Name: "a", Version: version}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v of version %s, want %s", err, version, text)
		}
	}
}

func TestKVVersion1IsReadWholeAndHasNoVersions(t *testing.T) {
	w := begin(t)
	w.core.Do(t, "POST", "kv/shop/db", `{"user":"api","data":"not an envelope"}`)
	w.core.Policy(t, "shop", `path "kv/*" { capabilities = ["read", "list"] }`)
	o, err := w.openWith(t, w.identity(), "shop", ", mount: kv, kvVersion: 1")
	if err != nil {
		t.Fatalf("got the error %v, want the store open", err)
	}
	got, err := fetch(t, o, store.Ref{Name: "shop/db"})
	if err != nil || string(got[0].Value) != `{"data":"not an envelope","user":"api"}` || got[0].Version == "" {
		t.Errorf("got %d secrets and the error %v, want all keys and a version", len(got), err)
	}
	if refs, err := o.Store.(store.Lister).List(t.Context(), store.Filter{Prefix: "shop/"}, 10); err != nil || len(refs) != 1 {
		t.Errorf("got %v and the error %v, want the one that is listed", refs, err)
	}
	if _, err := fetch(t, o, store.Ref{Name: "shop/db", Version: "1"}); err == nil || !strings.Contains(err.Error(), "KV v1 has no versions") {
		t.Errorf("got %v of a version, want it said that KV v1 has none", err)
	}
}

func TestFindListsFoldersByPatternAndByCustomMetadata(t *testing.T) {
	w := begin(t)
	for _, name := range []string{"prod/a", "prod/deep/b", "prod/c", "dev/d"} {
		w.core.Put(t, name, map[string]string{"k": "v"})
	}
	w.core.Do(t, "POST", "secret/metadata/prod/c", `{"custom_metadata":{"team":"shop"}}`)
	o, err := w.open(t, w.identity(), "shop")
	if err != nil {
		t.Fatalf("got the error %v, want the store open", err)
	}
	for name, c := range map[string]struct {
		filter store.Filter
		want   []string
	}{
		"prefix":  {store.Filter{Prefix: "prod/"}, []string{"prod/a", "prod/c", "prod/deep/b"}},
		"pattern": {store.Filter{Prefix: "prod/", Regexp: "/[ab]$"}, []string{"prod/a", "prod/deep/b"}},
		"tags":    {store.Filter{Tags: "team=shop"}, []string{"prod/c"}},
		"nothing": {store.Filter{Prefix: "none/"}, nil},
	} {
		refs, err := o.Store.(store.Lister).List(t.Context(), c.filter, 10)
		var names []string
		for _, r := range refs {
			names = append(names, r.Name)
		}
		slices.Sort(names)
		if err != nil || !slices.Equal(names, c.want) {
			t.Errorf("%s: got %q and the error %v, want %q", name, names, err, c.want)
		}
	}
}

// A proxy may wrap what Vault answers; the wrapping is no secret's value.
func TestAWrappedAnswerIsUnwrapped(t *testing.T) {
	w := begin(t)
	w.core.Put(t, "a", map[string]string{"k": "v"})
	gate, _ := w.core.Behind(t, nil)
	wrapping := http.HandlerFunc(func(res http.ResponseWriter, req *http.Request) {
		if strings.Contains(req.URL.Path, "/data/") {
			req.Header.Set("X-Vault-Wrap-TTL", "60s")
		}
		gate.ServeHTTP(res, req)
	})
	w.core = &vaultcore.Core{Address: fixture.Serve(t, "", wrapping, nil).URL()}
	_, got, err := w.read(t, "shop", store.Ref{Name: "a"})
	if err != nil || string(got[0].Value) != `{"k":"v"}` {
		t.Errorf("got %d secrets and the error %v, want what was wrapped", len(got), err)
	}
}
