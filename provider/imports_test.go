package provider

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers are the rooms from top to bottom; a package imports its own layer's
// leaves never, and lower layers only (docs: the map in DESIGN).
var layers = [][]string{
	{"cmd/coffre"},
	{"cmd/coffre/internal/lint", "cmd/coffre/internal/cloud"},
	{"cmd/coffre/internal/manifest", "provider"},
	{"provider/failures", "provider/dialect/coffre", "provider/dialect/aws", "provider/dialect/gcp", "provider/dialect/azure", "provider/dialect/vault", "provider/cache", "provider/render"},
	{"provider/plan", "provider/request"},
	{"provider/template", "provider/jmespath", "provider/certificate", "provider/store/sops", "provider/store/aws", "provider/store/gcp", "provider/store/vault", "provider/store/azure"},
	{"provider/store/ask", "provider/store/storetest"},
	{"provider/store", "provider/pace"},
	{"provider/strict", "provider/jsontext", "auth/aws", "auth/gcp", "auth/vault", "auth/azure"},
	{"auth/kubernetes"},
	{"auth/keep", "auth/pool", "auth/peer", "provider/budget"},
	{"auth"},
	{"auth/fault", "auth/fair", "auth/internal/flight"},
}

// Data goes one way: nobody downstream imports what is above it.
func TestImportsPointDown(t *testing.T) {
	const module = "github.com/coffre-csi/coffre/"
	layer := map[string]int{}
	for i, names := range layers {
		for _, n := range names {
			layer[n] = i
		}
	}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "../cmd/...", "../provider/...", "../auth/...").Output()
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		from := strings.TrimPrefix(words[0], module)
		at, ok := layer[from]
		if !ok {
			t.Errorf("%s has no place in layers: which room is it?", from)
		}
		for _, imported := range words[1:] {
			to, own := strings.CutPrefix(imported, module)
			if !own {
				continue
			}
			seen++
			if layer[to] <= at {
				t.Errorf("%s imports %s, which stands beside or above it", from, to)
			}
		}
		if slices.Contains(words[1:], "k8s.io/client-go/kubernetes") {
			t.Errorf("%s links the clientset, which costs more than all clouds together", from)
		}
	}
	if seen < 40 {
		t.Errorf("%d imports only: are they found?", seen)
	}
}
