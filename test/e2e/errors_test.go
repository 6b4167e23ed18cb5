//go:build e2e

package e2e

import (
	"errors"
	"strings"
	"testing"
)

// What a developer gets to see of a mistake is the pod's events. Each text
// names the place, the reason and, where there is one, the remedy; and the pod
// starts by itself once the mistake is mended.
func TestWrongSecretProviderClassIsExplainedInEventsAndRecovers(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-mistakes")
	ageKey := keyFor(ns)
	document := mustEncrypt(t, object{"mysql": object{"password": "hunter2"}, "redis": "hunter3"})
	right := inline(document, `- {name: redis, file: password, mode: "0444"}`)

	for name, mistake := range map[string]struct {
		parameters map[string]string
		code       string
		texts      []string
	}{
		"path": {
			inline(document, "- {name: redis, file: a}\n- {name: redis, file: b}\n- {name: redis, file: ../x}"),
			"InvalidArgument", []string{`objects[2].file: "../x" leaves the volume`},
		},
		"field": {
			inline(document, "- {name: redis, fiel: password}"),
			"InvalidArgument", []string{"objects[0]", "fiel", "file"},
		},
		"missing-keys": {
			inline(document, "- {name: rediss, file: a}\n- {name: redis, file: b}\n- {name: postgres, file: c}"),
			"NotFound", []string{"rediss: the document has no such key", "postgres: the document has no such key"},
		},
		"foreign-store": {
			platformStore("payroll", "- {name: shop.yaml, file: shop.yaml}"),
			"PermissionDenied", []string{"payroll", ns.name},
		},
		"unreachable-store": {
			platformStore("unreachable", "- {name: shop.yaml, file: shop.yaml}"),
			"Internal", []string{"unreachable", "/etc/coffre/nowhere cannot be read"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace{t, ns.name}
			ns.apply(
				secretProviderClass{name: name, parameters: mistake.parameters}.object(),
				pod{name: name, classes: []string{name}, key: ageKey}.object(),
			)
			ns.awaitEvent(name, append(mistake.texts, "rpc error: code = "+mistake.code+" ")...)

			ns.apply(secretProviderClass{name: name, parameters: right}.object())
			ns.ready(name)
			ns.expectFile(name, "/secrets/"+name+"/password", "hunter3")
		})
	}
}

func TestMissingAgeKeyIsExplainedInEventsAndRecovers(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-no-key")
	stranger, err := newAgeKey()
	must(t, err)
	withKey := func(key string) object {
		return object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": "age-key"}, "stringData": object{"age.agekey": key}}
	}
	ns.apply(
		withKey("# nothing in here"),
		secretProviderClass{name: "redis", parameters: inline(mustEncrypt(t, object{"redis": "hunter3"}), `- {name: redis, file: password, mode: "0444"}`)}.object(),
		pod{name: "app", classes: []string{"redis"}, key: "age-key"}.object(),
	)
	ns.awaitEvent("app", "rpc error: code = FailedPrecondition ", "nodePublishSecretRef")

	ns.apply(withKey(stranger.private))
	ns.awaitEvent("app", key.public) // whose key it takes

	ns.apply(withKey(key.private))
	ns.ready("app")
	ns.expectFile("app", "/secrets/redis/password", "hunter3")
}

func TestMissingSecretProviderClassIsNamedInEvents(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-no-class")
	ns.apply(pod{name: "app", classes: []string{"nowhere"}}.object())
	ns.awaitEvent("app", "failed to get secretproviderclass "+ns.name+"/nowhere", "not found")
}

// A mistake in a running pod's SecretProviderClass leaves its files as they
// are. The driver hides the error from kubelet, so Coffre's log has to tell.
func TestMistakeAfterTheMountLeavesTheFilesAndIsLogged(t *testing.T) {
	parallel(t)
	ns := newNamespace(t, "e2e-late-mistake")
	document := mustEncrypt(t, object{"redis": "hunter3"})
	ns.apply(
		secretProviderClass{name: "redis", parameters: inline(document, `- {name: redis, file: password, mode: "0444"}`)}.object(),
		pod{name: "app", classes: []string{"redis"}, key: keyFor(ns)}.object(),
	)
	ns.ready("app")

	ns.apply(secretProviderClass{name: "redis", parameters: inline(document, `- {name: no-longer-there, file: password, mode: "0444"}`)}.object())
	must(t, within(patience, func() error {
		log, err := kubectl("-n", system, "logs", "-l", coffreLabel, "--tail=-1")
		if err != nil {
			return err
		}
		for line := range strings.Lines(log) {
			if strings.Contains(line, "no-longer-there") && strings.Contains(line, ns.name) {
				return nil
			}
		}
		return errors.New("no line of Coffre's log names the object and the namespace")
	}))
	ns.expectFile("app", "/secrets/redis/password", "hunter3")
	ns.expectRestarts("app", 0)
}
