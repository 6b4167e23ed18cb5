package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/cmd/coffre/internal/lint"
	"github.com/coffre-csi/coffre/test/sopstest"
)

// TestMain lets the test program be the coffre program too, for tests that need
// a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("COFFRE_TEST_MAIN") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// coffre runs the program in a process of its own, as a user does: what it sets
// for its whole process, such as the logger, is not this one's.
func coffre(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var o, e bytes.Buffer
	c := exec.CommandContext(ctx, os.Args[0], args...)
	c.Env, c.Stdout, c.Stderr = append(os.Environ(), "COFFRE_TEST_MAIN=1", "GORACE=atexit_sleep_ms=0"), &o, &e
	if err := c.Run(); err != nil && c.ProcessState == nil || ctx.Err() != nil {
		t.Fatalf("coffre %q does not run: %v", args, errors.Join(err, ctx.Err()))
	}
	return c.ProcessState.ExitCode(), o.String(), e.String()
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	return path
}

const plaintext = "prod/mysql:\n  username: shop\n  password: hunter2\n"

// class is a SecretProviderClass with an encrypted document in it, the Pod that
// mounts it and the Secret with its key.
func class(t *testing.T, key sopstest.Key, objects string) string {
	t.Helper()
	indent := func(by int, text string) string {
		pad := strings.Repeat(" ", by)
		return pad + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+pad)
	}
	return `apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: mysql, namespace: shop}
spec:
  provider: coffre
  parameters:
    inlineStore: |
      kind: sops
      document: |
` + indent(8, sopstest.Encrypt(t, "yaml", plaintext, key.Public)) + `
    objects: |
` + indent(6, objects) + `
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop}
spec:
  serviceAccountName: api
  containers: [{name: api, image: api, volumeMounts: [{name: mysql, mountPath: /opt/mysql}]}]
  volumes:
  - name: mysql
    csi:
      driver: secrets-store.csi.k8s.io
      readOnly: true
      volumeAttributes: {secretProviderClass: mysql}
      nodePublishSecretRef: {name: age}
---
apiVersion: v1
kind: Secret
metadata: {name: age, namespace: shop}
stringData: {age.agekey: "` + key.Secret + `"}
`
}

const mysqlObjects = `- name: prod/mysql
  key: password
  file: database-password
- name: prod/mysql
  keys: "*"
  file: mysql/
  mode: "0440"
`

func TestRenderWritesWhatTheDriverWouldAndPrintsNoValue(t *testing.T) {
	manifest := write(t, "m.yaml", class(t, sopstest.NewKey(t), mysqlObjects))
	dir := filepath.Join(t.TempDir(), "volume")
	status, out, errs := coffre(t, "render", "-f", manifest, "--out", dir)
	if status != 0 {
		t.Fatalf(`got %v, where status != 0 must not be so`, errs)
	}
	want := regexp.MustCompile(`^Pod/api volume mysql: shop/mysql → \S+
├── database-password +7 B  0644  version \S{20}
└── mysql/
    ├── password +7 B  0440  version \S{20}
    └── username +4 B  0440  version \S{20}
$`)
	if !want.MatchString(out) || strings.Contains(out, "hunter2") {
		t.Errorf("got\n%s", out)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "database-password")); err != nil || string(got) != "hunter2" {
		t.Errorf(`got %v %v, where err != nil || string(got) != "hunter2" must not be so`, string(got), err)
	}
	if info, err := os.Stat(filepath.Join(dir, "mysql", "username")); err != nil || info.Mode().Perm() != 0o440 {
		t.Errorf(`got %v %v, where err != nil || info.Mode().Perm() != 0o440 must not be so`, info, err)
	}
	if status, out, _ = coffre(t, "render", "-f", manifest, "--out", dir, "--reveal"); status != 0 || !strings.Contains(out, "hunter2") {
		t.Error("--reveal prints no value:", out)
	}
}

