package lint_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/cmd/coffre/internal/cloud"
	"github.com/coffre-csi/coffre/cmd/coffre/internal/lint"
	"github.com/coffre-csi/coffre/cmd/coffre/internal/manifest"
)

func check(t *testing.T, paths ...string) lint.Report {
	t.Helper()
	wiring := cloud.Offline()
	l := lint.Linter{Catalog: wiring.Catalog, Dialects: wiring.Dialects}
	return l.Check(manifest.Read(paths, strings.NewReader("")))
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	return path
}

var mark = regexp.MustCompile(`#! ([a-z-]+)`)

// In testdata a line that must be found says so itself: #! and the rule.
func TestEveryMistakeIsFoundOnceAtItsLineAndNothingElseIs(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("got %d files of cases, %v", len(files), err)
	}
	tried := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		var want, got []string
		for i, line := range strings.Split(string(text), "\n") {
			for _, m := range mark.FindAllStringSubmatch(line, -1) {
				want = append(want, fmt.Sprintf("%d %s", i+1, m[1]))
				tried[m[1]] = true
			}
		}
		report := check(t, file)
		for _, f := range report.Findings {
			got = append(got, fmt.Sprintf("%d %s", f.Line, f.Rule))
			if f.Message == "" || f.Happens == "" || f.File != file {
				t.Errorf("%s:%d: a finding without words or file: %+v", file, f.Line, f)
			}
		}
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("%s: not found: %s", file, w)
			}
		}
		for i, g := range got {
			if !slices.Contains(want, g) || slices.Index(got, g) != i {
				t.Errorf("%s: too much: %s: %s", file, g, report.Findings[i].Message)
			}
		}
	}
	elsewhere := []string{"file-unreadable", "file-too-large", "helm-chart", "nothing-to-check", "stores-outside"}
	for _, r := range lint.Rules() {
		if !tried[r.ID] && !slices.Contains(elsewhere, r.ID) {
			t.Errorf("rule %s is in no test", r.ID)
		}
	}
}

func TestRemediesAreWhatToWrite(t *testing.T) {
	remedies := map[string]bool{}
	for _, f := range check(t, "testdata/classes.yaml").Findings {
		remedies[f.Remedy] = true
	}
	for _, want := range []string{
		`Put it in quotes: usePodIdentity: "true"`, `Write objects: | and leave what follows as it is.`,
		`A key with a hyphen stands in double quotes: path: '"user-name"'`,
	} {
		if !remedies[want] {
			t.Errorf("no finding says %s", want)
		}
	}
}

func rules(r lint.Report) string {
	var all []string
	for _, f := range r.Findings {
		all = append(all, f.Rule)
	}
	return strings.Join(all, " ")
}

const right = "apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata: {name: a}\nspec:\n  provider: aws\n  parameters: {objects: \"[{objectName: a, objectType: secretsmanager}]\"}\n"

func TestNoFileHidesAnother(t *testing.T) {
	broken, wrong := write(t, "broken.yaml", "a: [\n"), write(t, "wrong.yaml", strings.Replace(right, "secretsmanager", "x", 1))
	r := check(t, filepath.Join(t.TempDir(), "nothing.yaml"), broken, wrong)
	if got := rules(r); len(r.Findings) != 3 || !strings.Contains(got, "class-refused") || !strings.Contains(got, "yaml-syntax") || !r.Unreadable {
		t.Errorf("got %s, unreadable %v; want a finding a file", got, r.Unreadable)
	}
}

func TestEveryWayToWriteAClassIsRead(t *testing.T) {
	utf16 := []byte{0xFF, 0xFE}
	for _, r := range right {
		utf16 = append(utf16, byte(r), 0)
	}
	j := `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"secrets-store.csi.x-k8s.io/v1","kind":"SecretProviderClass","metadata":{"name":"a"},` +
		`"spec":{"provider":"aws","parameters":{"objects":"- objectName: a\n  objectType: secretsmanager\n"}}}]}`
	for name, text := range map[string]string{
		"byte order mark": "\uFEFF" + right, "Windows": strings.ReplaceAll(right, "\n", "\r\n"), "UTF-16": string(utf16), "JSON": j,
		"directive": "%YAML 1.1\n---\n" + right + "...\n", "many dashes": "---\n---\n" + right + "---\n",
		"merge": "apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata: {name: a}\nspec:\n  provider: aws\n  parameters:\n    <<: &p {region: eu-west-3}\n    objects: \"[{objectName: a, objectType: secretsmanager}]\"\n",
	} {
		if r := check(t, write(t, "a.yaml", text)); r.Checked != 1 || len(r.Findings) != 0 {
			t.Errorf("%s: %d checked, findings %v", name, r.Checked, r.Findings)
		}
	}
}

