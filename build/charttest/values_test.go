package charttest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the values table into the chart's README")

// Each value is set to something else than its default; `want` must then be in
// the rendering and was not in the default one. With TestEveryValueIsTried no
// value can be dead.
var switches = []struct{ value, set, want string }{
	{"stores", "{paris: {kind: sops, namespaces: [shop]}}", "paris:\n        kind: sops"},
	{"dialects.coffre.enabled", "false", "--dialects=aws\n"},
	{"dialects.aws.enabled", "true", "--dialects=aws,coffre\n"},
	{"dialects.vault.enabled", "true", "--dialects=coffre,vault\n"},
	{"dialects.openbao.enabled", "true", "--dialects=coffre,openbao\n"},
	{"vault.versionKeySecret", "vault-key", "secretName: vault-key\n"},
	{"openbao.versionKeySecret", "bao-key", "secretName: bao-key\n"},
	{"cache.leaseIdle", "26h", "- --lease-idle=26h\n"},
	{"dialects.gcp.enabled", "true", "--dialects=coffre,gcp\n"},
	{"gcp.audience", "//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/p/providers/eks", "- --gcp-audience=//iam.googleapis.com/projects/42/"},
	{"gcp.project", "shop-prod", "- name: PROJECT\n          value: \"shop-prod\""},
	{"gcp.clusterName", "blue", "- name: CLUSTER_NAME\n          value: \"blue\""},
	{"gcp.clusterLocation", "europe-west9", "- name: CLUSTER_LOCATION\n          value: \"europe-west9\""},
	{"dialects.azure.enabled", "true", "--dialects=azure,coffre\n"},
	{"azure.cloudName", "AzureChinaCloud", "- --azure-cloud-name=AzureChinaCloud\n"},
	{"azure.constructPEMChain", "false", "- --azure-construct-pem-chain=false\n"},
	{"azure.writeCertAndKeyInSeparateFiles", "true", "- --azure-write-cert-and-key-in-separate-files\n"},
	{"azure.identityBinding.enabled", "true", "automountServiceAccountToken: true"},
	{"azure.identityBinding.tokenProxyURL", "https://proxy.example", "- --azure-token-proxy-url=https://proxy.example\n"},
	{"azure.identityBinding.sniName", "a1.ests.aks", "- --azure-sni-name=a1.ests.aks\n"},
	{"awsRegion", "eu-west-3", "- name: AWS_REGION\n          value: \"eu-west-3\""},
	{"useFipsEndpoint", "true", "- name: AWS_USE_FIPS_ENDPOINT\n          value: \"true\""},
	{"podIdentityHttpTimeout", "500ms", "- --pod-identity-http-timeout=500ms\n"},
	{"mountTimeout", "30s", "- --mount-timeout=30s\n"},
	{"cache.maxBytes", "64Mi", "- --cache-max-bytes=67108864\n"},
	{"cache.maxEntries", "5000000", "- --cache-max-entries=5000000\n"},
	{"cache.persist.enabled", "true", "- --cache-persist=/var/cache/coffre\n"},
	{"cache.persist.hostPath", "/run/secrets/coffre", "path: /run/secrets/coffre\n"},
	{"rbac.serviceAccountAnnotations.enabled", "true", "resources: [serviceaccounts]"},
	{"rbac.nodes.enabled", "true", "resources: [nodes]"},
	{"events.enabled", "true", "- --events\n"},
	{"serviceAccount.create", "false", "serviceAccountName: default\n"},
	{"serviceAccount.name", "other", "serviceAccountName: other\n"},
	{"serviceAccount.labels", "{team: a}", "team: a"},
	{"serviceAccount.annotations", "{a: b}", "annotations:\n    a: b"},
	{"logging.format", "json", "- --logging-format=json\n"},
	{"logging.verbosity", "4", "- -v=4\n"},
	{"metrics.enabled", "false", ""},
	{"metrics.port", "9100", "- --metrics-addr=:9100\n"},
	{"metrics.serviceMonitor.enabled", "true", "kind: ServiceMonitor"},
	{"metrics.serviceMonitor.interval", "30s", "interval: 30s"},
	{"metrics.serviceMonitor.scrapeTimeout", "7s", "scrapeTimeout: 7s"},
	{"metrics.serviceMonitor.namespace", "monitoring", "namespace: monitoring"},
	{"metrics.serviceMonitor.relabelings", "[{action: labeldrop, regex: pod}]", "    - action: labeldrop"},
	{"metrics.serviceMonitor.metricRelabelings", "[{action: drop, regex: go_.*}]", "metricRelabelings:\n    - action: drop"},
	{"metrics.serviceMonitor.labels", "{release: prometheus}", "release: prometheus"},
	{"metrics.prometheusRule.enabled", "true", "kind: PrometheusRule"},
	{"metrics.prometheusRule.labels", "{team: platform}", "team: platform"},
	{"metrics.prometheusRule.oldestValueSeconds", "10000000", "coffre_oldest_value_age_seconds > 10000000\n"},
	{"health.port", "9200", "- --health-addr=:9200\n"},
	{"pprof.enabled", "true", "- --pprof-addr=127.0.0.1:6060\n"},
	{"image.repository", "registry.example/coffre", "image: \"registry.example/coffre:v"},
	{"image.tag", "v9", "coffre:v9\""},
	{"image.digest", "sha256:" + sixtyFour, "coffre@sha256:" + sixtyFour + "\""},
	{"image.pullPolicy", "Always", "imagePullPolicy: Always"},
	{"imagePullSecrets", "[{name: pull}]", "imagePullSecrets:\n        - name: pull"},
	{"providersDir", "/etc/kubernetes/secrets-store-csi-providers", "path: /etc/kubernetes/secrets-store-csi-providers\n"},
	{"resources", "{limits: {cpu: 3}}", "cpu: 3\n"},
	{"priorityClassName", "other", "priorityClassName: other"},
	{"tolerations", "[{key: only, operator: Exists}]", "key: only"},
	{"hostAliases", "[{ip: 10.1.2.3, hostnames: [vault.example.com]}]", "hostAliases:\n        - hostnames:\n          - vault.example.com\n          ip: 10.1.2.3"},
	{"nodeSelector", "{pool: a}", "pool: a"},
	{"affinity", "{podAntiAffinity: {}}", "podAntiAffinity: {}"},
	{"updateStrategy", "{type: OnDelete}", "type: OnDelete"},
	{"terminationGracePeriodSeconds", "47", "terminationGracePeriodSeconds: 47\n"},
	{"hostNetwork", "true", "hostNetwork: true\n      dnsPolicy: ClusterFirstWithHostNet\n"},
	{"dnsPolicy", "Default", "dnsPolicy: Default\n"},
	{"dnsConfig", "{nameservers: [10.0.0.1]}", "nameservers:\n        - 10.0.0.1"},
	{"podSecurityContext", "{supplementalGroups: [5]}", "supplementalGroups:\n        - 5"},
	{"securityContext", "{seLinuxOptions: {type: spc_t}}", "seLinuxOptions:\n            type: spc_t"},
	{"nameOverride", "other", "app.kubernetes.io/name: other"},
	{"fullnameOverride", "other", "name: other-stores"},
	{"namespaceOverride", "secrets", "namespace: secrets\n"},
	{"commonLabels", "{team: a}", "team: a"},
	{"podLabels", "{team: a}", "team: a"},
	{"podAnnotations", "{team: a}", "team: a"},
	{"extraArgs", "[--vmodule=cache=5]", "- --vmodule=cache=5"},
	{"extraEnv", "[{name: HTTPS_PROXY, value: proxy}]", "- name: HTTPS_PROXY\n          value: proxy"},
	{"extraVolumes", "[{name: ca, secret: {secretName: ca}}]", "secretName: ca"},
	{"extraVolumeMounts", "[{name: ca, mountPath: /ca}]", "mountPath: /ca"},
	{"extraInitContainers", "[{name: fetch, image: git}]", "initContainers:\n      - image: git"},
	{"extraContainers", "[{name: sync, image: git}]", "      - image: git\n        name: sync"},
	{"extraObjects", "[{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: \"{{ .Release.Name }}-own\"}, value: 5}]", "name: 'coffre-own'"},
}