func TestRenderSaysWhatFailedAndLeavesTheFilesAlone(t *testing.T) {
	key := sopstest.NewKey(t)
	dir := filepath.Join(t.TempDir(), "volume")
	if status, _, errs := coffre(t, "render", "-f", write(t, "m.yaml", class(t, key, mysqlObjects)), "--out", dir); status != 0 {
		t.Fatalf(`got %v, where status != 0 must not be so`, errs)
	}
	other := class(t, key, mysqlObjects)
	other = strings.Replace(other, key.Secret, sopstest.NewKey(t).Secret, 1)
	for name, c := range map[string]struct{ manifest, want string }{
		"wrong key":     {other, "inline: "},
		"wrong object":  {class(t, key, "- {name: prod/mysql, file: ../x}"), `objects[0].file: "../x" leaves the volume`},
		"missing":       {class(t, key, "- {name: prod/mysqk, file: x}"), "prod/mysql"},
		"tampered":      {strings.Replace(class(t, key, mysqlObjects), "username: ENC", "user: ENC", 1), "was changed after it was encrypted"},
		"no such class": {strings.Replace(class(t, key, mysqlObjects), "secretProviderClass: mysql", "secretProviderClass: other", 1), "SecretProviderClass shop/other is in none of the files"},
		"no such key":   {strings.Replace(class(t, key, mysqlObjects), "nodePublishSecretRef: {name: age}", "nodePublishSecretRef: {name: old}", 1), "nodePublishSecretRef shop/old is in none of the files"},
		"no dialect":    {strings.Replace(class(t, key, mysqlObjects), "provider: coffre", "provider: cofre", 1), `spec.provider "cofre" is no dialect`},
	} {
		t.Run(name, func(t *testing.T) {
			status, out, errs := coffre(t, "render", "-f", write(t, "m.yaml", c.manifest), "--out", dir)
			if status != 1 || !strings.Contains(errs, c.want) {
				t.Errorf("%d\n%s\n%s", status, out, errs)
			}
			if strings.Contains(errs, "hunter2") || strings.Contains(errs, "AGE-SECRET-KEY") {
				t.Error("a secret is in", errs)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "database-password")); err != nil || string(got) != "hunter2" {
				t.Error("the volume lost its file:", err)
			}
		})
	}
}

func TestLintFindsEveryMistakeAtItsLine(t *testing.T) {
	manifest := class(t, sopstest.NewKey(t), "- name: prod/mysql\n  kye: password\n  file: a\n- name: x\n  mode: rw\n")
	manifest = strings.Replace(manifest, "readOnly: true", "readOnly: false", 1)
	path := write(t, "m.yaml", manifest)
	line := func(text string) int {
		before, _, ok := strings.Cut(manifest, text)
		if !ok {
			t.Fatalf(`got %v, where !ok must not be so`, text)
		}
		return strings.Count(before, "\n") + 1
	}
	status, out, _ := coffre(t, "lint", path, "--output", "json")
	var found []lint.Finding
	if err := json.Unmarshal([]byte(out), &found); err != nil || status != 1 {
		t.Fatalf("status %d, %v: %s", status, err, out)
	}
	want := []lint.Finding{
		{Rule: "class-refused", Line: line("kye:"), Object: "SecretProviderClass shop/mysql", Field: "objects[0].kye", Message: `unknown field; did you mean "key"?`},
		{Rule: "class-refused", Line: line("mode: rw"), Object: "SecretProviderClass shop/mysql", Field: "objects[1].mode", Message: `"rw" is no file mode; write it in octal, as "0440"`},
		{Rule: "mount-read-only", Line: line("readOnly: false"), Object: "Pod/api volume mysql", Field: "csi.readOnly", Message: "must be true: the driver refuses the volume otherwise"},
	}
	if len(found) != len(want) {
		t.Fatalf("got %+v", found)
	}
	for i, w := range want {
		w.File, w.Severity = path, lint.Error
		w.Happens, w.Remedy = found[i].Happens, found[i].Remedy
		if found[i] != w || w.Happens == "" {
			t.Errorf("got  %+v\nwant %+v", found[i], w)
		}
	}
}

func TestStrictFailsOnWarningsAndOnNothing(t *testing.T) {
	nothing := write(t, "m.yaml", "a: b\n")
	for args, want := range map[string]int{"lint " + nothing: 0, "lint --strict " + nothing: 1} {
		if status, out, errs := coffre(t, strings.Fields(args)...); status != want {
			t.Errorf("%s: status %d, want %d: %s%s", args, status, want, out, errs)
		}
	}
}

