package compat

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Addresses of a node that no setting of the product changes, so that the tests
// need a network of their own.
const (
	agentAddress    = "169.254.170.23"  // the EKS Pod Identity agent
	metadataAddress = "169.254.169.254" // the metadata server of Google and Azure (and AWS)
)

// hostsFile, where set, says that this process is inside, and which file its
// /etc/hosts is.
const hostsFile = "COFFRE_COMPAT_HOSTS"

// TestMain runs the tests in a network namespace that holds nothing but a
// loopback device with those addresses, and with an /etc/hosts of their own
// that resolve fills. It needs root or user namespaces.
func TestMain(m *testing.M) {
	if file := os.Getenv(hostsFile); file != "" {
		if err := enter(file); err != nil {
			fmt.Fprintln(os.Stderr, "test/compat: inside the namespace:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}

	code, err := runInside()
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/compat needs namespaces of its own (root, or unprivileged user namespaces):", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// runInside starts this test binary again, in its namespaces.
func runInside() (code int, err error) {
	hosts, err := os.CreateTemp("", "hosts-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(hosts.Name())
	defer hosts.Close()

	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Env = append(os.Environ(), hostsFile+"="+hosts.Name())
	again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		again.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		again.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		again.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	err = again.Run()
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// enter makes the namespaces what the tests need.
func enter(hosts string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("/etc/hosts: %w", err)
	}
	if err := loopback(agentAddress, metadataAddress); err != nil {
		return fmt.Errorf("the loopback device: %w", err)
	}
	return nil
}

// resolve makes each name the address of the next line: "127.0.1.1 a.example
// b.example". It replaces what was there.
func resolve(t *testing.T, lines ...string) {
	t.Helper()
	text := "127.0.0.1 localhost\n" + strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(os.Getenv(hostsFile), []byte(text), 0o644); err != nil {
		t.Fatalf("/etc/hosts of the namespace: %v", err)
	}
}

// loopback brings the device up and gives it addresses.
func loopback(addresses ...string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)

	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up); err != nil {
		return err
	}

	for i, address := range addresses {
		alias, err := unix.NewIfreq(fmt.Sprintf("lo:%d", i+1))
		if err != nil {
			return err
		}
		if err := alias.SetInet4Addr(net.ParseIP(address).To4()); err != nil {
			return err
		}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(alias)))
		if errno != 0 {
			return fmt.Errorf("%s: %w", address, errno)
		}
	}
	return nil
}

func TestTheNamespaceIsANodeOfItsOwn(t *testing.T) {
	resolve(t, "127.0.1.7 vault.example.com")

	got, err := net.LookupHost("vault.example.com")
	if err != nil || len(got) != 1 || got[0] != "127.0.1.7" {
		t.Errorf("got the addresses %v and the error %v, want 127.0.1.7", got, err)
	}
	for _, address := range []string{"127.0.1.7:443", metadataAddress + ":80", agentAddress + ":80"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Errorf("got the error %v, want to listen on %s", err, address)
			continue
		}
		l.Close()
	}
}
