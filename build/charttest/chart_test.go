package charttest

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func TestDefaultsInstallOneDaemonSetThatServesCoffre(t *testing.T) {
	made := render(t, "")
	want := []string{
		"serve",
		"--providers-dir=/providers",
		"--dialects=coffre",
		"--stores=/etc/coffre/stores/stores.yaml",
		"--health-addr=:8082",
		"--metrics-addr=:8081",
		"--logging-format=text",
		"-v=0",
	}
	if got := made.container().Args; !slices.Equal(got, want) {
		t.Errorf("arguments %q, want %q", got, want)
	}
	if got, want := made.container().Image, "ghcr.io/coffre-csi/coffre:"+appVersion(t); got != want {
		t.Errorf("image %s, want %s", got, want)
	}
	if len(made.pod().Containers) != 1 || len(made.pod().InitContainers) != 0 {
		t.Error("more than one container")
	}
	if made.role != nil || made.binding != nil || made.service != nil || made.monitor != nil || made.rule != nil {
		t.Error("more objects than a DaemonSet, a ConfigMap and a ServiceAccount")
	}
	for _, env := range made.container().Env {
		if env.Name != "NODE_NAME" && env.Name != "GOMEMLIMIT" {
			t.Errorf("variable %s is set", env.Name)
		}
	}
}

func TestPodRunsWithoutCapabilities(t *testing.T) {
	made := render(t, "")
	c := made.container().SecurityContext
	switch {
	case c == nil || c.Capabilities == nil:
		t.Fatal("no security context")
	case !slices.Equal(c.Capabilities.Drop, []core.Capability{"ALL"}) || len(c.Capabilities.Add) != 0:
		t.Errorf("capabilities: %+v", c.Capabilities)
	case c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation:
		t.Error("may gain privileges")
	case c.Privileged == nil || *c.Privileged:
		t.Error("is privileged")
	case c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem:
		t.Error("may write its root file system")
	case c.RunAsUser == nil || *c.RunAsUser != 0:
		t.Error("is not user 0, and cannot write the node's folder of sockets")
	}
	if p := made.pod().SecurityContext; p == nil || p.SeccompProfile == nil || p.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Error("runs without the runtime's seccomp profile")
	}
}

func TestPodSharesNothingOfTheNodeButTheFolderOfSockets(t *testing.T) {
	made := render(t, "")
	if pod := made.pod(); pod.HostNetwork || pod.HostPID || pod.HostIPC {
		t.Error("shares a namespace of the node")
	}
	var paths []string
	for _, v := range made.pod().Volumes {
		if v.HostPath != nil {
			paths = append(paths, v.HostPath.Path)
			if v.HostPath.Type == nil || *v.HostPath.Type != core.HostPathDirectoryOrCreate {
				t.Errorf("%s is not made where it is missing", v.HostPath.Path)
			}
		}
	}
	if want := []string{"/var/run/secrets-store-csi-providers"}; !slices.Equal(paths, want) {
		t.Errorf("folders of the node %q, want %q", paths, want)
	}
}

func TestNothingInKubernetesIsReadByDefault(t *testing.T) {
	made := render(t, "")
	if made.role != nil || made.binding != nil {
		t.Error("a ClusterRole is made")
	}
	if on := made.pod().AutomountServiceAccountToken; on == nil || *on {
		t.Error("the pod has an API token")
	}
	if on := made.serviceAccount.AutomountServiceAccountToken; on == nil || *on {
		t.Error("the ServiceAccount gives API tokens to whoever uses it")
	}
}

func TestRBACGrantsGetOfWhatWasAskedForAndNoMore(t *testing.T) {
	for values, resources := range map[string][]string{
		"rbac: {serviceAccountAnnotations: {enabled: true}}":                         {"serviceaccounts"},
		"rbac: {nodes: {enabled: true}}":                                             {"nodes"},
		"rbac: {serviceAccountAnnotations: {enabled: true}, nodes: {enabled: true}}": {"serviceaccounts", "nodes"},
	} {
		made := render(t, values)
		var got []string
		for _, rule := range made.role.Rules {
			got = append(got, rule.Resources...)
			if !slices.Equal(rule.Verbs, []string{"get"}) || !slices.Equal(rule.APIGroups, []string{""}) {
				t.Errorf("%s: rule %+v", values, rule)
			}
		}
		if !slices.Equal(got, resources) {
			t.Errorf("%s: may read %q, want %q", values, got, resources)
		}
		if made.binding.RoleRef.Name != made.role.Name || made.binding.Subjects[0].Name != made.pod().ServiceAccountName || made.binding.Subjects[0].Namespace != "kube-system" {
			t.Errorf("%s: the binding does not bind: %+v", values, made.binding)
		}
		if on := made.pod().AutomountServiceAccountToken; on == nil || !*on {
			t.Errorf("%s: the pod has no API token to use it with", values)
		}
	}
}

