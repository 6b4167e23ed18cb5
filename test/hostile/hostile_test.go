// Package hostile runs the program that a release has in the memory that the
// chart gives it, and lets one tenant try everything that its
// SecretProviderClasses and secrets can say, while another one mounts all the
// while: the program is never killed, never hangs, and gives the memory back.
//
// It runs with -form short or full (make hostile), as root.
package hostile

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/node"
	"github.com/coffre-csi/coffre/test/program"
	"github.com/coffre-csi/coffre/test/sopstest"
)

var form = flag.String("form", "", "short or full; without it nothing runs")

// What the others are promised.
const (
	longestMount   = 2 * time.Second
	longestVersion = time.Second
	restingMemory  = 64.0 // MiB, a minute after
)

// A world is the program in its cgroup, with a fake AWS and a folder of
// encrypted documents.
type world struct {
	*program.Process
	node   *node.Node
	aws    *aws.Server
	coffre pb.CSIDriverProviderClient // the program's other socket
	group  *program.Cgroup
	key    sopstest.Key
	large  string // a document of the hostile tenant's
	config string // the file of the stores
	dir    string
}

func begin(t *testing.T, args ...string) *world {
	t.Helper()
	w := &world{node: node.New(t), aws: aws.New(aws.Options{AcceptAnyToken: true, DefaultRegion: "eu-west-3"}), group: program.NewCgroup(t), key: sopstest.NewKey(t), dir: t.TempDir()}
	cloud := fixture.Serve(t, "", w.aws, w.node.CA)
	w.node.Kube.SetServiceAccount("hostile", "api", map[string]string{"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/hostile"})
	w.fill(t)
	w.large = largeDocument(t, w.key)

	env := []string{"AWS_ENDPOINT_URL=" + cloud.URL(), fmt.Sprintf("GOMEMLIMIT=%d", program.GoMemLimit)}
	args = append([]string{"--stores", w.config}, args...)
	w.Process = w.node.Serve(t, w.group.Wrap(t, program.Build(t)), "aws", env, args...)
	w.coffre = client(t, filepath.Join(filepath.Dir(w.Socket()), "coffre.sock"))
	return w
}

func client(t *testing.T, socket string) pb.CSIDriverProviderClient {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	t.Cleanup(func() { conn.Close() })
	return pb.NewCSIDriverProviderClient(conn)
}

