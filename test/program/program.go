// Package program builds the real program and runs it as a node does, for the
// tests and benchmarks that ask it through its socket. It is never linked into
// the product.
package program

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// Build makes the program as a release has it and returns its path.
func Build(t testing.TB) string {
	t.Helper()
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "coffre")
	c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./cmd/coffre")
	c.Dir = strings.TrimSpace(string(root))
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// Process is the program, serving.
type Process struct {
	pb.CSIDriverProviderClient
	command *exec.Cmd
	conn    *grpc.ClientConn
	log     string
	socket  string
}

// Socket is the path of the dialect's socket; those of the others stand beside
// it.
func (p *Process) Socket() string { return p.socket }

// Serve runs `coffre serve` in an environment of its own and waits for the
// socket of dialect. It lasts until Stop, or until the test ends; a test that
// failed shows its log.
func Serve(t testing.TB, path, dialect string, env []string, args ...string) *Process {
	t.Helper()
	dir := t.TempDir()
	p := &Process{log: filepath.Join(dir, "log")}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	sockets := filepath.Join(dir, "s")
	p.command = exec.Command(path, append([]string{"serve", "--providers-dir", sockets, "--dialects", dialects(dialect)}, args...)...)
	p.command.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, env...)
	p.command.Stderr = log
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("the end of the program's log:\n%s", p.tail())
		}
	})
	p.socket = filepath.Join(sockets, dialect+".sock")
	p.conn, err = grpc.NewClient("unix:"+p.socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	p.CSIDriverProviderClient = pb.NewCSIDriverProviderClient(p.conn)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(p.socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no socket")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := p.Version(ctx, &pb.VersionRequest{Version: "v1alpha1"}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	return p
}

// Stop kills the program; a second call does nothing.
func (p *Process) Stop() {
	if p.conn != nil {
		p.conn.Close()
	}
	if p.command.ProcessState == nil {
		_ = p.command.Process.Kill()
		_ = p.command.Wait()
	}
}

// Signal sends a signal and waits until the program has ended.
func (p *Process) Signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(s); err != nil {
		t.Errorf("%s is not sent: %v", s, err)
	}
	_ = p.command.Wait()
}

// Log is what the program has written.
func (p *Process) Log() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

// tail is the end of the log.
func (p *Process) tail() string {
	const most = 4 << 10
	text := p.Log()
	return text[max(0, len(text)-most):]
}

// Memory reads a line of the process's status in MiB: VmHWM is the most that
// was ever resident, VmRSS what is now.
func (p *Process) Memory(t testing.TB, line string) float64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(status)) {
		var kib float64
		if n, _ := fmt.Sscanf(l, line+": %f kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	t.Fatalf("no %s in\n%s", line, status)
	return 0
}

// dialects is what a node that comes from another provider serves.
func dialects(dialect string) string {
	if dialect == "coffre" {
		return dialect
	}
	return dialect + ",coffre"
}