const sixtyFour = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// What a value needs beside it to mean anything.
var beside = map[string]string{
	"dialects.coffre.enabled":         "dialects: {aws: {enabled: true}}",
	"cache.persist.hostPath":          "cache: {persist: {enabled: true}}",
	"metrics.serviceMonitor.interval": "metrics: {serviceMonitor: {enabled: true}}",
	"metrics.serviceMonitor.labels":   "metrics: {serviceMonitor: {enabled: true}}",

	"metrics.serviceMonitor.scrapeTimeout":     "metrics: {serviceMonitor: {enabled: true}}",
	"metrics.serviceMonitor.namespace":         "metrics: {serviceMonitor: {enabled: true}}",
	"metrics.serviceMonitor.relabelings":       "metrics: {serviceMonitor: {enabled: true}}",
	"metrics.serviceMonitor.metricRelabelings": "metrics: {serviceMonitor: {enabled: true}}",

	"metrics.prometheusRule.labels":             "metrics: {prometheusRule: {enabled: true}}",
	"metrics.prometheusRule.oldestValueSeconds": "metrics: {prometheusRule: {enabled: true}}",
}

func TestEverySwitchChangesWhatItSaysAndParses(t *testing.T) {
	for _, s := range switches {
		t.Run(s.value, func(t *testing.T) {
			without, err := template(t, beside[s.value])
			if err != nil {
				t.Fatal(err)
			}
			with, err := template(t, set(t, beside[s.value], s.value, s.set))
			if err != nil {
				t.Fatal(err)
			}
			decode(t, with)
			if with == without {
				t.Error("nothing changes")
			}
			if !strings.Contains(with, s.want) {
				t.Errorf("%q is not in:\n%s", s.want, with)
			}
			if s.want != "" && strings.Contains(without, s.want) {
				t.Errorf("%q is there without the value", s.want)
			}
		})
	}
}

