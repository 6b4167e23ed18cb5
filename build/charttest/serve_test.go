package charttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Flags that the chart knows and `coffre serve` does not yet, with what brings
// them. Such a value stops the pod, and nobody can want it before.
var pending = map[string]string{}

// A pod whose program refuses a flag never starts, and no rendering shows it.
func TestEveryArgumentIsAFlagOfServe(t *testing.T) {
	if _, err := os.Stat(root + "/cmd/coffre/main.go"); err != nil {
		t.Skip("there is no cmd/coffre")
	}
	program := filepath.Join(t.TempDir(), "coffre")
	build := exec.Command("go", "build", "-C", root, "-o", program, "./cmd/coffre")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	help, err := exec.Command(program, "serve", "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, help)
	}
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^  -([a-z0-9_-]+)`).FindAllSubmatch(help, -1) {
		known[string(m[1])] = true
	}

	args := render(t, everything(t)).container().Args
	if args[0] != "serve" {
		t.Fatalf("runs %q", args)
	}
	for _, arg := range args[1:] {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		_, waits := pending[name]
		switch {
		case !known[name] && !waits:
			t.Errorf("%s: coffre serve has no such flag", arg)
		case known[name] && waits:
			t.Errorf("%s is there now: take it out of pending", arg)
		}
	}
}
