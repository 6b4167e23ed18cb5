//go:build e2e

package e2e

import (
	"net/url"
	"testing"
)

// The cluster is known to Google as a provider of workload identity federation;
// values/coffre.yaml and values/driver.yaml have its audience.
const (
	gcpPool     = "iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/pool"
	gcpAudience = "//" + gcpPool + "/providers/e2e"
)

func gcpMember(ns namespace) string {
	return "principal://" + gcpPool + "/subject/system:serviceaccount:" + ns.name + ":app"
}

// putGoogle adds a version to a secret of the project shop.
func putGoogle(t *testing.T, name, value string) {
	t.Helper()
	must(t, control("gcp", "replace", "secret?"+url.Values{"name": {"projects/shop/secrets/" + name}}.Encode(), value, nil))
}

func gcpWorld(t *testing.T, grants ...object) object {
	t.Helper()
	issuer, err := clusterIssuer()
	must(t, err)
	return object{
		"projects":  object{"shop": "42"},
		"providers": []object{{"audience": gcpAudience, "issuer": issuer}},
		"grants":    grants,
	}
}

func gcpReader(ns namespace, secret string) object {
	return object{"resource": "projects/shop/secrets/" + secret, "role": "roles/secretmanager.secretAccessor", "member": gcpMember(ns)}
}

func gcpClass(name, secret string, secrets ...object) object {
	return secretProviderClass{name: name, provider: "gcp", secrets: secrets, parameters: map[string]string{
		"secrets": "- resourceName: projects/shop/secrets/" + secret + "/versions/latest\n  fileName: password\n",
	}}.object()
}

func TestGooglesWorkloadIdentityReadsRotatesAndSyncs(t *testing.T) {
	parallel(t)
	needAWS(t)
	ns := newNamespace(t, "e2e-gcp")
	putGoogle(t, "e2e-gcp", "before")
	addTo(t, "gcp", gcpWorld(t, gcpReader(ns, "e2e-gcp")))
	ns.apply(
		gcpClass("mysql", "e2e-gcp", opaque("mysql", "password", "password")),
		pod{name: "app", classes: []string{"mysql"}, env: map[string]string{"DATABASE_PASSWORD": "mysql/password"}}.object(),
	)
	ns.ready("app")
	ns.expectFile("app", "/secrets/mysql/password", "before")
	ns.awaitSecret("mysql", "password", "before")
	ns.expectEnv("pod/app", "DATABASE_PASSWORD", "before")
	ns.expectVersions("app", "mysql", map[string]string{"projects/shop/secrets/e2e-gcp/versions/latest": "projects/42/secrets/e2e-gcp/versions/1"})

	putGoogle(t, "e2e-gcp", "after")
	ns.awaitFile("app", "/secrets/mysql/password", "after")
	ns.awaitSecret("mysql", "password", "after")
	ns.expectRestarts("app", 0)
}

func TestASecretThatGoogleDeniesNamesThePrincipalAndTheGrant(t *testing.T) {
	parallel(t)
	needAWS(t)
	ns := newNamespace(t, "e2e-gcp-denied")
	putGoogle(t, "e2e-gcp-denied", "a secret of others")
	addTo(t, "gcp", gcpWorld(t))
	ns.apply(gcpClass("mysql", "e2e-gcp-denied"), pod{name: "app", classes: []string{"mysql"}}.object())
	ns.awaitEvent("app", "rpc error: code = PermissionDenied ",
		"access denied: "+gcpMember(ns)+" lacks secretmanager.versions.access, or there is no such secret",
		`gcloud secrets add-iam-policy-binding e2e-gcp-denied --project=shop --role=roles/secretmanager.secretAccessor --member="`+gcpMember(ns)+`"`)

	// The grant is made, and the pod starts by itself.
	addTo(t, "gcp", gcpWorld(t, gcpReader(ns, "e2e-gcp-denied")))
	ns.ready("app")
	ns.expectFile("app", "/secrets/mysql/password", "a secret of others")
}
