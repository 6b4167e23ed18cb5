//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/test/vaultcore"
)

// Vault is its real core, 1.14.0, on the node's network and outside of the
// cluster, as it stands where a Vault serves many. It lets pods in by
// TokenReviews of the cluster's own API server.
const vaultPort = 18200 // also in values/coffre.yaml

const vaultPolicy = `
path "secret/*"          { capabilities = ["read", "list"] }
path "lender/creds/*"    { capabilities = ["read"] }
path "pki/issue/*"       { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
`

// vaultAddress is where the pods' stores look for Vault; "" on a cluster whose
// nodes this test does not run on.
func vaultAddress() (string, error) {
	if platform == "" {
		return "", nil
	}
	ip, err := kubectl("get", "node", node, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`)
	return fmt.Sprintf("http://%s:%d", ip, vaultPort), err
}

// startVault starts Vault with the auth method kubernetes, set up as its
// documentation says for a Vault outside of the cluster.
func startVault(t *testing.T) *vaultcore.Core {
	t.Helper()
	address, err := vaultAddress()
	must(t, err)
	core := vaultcore.Start(t, "-listen", strings.TrimPrefix(address, "http://"))
	core.Engines(t)
	core.Policy(t, "app", vaultPolicy)

	must(t, apply(
		object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": object{"name": "vault", "namespace": system}},
		object{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": object{"name": "coffre-e2e-vault"},
			"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
			"subjects": []object{{"kind": "ServiceAccount", "name": "vault", "namespace": system}},
		},
	))
	reviewer, err := kubectl("-n", system, "create", "token", "vault", "--duration=1h")
	must(t, err)
	server, err := kubectl("get", "service", "kubernetes", "-o", "jsonpath=https://{.spec.clusterIP}:443")
	must(t, err)
	authority, err := kubectl("-n", system, "get", "configmap", "kube-root-ca.crt", "-o", `jsonpath={.data.ca\.crt}`)
	must(t, err)
	core.Do(t, "POST", "sys/auth/kubernetes", `{"type":"kubernetes"}`)
	core.Do(t, "POST", "auth/kubernetes/config", vaultcore.Body(t, map[string]any{
		"kubernetes_host": server, "kubernetes_ca_cert": authority, "token_reviewer_jwt": strings.TrimSpace(reviewer),
	}))
	// Tokens are short, so that what is taken from a role soon is.
	core.Do(t, "POST", "auth/kubernetes/role/app", vaultcore.Body(t, map[string]any{
		"bound_service_account_names": "app", "bound_service_account_namespaces": "e2e-vault", "audience": "vault",
		"token_policies": "app", "token_ttl": "30s",
	}))
	return core
}

// It has Vault to itself, so that its parts may seal it.
func TestPodsReadWhatVaultHoldsAndIssues(t *testing.T) {
	parallel(t)
	if platform == "" {
		t.Skip("needs Vault's core on the node's network: it runs on the cluster that test/e2e/run makes only")
	}
	core := startVault(t)
	core.Put(t, "mysql", map[string]string{"password": "before"})
	ns := newNamespace(t, "e2e-vault")
	ns.apply(
		secretProviderClass{name: "mysql", parameters: platformStore("vault-here", "- {name: mysql, key: password, file: password}"),
			secrets: []object{opaque("mysql", "password", "password")}}.object(),
		secretProviderClass{name: "issued", parameters: platformStore("vault-here", `
- {name: "lender/creds/app?ttl=60s", type: read, key: username, file: user}
- {name: "lender/creds/app?ttl=60s", type: read, key: password, file: password}
- {name: "pki/issue/web?common_name=shop.example.com", type: write, keys: "*", file: tls/}
`)}.object(),
		secretProviderClass{name: "upstream", provider: "vault", parameters: map[string]string{
			"roleName": "app", "objects": "- {objectName: password, secretPath: secret/data/mysql, secretKey: password}",
		}}.object(),
		pod{name: "app", classes: []string{"mysql", "issued", "upstream"}, env: map[string]string{"DATABASE_PASSWORD": "mysql/password"}}.object(),
	)
	ns.ready("app")
	ns.expectFile("app", "/secrets/mysql/password", "before")
	ns.expectFile("app", "/secrets/upstream/password", "before")
	ns.expectEnv("pod/app", "DATABASE_PASSWORD", "before")

	user := ns.issued(core)
	serial, err := ns.exec("app", "cat", "/secrets/issued/tls/serial_number")
	must(t, err)
	core.Put(t, "mysql", map[string]string{"password": "after"})
	ns.awaitFile("app", "/secrets/mysql/password", "after")
	ns.awaitFile("app", "/secrets/upstream/password", "after")
	ns.awaitSecret("mysql", "password", "after")

	ns.renewed(core)
	ns.sealed(core)
	if now := ns.issued(core); now != user {
		t.Errorf("the pod has the credential %q, want the one that it was issued, %q, while it lives", now, user)
	}
	ns.expectFile("app", "/secrets/issued/tls/serial_number", serial)
	ns.expectRestarts("app", 0)
	ns.revoked(core)
	ns.shutOut(core)
}

// issued is the user in the pod, who has the one lease that there is in Vault.
func (ns namespace) issued(core *vaultcore.Core) string {
	ns.t.Helper()
	user, err := ns.exec("app", "cat", "/secrets/issued/user")
	must(ns.t, err)
	ns.expectFile("app", "/secrets/issued/password", "of-"+user)
	if leases := core.Leases(ns.t, "lender/creds/app"); len(leases) != 1 {
		ns.t.Errorf("%d leases live in Vault, want one", len(leases))
	}
	return user
}

// renewed waits until Vault says that the lease was renewed, past its first end.
func (ns namespace) renewed(core *vaultcore.Core) {
	ns.t.Helper()
	must(ns.t, within(patience, func() error {
		for _, id := range core.Leases(ns.t, "lender/creds/app") {
			lease := core.Do(ns.t, "PUT", "sys/leases/lookup", vaultcore.Body(ns.t, map[string]string{"lease_id": id}))
			issued, err := time.Parse(time.RFC3339Nano, fmt.Sprint(lease["issue_time"]))
			if err == nil && lease["last_renewal"] != nil && time.Since(issued) > time.Minute {
				return nil
			}
		}
		return fmt.Errorf("no lease in Vault was renewed and is older than it was issued for")
	}))
}

// sealed seals Vault under the pod, starts another meanwhile, and unseals it.
func (ns namespace) sealed(core *vaultcore.Core) {
	ns.t.Helper()
	core.Do(ns.t, "PUT", "sys/seal", "")
	ns.apply(pod{name: "new", classes: []string{"mysql"}}.object())
	ns.ready("new")
	ns.expectFile("new", "/secrets/mysql/password", "after")
	ns.expectFile("app", "/secrets/mysql/password", "after")

	if status, _ := core.Try(ns.t, "PUT", "sys/unseal", vaultcore.Body(ns.t, map[string]string{"key": core.UnsealKey})); status != 200 {
		ns.t.Fatalf("got the status %d, want Vault unsealed", status)
	}
	must(ns.t, within(patience, func() error {
		status, _ := core.Try(ns.t, "GET", "secret/data/mysql", "")
		if status != 200 {
			return fmt.Errorf("Vault answers %d after it was unsealed", status)
		}
		return nil
	}))
	core.Put(ns.t, "mysql", map[string]string{"password": "unsealed"})
	for _, pod := range []string{"app", "new"} {
		ns.awaitFile(pod, "/secrets/mysql/password", "unsealed")
	}
}

// revoked takes the pod away and waits until its lease is gone from Vault.
func (ns namespace) revoked(core *vaultcore.Core) {
	ns.t.Helper()
	ns.kubectl("delete", "pod", "app")
	must(ns.t, within(2*patience, func() error {
		if leases := core.Leases(ns.t, "lender/creds/app"); len(leases) > 0 {
			return fmt.Errorf("%d leases live in Vault after their pod is gone", len(leases))
		}
		return nil
	}))
}

// shutOut takes the role away: with the next refresh after the token's end the
// pod that runs gets nothing new, and no other starts.
func (ns namespace) shutOut(core *vaultcore.Core) {
	ns.t.Helper()
	core.Do(ns.t, "DELETE", "auth/kubernetes/role/app", "")
	awaitMetrics(ns.t, coffreLabel, 8081, `(?m)^coffre_credential_exchanges_total\{kind="vault-kubernetes",result="denied"\} [1-9]`)
	core.Put(ns.t, "mysql", map[string]string{"password": "for others"})
	ns.apply(pod{name: "late", classes: []string{"mysql"}}.object())
	ns.awaitEvent("late", "rpc error: code = PermissionDenied ", "failed to login", "invalid role name")
	ns.expectFile("new", "/secrets/mysql/password", "unsealed")
}

// vaultValues are the chart's, where there is a Vault.
func vaultValues() ([]string, error) {
	address, err := vaultAddress()
	if address == "" || err != nil {
		return nil, err
	}
	return []string{"--set", "stores.vault-here.address=" + address, "--set", "dialects.vault.address=" + address}, nil
}