func TestEveryValueIsTried(t *testing.T) {
	tried := map[string]bool{}
	for _, s := range switches {
		tried[s.value] = true
	}
	for _, v := range documented(t) {
		if !tried[v.name] {
			t.Errorf("%s is in values.yaml and in no test", v.name)
		}
		delete(tried, v.name)
	}
	for name := range tried {
		t.Errorf("%s is in a test and not in values.yaml", name)
	}
}

func TestMetricsOffLeavesNothingOfThem(t *testing.T) {
	text, err := template(t, "metrics: {enabled: false}")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "metrics") {
		t.Errorf("metrics are still in:\n%s", text)
	}
}

func TestEverythingTogetherParses(t *testing.T) {
	made := render(t, everything(t))
	if made.monitor == nil || made.rule == nil || made.role == nil || made.serviceAccount == nil {
		t.Error("something is missing")
	}
}

// everything sets all values but those that take something away.
func everything(t *testing.T) string {
	t.Helper()
	all := ""
	for _, s := range switches {
		switch s.value {
		case "metrics.enabled", "serviceAccount.create", "dialects.coffre.enabled":
		default:
			all = set(t, all, s.value, s.set)
		}
	}
	return all
}

func TestWrongValuesAreRefusedByName(t *testing.T) {
	for _, c := range []struct {
		values string
		want   []string // in Helm's complaint
	}{
		{"region: eu-west-3", []string{"additional properties 'region' not allowed"}},
		{"metrics: {prot: 8081}", []string{"/metrics", "'prot'"}},
		{"image: {name: x}", []string{"/image", "'name'"}},
		{"dialects: {gpc: {enabled: true}}", []string{"/dialects", "'gpc'"}},
		{"dialects: {aws: {enabled: 'yes'}}", []string{"/dialects/aws/enabled", "want boolean"}},
		{"stores: {paris: {region: eu-west-3}}", []string{"/stores/paris", "'kind'"}},
		{"stores: [{kind: sops}]", []string{"/stores", "want object"}},
		{"mountTimeout: 30", []string{"/mountTimeout"}},
		{"mountTimeout: half a minute", []string{"/mountTimeout"}},
		{"cache: {maxBytes: 64MB}", []string{"/cache/maxBytes"}},
		{"cache: {maxBytes: 128Mi}", []string{"cache.maxBytes", "128Mi", "three quarters"}},
		{"resources: {limits: {memory: 40Mi}}", []string{"cache.maxBytes", "40Mi"}},
		{"mountTimeout: 3m", []string{"mountTimeout: 3m", "at most 110s"}},
		{"mountTimeout: 1m50.001s", []string{"at most 110s"}},
		{"mountTimeout: 0s", []string{"must be above 0"}},
		{"terminationGracePeriodSeconds: 19", []string{"/terminationGracePeriodSeconds", "20"}},
		{"dnsPolicy: None!", []string{"/dnsPolicy"}},
		{"stores: {paris: {kind: aws-secret-manager, namespaces: [a]}}", []string{"/stores/paris/kind", "'aws-secrets-manager'"}},
		{"stores: {paris: {kind: sops, namespaces: [a], regoin: x}}", []string{"/stores/paris", "'regoin'"}},
		{"stores: {paris: {kind: sops, file: /x}}", []string{"/stores/paris", "'namespaces'"}},
		{"stores: {paris: {kind: sops, namespaces: [], file: /x}}", []string{"/stores/paris/namespaces"}},
		{"stores: {paris: {kind: sops, namespaces: [a], refresh: soon}}", []string{"/stores/paris/refresh"}},
		{"stores: {Paris: {kind: sops, namespaces: [a]}}", []string{"'Paris'"}},
		{"logging: {format: xml}", []string{"/logging/format", "'json'"}},
		{"image: {digest: v1}", []string{"/image/digest"}},
		{"providersDir: run", []string{"/providersDir"}},
		{"extraArgs: [1]", []string{"/extraArgs/0", "want string"}},
		{"commonLabels: {team: 5}", []string{"/commonLabels/team", "want string"}},
		{"dialects: {coffre: {enabled: false}}", []string{"switch on at least one"}},
		{"metrics: {enabled: false, serviceMonitor: {enabled: true}}", []string{"metrics.serviceMonitor.enabled", "metrics.enabled is false"}},
		{"metrics: {enabled: false, prometheusRule: {enabled: true}}", []string{"metrics.prometheusRule.enabled", "metrics.enabled is false"}},
		{"metrics: {prometheusRule: {oldestValueSeconds: 2h}}", []string{"/metrics/prometheusRule/oldestValueSeconds"}},
		{"resources: {limits: {memory: 12e6x}}", []string{"resources.limits.memory", "64Mi"}},
	} {
		_, err := template(t, c.values)
		if err == nil {
			t.Errorf("%s: rendered", c.values)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in: %v", c.values, want, err)
			}
		}
	}
}

