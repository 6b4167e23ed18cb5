//go:build e2e

package e2e

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	system     = "kube-system" // where the driver and Coffre are installed
	driverName = "csi-secrets-store"
	coffreName = "coffre" // release, DaemonSet and container
	probe      = "coffre-e2e-probe"
	faultyName = "coffre-e2e-faulty"
	awsName    = "coffre-e2e-aws" // the fake AWS: pod and Secret

	// What the pods of the driver and of Coffre are found by.
	driverLabel = "app=secrets-store-csi-driver"
	coffreLabel = "app.kubernetes.io/instance=" + coffreName

	// Where Coffre finds the documents and the key of the store "documents".
	documentsSecret = "coffre-e2e-documents"
	keySecret       = "coffre-e2e-key"

	providersDir = "/var/run/secrets-store-csi-providers"
)

// What is different on a cluster that KUBECONFIG names, from the one that run
// makes: platform is empty there, and images come from registries.
var (
	platform       = os.Getenv("COFFRE_E2E_PLATFORM")
	coffreImage    = "ghcr.io/coffre-csi/coffre:e2e" // the name that the chart has
	busyboxImage   = "e2e.local/busybox:1"
	faultyImage    = "e2e.local/faultyprovider:1"
	fakeCloudImage = "e2e.local/fakecloud:1"
	driverChart    = filepath.Join(platform, "driver-chart")

	// patience is how long anything may take that Kubernetes, the driver or
	// Coffre does in its own time. An ordinary kubelet offers a mounted volume
	// to the driver again after about 75 s, and rotation waits for that.
	patience = 90 * time.Second
)

// node is the one that all test pods are put on, so that what is left on it
// can be looked at.
var node string

// driverInstalled is false where the cluster had the driver before.
var driverInstalled bool

// key is the age key pair of all encrypted documents.
var key ageKey

func TestMain(m *testing.M) {
	flag.Parse()
	// Tests mostly wait, for different things: the number of cores is no
	// measure of how many may do so at once.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	if platform == "" {
		coffreImage = os.Getenv("COFFRE_E2E_IMAGE")
		faultyImage = os.Getenv("COFFRE_E2E_FAULTY_IMAGE")
		fakeCloudImage = os.Getenv("COFFRE_E2E_FAKECLOUD_IMAGE")
		busyboxImage = cmp.Or(os.Getenv("COFFRE_E2E_BUSYBOX_IMAGE"), "busybox:1.37.0")
		driverChart = os.Getenv("COFFRE_E2E_DRIVER_CHART")
		patience = 5 * time.Minute
	}
	// Somebody's own Coffre must not be taken for the one that is tested here,
	// and be uninstalled in the end.
	if _, err := command("", "helm", "status", coffreName, "-n", system); err == nil {
		fmt.Fprintf(os.Stderr, "e2e: namespace %s has a release %s already\n", system, coffreName)
		os.Exit(1)
	}
	os.Exit(run(m))
}

// run installs what is tested, runs the tests and, where the cluster stays,
// tidies up.
func run(m *testing.M) (status int) {
	if platform == "" {
		defer func() {
			if err := tidy(); err != nil {
				fmt.Fprintln(os.Stderr, "e2e: the cluster is not as it was:", err)
				status = 1
			}
		}()
	}
	if err := install(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: cannot install what is to be tested:", err)
		for _, args := range [][]string{
			{"-n", system, "describe", "pods"},
			{"-n", system, "logs", "daemonset/" + coffreName, "--tail=40"},
		} {
			if out, err := kubectl(args...); err == nil {
				fmt.Fprintln(os.Stderr, out)
			}
		}
		return 1
	}
	return m.Run()
}

// install installs the driver where there is none, Coffre, and what the tests
// themselves need.
func install() error {
	// A node that has just become ready keeps its taint for a moment.
	err := within(patience, chooseNode)
	if err != nil {
		return err
	}
	if key, err = newAgeKey(); err != nil {
		return err
	}
	documents, err := platformDocuments()
	if err != nil {
		return err
	}
	identity, err := awsIdentity()
	if err != nil {
		return err
	}
	if err := apply(
		identity,
		object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": documentsSecret, "namespace": system}, "stringData": documents},
		object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": keySecret, "namespace": system}, "stringData": object{"age.agekey": key.private}},
		probePod(),
	); err != nil {
		return err
	}

	var installs sync.WaitGroup
	steps := []func() error{installDriver, installCoffre, installFaultyProvider, startAWS, awaitProbe}
	failures := make([]error, len(steps))
	for i, step := range steps {
		installs.Go(func() { failures[i] = step() })
	}
	installs.Wait()
	return errors.Join(failures...)
}

// tidy takes away what install has brought to a cluster that stays.
func tidy() error {
	_, err := command("", "helm", "uninstall", coffreName, "-n", system, "--ignore-not-found", "--wait")
	if driverInstalled {
		_, driverErr := command("", "helm", "uninstall", driverName, "-n", system, "--ignore-not-found", "--wait")
		err = errors.Join(err, driverErr)
	}
	_, restErr := kubectl("-n", system, "delete", "--ignore-not-found", "daemonset/"+faultyName, "pod/"+probe, "pod/"+awsName, "secret/"+awsName, "secret/"+documentsSecret, "secret/"+keySecret)
	return errors.Join(err, restErr)
}

