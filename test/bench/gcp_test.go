package bench

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/gcp"
	"github.com/coffre-csi/coffre/test/fakes/serve"
	"github.com/coffre-csi/coffre/test/node"
	"github.com/coffre-csi/coffre/test/program"
)

const (
	gcpPool    = "shop.svc.id.goog"
	gcpAccount = "shop@shop.iam.gserviceaccount.com"
)

// farGoogle is Google, far away, behind a proxy that takes every host name to
// the strict fake: tokens, principals and grants are checked.
type farGoogle struct {
	*gcp.Server
	*node.Node
	env []string
}

func newFarGoogle(t testing.TB) *farGoogle {
	t.Helper()
	f := &farGoogle{Server: gcp.New(gcp.Options{}), Node: node.New(t)}
	f.SetLatency("", roundTrip)
	f.AddIssuer(f.Issuer.URL, f.Issuer.Keys())
	f.AddProject("shop", "42")
	f.AddProvider(gcp.GKE("shop", "europe-west9", "blue", f.Issuer.URL))
	f.SetNode("shop", "europe-west9", "blue", "")
	f.AddServiceAccount(gcpAccount)
	pods := "principalSet://iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/" + gcpPool + "/namespace/shop"
	f.Grant("projects/-/serviceAccounts/"+gcpAccount, "roles/iam.workloadIdentityUser", pods)
	f.Grant("projects/shop", "roles/secretmanager.secretAccessor", "serviceAccount:"+gcpAccount)

	google := fixture.Serve(t, "", f.Server, f.CA)
	proxy := fixture.Serve(t, "", connect{google}, nil)
	metadata := fixture.Serve(t, "", f.MetadataServer(), nil)
	f.env = []string{"HTTPS_PROXY=" + proxy.URL(), "NO_PROXY=127.0.0.1,localhost", "GCE_METADATA_HOST=" + metadata.Addr()}
	return f
}

// connect is a proxy for whom every host is one listener.
type connect struct{ to *serve.Listener }

func (c connect) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	there, err := c.to.DialContext(r.Context(), "tcp", "")
	if err != nil {
		http.Error(w, "nobody is there", http.StatusBadGateway)
		return
	}
	here, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		there.Close()
		return
	}
	fmt.Fprint(here, "HTTP/1.1 200 OK\r\n\r\n")

	var both sync.WaitGroup
	both.Go(func() { io.Copy(there, buffered); there.Close() })
	both.Go(func() { io.Copy(here, there); here.Close() })
	both.Wait()
}

func (f *farGoogle) serve(t testing.TB, path string) *program.Process {
	t.Helper()
	p := f.Serve(t, path, "gcp", f.env)
	f.Reset()
	return p
}

func (f *farGoogle) mount(p pod, secrets string) *pb.MountRequest {
	f.Kube.SetServiceAccount("shop", p.serviceAccount, map[string]string{"iam.gke.io/gcp-service-account": gcpAccount})
	v := f.Volume(node.Pod{ServiceAccount: p.serviceAccount, Name: p.name}, map[string]string{"secrets": secrets}, gcpPool)
	return v.MountRequest()
}

// secrets puts n secrets of a size and lists them as a class does; a location
// where one is named.
func (f *farGoogle) secrets(first, n, size int, location string) string {
	parent := "projects/shop"
	if location != "" {
		parent += "/locations/" + location
	}
	var list strings.Builder
	for i := first; i < first+n; i++ {
		name := fmt.Sprintf("%s/secrets/prod-%d", parent, i)
		f.SetSecretValue(name, strings.Repeat("x", size))
		fmt.Fprintf(&list, "- {resourceName: %s/versions/latest, path: f%d}\n", name, i)
	}
	return list.String()
}

func (f *farGoogle) roundTrip() time.Duration { return roundTrip }

func (f *farGoogle) reads() int   { return f.Count("AccessSecretVersion") }
func (f *farGoogle) signIns() int { return f.Count("Token") + f.Count("GenerateAccessToken") }

// BenchmarkGCP is one volume after the other; see BenchmarkAWS. Target: 50
// secrets of a warm identity in under three round trips.
func BenchmarkGCP(b *testing.B) {
	path := program.Build(b)
	f := newFarGoogle(b)
	for _, n := range []int{1, 10, 50} {
		secrets := f.secrets(0, n, 64, "")
		of := func(what string) string { return fmt.Sprintf("%d-secrets/%s", n, what) }
		b.Run(of("cold"), func(b *testing.B) { cold(b, f, path, deployment(f, "api", 1, secrets), together) })
		p := f.serve(b, path)
		b.Run(of("warm-identity"), func(b *testing.B) { // reads anew
			warm(b, f, p, secrets, pod{"api", "api-0"}, func(int) pod { return pod{"api", "api-0"} })
		})
		p.Stop()
		b.Run(of("60-at-once"), func(b *testing.B) { cold(b, f, path, deployment(f, "api", 60, secrets), eachOf) })
	}
}

func TestSixtyPodsOfAGoogleServiceAccountShareOneSignIn(t *testing.T) {
	f := newFarGoogle(t)
	p := f.serve(t, program.Build(t))
	secrets := f.secrets(0, 10, 64, "")
	all(t, p, 60, deployment(f, "api", 60, secrets))
	if f.Count("Token") != 1 || f.Count("GenerateAccessToken") != 1 || f.reads() != 10 {
		t.Errorf("got %v, want one STS call, one IAM call and 10 reads", f.Counts())
	}
}

func TestThreeHundredLocationsOfGoogleFitIntoMemory(t *testing.T) {
	f := newFarGoogle(t)
	f.SetLatency("", time.Millisecond)
	p := f.serve(t, program.Build(t))
	var reqs []*pb.MountRequest
	for i := range 300 {
		reqs = append(reqs, f.mount(pod{"api", fmt.Sprintf("api-%d", i)}, f.secrets(i, 1, 64, fmt.Sprintf("loc-%d", i))))
	}
	all(t, p, 20, reqs)
	const target = 64
	if peak := p.Memory(t, "VmHWM"); peak >= target {
		t.Errorf("got %.1f MiB at the peak, want under %d", peak, target)
	} else {
		t.Logf("%.1f MiB at the peak", peak)
	}
}

func TestAHundredMountsOfFiftyLargeSecretsFitIntoMemory(t *testing.T) {
	f := newFarGoogle(t)
	p := f.serve(t, program.Build(t))
	var reqs []*pb.MountRequest
	secrets := f.secrets(0, 50, 64<<10, "")
	for i := range 100 {
		reqs = append(reqs, f.mount(pod{fmt.Sprintf("sa-%d", i), "pod"}, secrets))
	}
	all(t, p, 100, reqs)
	const target = 256
	if peak := p.Memory(t, "VmHWM"); peak >= target {
		t.Errorf("got %.1f MiB at the peak, want under %d", peak, target)
	} else {
		t.Logf("%.1f MiB at the peak", peak)
	}
}
