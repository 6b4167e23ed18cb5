//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestSecretSyncAndRemoval(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-sync")
	class := secretProviderClass{
		name: "mysql",
		parameters: inline(mustEncrypt(t, object{"mysql": object{"password": "hunter2"}}),
			`- {name: mysql, key: password, file: database/password, mode: "0444"}`),
		secrets: []object{opaque("mysql", "password", "database/password")},
	}
	app := pod{classes: []string{"mysql"}, key: keyFor(ns), env: map[string]string{"DATABASE_PASSWORD": "mysql/password"}}
	ns.apply(class.object())
	for _, name := range []string{"api", "worker"} {
		app.name = name
		ns.apply(app.deployment())
	}
	for _, name := range []string{"api", "worker"} {
		ns.kubectl("rollout", "status", "deployment/"+name, "--timeout="+patience.String())
		ns.expectEnv("deployment/"+name, "DATABASE_PASSWORD", "hunter2")
	}
	ns.awaitSecret("mysql", "password", "hunter2")
	ns.awaitOwners("mysql", 2)

	var secret struct {
		Type     string
		Metadata struct{ Labels map[string]string }
	}
	must(t, ns.get(&secret, "secret", "mysql"))
	if labels := secret.Metadata.Labels; secret.Type != "Opaque" || labels["environment"] != "test" || labels["secrets-store.csi.k8s.io/managed"] != "true" {
		t.Errorf("the Secret is of type %s and has the labels %v", secret.Type, labels)
	}

	ns.kubectl("delete", "deployment", "worker", "--timeout=60s")
	ns.awaitOwners("mysql", 1)
	ns.awaitSecret("mysql", "password", "hunter2")

	ns.kubectl("delete", "deployment", "api", "--timeout=60s")
	ns.awaitGone("secret", "mysql")
}

// awaitOwners waits until a synced Secret belongs to so many ReplicaSets: the
// driver makes the owners of its pods its own, in its own time.
func (ns namespace) awaitOwners(secret string, want int) {
	ns.t.Helper()
	must(ns.t, within(patience, func() error {
		var s struct {
			Metadata struct{ OwnerReferences []struct{ Kind, Name string } }
		}
		if err := ns.get(&s, "secret", secret); err != nil {
			return err
		}
		if got := s.Metadata.OwnerReferences; len(got) != want {
			return fmt.Errorf("Secret %s has the owners %v, not %d", secret, got, want)
		}
		return nil
	}))
}

// expectEnv fails the test unless the container's environment variable is
// exactly want.
func (ns namespace) expectEnv(workload, variable, want string) {
	ns.t.Helper()
	env := strings.Split(ns.kubectl("exec", workload, "--", "busybox", "env"), "\n")
	if !slices.Contains(env, variable+"="+want) {
		ns.t.Errorf("the environment of %s has no %s=%s: %q", workload, variable, want, env)
	}
}
