//go:build e2e

package e2e

import (
	"testing"
)

// A platform team adds a store by helm upgrade: it is served by the provider
// that runs, and a broken edit after that changes nothing but a metric.
func TestEditedStoresReachTheRunningProvider(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-stores")
	before, _ := coffrePod(t)
	ns.apply(
		secretProviderClass{name: "shop", parameters: platformStore("added", `- {name: shop.yaml, key: mysql.password, file: password, mode: "0444"}`)}.object(),
		pod{name: "early", classes: []string{"shop"}}.object(),
	)
	ns.awaitEvent("early", "added") // the name of a store that is not there yet

	upgrade := func() {
		t.Helper()
		_, err := command(`{"stores": {"added": {
			"kind": "sops", "namespaces": ["e2e-stores"],
			"directory": "/etc/coffre/documents", "ageKeyFile": "/etc/coffre/keys/age.agekey"
		}}}`, "helm", "upgrade", coffreName, "../../charts/coffre", "-n", system, "--reuse-values", "-f", "-", "--wait", "--timeout", patience.String())
		must(t, err)
	}
	upgrade()
	ns.ready("early")
	ns.expectFile("early", "/secrets/shop/password", "from the platform")

	_, err := kubectl("-n", system, "patch", "configmap", coffreName+"-stores", "--patch", `{"data": {"stores.yaml": "stores: {added: {kind: nonsense}}"}}`)
	must(t, err)
	awaitMetrics(t, coffreLabel, 8081, `(?m)^coffre_configuration_last_reload_successful 0$`)
	ns.apply(pod{name: "meanwhile", classes: []string{"shop"}}.object())
	ns.ready("meanwhile")
	ns.expectFile("meanwhile", "/secrets/shop/password", "from the platform")

	upgrade()
	awaitMetrics(t, coffreLabel, 8081, `(?m)^coffre_configuration_last_reload_successful 1$`)
	if after, _ := coffrePod(t); after != before {
		t.Errorf("the edit has replaced Coffre's pod %s by %s", before, after)
	}
}
