package aws

import (
	"testing"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/storetest"
)

func TestBothKindsConform(t *testing.T) {
	for _, kind := range []string{SecretsManager, ParameterStore} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld()
			kinds := w.kinds()
			web := identity()
			web.ServiceAccount = "web"
			w.roles["shop/web"] = "arn:aws:iam::123456789012:role/web"
			storetest.Run(t, storetest.Harness{
				Identity: identity(), Principals: []auth.Identity{identity(), web}, Lists: true,
				Put: func(_ testing.TB, name, value string) {
					w.SetSecretValue("us-east-1", name, value)
					w.SetParameterValue("us-east-1", name, value)
				},
				Open: func(t testing.TB, id auth.Identity) *store.Opened {
					set := store.NewSet(store.Catalog{Kinds: kinds})
					if err := set.Load("stores: {x: {kind: " + kind + ", region: us-east-1, namespaces: [shop]}}"); err != nil {
						t.Fatalf("the store does not load: %v", err)
					}
					o, err := set.Open(t.Context(), store.Selector{Name: "x"}, id)
					if err != nil {
						t.Fatalf("the store does not open: %v", err)
					}
					return o
				},
			})
		})
	}
}
