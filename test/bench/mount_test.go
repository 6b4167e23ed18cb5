// Package bench measures Mounts through the real socket. `make bench` runs it;
// its figures are ratios and counts of one run.
package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/klog/v2"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider"
	"github.com/coffre-csi/coffre/provider/cache"
	"github.com/coffre-csi/coffre/provider/dialect/coffre"
	"github.com/coffre-csi/coffre/provider/failures"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/node"
	"github.com/coffre-csi/coffre/test/program"
)

// memory is a store that answers at once: what is measured is Coffre.
type memory struct{}

func (memory) Fetch(_ context.Context, refs []store.Ref) ([]store.Secret, error) {
	out := make([]store.Secret, len(refs))
	for i, r := range refs {
		out[i] = store.Secret{Value: store.Value(`{"username":"shop","password":"` + r.Name + `"}`), Version: "1"}
	}
	return out, nil
}

type noSettings struct{}

func (*noSettings) Check(bool) []store.Mistake { return nil }

// inProcess serves the store in memory on a socket, with everything that a
// provider process has around it, and gives the driver's side of it.
func inProcess(b testing.TB, opts cache.Options) (pb.CSIDriverProviderClient, *cache.Cache) {
	klog.SetLogger(logr.Discard())
	kinds := store.Kinds{{Name: "memory", Settings: func() store.Settings { return &noSettings{} },
		Open: func(context.Context, store.Config, auth.Identity) (store.Store, error) { return memory{}, nil }}}
	set := store.NewSet(store.Catalog{Kinds: kinds})
	if err := set.Load(`stores: {memory: {kind: memory, namespaces: ["*"], refresh: 1h}}`); err != nil {
		b.Fatalf("got the error %v, want none", err)
	}
	metrics := provider.NewMetrics("bench")
	opts.Metrics = metrics
	secrets := cache.New(set, opts)
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	go secrets.Run(ctx)
	socket, err := provider.Listen(b.TempDir(), "coffre")
	if err != nil {
		b.Fatalf("got the error %v, want none", err)
	}
	p := &provider.Provider{Name: "coffre", Dialect: coffre.Dialect{Kinds: kinds}, Secrets: secrets, Audit: provider.AuditLog("coffre", "node"),
		Failures: failures.New(failures.Options{Metrics: metrics})}
	g := provider.NewServer(provider.NewService(p, "bench", time.Minute, metrics))
	go g.Serve(socket)
	b.Cleanup(g.Stop)
	conn, err := grpc.NewClient("unix:"+socket.Path(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		b.Fatalf("got the error %v, want none", err)
	}
	b.Cleanup(func() { conn.Close() })
	return pb.NewCSIDriverProviderClient(conn), secrets
}

func request(first, objects int, template string) *pb.MountRequest {
	var list strings.Builder
	for i := range objects {
		fmt.Fprintf(&list, template+"\n", first+i, first+i)
	}
	return node.Pod{}.Volume(map[string]string{"store": "memory", "objects": list.String()}).MountRequest()
}

// measure mounts b.N times and reports the median and the 99th percentile.
func measure(b *testing.B, client pb.CSIDriverProviderClient, req *pb.MountRequest) {
	b.ReportAllocs()
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		began := time.Now()
		if _, err := client.Mount(context.Background(), req); err != nil {
			b.Fatalf("got the error %v, want none", err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
}

// large is a cache that keeps everything.
var large = cache.Options{MaxEntries: 200_000, MaxBytes: 1 << 30}

const plain, keyed = "- {name: s%d, file: f%d}", "- {name: s%d, key: password, file: f%d}"

// BenchmarkMountCached is a republish: everything is in the cache. Target: one
// object under 300 µs at the median on one core.
func BenchmarkMountCached(b *testing.B) {
	for _, c := range []struct {
		objects  int
		template string
		name     string
	}{{1, plain, "1-object"}, {1, keyed, "1-object-with-key"}, {50, plain, "50-objects"}, {50, keyed, "50-objects-with-key"}} {
		b.Run(c.name, func(b *testing.B) {
			client, _ := inProcess(b, large)
			measure(b, client, request(0, c.objects, c.template))
		})
	}
}

// BenchmarkMountWithFullCache is the same with ever more in the cache: latency
// and allocations must not grow with it.
func BenchmarkMountWithFullCache(b *testing.B) {
	for _, entries := range []int{0, 10_000, 100_000} {
		b.Run(fmt.Sprintf("%d-entries", entries), func(b *testing.B) {
			client, _ := inProcess(b, large)
			for first := 0; first < entries; first += 500 {
				if _, err := client.Mount(context.Background(), request(first+1000, 500, plain)); err != nil {
					b.Fatalf("got the error %v, want none", err)
				}
			}
			measure(b, client, request(0, 1, plain))
		})
	}
}

// BenchmarkIdleMemory is the resident memory of a provider that serves its
// socket and has nothing to do.
func BenchmarkIdleMemory(b *testing.B) {
	p := program.Serve(b, program.Build(b), "coffre", nil, "--metrics-addr", "127.0.0.1:0")
	for b.Loop() { // one reading is the measurement
	}
	b.ReportMetric(p.Memory(b, "VmRSS"), "MiB-resident")
	b.ReportMetric(0, "ns/op")
}
