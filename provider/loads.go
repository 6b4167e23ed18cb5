package provider

import (
	"fmt"
	"sync"
)

// Requests that are large, which few are, share so many bytes between all
// mounts under way, and one namespace has no more than half of it: a request
// is held until its mount is answered, and a store that hangs holds many.
const (
	largeRequest  = 64 << 10
	maxLoad       = 5 << 20
	maxTenantLoad = maxLoad / 2
)

const tooLarge = "this request has %d KiB, and on this node %d KiB of large requests%s are under way already (limit %d KiB); kubelet tries again: smaller SecretProviderClasses, or several volumes, do not wait"

// loads counts the bytes of large requests under way.
type loads struct {
	mu      sync.Mutex
	total   int
	tenants map[string]int
}

func newLoads() *loads { return &loads{tenants: map[string]int{}} }

// load is one request's part. A nil load is that of a small request.
type load struct {
	of     *loads
	bytes  int
	tenant string
}

// enter counts a request in before it is read any further, and refuses it where
// there is no room whoever sent it.
func (l *loads) enter(bytes int) (*load, error) {
	if bytes < largeRequest {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total+bytes > maxLoad {
		return nil, fmt.Errorf(tooLarge, bytes>>10, l.total>>10, "", maxLoad>>10)
	}
	l.total += bytes
	return &load{of: l, bytes: bytes}, nil
}

// belongs says whose request it is, and refuses it where that namespace has its
// part already.
func (d *load) belongs(namespace string) error {
	if d == nil {
		return nil
	}
	l := d.of
	l.mu.Lock()
	defer l.mu.Unlock()
	if has := l.tenants[namespace]; has+d.bytes > maxTenantLoad {
		return fmt.Errorf(tooLarge, d.bytes>>10, has>>10, fmt.Sprintf(" of namespace %q", namespace), maxTenantLoad>>10)
	}
	d.tenant = namespace
	l.tenants[namespace] += d.bytes
	return nil
}

// leave counts the request out.
func (d *load) leave() {
	if d == nil {
		return
	}
	l := d.of
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total -= d.bytes
	if d.tenant == "" {
		return
	}
	if l.tenants[d.tenant] -= d.bytes; l.tenants[d.tenant] == 0 {
		delete(l.tenants, d.tenant)
	}
}