// fill writes the stores: one of the good tenant, and the hostile one's
// values, each a document of its own.
func (w *world) fill(t *testing.T) {
	t.Helper()
	write := func(name, text string) string {
		path := filepath.Join(w.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		return path
	}
	keys := write("keys.txt", w.key.Secret+"\n")
	document := func(name, namespace, format, text string) string {
		path := write(name, sopstest.Encrypt(t, format, text, w.key.Public))
		return fmt.Sprintf("  %s: {kind: sops, file: %s, format: %s, ageKeyFile: %s, namespaces: [%q]}\n", name, path, format, keys, namespace)
	}

	stores := "stores:\n" + document("good", "shop", "yaml", "user: app\npassword: hunter2\n")
	for name, value := range values() {
		stores += document(name, "hostile*", "binary", value)
	}
	var keys500 strings.Builder
	for i := range 490 {
		fmt.Fprintf(&keys500, "key-%d: v\n", i)
	}
	stores += document("keys", "hostile*", "yaml", keys500.String())
	w.config = write("stores.yaml", stores)
	for name, value := range secrets() {
		w.aws.SetSecretValue("eu-west-3", name, value)
	}
}

// A bystander mounts and asks for the version all the while.
type bystander struct {
	mounts, versions atomic.Int64
	mu               sync.Mutex
	mount, version   time.Duration // the longest
	failed           error
}

func (b *bystander) took(longest *time.Duration, d time.Duration, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*longest = max(*longest, d)
	if err != nil && b.failed == nil {
		b.failed = err
	}
}

// watch begins; the returned function ends it.
func (w *world) watch(t *testing.T, b *bystander) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	every := func(once func(i int)) {
		done.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				once(i)
				select {
				case <-ctx.Done():
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
	every(func(i int) {
		pod := node.Pod{Namespace: "shop", Name: fmt.Sprintf("app-%d", i%20)}
		began := time.Now()
		_, err := w.coffre.Mount(t.Context(), pod.Volume(map[string]string{"store": "good", "objects": "[{name: password}, {name: user}]"}).MountRequest())
		b.took(&b.mount, time.Since(began), err)
		b.mounts.Add(1)
	})
	every(func(int) {
		began := time.Now()
		_, err := w.Version(t.Context(), &pb.VersionRequest{Version: "v1alpha1"})
		b.took(&b.version, time.Since(began), err)
		b.versions.Add(1)
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// An attack is what the hostile tenant sends: all its volumes at once. Whatever
// is answered is well, as long as something is.
type attack struct {
	name    string
	dialect string // aws; coffre where it is empty
	short   bool   // part of the short form
	serial  bool   // one volume after the other
	volumes func(w *world) []request.Volume
}

func (a attack) run(t *testing.T, w *world) {
	t.Helper()
	to := w.coffre
	if a.dialect == "aws" {
		to = w.CSIDriverProviderClient
	}
	var all sync.WaitGroup
	var refused atomic.Value
	began := time.Now()
	volumes := a.volumes(w)
	for _, v := range volumes {
		if a.serial {
			all.Wait()
		}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 65*time.Second)
			defer cancel()
			_, err := to.Mount(ctx, v.MountRequest())
			switch status.Code(err) {
			case codes.OK:
			case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted, codes.Aborted:
				t.Errorf("got %v, want an answer", err)
			default:
				refused.Store(err.Error())
			}
		})
	}
	all.Wait()
	t.Logf("%d mounts in %s; %.1f MiB; %.200v", len(volumes), time.Since(began).Round(time.Millisecond), w.Memory(t, "VmRSS"), refused.Load())
}

func TestNothingThatATenantWritesTakesTheProviderDown(t *testing.T) {
	if *form == "" {
		t.Skip("runs with -form short or full, as root: make hostile")
	}
	w := begin(t, "--mount-timeout=30s")

	for _, a := range append(attacks(), remembered()...) {
		if *form == "short" && !a.short {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			var b bystander
			stop := w.watch(t, &b)
			a.run(t, w)
			stop()
			b.verify(t)
			if n := w.group.Kills(t); n > 0 {
				t.Fatalf("the kernel killed the program %d times", n)
			}
		})
		if t.Failed() && w.group.Kills(t) > 0 {
			return // there is nobody left to attack
		}
	}

	w.rests(t)
}

// verify holds what the bystander saw against what it was promised.
func (b *bystander) verify(t *testing.T) {
	t.Helper()
	if b.failed != nil {
		t.Errorf("the other namespace's mount failed: %v", b.failed)
	}
	if b.mounts.Load() == 0 || b.versions.Load() == 0 {
		t.Errorf("the other namespace got %d mounts and %d versions; want some", b.mounts.Load(), b.versions.Load())
	}
	if b.mount > longestMount {
		t.Errorf("a mount of the other namespace took %s, want at most %s", b.mount, longestMount)
	}
	if b.version > longestVersion {
		t.Errorf("Version took %s, want at most %s", b.version, longestVersion)
	}
}

// rests waits until the memory was given back.
func (w *world) rests(t *testing.T) {
	t.Helper()
	memory := 0.0
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		if memory = w.Memory(t, "VmRSS"); memory <= restingMemory {
			t.Logf("%.1f MiB are resident afterwards", memory)
			return
		}
	}
	t.Errorf("%.1f MiB are resident a minute after, want at most %.0f", memory, restingMemory)
}
