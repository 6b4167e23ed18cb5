//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// These tests disturb the provider, so they run alone.

// Killed without a chance to clean up, while pods are starting: the kubelet
// starts the container again, and it must put its socket where the dead one's
// file still is.
func TestRunningPodsSurviveProviderKill(t *testing.T) {
	survive(t, "e2e-killed", func() {
		pod, uid := coffrePod(t)
		before, err := socketInode()
		must(t, err)
		// The UID stands in the path of the pod's cgroups, with underscores
		// where systemd manages them.
		killed, err := onNode(`
			for process in /proc/[0-9]*; do
				if [ "$(busybox cat $process/comm)" = coffre ] && busybox grep -q "$1" $process/cgroup; then
					busybox kill -KILL ${process#/proc/} && echo killed
				fi
			done`, strings.ReplaceAll(uid, "-", "[-_]"))
		must(t, err)
		if killed != "killed\n" {
			t.Fatalf("not one process was killed but: %q", killed)
		}
		must(t, within(patience, func() error {
			restarts, err := kubectl("-n", system, "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
			if err == nil && restarts != "1" {
				err = fmt.Errorf("Coffre's container was restarted %s times", restarts)
			}
			return err
		}))
		must(t, within(patience, func() error {
			after, err := socketInode()
			if err == nil && after == before {
				err = fmt.Errorf("the dead process's socket is still in place")
			}
			return err
		}))
	})
}

// The pod's object is gone at once, so that its successor may come up while
// the old process still runs.
func TestRunningPodsSurviveForcedDeletionOfTheProvider(t *testing.T) {
	survive(t, "e2e-force-deleted", func() {
		pod, _ := coffrePod(t)
		_, err := kubectl("-n", system, "delete", "pod", pod, "--force", "--grace-period=0")
		must(t, err)
	})
}

func TestRunningPodsSurviveProviderRestart(t *testing.T) {
	survive(t, "e2e-restarted", func() {
		_, err := kubectl("-n", system, "rollout", "restart", "daemonset/"+coffreName)
		must(t, err)
	})
}

// survive disturbs the provider while one pod runs and five are starting. The
// one must not miss its file for a moment, and the five must come up.
func survive(t *testing.T, name string, disturb func()) {
	ns := newNamespace(t, name)
	class := secretProviderClass{name: "shop", parameters: platformStore("documents", `- {name: shop.yaml, key: mysql.password, file: password, mode: "0444"}`)}
	ns.apply(class.object(), pod{
		name: "running", classes: []string{"shop"},
		// Ends, and so is restarted, when the file cannot be read.
		command: "while busybox cat /secrets/shop/password >/dev/null; do busybox sleep 0.1; done",
	}.object())
	ns.ready("running")

	var starting []string
	var pods []object
	for i := range 5 {
		starting = append(starting, fmt.Sprintf("starting-%d", i))
		pods = append(pods, pod{name: starting[i], classes: []string{"shop"}}.object())
	}
	ns.apply(pods...)
	disturb()
	_, err := kubectl("-n", system, "rollout", "status", "daemonset/"+coffreName, "--timeout="+patience.String())
	must(t, err)

	ns.ready(starting...)
	ns.apply(pod{name: "new", classes: []string{"shop"}}.object())
	ns.ready("new")
	for _, pod := range append(starting, "new", "running") {
		ns.expectFile(pod, "/secrets/shop/password", "from the platform")
	}
	ns.expectRestarts("running", 0)
}

// coffrePod is the name and the UID of Coffre's pod on the node.
func coffrePod(t *testing.T) (name, uid string) {
	t.Helper()
	out, err := kubectl("-n", system, "get", "pods", "-l", coffreLabel, "--field-selector", "spec.nodeName="+node, "-o", `jsonpath={.items[*].metadata.name} {.items[*].metadata.uid}`)
	must(t, err)
	fields := strings.Fields(out)
	if len(fields) != 2 {
		t.Fatalf("Coffre has not one pod on node %s: %q", node, out)
	}
	return fields[0], fields[1]
}

func socketInode() (string, error) {
	return onNode("busybox stat -c %i /providers/coffre.sock")
}
