package azure

import (
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/storetest"
)

func TestTheKindConforms(t *testing.T) {
	w := newWorld(t)

	storetest.Run(t, storetest.Harness{
		Identity: w.identity("api"), Principals: []auth.Identity{w.identity("api"), w.identity("web")}, Lists: true,
		Put: func(_ testing.TB, name, value string) {
			w.clock.Move(time.Second) // Key Vault counts the making of versions in seconds
			w.SetSecretValue("shop", name, value)
		},
		Open: func(t testing.TB, id auth.Identity) *store.Opened {
			o, err := w.open(t, "", id)
			if err != nil {
				t.Fatalf("the store does not open: %v", err)
			}
			return o
		},
	})
}