func TestLintWarnsOfWhatNeverReachesTheApplication(t *testing.T) {
	manifest := class(t, sopstest.NewKey(t), "- {name: prod/mysql, file: a, mode: \"0440\"}")
	manifest = strings.Replace(manifest, "mountPath: /opt/mysql", "mountPath: /opt/mysql/a, subPath: a", 1)
	manifest = strings.Replace(manifest, "  serviceAccountName: api\n", "  serviceAccountName: api\n  securityContext: {runAsNonRoot: true}\n", 1)
	manifest = strings.Replace(manifest, "  provider: coffre\n", "  provider: coffre\n  secretObjects: [{secretName: s, type: Opaque, data: [{objectName: b, key: k}]}]\n", 1)
	status, out, _ := coffre(t, "lint", write(t, "m.yaml", manifest))
	for _, want := range []string{"a file mounted by subPath never sees a new value", "0440: the file is root's, and the driver applies no fsGroup", `error: SecretProviderClass shop/mysql: spec.secretObjects[0].data[0].objectName: Secret s: no object makes the file "b"`, "2 checked, 1 errors, 2 warnings"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if status != 1 {
		t.Errorf("got %v, want %v", status, 1)
	}
}

func TestCallsThatCannotBeUnderstoodAreOneLineAndStatus2(t *testing.T) {
	for args, want := range map[string]string{
		"srve":                            `coffre: "srve" is no command, did you mean serve?; coffre --help lists them`,
		"lint":                            "coffre lint: name files or folders; - is standard input",
		"lint --strcit f":                 "coffre lint: --strcit is no flag, did you mean --strict?; coffre lint --help lists them",
		"lint --output xml f":             `coffre lint: --output "xml" is none of text, json, sarif, junit`,
		"render":                          "coffre render: -f and --out are needed",
		"render --out":                    "coffre render: flag needs an argument: --out",
		"serve --nope":                    "coffre serve: --nope is no flag; coffre serve --help lists them",
		"serve x":                         `coffre serve: "x" is no flag, and no other arguments are taken`,
		"serve --mount-timeout 3m":        "coffre serve: --mount-timeout must be above 0 and at most 110s: kubelet waits 120s, and a mount that it gives up leaves the pod with an empty volume",
		"serve --pprof-addr :6060":        "coffre serve: --pprof-addr :6060: profiles are served on loopback only, as 127.0.0.1:6060",
		"serve --pprof-addr 0.0.0.0:6060": "coffre serve: --pprof-addr 0.0.0.0:6060: profiles are served on loopback only, as 127.0.0.1:6060",
		"serve --logging-format xml":      `coffre serve: --logging-format "xml" is neither text nor json`,
	} {
		if status, out, errs := coffre(t, strings.Fields(args)...); status != 2 || errs != want+"\n" || out != "" {
			t.Errorf("coffre %s: status %d\n got %swant %s", args, status, errs, want)
		}
	}
	if status, out, errs := coffre(t); status != 2 || out != "" || !strings.Contains(errs, "Usage:") {
		t.Errorf("no arguments: status %d, out %q, err %q", status, out, errs)
	}
}

func TestHelpAndVersionAreAnswers(t *testing.T) {
	for args, want := range map[string]string{
		"--help": "Usage:", "-h": "Usage:", "help": "Usage:", "help lint": "coffre lint", "lint --help": "coffre lint", "render -h": "coffre render",
		"serve --help": "Logging flags (klog's):\n", "--version": "coffre dev\n", "version": "coffre dev\n",
	} {
		if status, out, errs := coffre(t, strings.Fields(args)...); status != 0 || !strings.Contains(out, want) || errs != "" {
			t.Errorf("coffre %s: status %d, want 0 and %q on standard output, got %q and %q", args, status, want, out, errs)
		}
	}
	_, help, _ := coffre(t, "serve", "--help")
	if own, _, _ := strings.Cut(help, "Logging flags"); strings.Contains(own, "vmodule") {
		t.Error("klog's flags stand among the command's own")
	}
}

func TestWhatCannotBeReadOrWrittenIsStatus3(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone.yaml")
	manifest := write(t, "m.yaml", class(t, sopstest.NewKey(t), mysqlObjects))
	for _, args := range [][]string{
		{"lint", gone}, {"render", "-f", gone, "--out", t.TempDir()}, {"render", "-f", manifest, "--out", filepath.Join(manifest, "x")},
		{"render", "-f", manifest, "--out", t.TempDir(), "--stores", gone}, {"render", "-f", manifest, "--out", t.TempDir(), "--secret", "a=" + gone},
	} {
		if status, _, errs := coffre(t, args...); status != 3 || errs == "" {
			t.Errorf("%v: status %d, want 3: %s", args, status, errs)
		}
	}
}

func TestRenderLeavesAFolderAloneThatItDidNotMake(t *testing.T) {
	manifest := write(t, "m.yaml", class(t, sopstest.NewKey(t), mysqlObjects))
	mine := write(t, "database-password", "mine")
	status, _, errs := coffre(t, "render", "-f", manifest, "--out", filepath.Dir(mine))
	if status != 3 || !strings.Contains(errs, "holds database-password, which render did not make") {
		t.Errorf("status %d: %s", status, errs)
	}
	if text, err := os.ReadFile(mine); err != nil || string(text) != "mine" {
		t.Errorf("the file is %q, %v", text, err)
	}
	if info, err := os.Lstat(mine); err != nil || !info.Mode().IsRegular() {
		t.Errorf("the file became %v, %v", info, err)
	}
	empty := t.TempDir()
	for range 2 { // its own it writes again
		if status, _, errs := coffre(t, "render", "-f", manifest, "--out", empty); status != 0 {
			t.Errorf("status %d: %s", status, errs)
		}
	}
}

func TestRenderTakesStoresInEveryFormThatLintTakes(t *testing.T) {
	key := sopstest.NewKey(t)
	config := "stores:\n  docs:\n    kind: sops\n    namespaces: [shop]\n    file: " + write(t, "doc.yaml", sopstest.Encrypt(t, "yaml", plaintext, key.Public)) + "\n    ageKeyFile: " + write(t, "age.key", key.Secret) + "\n"
	deep := func(head string, by int) string {
		pad := strings.Repeat(" ", by)
		return head + pad + strings.ReplaceAll(strings.TrimSpace(config), "\n", "\n"+pad) + "\n"
	}
	class := "apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata: {name: mysql, namespace: shop}\nspec:\n  provider: coffre\n  parameters:\n    store: docs\n    objects: \"[{name: prod/mysql, key: password, file: p}]\"\n"
	for name, text := range map[string]string{
		"serve's file": config, "values": config + "rbac: {nodes: {enabled: true}}\n",
		"ConfigMap":   deep("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: coffre-stores}\ndata:\n  stores.yaml: |\n", 4),
		"Application": deep("apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: coffre}\nspec:\n  source:\n    helm:\n      valuesObject:\n", 8),
	} {
		if status, _, errs := coffre(t, "render", "-f", write(t, "c.yaml", class), "--stores", write(t, "s.yaml", text), "--out", t.TempDir()); status != 0 {
			t.Errorf("%s: status %d: %s", name, status, errs)
		}
		if status, _, errs := coffre(t, "render", "-f", write(t, "c.yaml", class+"---\n"+text), "--out", t.TempDir()); status != 0 {
			t.Errorf("%s among the files: status %d: %s", name, status, errs)
		}
	}
	if status, _, errs := coffre(t, "render", "-f", write(t, "c.yaml", class), "--out", t.TempDir()); status != 1 || !strings.Contains(errs, "--stores values.yaml") {
		t.Errorf("without stores: status %d: %s", status, errs)
	}
}

// The role of an AWS class stands in an annotation: it is in the files, and no
// cluster is asked.
func TestRenderReadsAnnotationsFromTheFiles(t *testing.T) {
	const manifest = "apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata: {name: a, namespace: shop}\nspec:\n  provider: aws\n  parameters:\n    region: eu-west-3\n    objects: \"[{objectName: a, objectType: secretsmanager}]\"\n" +
		"---\napiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: api\n  namespace: shop\n  annotations: {eks.amazonaws.com/role-arn: arn:aws:iam::123456789012:role/shop}\n"
	var role string
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		role = r.FormValue("RoleArn")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>")
	}))
	defer sts.Close()
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	token := "sts.amazonaws.com=" + write(t, "token", "opaque")
	_, _, errs := coffre(t, "render", "-f", write(t, "m.yaml", manifest), "--service-account", "api", "--token", token, "--out", t.TempDir())
	if want := "arn:aws:iam::123456789012:role/shop"; role != want {
		t.Errorf("the role that was taken on is %q, want %s: %s", role, want, errs)
	}
}

