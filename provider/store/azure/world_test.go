package azure

import (
	"context"
	"crypto/tls"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	azureauth "github.com/coffre-csi/coffre/auth/azure"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/azure"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

const (
	shopID = "aaaaaaaa-0000-0000-0000-000000000001" // the client id of shop/api
	webID  = "aaaaaaaa-0000-0000-0000-000000000002" // that of shop/web
	user   = "Key Vault Secrets User"
)

// world is the strict fake behind TLS, with the vaults shop and spare, which the
// pods of the namespace shop may read.
type world struct {
	*azure.Server
	t        testing.TB
	clock    fixture.Clock
	issuer   *oidc.Issuer
	listener *serve.Listener
	network  *azureauth.Network
	broker   *azureauth.Broker
	options  Options
	kinds    store.Kinds

	mu          sync.Mutex
	annotations map[string]string // by namespace/name and key
	requested   map[string]int
	exchanged   map[string]int
	warned      []string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, annotations: map[string]string{}, requested: map[string]int{}, exchanged: map[string]int{}}
	w.Server = azure.New(azure.Options{Now: w.clock.Now})
	w.issuer = fixture.Issuer(t, "https://oidc.example/cluster")
	w.AddIssuer(w.issuer.URL, w.issuer.Keys())
	for account, id := range map[string]string{"api": shopID, "web": webID} {
		w.AddApp(azure.App{ClientID: id, Secrets: []string{"client-s3cret"}, Binding: w.issuer.URL,
			Federated: []azure.Federated{{Issuer: w.issuer.URL, Subject: "system:serviceaccount:shop:" + account}}})
		w.annotations["shop/"+account+" "+azureauth.ClientAnnotation] = id
		w.annotations["shop/"+account+" "+azureauth.TenantAnnotation] = azure.DefaultTenant
	}
	for _, vault := range []string{"shop", "spare"} {
		w.AddVault(vault, azure.Vault{})
		for _, id := range []string{shopID, webID} {
			w.Grant(vault, user, id)
			w.Grant(vault, "Key Vault Certificate User", id)
		}
	}

	ca := fixture.Authority(t)
	w.listener = fixture.Serve(t, "", w.Server, ca)
	w.network = azureauth.NewNetwork(azureauth.NetworkOptions{Dial: w.listener.DialContext, TLS: &tls.Config{RootCAs: ca.Pool()}})
	local := &http.Client{Transport: &http.Transport{DialContext: fixture.Serve(t, "", w.Server, nil).DialContext}}
	w.broker = azureauth.New(azureauth.Options{Network: w.network, ServiceAccounts: w, Metrics: w, Local: local, Now: w.clock.Now})
	w.options = Options{Network: w.network, Broker: w.broker, Metrics: w, Now: w.clock.Now,
		Warn: func(_ auth.Identity, message string) { w.warned = append(w.warned, message) }}
	w.kinds = Kinds(w.options)
	t.Cleanup(func() { w.kinds.Close(); w.broker.Close() })
	return w
}

func (w *world) Requested(_, op, code string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requested[op+" "+code]++
}

func (w *world) Exchanged(kind, result string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exchanged[kind+" "+result]++
}

func (w *world) ServiceAccountAnnotation(_ context.Context, namespace, name, key string) (string, error) {
	return w.annotations[namespace+"/"+name+" "+key], nil
}

// identity is a pod of the namespace shop.
func (w *world) identity(account string) auth.Identity {
	tokens := auth.Tokens{}
	for _, audience := range []string{azure.TokenExchange, azure.IdentityBinding} {
		raw := w.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: account, Audiences: []string{audience}, Issued: w.clock.Now().Add(-time.Minute)})
		tokens[audience] = auth.NewToken(raw, oidc.Expiry(raw))
	}
	return auth.Identity{Namespace: "shop", ServiceAccount: account, Pod: auth.Pod{Name: account + "-0", UID: "u"}, Tokens: tokens}
}

// open opens the platform's store; more are fields of it, as YAML.
func (w *world) open(t testing.TB, more string, id auth.Identity) (*store.Opened, error) {
	t.Helper()
	set := store.NewSet(store.Catalog{Kinds: w.kinds, Dialects: []store.DialectPolicy{{Name: Dialect, Settings: NewPolicy}}})
	if err := set.Load("stores: {x: {kind: " + Kind + ", namespaces: [shop], vault: shop" + more + "}}"); err != nil {
		t.Fatalf("the store does not load: %v", err)
	}
	return set.Open(t.Context(), store.Selector{Name: "x"}, id)
}

// read reads one ref of a store.
func (w *world) read(t testing.TB, more string, ref store.Ref) (store.Secret, error) {
	t.Helper()
	o, err := w.open(t, more, w.identity("api"))
	if err != nil {
		return store.Secret{}, err
	}
	got, err := o.Fetch(t.Context(), []store.Ref{ref}, func(int, store.Secret) {})
	if err != nil {
		return store.Secret{}, err
	}
	return got[0], nil
}
