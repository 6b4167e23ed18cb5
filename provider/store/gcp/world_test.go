package gcp

import (
	"context"
	"crypto/tls"
	"sync"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	gcpauth "github.com/coffre-csi/coffre/auth/gcp"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/gcp"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

const (
	poolOfShop = "shop.svc.id.goog"
	pods       = "principalSet://iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/shop.svc.id.goog/namespace/shop"
	shopGSA    = "shop@shop.iam.gserviceaccount.com"
)

// world is the strict fake behind TLS, with a GKE cluster whose pods of the
// namespace shop may read the project shop.
type world struct {
	*gcp.Server
	t        testing.TB
	clock    fixture.Clock
	issuer   *oidc.Issuer
	listener *serve.Listener
	network  *gcpauth.Network
	broker   *gcpauth.Broker
	kinds    store.Kinds

	mu          sync.Mutex
	annotations map[string]map[string]string // by namespace/name
	requested   map[string]int
	exchanged   map[string]int
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, annotations: map[string]map[string]string{}, requested: map[string]int{}, exchanged: map[string]int{}}
	w.Server = gcp.New(gcp.Options{Now: w.clock.Now})
	w.issuer = fixture.Issuer(t, "https://oidc.example/cluster")
	w.AddIssuer(w.issuer.URL, w.issuer.Keys())
	w.AddProject("shop", "42")
	w.AddProvider(gcp.GKE("shop", "europe-west9", "blue", w.issuer.URL))
	w.SetNode("shop", "europe-west9", "blue", "")
	w.AddServiceAccount(shopGSA)
	w.Grant("projects/shop", "roles/secretmanager.admin", pods)
	w.Grant("projects/shop", "roles/parametermanager.parameterAccessor", pods)
	w.Grant("projects/shop", "roles/parametermanager.parameterViewer", pods)

	ca := fixture.Authority(t)
	w.listener = fixture.Serve(t, "", w.Server, ca)
	w.network = gcpauth.NewNetwork(gcpauth.NetworkOptions{Dial: w.listener.DialContext, TLS: &tls.Config{RootCAs: ca.Pool()}})
	metadata := fixture.Serve(t, "", w.MetadataServer(), nil)
	w.broker = gcpauth.New(gcpauth.Options{
		Network: w.network, ServiceAccounts: w, Metrics: w, MetadataHost: metadata.Addr(), Now: w.clock.Now,
	})
	w.kinds = Kinds(Options{Network: w.network, Broker: w.broker, Metrics: w, Now: w.clock.Now})
	t.Cleanup(func() { w.kinds.Close(); w.broker.Close() })
	return w
}

func (w *world) Requested(kind, op, code string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requested[kind+" "+op+" "+code]++
}

func (w *world) Exchanged(kind, result string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exchanged[kind+" "+result]++
}

func (w *world) ServiceAccountAnnotation(_ context.Context, namespace, name, key string) (string, error) {
	return w.annotations[namespace+"/"+name][key], nil
}

// identity is a pod of the namespace shop.
func (w *world) identity(serviceAccount string) auth.Identity {
	raw := w.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: serviceAccount, Audiences: []string{poolOfShop}, Issued: w.clock.Now().Add(-time.Minute)})
	return auth.Identity{Namespace: "shop", ServiceAccount: serviceAccount, Pod: auth.Pod{Name: serviceAccount + "-0", UID: "u"},
		Tokens: auth.Tokens{poolOfShop: auth.NewToken(raw, oidc.Expiry(raw))}}
}

// open opens the platform's store of a kind; more are fields of it, as YAML.
func (w *world) open(t testing.TB, kind, more string, id auth.Identity) (*store.Opened, error) {
	t.Helper()
	set := store.NewSet(store.Catalog{Kinds: w.kinds})
	if err := set.Load("stores: {x: {kind: " + kind + ", namespaces: [shop], project: shop" + more + "}}"); err != nil {
		t.Fatalf("the store does not load: %v", err)
	}
	return set.Open(t.Context(), store.Selector{Name: "x"}, id)
}

// read reads one ref of a store that must open.
func (w *world) read(t testing.TB, kind, more string, ref store.Ref) (store.Secret, error) {
	t.Helper()
	o, err := w.open(t, kind, more, w.identity("api"))
	if err != nil {
		return store.Secret{}, err
	}
	got, err := o.Fetch(t.Context(), []store.Ref{ref}, func(int, store.Secret) {})
	if err != nil {
		return store.Secret{}, err
	}
	return got[0], nil
}
