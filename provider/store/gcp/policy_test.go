package gcp

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/auth"
	gcpauth "github.com/coffre-csi/coffre/auth/gcp"
	"github.com/coffre-csi/coffre/provider/store"
)

// The provider's identity and key files are the platform's to allow.
func TestOnlyThePlatformAllowsTheProvidersIdentityAndKeyFiles(t *testing.T) {
	const allowed = "dialects: {gcp: {providerIdentity: {namespaces: [shop]}, nodePublishSecret: {namespaces: [shop]}}}"
	const others = "dialects: {gcp: {providerIdentity: {namespaces: [bank]}, nodePublishSecret: {namespaces: [bank]}}}"
	for name, c := range map[string]struct {
		policy       string
		unconfigured bool
		keyFiles     bool
		key          bool
		auth         gcpauth.Method
		want         string // of the error; "" for none
	}{
		"nobody allows":              {auth: gcpauth.Provider, want: "it would in dialects.gcp.providerIdentity.namespaces"},
		"allowed to others":          {policy: others, auth: gcpauth.Provider, want: "it would in dialects.gcp.providerIdentity.namespaces"},
		"allowed":                    {policy: allowed, auth: gcpauth.Provider},
		"no platform":                {unconfigured: true, auth: gcpauth.Provider},
		"a key that nobody allows":   {key: true},
		"a key allowed to others":    {policy: others, key: true, want: "it would in dialects.gcp.nodePublishSecret.namespaces"},
		"a key that is allowed":      {policy: allowed, key: true, want: "unable to generate credentials from key.json"},
		"a key by the environment":   {keyFiles: true, key: true, want: "unable to generate credentials from key.json"},
		"a key and the provider":     {policy: allowed, key: true, auth: gcpauth.Provider, want: "attempting to set both nodePublishSecretRef and provider-adc auth"},
		"a key and the pod, written": {keyFiles: true, key: true, auth: gcpauth.WorkloadIdentity, want: "attempting to set both nodePublishSecretRef and pod-adc auth"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			kinds := Kinds(Options{Network: w.network, Broker: w.broker, Unconfigured: c.unconfigured, KeyFiles: c.keyFiles})
			set := store.NewSet(store.Catalog{Kinds: kinds, Dialects: []store.DialectPolicy{{Name: Dialect}}})
			if err := set.Load(c.policy); err != nil {
				t.Fatalf("the policy does not load: %v", err)
			}
			inline, mistakes := Inline(SecretManager, "secretmanager", Settings{Auth: c.auth}, store.InlineOptions{Dialect: Dialect})
			if mistakes != nil {
				t.Fatalf("the store does not load: %v", mistakes)
			}
			id := w.identity("api")
			if c.key {
				id.Secrets = auth.Secrets{gcpauth.KeyName: "no key"}
			}

			_, err := set.Open(t.Context(), store.Selector{Inline: inline}, id)
			if (c.want == "") != (err == nil) || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("got the error %v, want %q", err, c.want)
			}
		})
	}
}
