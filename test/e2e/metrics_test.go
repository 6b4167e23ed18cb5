//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"testing"
)

func TestDriverCountsCoffresMountsAndRotations(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-driver-metrics")
	ns.apply(
		secretProviderClass{name: "shop", parameters: platformStore("documents", "- {name: shop.yaml, file: shop.yaml}")}.object(),
		pod{name: "app", classes: []string{"shop"}}.object(),
		pod{name: "gone", classes: []string{"shop"}}.object(),
	)
	ns.ready("app", "gone")
	ns.kubectl("delete", "pod", "gone", "--timeout=60s")
	awaitMetrics(t, driverLabel, 8095,
		`(?m)^node_publish_total\{.*provider="coffre".*\} [1-9]`,
		`(?m)^node_unpublish_total\{.*\} [1-9]`,
		`(?m)^rotation_reconcile_total\{.*provider="coffre".*\} [1-9]`,
	)
}

func TestCoffreCountsMountsAndFetches(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-coffre-metrics")
	ns.apply(
		secretProviderClass{name: "shop", parameters: platformStore("documents", "- {name: shop.yaml, file: shop.yaml}")}.object(),
		secretProviderClass{name: "wrong", parameters: platformStore("documents", "- {name: nowhere.yaml, file: nowhere.yaml}")}.object(),
		pod{name: "app", classes: []string{"shop"}}.object(),
		pod{name: "waiting", classes: []string{"wrong"}}.object(),
	)
	ns.ready("app")
	awaitMetrics(t, coffreLabel, 8081,
		`(?m)^coffre_mounts_total\{code="OK",dialect="coffre"\} [1-9]`,
		`(?m)^coffre_mounts_total\{code="NotFound",dialect="coffre"\} [1-9]`,
		`(?m)^coffre_fetches_total\{result="miss",store="documents"\} [1-9]`,
		`(?m)^coffre_configured_stores [1-9]`,
		`(?m)^coffre_build_info\{.*\} 1$`,
	)
}

// awaitMetrics waits until each pattern matches the metrics of a pod.
func awaitMetrics(t *testing.T, label string, port int, patterns ...string) {
	t.Helper()
	must(t, within(patience, func() error {
		metrics, err := scrape(label, port)
		if err != nil {
			return err
		}
		for _, p := range patterns {
			if !regexp.MustCompile(p).MatchString(metrics) {
				return fmt.Errorf("nothing matches %s in\n%s", p, metrics)
			}
		}
		return nil
	}))
}