func TestEventsGrantCreateOfEventsAndNoMore(t *testing.T) {
	made := render(t, "events: {enabled: true}")
	if len(made.role.Rules) != 1 {
		t.Fatalf("rules %+v", made.role.Rules)
	}
	rule := made.role.Rules[0]
	if !slices.Equal(rule.APIGroups, []string{""}) || !slices.Equal(rule.Resources, []string{"events"}) || !slices.Equal(rule.Verbs, []string{"create"}) {
		t.Errorf("rule %+v", rule)
	}
	if made.binding.RoleRef.Name != made.role.Name || made.binding.Subjects[0].Name != made.pod().ServiceAccountName {
		t.Errorf("the binding does not bind: %+v", made.binding)
	}
	if on := made.pod().AutomountServiceAccountToken; on == nil || !*on {
		t.Error("the pod has no API token to use it with")
	}
	if !slices.Contains(made.container().Args, "--events") {
		t.Error("nothing writes them")
	}
}

func TestProbesAskTheHealthPort(t *testing.T) {
	made := render(t, "health: {port: 9000}")
	c := made.container()
	for _, probe := range []struct {
		name, path string
		probe      *core.Probe
	}{
		{"startup", "/healthz", c.StartupProbe},
		{"liveness", "/healthz", c.LivenessProbe},
		{"readiness", "/readyz", c.ReadinessProbe},
	} {
		if get := probe.probe.HTTPGet; get.Path != probe.path || get.Port.StrVal != "health" {
			t.Errorf("%s asks %+v", probe.name, get)
		}
	}
	if !slices.Contains(c.Ports, core.ContainerPort{Name: "health", ContainerPort: 9000}) {
		t.Errorf("ports %+v", c.Ports)
	}
	if !slices.Contains(c.Args, "--health-addr=:9000") {
		t.Errorf("arguments %q", c.Args)
	}
}

// What Helm's own reading of numbers and templates could spoil is in here.
const awkwardStores = `
stores:
  aws-paris:
    kind: aws-secrets-manager
    namespaces: [shop, "team-*"]
    refresh: 5m
    rateLimit: 123456789012
    useFIPS: true
    prefix: "007"
    externalID: "yes"
    sessionTags: {a: '{{ .Release.Name }}'}
  other:
    kind: sops
    namespaces: [shop]
    document: |+
      one
        two

      three


`

func TestStoresReachTheFileVerbatim(t *testing.T) {
	var want, got map[string]any
	if err := yaml.UnmarshalStrict([]byte(awkwardStores), &want); err != nil {
		t.Fatal(err)
	}
	made := render(t, awkwardStores)
	if err := yaml.UnmarshalStrict([]byte(made.stores.Data["stores.yaml"]), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v\nwant %#v", got, want)
	}
	// A float would be 1.23456789012e+11, which no one meant.
	if text := made.stores.Data["stores.yaml"]; !strings.Contains(text, "rateLimit: 123456789012\n") {
		t.Errorf("a long number is spoilt:\n%s", text)
	}
}

func TestEditOfStoresReachesThePodAndRestartsNone(t *testing.T) {
	before, after := render(t, ""), render(t, awkwardStores)
	if !reflect.DeepEqual(before.daemonSet, after.daemonSet) {
		t.Error("the DaemonSet differs: its pods restart")
	}
	for _, m := range after.container().VolumeMounts {
		if m.Name == "stores" && (m.SubPath != "" || m.MountPath != "/etc/coffre/stores" || !m.ReadOnly) {
			t.Errorf("kubelet cannot update %+v", m)
		}
	}
	i := slices.IndexFunc(after.pod().Volumes, func(v core.Volume) bool { return v.Name == "stores" })
	if i < 0 || after.pod().Volumes[i].ConfigMap.Name != after.stores.Name {
		t.Errorf("the ConfigMap %s is not mounted", after.stores.Name)
	}
}

// Labels of the chart's release must not restart pods either.
func TestPodLabelsHoldTheSelectorAndNoVersion(t *testing.T) {
	made := render(t, "podLabels: {app.kubernetes.io/name: stolen, a: b}\ncommonLabels: {team: x, app.kubernetes.io/instance: stolen}")
	labels := made.daemonSet.Spec.Template.Labels
	want := map[string]string{"app.kubernetes.io/name": "coffre", "app.kubernetes.io/instance": "coffre", "a": "b", "team": "x"}
	if !reflect.DeepEqual(labels, want) {
		t.Errorf("got %v, want %v", labels, want)
	}
	for name, value := range made.daemonSet.Spec.Selector.MatchLabels {
		if labels[name] != value {
			t.Errorf("the selector misses the pods: %s", name)
		}
	}
}

