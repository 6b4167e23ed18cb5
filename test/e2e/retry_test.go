//go:build e2e

package e2e

import (
	"strconv"
	"strings"
	"testing"
)

// faulty is a SecretProviderClass whose first mounts fail with a gRPC code.
func faulty(name, code, failures string) object {
	return secretProviderClass{
		name:       name,
		provider:   "faulty",
		parameters: map[string]string{"code": code, "failures": failures},
	}.object()
}

// Every code that Coffre answers with makes the driver and the kubelet start
// over, until the pod has its secrets.
func TestFailedFirstMountIsRetriedUntilItSucceeds(t *testing.T) {
	parallel(t)
	needFaultyProvider(t)
	ns := newNamespace(t, "e2e-retried")
	for _, code := range []string{"InvalidArgument", "NotFound", "PermissionDenied", "FailedPrecondition", "Internal"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			ns := namespace{t, ns.name}
			name := strings.ToLower(code)
			ns.apply(faulty(name, code, "2"), pod{name: name, classes: []string{name}}.object())
			ns.awaitEvent(name, "rpc error: code = "+code+" ")
			ns.ready(name)
			// Two failed; on a busy node the first republish may be in already.
			file, err := ns.exec(name, "cat", "/secrets/"+name+"/attempt")
			must(t, err)
			if attempt, err := strconv.Atoi(file); err != nil || attempt < 3 {
				t.Errorf("the file is of attempt %q, and the first two failed", file)
			}
		})
	}
}

// The reason for that choice of codes: after any of these the kubelet keeps the
// target folder, the driver takes the fresh folder for a fresh mount, and the
// pod starts without its secrets. Should this test fail with a newer driver,
// Coffre may be freer in what it answers.
func TestOtherCodesStartThePodWithoutSecrets(t *testing.T) {
	parallel(t)
	needFaultyProvider(t)
	ns := newNamespace(t, "e2e-not-retried")
	for _, code := range []string{"Canceled", "DeadlineExceeded", "Unavailable", "ResourceExhausted", "Aborted"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			ns := namespace{t, ns.name}
			name := strings.ToLower(code)
			ns.apply(faulty(name, code, "1000"), pod{name: name, classes: []string{name}}.object())
			ns.ready(name)
			file, err := ns.exec(name, "sh", "-c", "busybox test -e /secrets/"+name+"/attempt && echo there || echo missing")
			must(t, err)
			if file != "missing\n" {
				t.Errorf("the secret is %s", file)
			}
		})
	}
}
