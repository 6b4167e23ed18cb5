//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// command runs a program to its end, with input as its standard input, and
// returns what it printed. Its error holds what it complained about.
func command(input, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

func kubectl(args ...string) (string, error) { return command("", "kubectl", args...) }

// An object is a Kubernetes object, or a part of one.
type object = map[string]any

// apply creates the objects, or changes them to what is given.
func apply(objects ...object) error {
	var manifest bytes.Buffer
	for _, o := range objects {
		if err := json.NewEncoder(&manifest).Encode(o); err != nil {
			return err
		}
	}
	_, err := command(manifest.String(), "kubectl", "apply", "-f", "-")
	return err
}

// within repeats check until it returns nil, and gives up with check's last
// error when limit has passed.
func within(limit time.Duration, check func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("still so after %v: %w", limit, err)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
}

// A namespace is a test's own, and so is everything in it.
type namespace struct {
	t    *testing.T
	name string
}

// newNamespace makes a namespace with a service account, app. It goes when the
// test ends; when the test has failed, what is in it is described first.
func newNamespace(t *testing.T, name string) namespace {
	t.Helper()
	ns := namespace{t, name}
	must(t, apply(
		object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": name}},
		object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": object{"name": "app", "namespace": name}},
	))
	t.Cleanup(func() {
		if t.Failed() {
			ns.describe()
		}
		if _, err := kubectl("delete", "namespace", name, "--wait=false"); err != nil {
			t.Errorf("got the error %v, want none", err)
		}
	})
	return ns
}

// describe logs what someone who looks for the cause of a failure would ask
// for. Every secret in it is made for the test.
func (ns namespace) describe() {
	for _, args := range [][]string{
		{"-n", ns.name, "get", "secretproviderclasses,secretproviderclasspodstatuses", "-o", "yaml"},
		{"-n", ns.name, "describe", "pods"},
		{"-n", ns.name, "get", "events", "--sort-by=.lastTimestamp"},
		{"-n", system, "get", "pods", "-o", "wide"},
		{"-n", system, "logs", "daemonset/" + coffreName, "--tail=40"},
		{"-n", system, "logs", "daemonset/" + coffreName, "--tail=40", "--previous"},
		{"-n", system, "logs", "-l", driverLabel, "-c", "secrets-store", "--tail=40"},
	} {
		out, err := kubectl(args...)
		if err != nil {
			out = err.Error()
		}
		ns.t.Logf("kubectl %s\n%s", strings.Join(args, " "), out)
	}
}

// apply applies the objects in this namespace.
func (ns namespace) apply(objects ...object) {
	ns.t.Helper()
	for _, o := range objects {
		metadata := o["metadata"].(object)
		metadata["namespace"] = ns.name
	}
	must(ns.t, apply(objects...))
}

// kubectl runs kubectl in this namespace and fails the test where it fails.
func (ns namespace) kubectl(args ...string) string {
	ns.t.Helper()
	out, err := kubectl(append([]string{"-n", ns.name}, args...)...)
	must(ns.t, err)
	return out
}

// get reads one object or, without a name, a list of them.
func (ns namespace) get(into any, resource ...string) error {
	out, err := kubectl(append([]string{"-n", ns.name, "get", "-o", "json"}, resource...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}

// ready waits until the pods are, and fails the test where they do not become so.
func (ns namespace) ready(pods ...string) {
	ns.t.Helper()
	for _, pod := range pods {
		ns.kubectl("wait", "--for=condition=Ready", "pod/"+pod, "--timeout="+patience.String())
	}
}

// uid is a pod's UID, which names its folder and its cgroups on the node.
func (ns namespace) uid(pod string) string {
	ns.t.Helper()
	return ns.kubectl("get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
}

// exec runs a busybox applet in a pod.
func (ns namespace) exec(pod string, args ...string) (string, error) {
	return kubectl(append([]string{"-n", ns.name, "exec", pod, "--", "busybox"}, args...)...)
}

// expectFile fails the test unless the file in the pod is exactly want.
func (ns namespace) expectFile(pod, path, want string) {
	ns.t.Helper()
	got, err := ns.exec(pod, "cat", path)
	must(ns.t, err)
	if got != want {
		ns.t.Errorf("%s in pod %s is %q, not %q", path, pod, got, want)
	}
}

// awaitFile waits until the file in the pod is exactly want. The pod waits
// itself: that is quicker and cheaper than asking again and again.
func (ns namespace) awaitFile(pod, path, want string) {
	ns.t.Helper()
	script := `until [ "$(busybox cat "$1"; busybox echo .)" = "$2." ]; do busybox sleep 0.2; done`
	_, err := ns.exec(pod, "timeout", fmt.Sprint(int(patience.Seconds())), "busybox", "sh", "-c", script, "sh", path, want)
	if err != nil {
		got, readErr := ns.exec(pod, "cat", path)
		ns.t.Fatalf("%s in pod %s did not become %q within %v: %v", path, pod, want, patience, errors.Join(fmt.Errorf("it is %q", got), readErr))
	}
}

// awaitSecret waits until a key of a Secret is exactly want.
func (ns namespace) awaitSecret(name, key, want string) {
	ns.t.Helper()
	must(ns.t, within(patience, func() error {
		var secret struct{ Data map[string][]byte }
		if err := ns.get(&secret, "secret", name); err != nil {
			return err
		}
		if got := string(secret.Data[key]); got != want {
			return fmt.Errorf("key %s of Secret %s is %q, not %q", key, name, got, want)
		}
		return nil
	}))
}

// awaitGone waits until there is no such object.
func (ns namespace) awaitGone(resource ...string) {
	ns.t.Helper()
	must(ns.t, within(patience, func() error {
		out, err := kubectl(append([]string{"-n", ns.name, "get", "-o", "name", "--ignore-not-found"}, resource...)...)
		if err == nil && out != "" {
			err = fmt.Errorf("%s is there", strings.TrimSpace(out))
		}
		return err
	}))
}

// awaitEvent waits until a pod's FailedMount events say all of the texts, in
// one event.
func (ns namespace) awaitEvent(pod string, texts ...string) {
	ns.t.Helper()
	must(ns.t, within(patience, func() error {
		var events struct {
			Items []struct{ Reason, Message string }
		}
		if err := ns.get(&events, "events", "--field-selector", "involvedObject.kind=Pod,reason=FailedMount,involvedObject.name="+pod); err != nil {
			return err
		}
		var messages []string
	nextEvent:
		for _, e := range events.Items {
			messages = append(messages, e.Message)
			for _, text := range texts {
				if !strings.Contains(e.Message, text) {
					continue nextEvent
				}
			}
			return nil
		}
		return fmt.Errorf("pod %s has no FailedMount event that says %q, only %q", pod, texts, messages)
	}))
}