func TestMemoryLimitOfTheRuntimeIsNineTenthsOfTheContainers(t *testing.T) {
	for limit, want := range map[string]string{
		"128Mi": "115MiB", "1.5Gi": "1382MiB", "134217728": "115MiB", "1G": "858MiB", `"200M"`: "171MiB", "131072Ki": "115MiB",
		"1Ti": "943718MiB", "2e9": "1716MiB", "134217728000m": "115MiB", "0.5Gi": "460MiB",
	} {
		if got, _ := render(t, "resources: {limits: {memory: "+limit+"}}").env("GOMEMLIMIT"); got != want {
			t.Errorf("%s: GOMEMLIMIT %s, want %s", limit, got, want)
		}
	}
	for size, want := range map[string]string{"64Mi": "67108864", "67108864": "67108864", "20M": "20000000", "1e7": "10000000", `"1024"`: "1024"} {
		if args := render(t, "cache: {maxBytes: "+size+"}").container().Args; !slices.Contains(args, "--cache-max-bytes="+want) {
			t.Errorf("cache.maxBytes %s: arguments %q, want %s bytes", size, args, want)
		}
	}
	for _, values := range []string{"resources: {limits: {memory: null}}", "resources: null"} {
		if got, is := render(t, values).env("GOMEMLIMIT"); is {
			t.Errorf("%s: GOMEMLIMIT %s without a limit", values, got)
		}
	}
	made := render(t, "extraEnv: [{name: GOMEMLIMIT, value: 50MiB}]")
	if got, _ := made.env("GOMEMLIMIT"); got != "50MiB" || len(made.container().Env) != 2 {
		t.Errorf("the user's GOMEMLIMIT does not replace the chart's: %+v", made.container().Env)
	}
}

// An older cluster cannot ask for a pod's tokens, and says so before anything is made.
func TestOldClustersAreRefused(t *testing.T) {
	if _, err := run(t, "", "template", "coffre", chart, "--kube-version", "1.19.0"); err == nil || !strings.Contains(err.Error(), "requires kubeVersion") {
		t.Errorf("on Kubernetes 1.19: got %v, want a refusal", err)
	}
}

// Whoever reads a role from an annotation needs to be let read it, dialect or store.
func TestNotesWarnOfStoresThatNeedTheAnnotation(t *testing.T) {
	const warning = "will be refused by the stores paris"
	// Helm shows notes after an install only, and an install needs a cluster:
	// they are rendered as the text of an object.
	own := t.TempDir()
	if err := os.CopyFS(own, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(own, "templates", "notes.yaml"), []byte("text: {{ tpl (.Files.Get \"notes\") . | toJson }}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(own, "templates", "NOTES.txt"), filepath.Join(own, "notes")); err != nil {
		t.Fatal(err)
	}
	store := func(more string) string {
		return "stores: {paris: {kind: aws-secrets-manager, namespaces: [shop]" + more + "}}"
	}
	for values, want := range map[string]bool{
		store(""): true, store(", auth: irsa"): true, store(", auth: pod-identity"): false, store(", roleARN: x"): false, store(", identity: provider"): false,
		store("") + "\nrbac: {serviceAccountAnnotations: {enabled: true}}": false, "stores: {paris: {kind: sops, namespaces: [shop]}}": false,
	} {
		notes, err := run(t, values, "template", "coffre", own, "--show-only", "templates/notes.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(notes, warning); got != want {
			t.Errorf("%s: warned %v, want %v:\n%s", values, got, want, notes)
		}
	}
}

func TestServiceMonitorReachesThePods(t *testing.T) {
	made := render(t, "metrics: {port: 9100, serviceMonitor: {enabled: true, interval: 30s, labels: {release: prometheus}}}")
	if made.service.Spec.ClusterIP != core.ClusterIPNone {
		t.Error("the Service is not headless")
	}
	pod := made.daemonSet.Spec.Template.Labels
	for name, value := range made.service.Spec.Selector {
		if pod[name] != value {
			t.Errorf("the Service misses the pods: %s", name)
		}
	}
	for name, value := range made.monitor.Spec.Selector.MatchLabels {
		if made.service.Labels[name] != value {
			t.Errorf("the ServiceMonitor misses the Service: %s", name)
		}
	}
	port := made.service.Spec.Ports[0]
	endpoint := made.monitor.Spec.Endpoints[0]
	if endpoint.Port != port.Name || port.Port != 9100 || port.TargetPort.StrVal != "metrics" || endpoint.Interval != "30s" || !endpoint.HonorLabels {
		t.Errorf("port %+v, endpoint %+v", port, endpoint)
	}
	if !slices.Contains(made.container().Ports, core.ContainerPort{Name: "metrics", ContainerPort: 9100}) {
		t.Errorf("ports %+v", made.container().Ports)
	}
	if made.monitor.Labels["release"] != "prometheus" {
		t.Errorf("labels %v", made.monitor.Labels)
	}
}

// Chart and image of one version belong together.
func appVersion(t *testing.T) string {
	t.Helper()
	var chart struct{ AppVersion string }
	readYAML(t, chartFile("Chart.yaml"), &chart)
	return chart.AppVersion
}