// Helm hands `global` to a chart that another depends on.
func TestChartCanBePartOfAnother(t *testing.T) {
	render(t, "global: {imageRegistry: x}")
}

func TestLintFindsNothing(t *testing.T) {
	out, err := run(t, awkwardStores, "lint", "--strict", chart)
	if err != nil {
		t.Fatal(err)
	}
	for _, sign := range []string{"[WARNING]", "[ERROR]"} {
		if strings.Contains(out, sign) {
			t.Error(out)
		}
	}
}

func TestReadmeListsEveryValue(t *testing.T) {
	var table strings.Builder
	table.WriteString("| value | default | what it does |\n|---|---|---|\n")
	for _, v := range documented(t) {
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", v.name, v.standard, strings.ReplaceAll(v.meaning, "|", `\|`))
	}
	file := chartFile("README.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const start, end = "<!-- values -->\n", "<!-- /values -->"
	head, rest, ok := strings.Cut(string(text), start)
	is, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", file)
	}
	if is == table.String() {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date: run make manifests", file)
	}
	if err := os.WriteFile(file, []byte(head+start+table.String()+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

type value struct{ name, standard, meaning string }

// documented reads values.yaml: whatever has a comment above it is a value,
// whatever has none must be a mapping that holds values.
func documented(t *testing.T) []value {
	t.Helper()
	text, err := os.ReadFile(chartFile("values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var document yamlv3.Node
	if err := yamlv3.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	var all []value
	var walk func(prefix string, mapping *yamlv3.Node)
	walk = func(prefix string, mapping *yamlv3.Node) {
		for i := 0; i < len(mapping.Content); i += 2 {
			key, content := mapping.Content[i], mapping.Content[i+1]
			name := prefix + key.Value
			meaning := ownComment(key.HeadComment)
			switch {
			case meaning != "":
				all = append(all, value{name, standard(content), meaning})
			case content.Kind == yamlv3.MappingNode && len(content.Content) > 0:
				walk(name+".", content)
			default:
				t.Errorf("%s has no comment in values.yaml", name)
			}
		}
	}
	walk("", document.Content[0])
	return all
}

// ownComment is a comment without the headings of the file's parts.
func ownComment(comment string) string {
	var own []string
	for _, line := range strings.Split(comment, "\n") {
		line = strings.TrimSpace(strings.TrimPrefix(line, "#"))
		if !strings.HasPrefix(line, "-- ") {
			own = append(own, line)
		}
	}
	return strings.TrimSpace(strings.Join(own, " "))
}

// standard is a default as the table shows it.
func standard(n *yamlv3.Node) string {
	if len(n.Content) > 0 && n.Kind == yamlv3.MappingNode || n.Kind == yamlv3.SequenceNode && len(n.Content) > 0 && len(n.Content[0].Content) > 2 {
		return "see values.yaml"
	}
	flow := *n
	flow.Style, flow.HeadComment = yamlv3.FlowStyle, ""
	if n.Kind == yamlv3.ScalarNode {
		flow.Style = n.Style
	}
	text, err := yamlv3.Marshal(&flow)
	if err != nil {
		return ""
	}
	return "`" + strings.TrimSpace(string(text)) + "`"
}

// set adds the value at a dotted path to a YAML document of values.
func set(t *testing.T, values, at, to string) string {
	t.Helper()
	all := map[string]any{}
	if err := yaml.Unmarshal([]byte(values), &all); err != nil {
		t.Fatal(err)
	}
	var content any
	if err := yaml.Unmarshal([]byte(to), &content); err != nil {
		t.Fatal(err)
	}
	path := strings.Split(at, ".")
	parent := all
	for _, step := range path[:len(path)-1] {
		next, ok := parent[step].(map[string]any)
		if !ok {
			next = map[string]any{}
			parent[step] = next
		}
		parent = next
	}
	parent[path[len(path)-1]] = content
	text, err := yaml.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every `.Values.x.y` of a template stands in values.yaml.
func TestTemplatesUseNoUnknownValue(t *testing.T) {
	known := documented(t)
	files, err := filepath.Glob(chartFile("templates/*"))
	if err != nil {
		t.Fatal(err)
	}
	used := regexp.MustCompile(`\.Values\.([A-Za-z0-9.]+)`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
	next:
		for _, m := range used.FindAllStringSubmatch(string(text), -1) {
			for _, v := range known {
				if v.name == m[1] || strings.HasPrefix(v.name, m[1]+".") {
					continue next
				}
			}
			t.Errorf("%s uses %s", file, m[0])
		}
	}
}

func chartFile(name string) string { return filepath.Join(chart, name) }

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
