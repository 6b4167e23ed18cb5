package gcp

import (
	"fmt"
	"testing"

	"github.com/coffre-csi/coffre/auth"
	gcpauth "github.com/coffre-csi/coffre/auth/gcp"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/storetest"
)

func TestBothKindsConform(t *testing.T) {
	for _, kind := range []string{SecretManager, ParameterManager} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			w.annotations["shop/web"] = map[string]string{gcpauth.AccountAnnotation: shopGSA}
			version := 0

			storetest.Run(t, storetest.Harness{
				Identity: w.identity("api"), Principals: []auth.Identity{w.identity("api"), w.identity("web")}, Lists: true,
				Put: func(_ testing.TB, name, value string) {
					version++
					w.SetSecretValue("projects/shop/secrets/"+name, value)
					w.SetParameterValue("projects/shop/locations/global/parameters/"+name, fmt.Sprintf("v%03d", version), value)
				},
				Open: func(t testing.TB, id auth.Identity) *store.Opened {
					o, err := w.open(t, kind, "", id)
					if err != nil {
						t.Fatalf("the store does not open: %v", err)
					}
					return o
				},
			})
		})
	}
}
