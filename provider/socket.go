package provider

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Socket is a Unix socket file that this process serves.
type Socket struct {
	net.Listener
	path string
	file os.FileInfo
}

// maxSocketPath is the longest path that a Unix socket address holds on Linux.
const maxSocketPath = 107

// Listen makes DIR/NAME.sock, which only its owner can connect to.
//
// A file that is there already is replaced where nobody serves it: a stale
// socket blocks the driver's calls until their deadline. One that a living
// process serves is left alone and is an error.
//
//  1. Ask whoever may be there.
//  2. Listen on a name in a private folder beside it, where nobody can connect
//     before the permissions are set.
//  3. Move it into place, over a stale one, in one step.
func Listen(dir, name string) (*Socket, error) {
	path := filepath.Join(dir, name+".sock")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := vacant(path); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	fresh := filepath.Join(private, name)
	if len(fresh) > maxSocketPath {
		return nil, fmt.Errorf("%s: a socket's path may have %d bytes; choose a shorter --providers-dir", path, maxSocketPath-len(filepath.Base(private))-1)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	s := &Socket{Listener: l, path: path}
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		l.Close()
		return nil, err
	}
	if s.file, err = os.Lstat(path); err != nil {
		l.Close()
		return nil, err
	}

	return s, nil
}

// vacant says whether a socket may be made at path.
func vacant(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is there and is no socket; remove it", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return fmt.Errorf("%s is served by another process; is a second provider running on this node?", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: cannot tell whether it is served: %w", path, err)
	}

	return nil
}

// Path of the socket file.
func (s *Socket) Path() string { return s.path }

// Unlink removes the socket file, so that the driver gets "provider not found"
// at once; unless another provider has put its own there meanwhile.
func (s *Socket) Unlink() error {
	now, err := os.Lstat(s.path)
	if errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(now, s.file) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(s.path)
}
