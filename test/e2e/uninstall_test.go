//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The last test, for it takes Coffre away: it waits for all that run beside it.
func TestUninstallLeavesNothing(t *testing.T) {
	t.Parallel()
	others.Wait()

	// 1. With their pods go the volumes, the statuses and the synced Secrets.
	must(t, within(2*patience, func() error {
		namespaces, err := list("namespaces", "{.metadata.name}")
		return expectNone("namespaces of tests", err, ofTests(namespaces))
	}))
	for _, kind := range []string{"secretproviderclasspodstatuses", "secrets"} {
		objects, err := list(kind, "{.metadata.namespace}/{.metadata.name}")
		must(t, expectNone(kind, err, ofTests(objects)))
	}
	must(t, within(patience, mountsHavePods))

	// 2. With the release goes everything that it brought.
	served, err := onNode("busybox ls -A /providers")
	must(t, err)
	sockets := []string{"coffre.sock", "aws.sock", "vault.sock"}
	for _, socket := range sockets {
		if !slices.Contains(strings.Fields(served), socket) {
			t.Fatalf("before the uninstall the providers' folder has no %s, but %q", socket, served)
		}
	}
	_, err = command("", "helm", "uninstall", coffreName, "-n", system, "--wait", "--timeout", patience.String())
	must(t, err)
	kinds, err := kubectl("api-resources", "--verbs=list", "-o", "name")
	must(t, err)
	for _, label := range []string{coffreLabel, "owner=helm,name=" + coffreName} {
		must(t, within(patience, func() error {
			left, err := kubectl("get", strings.Join(strings.Fields(kinds), ","), "-A", "-l", label, "-o", "name", "--ignore-not-found")
			return expectNone("objects", err, strings.Fields(left))
		}))
	}

	// 3. And nothing of it is left on the node.
	must(t, within(patience, func() error {
		processes, err := onNode("busybox pidof coffre || true")
		return expectNone("processes", err, strings.Fields(processes))
	}))
	left, err := onNode("busybox ls -A /providers")
	must(t, err)
	want := slices.DeleteFunc(strings.Fields(served), func(file string) bool { return slices.Contains(sockets, file) })
	if got := strings.Fields(left); !slices.Equal(got, want) {
		t.Errorf("the providers' folder holds %q, and should hold %q", got, want)
	}
}

// list formats the objects of a kind, in all namespaces, one a line.
func list(kind, format string) ([]string, error) {
	out, err := kubectl("get", kind, "-A", "-o", `jsonpath={range .items[*]}`+format+`{"\n"}{end}`)
	return strings.Fields(out), err
}

// ofTests are the lines that begin with a namespace of a test.
func ofTests(lines []string) []string {
	return slices.DeleteFunc(lines, func(line string) bool {
		namespace, _, _ := strings.Cut(line, "/")
		return !strings.HasPrefix(namespace, "e2e-") && !(exampleRan && namespace == exampleNamespace)
	})
}

// expectNone is an error unless there are none of them.
func expectNone(what string, err error, got []string) error {
	if err == nil && len(got) > 0 {
		err = fmt.Errorf("there are %s left: %q", what, got)
	}
	return err
}

// mountsHavePods is an error while the driver has a mount on the node whose
// pod is no more.
func mountsHavePods() error {
	pods, err := list("pods", "{.metadata.uid}")
	if err != nil {
		return err
	}
	mounts, err := onNode(`busybox sed -n 's#.*/pods/\([^/]*\)/volumes/kubernetes.io~csi/.*#\1#p' /proc/1/mountinfo`)
	orphans := slices.DeleteFunc(strings.Fields(mounts), func(uid string) bool { return slices.Contains(pods, uid) })
	return expectNone("mounts of pods that are gone", err, orphans)
}
