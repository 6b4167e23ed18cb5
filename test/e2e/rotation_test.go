//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"
)

// A change in the store reaches the file of a running pod and the synced
// Secret, with no change to the SecretProviderClass or the pod.
func TestRotationReachesFileAndSecret(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-rotation")
	ns.apply(
		secretProviderClass{
			name:       "mysql",
			parameters: platformStore("documents", `- {name: rotating.yaml, key: password, file: password, mode: "0444"}`),
			secrets:    []object{opaque("mysql", "password", "password")},
		}.object(),
		pod{name: "app", classes: []string{"mysql"}}.object(),
	)
	ns.ready("app")
	ns.expectFile("app", "/secrets/mysql/password", "before")
	ns.awaitSecret("mysql", "password", "before")
	before := ns.versions("app", "mysql")

	changed, err := json.Marshal(object{"stringData": object{"rotating.yaml": mustEncrypt(t, object{"password": "after"})}})
	must(t, err)
	_, err = kubectl("-n", system, "patch", "secret", documentsSecret, "--patch", string(changed))
	must(t, err)

	ns.awaitFile("app", "/secrets/mysql/password", "after")
	ns.awaitSecret("mysql", "password", "after")
	if after := ns.versions("app", "mysql"); maps.Equal(before, after) {
		t.Errorf("the versions stayed %v: whoever restarts pods on a change has missed one", after)
	}
	ns.expectRestarts("app", 0)
}

// An encrypted document that stands in the SecretProviderClass rotates by
// editing it.
func TestEditedSecretProviderClassReachesRunningPod(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-edit")
	class := func(password string) object {
		return secretProviderClass{name: "mysql", parameters: inline(
			mustEncrypt(t, object{"password": password}), `- {name: password, file: password, mode: "0444"}`)}.object()
	}
	ns.apply(class("before"), pod{name: "app", classes: []string{"mysql"}, key: keyFor(ns)}.object())
	ns.ready("app")
	ns.expectFile("app", "/secrets/mysql/password", "before")

	ns.apply(class("after"))
	ns.awaitFile("app", "/secrets/mysql/password", "after")
}

// Equal content has one version wherever it is mounted, and whenever: or a
// controller that watches versions would restart pods for nothing.
func TestVersionsAreEqualWhereContentIs(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-versions")
	ns.apply(
		secretProviderClass{name: "shop", parameters: platformStore("documents", "- {name: shop.yaml, file: shop.yaml}")}.object(),
		pod{name: "one", classes: []string{"shop"}}.object(),
		pod{name: "two", classes: []string{"shop"}}.object(),
	)
	ns.ready("one", "two")
	one := ns.versions("one", "shop")
	if two := ns.versions("two", "shop"); len(one) == 0 || !maps.Equal(one, two) {
		t.Errorf("the versions in pod one are %v, in pod two %v", one, two)
	}

	ns.kubectl("delete", "pod", "one", "--timeout=60s")
	ns.awaitGone("secretproviderclasspodstatuses", "one-"+ns.name+"-shop")
	ns.apply(pod{name: "one", classes: []string{"shop"}}.object())
	ns.ready("one")
	if again := ns.versions("one", "shop"); !maps.Equal(one, again) {
		t.Errorf("the versions were %v, and in the pod made again %v", one, again)
	}
}

// versions are those of the objects in a pod's volume, by object, as the
// driver publishes them.
func (ns namespace) versions(pod, class string) map[string]string {
	ns.t.Helper()
	versions := map[string]string{}
	must(ns.t, within(patience, func() error {
		var status struct {
			Status struct {
				Objects []struct{ ID, Version string }
			}
		}
		if err := ns.get(&status, "secretproviderclasspodstatus", pod+"-"+ns.name+"-"+class); err != nil {
			return err
		}
		for _, o := range status.Status.Objects {
			versions[o.ID] = o.Version
		}
		if len(versions) == 0 {
			return fmt.Errorf("pod %s has no object versions", pod)
		}
		return nil
	}))
	return versions
}

// expectVersions waits until the driver publishes exactly these versions of a
// pod's volume: it does so after the files are there.
func (ns namespace) expectVersions(pod, class string, want map[string]string) {
	ns.t.Helper()
	must(ns.t, within(patience, func() error {
		if got := ns.versions(pod, class); !maps.Equal(got, want) {
			return fmt.Errorf("the versions in pod %s are %v, not %v", pod, got, want)
		}
		return nil
	}))
}

// expectRestarts fails the test unless the pod's container was started again
// so many times.
func (ns namespace) expectRestarts(pod string, want int) {
	ns.t.Helper()
	if got := ns.kubectl("get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); got != fmt.Sprint(want) {
		ns.t.Errorf("the container of pod %s was restarted %s times, not %d", pod, got, want)
	}
}