func chooseNode() error {
	nodes, err := kubectl("get", "nodes", "-l", "kubernetes.io/os=linux", "-o", `jsonpath={range .items[*]}{.metadata.labels.kubernetes\.io/hostname}{"\t"}{.spec.taints[*].effect}{"\n"}{end}`)
	if err != nil {
		return err
	}
	for line := range strings.Lines(nodes) {
		name, taints, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if taints == "" {
			node = name
			return nil
		}
	}
	return fmt.Errorf("no node without a taint among %q", nodes)
}

func installDriver() error {
	if _, err := kubectl("get", "csidriver", "secrets-store.csi.k8s.io"); err == nil {
		return nil // a cluster that has the driver keeps it as it is
	}
	args := []string{"install", driverName, driverChart, "-n", system, "-f", "values/driver.yaml", "--wait", "--timeout", patience.String()}
	if platform != "" {
		args = append(args, "-f", "values/driver-here.yaml")
	}
	driverInstalled = true
	_, err := command("", "helm", args...)
	return err
}

func installCoffre() error {
	colon := strings.LastIndex(coffreImage, ":") // a registry's port has one too
	repository, tag := coffreImage[:max(colon, 0)], coffreImage[colon+1:]
	args, err := vaultValues()
	if err != nil {
		return err
	}
	args = append(args, "--set", "image.repository="+repository, "--set-string", "image.tag="+tag, "--wait", "--timeout", patience.String())
	args = append([]string{"install", coffreName, "../../charts/coffre", "-n", system,
		"-f", "../../manifests/examples/values.yaml", "-f", "values/coffre.yaml"}, args...)
	_, err = command("", "helm", args...)
	return err
}

// installFaultyProvider installs the provider that fails on request, where
// there is an image of it.
func installFaultyProvider() error {
	if faultyImage == "" {
		return nil
	}
	labels := object{"app": faultyName}
	if err := apply(object{
		"apiVersion": "apps/v1",
		"kind":       "DaemonSet",
		"metadata":   object{"name": faultyName, "namespace": system},
		"spec": object{
			"selector": object{"matchLabels": labels},
			"template": object{"metadata": object{"labels": labels}, "spec": object{
				"containers": []object{{
					"name": "provider", "image": faultyImage, "imagePullPolicy": "IfNotPresent",
					"volumeMounts": []object{{"name": "providers", "mountPath": providersDir}},
				}},
				"volumes": []object{{"name": "providers", "hostPath": object{"path": providersDir, "type": "DirectoryOrCreate"}}},
			}},
		},
	}); err != nil {
		return err
	}
	_, err := kubectl("-n", system, "rollout", "status", "daemonset/"+faultyName, "--timeout="+patience.String())
	return err
}

func needFaultyProvider(t *testing.T) {
	if faultyImage == "" {
		t.Skip("needs the provider that fails on request: push test/e2e/platform/node/faultyprovider as an image and name it in COFFRE_E2E_FAULTY_IMAGE")
	}
}

// probePod looks at the node itself: its processes, its mounts, the folder of
// the providers' sockets.
func probePod() object {
	return object{
		"apiVersion": "v1",
		"kind":       "Pod",
		"metadata":   object{"name": probe, "namespace": system},
		"spec": object{
			"nodeSelector":                  object{"kubernetes.io/hostname": node},
			"hostPID":                       true,
			"terminationGracePeriodSeconds": 0,
			"containers": []object{{
				"name": "probe", "image": busyboxImage, "imagePullPolicy": "IfNotPresent",
				"command":         []string{"busybox", "sleep", "36000"},
				"securityContext": object{"privileged": true},
				"volumeMounts":    []object{{"name": "providers", "mountPath": "/providers"}},
			}},
			"volumes": []object{{"name": "providers", "hostPath": object{"path": providersDir, "type": "DirectoryOrCreate"}}},
		},
	}
}

func awaitProbe() error {
	_, err := kubectl("-n", system, "wait", "--for=condition=Ready", "pod/"+probe, "--timeout="+patience.String())
	return err
}

// onNode runs a busybox shell script on the node.
func onNode(script string, args ...string) (string, error) {
	return kubectl(append([]string{"-n", system, "exec", probe, "--", "busybox", "sh", "-c", script, "sh"}, args...)...)
}

// mountsOf lists the driver's mounts on the node that are a pod's.
func mountsOf(podUID string) (string, error) {
	return onNode(`busybox grep "/pods/$1/volumes/kubernetes.io~csi/" /proc/1/mountinfo || true`, podUID)
}

// scrape reads the metrics of the pod on the node that has the label, at a
// port, as the node's Prometheus would.
func scrape(label string, port int) (string, error) {
	address, err := kubectl("-n", system, "get", "pods", "-l", label, "--field-selector", "spec.nodeName="+node, "-o", "jsonpath={.items[0].status.podIP}")
	if err != nil {
		return "", err
	}
	return onNode(fmt.Sprintf("busybox wget -q -O - http://%s:%d/metrics", address, port))
}

// others counts the tests that run beside each other.
var others sync.WaitGroup

// parallel lets a test run beside the others that call it. Tests that disturb
// the provider do not: they run before, one at a time. The last test, which
// takes Coffre away, waits for all of them.
func parallel(t *testing.T) {
	others.Add(1)
	t.Cleanup(others.Done)
	t.Parallel()
}
