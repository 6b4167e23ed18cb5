package toystore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider"
	"github.com/coffre-csi/coffre/provider/cache"
	"github.com/coffre-csi/coffre/provider/dialect/coffre"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/storetest"
	"github.com/coffre-csi/coffre/test/toystore"
)

var api = auth.Identity{Namespace: "shop", ServiceAccount: "api", Pod: auth.Pod{Name: "api-1", UID: "1"}}

const stores = "stores: {toys: {kind: toy, namespaces: [shop]}}"

func harness(t *testing.T) (storetest.Harness, *toystore.Server) {
	t.Helper()
	server := toystore.New(time.Now)
	set := store.NewSet(store.Catalog{Kinds: server.Kinds()})
	if err := set.Load(stores); err != nil {
		t.Fatalf("the stores do not load: %v", err)
	}
	open := func(t testing.TB, id auth.Identity) *store.Opened {
		t.Helper()
		o, err := set.Open(t.Context(), store.Selector{Name: "toys"}, id)
		if err != nil {
			t.Fatalf("the store does not open: %v", err)
		}
		return o
	}
	other := api
	other.Secrets = auth.Secrets{"key": "another"}
	return storetest.Harness{Open: open, Identity: api, Principals: []auth.Identity{api, other}, Lists: true,
		Put: func(t testing.TB, name, value string) {
			if _, err := open(t, api).Store.(store.Writer).Write(t.Context(), store.Ref{Name: name}, store.Value(value)); err != nil {
				t.Fatalf("%s is not written: %v", name, err)
			}
		}}, server
}

func TestAStoreOfUnder150LinesConforms(t *testing.T) {
	h, _ := harness(t)
	storetest.Run(t, h)
}

// forgetful is a store that does not say whom it reads as.
type forgetful struct{ store.Store }

func TestTheSuiteFailsAStoreThatForgetsItsPrincipal(t *testing.T) {
	h, _ := harness(t)
	open := h.Open
	h.Open = func(t testing.TB, id auth.Identity) *store.Opened {
		o := open(t, id)
		return &store.Opened{Config: o.Config, Store: forgetful{o.Store}}
	}
	if err := storetest.Check(t, h, "principals are kept apart"); err == nil {
		t.Error("a store that tells identities apart and forgets to say so passes")
	}
}

func TestItServesAMount(t *testing.T) {
	h, server := harness(t)
	h.Put(t, "prod/mysql", `{"password":"hunter2"}`)
	set := store.NewSet(store.Catalog{Kinds: server.Kinds()})
	if err := set.Load(stores); err != nil {
		t.Fatalf("the stores do not load: %v", err)
	}
	p := &provider.Provider{Name: "coffre", Dialect: coffre.Dialect{Kinds: server.Kinds()}, Secrets: cache.New(set, cache.Options{}),
		Audit: func(provider.Delivery) {}}
	r, err := p.Mount(context.Background(), request.Request{Identity: api, Class: "mysql", Mode: 0o644, TargetPath: "/t", Parameters: map[string]string{
		"store": "toys", "objects": "- {name: prod/mysql, key: password, file: database-password}"}})
	if err != nil {
		t.Fatalf("the mount fails: %v", err)
	}
	if len(r.Files) != 1 || r.Files[0].Path != "database-password" || string(r.Files[0].Contents) != "hunter2" {
		t.Errorf("got %d files, want database-password with the password", len(r.Files))
	}
	_, err = p.Mount(context.Background(), request.Request{Identity: auth.Identity{Namespace: "other", ServiceAccount: "x", Pod: api.Pod}, Class: "mysql", Parameters: map[string]string{
		"store": "toys", "objects": "- {name: prod/mysql, file: f}"}})
	if f := new(provider.Failure); !errors.As(err, &f) || f.Reason != "denied" {
		t.Errorf("another namespace gets %v, want denied", err)
	}
}