func TestFoldersAreReadToTheirEnd(t *testing.T) {
	dir := t.TempDir()
	for path, text := range map[string]string{
		"a/b/c.yml": right, "a/d.json": "{}", "a/README.md": "# no", ".git/x.yaml": "a: [", "a/broken-and-not-ours.yaml": "a: [\n",
		"chart/Chart.yaml": "name: x", "chart/templates/class.yaml": "{{- if .Values.on }}\nkind: SecretProviderClass\n{{- end }}\n",
		"chart/templates/other.yaml": "{{ .Values.x }}\nkind: SecretProviderClass\n", "chart/values.yaml": "stores: {}\n",
	} {
		file := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
	}
	r := check(t, dir)
	if got := rules(r); got != "helm-chart" || r.Checked != 2 {
		t.Errorf("got %q, %d checked; want the chart told once, one class and one stores file checked", got, r.Checked)
	}
}

func TestWhatMayBeElsewhereIsANoteOnce(t *testing.T) {
	own := strings.NewReplacer("provider: aws", "provider: coffre", "[{objectName: a, objectType: secretsmanager}]", "[{name: a, store: x}, {name: b, store: y}]").Replace(right)
	r := check(t, write(t, "a.yaml", own))
	if len(r.Findings) != 1 || r.Findings[0].Severity != lint.Note || r.Findings[0].Rule != "stores-outside" || !strings.Contains(r.Findings[0].Message, "x, y") {
		t.Errorf("got %+v", r.Findings)
	}
	if r := check(t, write(t, "empty.yaml", "a: b\n")); rules(r) != "nothing-to-check" {
		t.Errorf("got %s", rules(r))
	}
}

func TestHostileFilesAreOneFindingEach(t *testing.T) {
	bomb := "kind: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'j'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ","))
	}
	for name, text := range map[string]string{
		"large": right + "# " + strings.Repeat("x", 50<<20), "bomb": bomb, "own alias": "a: &a [*a]\nspec: *a\n",
		"deep": "a: " + strings.Repeat("[", 100_000),
	} {
		began := time.Now()
		r := check(t, write(t, "a.yaml", text))
		if len(r.Findings) != 1 || r.Findings[0].Severity != lint.Error {
			t.Errorf("%s: got %v, want one error", name, r.Findings)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
	}
}

func TestThousandsOfManifestsTakeSeconds(t *testing.T) {
	dir := t.TempDir()
	for i := range 5000 {
		text := strings.Replace(right, "name: a}", fmt.Sprintf("name: a%d}", i), 1)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.yaml", i)), []byte(text), 0o600); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
	}
	began := time.Now()
	if r := check(t, dir); r.Checked != 5000 || len(r.Findings) != 0 {
		t.Errorf("%d checked, %d findings; want 5000 and none", r.Checked, len(r.Findings))
	}
	if took := time.Since(began); took > 60*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestReportsAreWhole(t *testing.T) {
	for _, r := range []lint.Report{check(t, "testdata/classes.yaml"), check(t, write(t, "a.yaml", right))} {
		written := func(format string) []byte {
			var out bytes.Buffer
			if err := r.Write(&out, format, "v1"); err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			return out.Bytes()
		}
		var findings []lint.Finding
		if err := json.Unmarshal(written("json"), &findings); err != nil || len(findings) != len(r.Findings) || findings == nil {
			t.Errorf("json: %v, %d findings, want %d", err, len(findings), len(r.Findings))
		}
		var sarif struct {
			Runs []struct {
				Tool struct {
					Driver struct{ Rules []struct{ ID string } }
				}
				Results []struct{ RuleID, Level string }
			}
		}
		if err := json.Unmarshal(written("sarif"), &sarif); err != nil || len(sarif.Runs[0].Results) != len(r.Findings) || len(sarif.Runs[0].Tool.Driver.Rules) != len(lint.Rules()) {
			t.Errorf("sarif: %v %+v", err, sarif)
		}
		var junit struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
		}
		if err := xml.Unmarshal(written("junit"), &junit); err != nil || junit.Failures != r.Count(lint.Error)+r.Count(lint.Warning) || junit.Tests == 0 {
			t.Errorf("junit: %v %+v", err, junit)
		}
		if text := string(written("text")); !strings.HasSuffix(text, fmt.Sprintf("%d checked, %d errors, %d warnings\n", r.Checked, r.Count(lint.Error), r.Count(lint.Warning))) {
			t.Errorf("text ends in %q", text)
		}
	}
}

var update = flag.Bool("update", false, "write the table of rules into docs/lint.md")

func TestThePageListsEveryRule(t *testing.T) {
	var table strings.Builder
	table.WriteString("| rule | | finds | then |\n|---|---|---|---|\n")
	for _, r := range lint.Rules() {
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", r.ID, r.Severity, r.Summary, strings.TrimSpace(r.Happens+" "+r.Remedy))
	}
	const page, start, end = "../../../../docs/lint.md", "<!-- rules -->\n", "<!-- /rules -->"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	head, rest, ok := strings.Cut(string(text), start)
	is, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", page)
	}
	if is == table.String() {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date: run make manifests", page)
	}
	if err := os.WriteFile(page, []byte(head+start+table.String()+end+tail), 0o644); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
}
