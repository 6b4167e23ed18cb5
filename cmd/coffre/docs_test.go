package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every manifest and store configuration in the documentation and the examples
// is one that lint has nothing against.
func TestEveryManifestInTheDocumentationIsRight(t *testing.T) {
	root := "../.."
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	pages = append(pages, filepath.Join(root, "README.md"))
	block := regexp.MustCompile("(?ms)^( *)```yaml\n(.*?)^ *```$")
	checked := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		for _, m := range block.FindAllStringSubmatch(string(text), -1) {
			manifest := regexp.MustCompile(`(?m)^`+m[1]).ReplaceAllString(m[2], "")
			// helm values stand beside stores: what lint reads of them is the stores
			status, out, errs := coffre(t, "lint", write(t, "block.yaml", manifest))
			if status != 0 || !strings.Contains(out, " 0 errors, 0 warnings") {
				t.Errorf("%s: %s%s\n%s", page, out, errs, manifest)
			}
			checked++
		}
	}
	if checked < 8 {
		t.Errorf("%d blocks only: are they found?", checked)
	}
	var examples []string
	_ = filepath.WalkDir(filepath.Join(root, "manifests", "examples"), func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".yaml") && !strings.Contains(path, "argocd") {
			examples = append(examples, path)
		}
		return err
	})
	examples = append(examples, filepath.Join(root, "test/demo/secretproviderclass.yaml"), filepath.Join(root, "test/demo/stores.yaml"))
	if status, out, errs := coffre(t, append([]string{"lint"}, examples...)...); status != 0 {
		t.Errorf("%s%s", out, errs)
	}
}

// Every policy in the documentation is one that IAM would read.
func TestEveryPolicyInTheDocumentationParses(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	block := regexp.MustCompile("(?ms)^ *```json\n(.*?)^ *```$")
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		for _, m := range block.FindAllStringSubmatch(string(text), -1) {
			var policy struct {
				Version   string
				Statement []struct {
					Sid, Effect                            string
					Principal, Action, Resource, Condition any
				}
			}
			d := json.NewDecoder(strings.NewReader(m[1]))
			d.DisallowUnknownFields()
			if err := d.Decode(&policy); err != nil || policy.Version != "2012-10-17" || len(policy.Statement) == 0 {
				t.Errorf("%s: %v\n%s", page, err, m[1])
			}
			for _, s := range policy.Statement {
				if s.Effect != "Allow" || s.Action == nil || (s.Principal == nil) == (s.Resource == nil) {
					t.Errorf("%s: %+v", page, s)
				}
			}
			found++
		}
	}
	if found < 3 {
		t.Errorf("%d policies only: are they found?", found)
	}
}

var markdownLink = regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)

func TestLinksBetweenPagesLead(t *testing.T) {
	for _, dir := range []string{"../..", "../../docs", "../../provider/store", "../../provider/store/sops", "../../provider/store/aws", "../../provider/store/gcp", "../../provider/store/azure", "../../provider/store/vault", "../../charts/coffre", "../../manifests/examples"} {
		pages, _ := filepath.Glob(filepath.Join(dir, "*.md"))
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			for _, m := range markdownLink.FindAllStringSubmatch(string(text), -1) {
				if strings.Contains(m[1], "://") {
					continue
				}
				if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
					t.Errorf("%s: %s leads nowhere", page, m[1])
				}
			}
		}
	}
}

// Every error that a page explains is one that the code can say.
func TestErrorsThatPagesExplainExist(t *testing.T) {
	var code strings.Builder
	for _, dir := range []string{"../../provider", "../../auth"} {
		err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			code.Write(text)
			return err
		})
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
	}
	row := regexp.MustCompile(`(?m)^\| ([^|]+) \| `)
	explained := 0
	for _, page := range []string{"sops.md", "aws.md", "gcp.md", "azure.md", "vault.md", "certificates.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		_, table, ok := strings.Cut(string(text), "| the event says | do |\n|---|---|\n")
		if !ok {
			t.Fatalf("%s: no table of errors", page)
		}
		for _, m := range row.FindAllStringSubmatch(table, -1) {
			for _, piece := range regexp.MustCompile("…|`, `|`|:").Split(m[1], -1) {
				piece = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(piece), ","))
				words := strings.Fields(piece)
				if len(words) < 3 {
					continue // names, which the code puts in
				}
				explained++
				if !strings.Contains(code.String(), piece) {
					t.Errorf("%s: nothing says %q", page, piece)
				}
			}
		}
	}
	if explained < 15 {
		t.Errorf("%d texts only: are they found?", explained)
	}
}
