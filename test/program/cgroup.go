package program

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A Cgroup holds a process to the memory that the chart's container has.
type Cgroup struct {
	dir string
	v2  bool
}

// limit is the chart's resources.limits.memory; the program is told 90 % of it.
const (
	limit      = 128 << 20
	GoMemLimit = limit / 10 * 9
)

// NewCgroup makes a cgroup of the version that this machine has.
func NewCgroup(t *testing.T) *Cgroup {
	t.Helper()
	g := &Cgroup{dir: "/sys/fs/cgroup/memory"}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		g.dir, g.v2 = "/sys/fs/cgroup", true
		// The controller is handed down where it is not; an error shows below.
		_ = os.WriteFile(filepath.Join(g.dir, "cgroup.subtree_control"), []byte("+memory"), 0)
	}
	g.dir = filepath.Join(g.dir, "coffre-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Fatalf("no cgroup can be made; this test needs root, and cgroups of version 1 or 2 that can be written: %v", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(g.dir); err != nil {
			t.Errorf("the cgroup stays: %v", err)
		}
	})

	if g.v2 {
		g.write(t, "memory.max", strconv.Itoa(limit))
		g.write(t, "memory.swap.max", "0")
	} else {
		g.write(t, "memory.limit_in_bytes", strconv.Itoa(limit))
	}
	return g
}

func (g *Cgroup) write(t *testing.T, file, text string) {
	t.Helper()
	path := filepath.Join(g.dir, file)
	if _, err := os.Stat(path); os.IsNotExist(err) && file == "memory.swap.max" {
		return // a kernel without swap
	}
	if err := os.WriteFile(path, []byte(text), 0); err != nil {
		t.Fatalf("the cgroup's %s cannot be set; this test needs root: %v", file, err)
	}
}

// Wrap writes a program that enters the cgroup and becomes the one at path.
func (g *Cgroup) Wrap(t *testing.T, path string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "coffre-in-cgroup")
	text := fmt.Sprintf("#!/bin/sh\nset -e\necho $$ >%s\nexec %s \"$@\"\n", filepath.Join(g.dir, "cgroup.procs"), path)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return script
}

// Kills is how often the kernel killed a process of the cgroup.
func (g *Cgroup) Kills(t *testing.T) int {
	t.Helper()
	file := "memory.oom_control"
	if g.v2 {
		file = "memory.events"
	}
	text, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if count, is := strings.CutPrefix(line, "oom_kill "); is {
			n, err := strconv.Atoi(strings.TrimSpace(count))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s does not count kills:\n%s", file, text)
	return 0
}
