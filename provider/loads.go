package provider

import (
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// Requests that are large, which few are, share so many bytes between all
// mounts under way, and one namespace has no more than a part of it: a request
// is held until its mount is answered, and a store that hangs holds many.
const (
	largeRequest  = 64 << 10
	maxLoad       = 20 << 20
	maxTenantLoad = maxLoad / 4
)

// loads counts the bytes of large requests under way.
type loads struct {
	mu      sync.Mutex
	total   int
	tenants map[string]int
}

func newLoads() *loads { return &loads{tenants: map[string]int{}} }

func weight(in *pb.MountRequest) int { return proto.Size(in) }

// add counts a request in, and says how to count it out again.
func (l *loads) add(namespace string, bytes int) (out func(), err error) {
	if bytes < largeRequest {
		return func() {}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tenants[namespace]+bytes > maxTenantLoad || l.total+bytes > maxLoad {
		return nil, fmt.Errorf("this request has %d KiB, and on this node %d KiB of large requests of namespace %q are under way already (limit %d KiB, of all namespaces %d KiB); kubelet tries again: smaller SecretProviderClasses, or several volumes, do not wait",
			bytes>>10, l.tenants[namespace]>>10, namespace, maxTenantLoad>>10, maxLoad>>10)
	}

	l.tenants[namespace] += bytes
	l.total += bytes
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.total -= bytes
		if l.tenants[namespace] -= bytes; l.tenants[namespace] == 0 {
			delete(l.tenants, namespace)
		}
	}, nil
}