func TestServeSaysWhichDialectIsMeant(t *testing.T) {
	if status, _, errs := coffre(t, "serve", "--dialects", "cofre", "--providers-dir", t.TempDir()); status != 1 || !strings.Contains(errs, `"cofre" is no dialect; did you mean "coffre"?`) {
		t.Errorf("got %v %v, which is not what is expected here", status, errs)
	}
}

// process is coffre serve in a process of its own.
type process struct {
	*exec.Cmd
	dir, log string
}

func startServe(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(log)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	c := exec.Command(os.Args[0], append([]string{"serve", "--providers-dir", dir}, args...)...)
	c.Env = append(os.Environ(), "COFFRE_TEST_MAIN=1")
	c.Stderr = file
	if err := c.Start(); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	p := &process{c, dir, log}
	p.until(t, `"serving" what="driver"|"what":"driver"`)
	return p
}

func (p *process) text() string {
	raw, _ := os.ReadFile(p.log)
	return string(raw)
}

func (p *process) until(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for range 200 {
		if m := re.FindString(p.text()); m != "" {
			return m
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("no %q in the log:\n%s", pattern, p.text())
	return ""
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	defer r.Body.Close()
	text, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(text)
}

func TestServeThroughItsWholeLife(t *testing.T) {
	key := sopstest.NewKey(t)
	manifest := write(t, "m.yaml", class(t, key, mysqlObjects))
	document := write(t, "doc.yaml", sopstest.Encrypt(t, "yaml", plaintext, key.Public))
	keyFile := write(t, "age.key", key.Secret)
	stores := write(t, "stores.yaml", "stores: {docs: {kind: sops, namespaces: [shop], file: "+document+", ageKeyFile: "+keyFile+"}}\n")
	dir := t.TempDir()
	p := startServe(t, dir, "--stores", stores, "--stores-poll-interval", "20ms", "--metrics-addr", "127.0.0.1:0", "--health-addr", "127.0.0.1:0", "--pprof-addr", "localhost:0")
	address := func(what string) string {
		m := regexp.MustCompile(`what="` + what + `" address="([^"]+)"`).FindStringSubmatch(p.until(t, `what="`+what+`" address="[^"]+"`))
		return "http://" + m[1]
	}
	for _, path := range []string{"/readyz", "/healthz"} {
		if code, text := get(t, address("health")+path); code != 200 {
			t.Errorf(`got %v %v %v, where code != 200 must not be so`, path, code, text)
		}
	}
	if code, _ := get(t, address("pprof")+"/debug/pprof/cmdline"); code != 404 {
		t.Error("the command line is shown:", code)
	}

	socket := filepath.Join(dir, "coffre.sock")
	out := filepath.Join(t.TempDir(), "volume")
	mount := func() (int, string) {
		status, text, errs := coffre(t, "render", "--socket", socket, "-f", manifest, "--out", out)
		return status, text + errs
	}
	if status, text := mount(); status != 0 {
		t.Fatalf(`got %v, where status != 0 must not be so`, text)
	}
	byPlatform := strings.Replace(class(t, key, mysqlObjects), "    objects:", "    store: docs\n    objects:", 1)
	byPlatform = regexp.MustCompile(`(?s)    inlineStore: \|.*?    store:`).ReplaceAllString(byPlatform, "    store:")
	if status, _, errs := coffre(t, "render", "--socket", socket, "-f", write(t, "p.yaml", byPlatform), "--out", out); status != 0 {
		t.Fatalf(`got %v, where status != 0 must not be so`, errs)
	}
	_, metrics := get(t, address("metrics")+"/metrics")
	for _, want := range []string{`coffre_mounts_total{code="OK",dialect="coffre"} 2`, `coffre_fetches_total{result="miss",store="docs"} 2`, `coffre_configured_stores 1`,
		"coffre_cache_entries 2", "coffre_build_info", "coffre_panics_total 0", `coffre_configuration_reloads_total{result="ok"} 1`, "coffre_mount_duration_seconds_bucket"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics:\n%s", want, regexp.MustCompile(`(?m)^(#|go_|process_|coffre_mount_duration).*\n`).ReplaceAllString(metrics, ""))
		}
	}
	p.until(t, `"audit: delivered" dialect="coffre" node="\S*" namespace="shop" serviceAccount="api" pod="Pod-api" .* secretProviderClass="mysql" secrets=\[\{"store":"docs","name":"prod/mysql","version":"\S+","file":"database-password,mysql/","result":"fetched"\}\]`)

	if err := os.WriteFile(stores, []byte("stores: {docs: {kind: sopz}}"), 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	p.until(t, `store configuration is wrong; what was in force stays" file="\S+" line=1 field="stores.docs.kind" error="\\"sopz\\" is no kind of store; did you mean \\"sops\\"\?"`)
	if _, metrics = get(t, address("metrics")+"/metrics"); !strings.Contains(metrics, "coffre_configuration_last_reload_successful 0") || !strings.Contains(metrics, "coffre_configured_stores 1") {
		t.Error("a broken edit is not in the metrics, or is in force")
	}
	if status, _, errs := coffre(t, "render", "--socket", socket, "-f", write(t, "p.yaml", byPlatform), "--out", out); status != 0 {
		t.Error("the last good configuration is gone:", errs)
	}

	// A second provider leaves the first's socket alone.
	second := exec.Command(os.Args[0], "serve", "--providers-dir", dir)
	second.Env = append(os.Environ(), "COFFRE_TEST_MAIN=1")
	if text, err := second.CombinedOutput(); err == nil || !strings.Contains(string(text), "is served by another process") {
		t.Errorf("a second provider: %v %s", err, text)
	}
	// Killed, it leaves a stale file, which the next one replaces.
	_ = p.Process.Kill()
	_ = p.Wait()
	if _, err := os.Lstat(socket); err != nil {
		t.Fatal("a killed process cannot unlink:", err)
	}
	next := startServe(t, dir, "--logging-format", "json")
	if status, text := mount(); status != 0 {
		t.Fatalf(`got %v, where status != 0 must not be so`, text)
	}
	// Asked to stop, it stops with 0 and takes its socket with it.
	_ = next.Process.Signal(syscall.SIGTERM)
	if err := next.Wait(); err != nil {
		t.Errorf(`got %v %v, where err != nil must not be so`, err, next.text())
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Error("the socket file stays after SIGTERM")
	}
	for line := range strings.Lines(next.text()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
	for _, log := range []string{p.text(), next.text()} {
		for _, secret := range []string{"hunter2", "AGE-SECRET-KEY"} {
			if strings.Contains(log, secret) {
				t.Errorf("%s is in the log", secret)
			}
		}
	}
	if got, err := os.ReadFile(filepath.Join(out, "database-password")); err != nil || string(got) != "hunter2" {
		t.Error("the volume lost its file:", err)
	}
}

// logging.verbosity: 5 of the chart.
func TestVerbosity5ShowsEachStepOfAMountAndNoValue(t *testing.T) {
	manifest := write(t, "m.yaml", class(t, sopstest.NewKey(t), mysqlObjects))
	for _, format := range []string{"text", "json"} {
		dir := t.TempDir()
		p := startServe(t, dir, "-v=5", "--logging-format", format)
		if status, _, errs := coffre(t, "render", "--socket", filepath.Join(dir, "coffre.sock"), "-f", manifest, "--out", t.TempDir()); status != 0 {
			t.Fatalf(`got %v, where status != 0 must not be so`, errs)
		}
		p.until(t, "mount: done")
		for _, step := range []string{"mount: turn", "mount: plan", "mount: answer", "mount: answers", "mount: files", "mount: done"} {
			if !regexp.MustCompile(`"` + step + `".*secretProviderClass"?[=:]"mysql"`).MatchString(p.text()) {
				t.Errorf("%s: no line %q:\n%s", format, step, p.text())
			}
		}
		if strings.Contains(p.text(), "hunter2") {
			t.Errorf("%s: a value is in the log", format)
		}
	}
	dir := t.TempDir()
	quiet := startServe(t, dir)
	if status, _, errs := coffre(t, "render", "--socket", filepath.Join(dir, "coffre.sock"), "-f", manifest, "--out", t.TempDir()); status != 0 {
		t.Fatalf(`got %v, where status != 0 must not be so`, errs)
	}
	quiet.until(t, "audit: delivered")
	if strings.Contains(quiet.text(), "mount: ") {
		t.Errorf("steps are shown without -v:\n%s", quiet.text())
	}
}

// A rollout of a file in which every store is broken must not succeed; pods
// that run are kept, and a mended file makes the provider ready without a restart.
func TestAFirstStartWithoutAStoreThatLoadsIsNotReadyAndSaysWhy(t *testing.T) {
	const good = "  docs: {kind: sops, namespaces: [shop], file: /none}\n"
	for name, c := range map[string]struct {
		text, reason string
	}{
		"every store is broken": {"stores:\n  docs: {kind: sopz, namespaces: [shop]}\n", `line 2: stores.docs.kind: "sopz" is no kind of store`},
		"no YAML":               {"stores: [", "is not YAML"},
		"no mapping":            {"stores: 5\n", "stores: must be a mapping"},
		"no stores":             {"stores: {}\n", ""},
		"empty":                 {"", ""},
		"one of two":            {"stores:\n" + good + "  bad: {kind: sopz}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			stores := write(t, "stores.yaml", c.text)
			p := startServe(t, t.TempDir(), "--stores", stores, "--stores-poll-interval", "20ms", "--health-addr", "127.0.0.1:0")
			url := "http://" + regexp.MustCompile(`what="health" address="([^"]+)"`).FindStringSubmatch(p.until(t, `what="health" address="[^"]+"`))[1]
			code, text := get(t, url+"/readyz")
			if c.reason == "" {
				if code != 200 {
					t.Errorf("got %d %s; want ready", code, text)
				}
				return
			}
			if code != 503 || !strings.Contains(text, c.reason) {
				t.Errorf("got %d %s; want 503 and %s", code, text, c.reason)
			}
			if code, text := get(t, url+"/healthz"); code != 200 {
				t.Errorf("it lives all the same: got %d %s", code, text)
			}
			if log := p.text(); !strings.Contains(log, "not ready until the store configuration is mended") || strings.Contains(log, "in force") {
				t.Errorf("the log does not say so, or speaks of what was in force at a first start:\n%s", log)
			}
			if err := os.WriteFile(stores, []byte("stores:\n"+good), 0o600); err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			p.until(t, `"store configuration loaded"`)
			if code, text := get(t, url+"/readyz"); code != 200 {
				t.Errorf("mended: got %d %s; want ready", code, text)
			}
		})
	}
}

func TestServeDoesNotStartOnAnAddressThatIsTaken(t *testing.T) {
	dir := t.TempDir()
	status, _, errs := coffre(t, "serve", "--providers-dir", dir, "--metrics-addr", "256.0.0.1:1")
	if status != 1 || !strings.Contains(errs, "metrics") {
		t.Errorf("got status %d and %q, want 1 and what is wrong with the metrics' address", status, errs)
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 0 {
		t.Error("sockets are left behind:", left)
	}
}

func TestPodsStartFromTheKeptCacheWhileTheStoreIsGone(t *testing.T) {
	key := sopstest.NewKey(t)
	document := write(t, "doc.yaml", sopstest.Encrypt(t, "yaml", plaintext, key.Public))
	keyFile := write(t, "age.key", key.Secret)
	stores := write(t, "stores.yaml", "stores: {docs: {kind: sops, namespaces: [shop], refresh: 1s, maxStale: 1h, file: "+document+", ageKeyFile: "+keyFile+"}}\n")
	manifest := write(t, "m.yaml", "apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata: {name: mysql, namespace: shop}\nspec:\n  provider: coffre\n  parameters:\n    store: docs\n    objects: \"[{name: prod/mysql, key: password, file: database-password}]\"\n")
	kept, err := os.MkdirTemp("/dev/shm", "coffre-test-")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	defer os.RemoveAll(kept)
	dir := t.TempDir()
	p := startServe(t, dir, "--stores", stores, "--cache-persist", kept)
	mount := func() (int, string) {
		status, text, errs := coffre(t, "render", "--socket", filepath.Join(dir, "coffre.sock"), "-f", manifest, "--out", filepath.Join(t.TempDir(), "v"))
		return status, text + errs
	}
	if status, text := mount(); status != 0 {
		t.Fatalf(`got %v, where status != 0 must not be so`, text)
	}
	_ = p.Process.Signal(syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		t.Fatalf(`got %v %v, where err != nil must not be so`, err, p.text())
	}
	if err := os.Remove(document); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	time.Sleep(1100 * time.Millisecond) // older than its refresh
	next := startServe(t, dir, "--stores", stores, "--cache-persist", kept)
	next.until(t, `"cache restored" .* entries=1`)
	status, text := mount()
	if status != 0 {
		t.Errorf(`got %v, where status != 0 must not be so`, text)
	}
	next.until(t, `audit: delivered.*"result":"stale"`)
}
