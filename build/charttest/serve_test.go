package charttest

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A pod whose program refuses a flag never starts, and no rendering shows it.
func TestEveryArgumentIsAFlagOfServe(t *testing.T) {
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
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-[a-z], )?--([a-z0-9_-]+)`).FindAllSubmatch(help, -1) {
		known[string(m[1])] = true
	}

	args := render(t, everything(t)).container().Args
	if args[0] != "serve" {
		t.Fatalf("runs %q", args)
	}
	for _, arg := range args[1:] {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !known[name] {
			t.Errorf("%s: coffre serve has no such flag", arg)
		}
	}
}
