//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

func TestPodReadsExactFile(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-exact-file")
	// Quotes, a dollar, a backslash, umlauts, and no newline at the end.
	password := `p@ss "wörd" '$HOME' \n %s`
	document := mustEncrypt(t, object{"mysql": object{"user": "shop", "password": password}})
	for _, version := range []string{"v1", "v1alpha1"} { // both are served by the driver
		ns.apply(
			secretProviderClass{
				name:       "mysql-" + version,
				apiVersion: version,
				parameters: inline(document, `- {name: mysql, key: password, file: database-password, mode: "0444"}`),
			}.object(),
			pod{name: "app-" + version, classes: []string{"mysql-" + version}, key: keyFor(ns)}.object(),
		)
	}
	for _, version := range []string{"v1", "v1alpha1"} {
		ns.ready("app-" + version)
		ns.expectFile("app-"+version, "/secrets/mysql-"+version+"/database-password", password)
	}
}

func TestPodReadsNestedAndMultiLineFiles(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-nested-files")
	pem := "-----BEGIN CERTIFICATE-----\nnot a real\ncertificate\n-----END CERTIFICATE-----\n"
	ns.apply(
		secretProviderClass{name: "tls", parameters: inline(
			mustEncrypt(t, object{"certificate": pem, "ports": object{"https": 8443}}), `
- {name: certificate, file: server/tls/certificate.pem, mode: "0444"}
- {name: ports, file: server/ports.json, mode: "0644"}
`)}.object(),
		pod{name: "server", classes: []string{"tls"}, key: keyFor(ns)}.object(),
	)
	ns.ready("server")
	ns.expectFile("server", "/secrets/tls/server/tls/certificate.pem", pem)
	ns.expectFile("server", "/secrets/tls/server/ports.json", `{"https":8443}`)
	modes, err := ns.exec("server", "stat", "-L", "-c", "%a", "/secrets/tls/server/tls/certificate.pem", "/secrets/tls/server/ports.json")
	must(t, err)
	if modes != "444\n644\n" {
		t.Errorf("the files have modes %q", modes)
	}
}

func TestPodReadsAPlatformStoreWithoutAKeyOfItsOwn(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-platform-store")
	ns.apply(
		secretProviderClass{name: "shop", parameters: platformStore("documents", `- {name: shop.yaml, key: mysql.password, file: password, mode: "0444"}`)}.object(),
		pod{name: "shop", classes: []string{"shop"}}.object(),
	)
	ns.ready("shop")
	ns.expectFile("shop", "/secrets/shop/password", "from the platform")
}

func TestTwoSecretProviderClassesInOnePod(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-two-classes")
	for _, name := range []string{"first", "second"} {
		ns.apply(secretProviderClass{
			name: name,
			parameters: inline(mustEncrypt(t, object{"token": "of the " + name}),
				`- {name: token, file: token, mode: "0444"}`),
			secrets: []object{opaque("synced-"+name, "token", "token")},
		}.object())
	}
	ns.apply(pod{
		name: "app", classes: []string{"first", "second"}, key: keyFor(ns),
		env: map[string]string{"FIRST": "synced-first/token", "SECOND": "synced-second/token"},
	}.object())
	ns.ready("app")
	for variable, name := range map[string]string{"FIRST": "first", "SECOND": "second"} {
		ns.expectFile("app", "/secrets/"+name+"/token", "of the "+name)
		ns.awaitSecret("synced-"+name, "token", "of the "+name)
		ns.expectEnv("pod/app", variable, "of the "+name)
	}
}

func TestDeletedPodLeavesNoMount(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-unmount")
	ns.apply(
		secretProviderClass{name: "shop", parameters: platformStore("documents", "- {name: shop.yaml, file: shop.yaml}")}.object(),
		pod{name: "app", classes: []string{"shop"}}.object(),
	)
	ns.ready("app")
	uid := ns.uid("app")
	mounts, err := mountsOf(uid)
	must(t, err)
	if strings.Count(mounts, "\n") != 1 {
		t.Fatalf("the pod has not one mount but: %s", mounts)
	}

	ns.kubectl("delete", "pod", "app", "--timeout=60s")
	must(t, within(patience, func() error {
		mounts, err := mountsOf(uid)
		if err == nil && mounts != "" {
			err = fmt.Errorf("mounted: %s", mounts)
		}
		return err
	}))
	ns.awaitGone("secretproviderclasspodstatuses")

	log, err := kubectl("-n", system, "logs", "-l", driverLabel, "-c", "secrets-store", "--tail=-1")
	must(t, err)
	// An entry of the log begins with its level and may have several lines.
	for _, entry := range regexp.MustCompile(`(?m)^[IWEF]\d{4} `).Split(log, -1) {
		if strings.Contains(entry, "failed to clean and unmount target path") && strings.Contains(entry, uid) {
			t.Errorf("got %v, which is not what this test promises", entry)
		}
	}
}
