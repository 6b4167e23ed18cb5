// Package charttest holds the tests of charts/coffre and of the manifests made
// from it. They call the pinned helm and read what comes out as strictly as
// the API server would; they need no cluster.
package charttest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	scheduling "k8s.io/api/scheduling/v1"
	"sigs.k8s.io/yaml"
)

const (
	root  = "../.."
	chart = root + "/charts/coffre"
)

// helm is the pinned program: what $HELM names, or what build.sh makes.
var helm string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if helm = os.Getenv("HELM"); helm == "" {
			build := exec.Command(root+"/build/tools/build.sh", "helm")
			build.Stderr = os.Stderr
			path, err := build.Output()
			if err != nil {
				fmt.Fprintln(os.Stderr, "building helm:", err)
				return 1
			}
			helm = strings.TrimSpace(string(path))
		}
		// Helm must neither see nor change the settings of who runs the tests.
		home, err := os.MkdirTemp("", "helm-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(home)
		for _, name := range []string{"HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"} {
			os.Setenv(name, home)
		}
		os.Unsetenv("KUBECONFIG")
		return m.Run()
	}())
}

// run runs helm with values, a YAML document, and gives its output, or what it
// says is wrong.
func run(t *testing.T, values string, args ...string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(helm, append(args, "--values", file)...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s%s", err, out, complaint.String())
	}
	return string(out), nil
}

func template(t *testing.T, values string) (string, error) {
	t.Helper()
	return run(t, values, "template", "coffre", chart, "--namespace", "kube-system", "--kube-version", "1.33.0")
}

// install is all that the chart can make, decoded.
type install struct {
	daemonSet      apps.DaemonSet
	stores         core.ConfigMap
	serviceAccount *core.ServiceAccount
	role           *rbac.ClusterRole
	binding        *rbac.ClusterRoleBinding
	service        *core.Service
	monitor        *monitoring.ServiceMonitor
	rule           *monitoring.PrometheusRule
}

func (i install) pod() core.PodSpec         { return i.daemonSet.Spec.Template.Spec }
func (i install) container() core.Container { return i.pod().Containers[0] }

// env is the value of a variable of the container, and whether it has it.
func (i install) env(name string) (string, bool) {
	for _, e := range i.container().Env {
		if e.Name == name {
			return e.Value, true
		}
	}
	return "", false
}

// render renders the chart; what cannot be decoded strictly fails the test.
func render(t *testing.T, values string) install {
	t.Helper()
	text, err := template(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, text)
}

// decode reads objects and refuses a field that their kind does not have, a
// field given twice, and a kind that the chart is not known to make.
func decode(t *testing.T, text string) install {
	t.Helper()
	var made install
	count := map[string]int{}
	for _, document := range documents(text) {
		var kind struct{ Kind string }
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			t.Fatalf("%v in:\n%s", err, document)
		}
		count[kind.Kind]++
		var into any
		switch kind.Kind {
		case "DaemonSet":
			into = &made.daemonSet
		case "ConfigMap":
			into = &made.stores
		case "ServiceAccount":
			into = newAt(&made.serviceAccount)
		case "ClusterRole":
			into = newAt(&made.role)
		case "ClusterRoleBinding":
			into = newAt(&made.binding)
		case "Service":
			into = newAt(&made.service)
		case "ServiceMonitor":
			into = newAt(&made.monitor)
		case "PrometheusRule":
			into = newAt(&made.rule)
		case "PriorityClass": // of extraObjects
			into = new(scheduling.PriorityClass)
		default:
			t.Fatalf("an object of kind %q:\n%s", kind.Kind, document)
		}
		if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
			t.Fatalf("%v in:\n%s", err, document)
		}
	}
	for kind, n := range count {
		if n != 1 {
			t.Fatalf("%d objects of kind %s", n, kind)
		}
	}
	if count["DaemonSet"] == 0 || count["ConfigMap"] == 0 {
		t.Fatalf("no DaemonSet or no ConfigMap in:\n%s", text)
	}
	return made
}

func newAt[T any](p **T) *T {
	*p = new(T)
	return *p
}

// documents splits a YAML stream, and leaves out what holds only comments.
func documents(text string) []string {
	var kept []string
	for _, d := range strings.Split("\n"+text, "\n---") {
		if strings.Contains("\n"+d, "\nkind:") {
			kept = append(kept, d)
		}
	}
	return kept
}
