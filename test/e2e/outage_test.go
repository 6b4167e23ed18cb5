//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// outagePromise is how long a value of the store aws-outage may stay old once
// the store answers again: its refresh or, where that is longer, the longest
// time between two probes of a store that is down; and the time to the next
// offer of the volume, which is the kubelet's syncFrequency and up to half of
// it more.
func outagePromise() time.Duration {
	const refresh, probe = 5 * time.Second, 30 * time.Second
	republish := 8 * time.Second
	if platform == "" {
		republish = 2 * time.Minute
	}
	return max(refresh, probe) + republish
}

// It takes AWS away, so it runs alone. Who has read the secret before goes on
// with it, in running pods and in new ones; who has not is told why not.
func TestPodsStartWhileTheStoreIsDown(t *testing.T) {
	needAWS(t)
	ns := newNamespace(t, "e2e-outage")
	class := secretProviderClass{
		name: "mysql", parameters: platformStore("aws-outage", "- {name: e2e-outage/mysql, key: password, file: password}"),
		secrets: []object{opaque("mysql", "password", "password")},
	}
	fill := func(password string) (version string) {
		t.Helper()
		both := ns.reader().object()
		both["subjects"] = []string{"system:serviceaccount:e2e-outage:app", "system:serviceaccount:e2e-outage:stranger"}
		addTo(t, "aws", object{"roles": []object{both}})
		return put(t, "secret", "e2e-outage/mysql", `{"password": "`+password+`"}`)
	}
	fill("before")
	ns.assume("app", ns.reader().arn())
	ns.assume("stranger", ns.reader().arn())
	ns.apply(class.object(), pod{name: "running", classes: []string{"mysql"},
		// Ends, and so is restarted, when the file cannot be read.
		command: "while busybox cat /secrets/mysql/password >/dev/null; do busybox sleep 0.1; done",
	}.object())
	ns.ready("running")
	ns.expectFile("running", "/secrets/mysql/password", "before")
	before := ns.versions("running", "mysql")

	// 1. Nobody answers where AWS was, and the value outlives its refresh.
	must(t, stopAWS())
	started := false
	t.Cleanup(func() {
		if !started {
			must(t, startAWS()) // the tests beside this one need it
		}
	})
	awaitMetrics(t, coffreLabel, 8081, `(?m)^coffre_fetches_total\{result="stale",store="aws-outage"\} [1-9]`)

	// 2. A new pod of the same ServiceAccount starts; one of another, which has
	// the same role, does not get what it has never read.
	ns.apply(
		pod{name: "new", classes: []string{"mysql"}, env: map[string]string{"DATABASE_PASSWORD": "mysql/password"}}.object(),
		pod{name: "stranger", account: "stranger", classes: []string{"mysql"}}.object(),
	)
	ns.ready("new")
	ns.expectFile("new", "/secrets/mysql/password", "before")
	ns.expectEnv("pod/new", "DATABASE_PASSWORD", "before")
	ns.expectVersions("new", "mysql", before)
	ns.awaitEvent("stranger", "rpc error: code = Internal ", "aws-outage: ", "e2e-outage/mysql", "cannot be reached")

	// 3. AWS is back, with a new value and with no memory of whom it let in.
	must(t, startAWS())
	started = true
	fill("after")
	back := time.Now()
	for _, pod := range []string{"running", "new"} {
		ns.awaitFile(pod, "/secrets/mysql/password", "after")
	}
	took := time.Since(back)
	t.Logf("the pods had the new value %v after the store was back", took)
	if took > outagePromise() {
		t.Errorf("that is more than %v", outagePromise())
	}
	ns.awaitSecret("mysql", "password", "after")
	ns.ready("stranger")
	ns.expectFile("stranger", "/secrets/mysql/password", "after")
	ns.expectRestarts("running", 0)
}
