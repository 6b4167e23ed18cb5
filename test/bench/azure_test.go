package bench

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/test/fakes/azure"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/serve"
	"github.com/coffre-csi/coffre/test/node"
	"github.com/coffre-csi/coffre/test/program"
)

// How far away a vault and Entra are.
const (
	vaultAway = 20 * time.Millisecond
	entraAway = 40 * time.Millisecond
)

// farAzure is Azure, far away, behind a proxy that takes every host name to the
// strict fake: tokens, federated credentials and roles are checked.
type farAzure struct {
	*azure.Server
	*node.Node
	env    []string
	listen *serve.Listener
	known  map[string]bool // client ids
}

func newFarAzure(t testing.TB) *farAzure {
	t.Helper()
	f := &farAzure{Server: azure.New(azure.Options{}), Node: node.New(t), known: map[string]bool{}}
	f.SetLatency(azure.KeyVault, vaultAway)
	f.SetLatency(azure.Entra, entraAway)
	f.AddIssuer(f.Issuer.URL, f.Issuer.Keys())
	f.AddVault("shop", azure.Vault{})

	f.listen = fixture.Serve(t, "", f.Server, f.CA)
	proxy := fixture.Serve(t, "", connect{f.listen}, nil)
	f.env = []string{"HTTPS_PROXY=" + proxy.URL(), "NO_PROXY=127.0.0.1,localhost"}
	return f
}

func (f *farAzure) serve(t testing.TB, path string) *program.Process {
	t.Helper()
	p := f.Serve(t, path, "azure", f.env)
	f.Reset()
	return p
}

// identity makes the application of a service account, where there is none yet.
func (f *farAzure) identity(serviceAccount string) (clientID string) {
	clientID = "client-of-" + serviceAccount
	if f.known[clientID] {
		return clientID
	}
	f.known[clientID] = true
	f.AddApp(azure.App{ClientID: clientID, Federated: []azure.Federated{
		{Issuer: f.Issuer.URL, Subject: "system:serviceaccount:shop:" + serviceAccount},
	}})
	f.Grant("shop", "Key Vault Secrets User", clientID)
	return clientID
}

func (f *farAzure) mount(p pod, objects string) *pb.MountRequest {
	v := f.Volume(node.Pod{ServiceAccount: p.serviceAccount, Name: p.name}, map[string]string{
		"keyvaultName": "shop", "tenantID": azure.DefaultTenant, "clientID": f.identity(p.serviceAccount), "objects": objects,
	}, azure.TokenExchange)
	return v.MountRequest()
}

// secrets puts n secrets and lists them as a class does.
func (f *farAzure) secrets(first, n int) string {
	var list strings.Builder
	for i := first; i < first+n; i++ {
		name := fmt.Sprintf("prod-%d", i)
		f.SetSecretValue("shop", name, "a value of "+name)
		fmt.Fprintf(&list, "- {objectName: %s, objectType: secret, objectAlias: f%d}\n", name, i)
	}
	return list.String()
}

func (f *farAzure) roundTrip() time.Duration { return vaultAway }

func (f *farAzure) reads() int   { return f.Count("GetSecret") }
func (f *farAzure) signIns() int { return f.Count("Token") }

// BenchmarkAzure is one volume after the other; see BenchmarkAWS. Targets: 50
// secrets cold in under 200 ms, of a warm identity in under 60.
func BenchmarkAzure(b *testing.B) {
	path := program.Build(b)
	f := newFarAzure(b)
	for _, n := range []int{1, 10, 50} {
		secrets := f.secrets(0, n)
		of := func(what string) string { return fmt.Sprintf("%d-secrets/%s", n, what) }
		b.Run(of("cold"), func(b *testing.B) { cold(b, f, path, deployment(f, "api", 1, secrets), together) })

		p := f.serve(b, path)
		api := pod{"api", "api-0"}
		b.Run(of("warm-identity"), func(b *testing.B) { warm(b, f, p, secrets, api, func(int) pod { return api }) }) // reads anew
		i := 0
		b.Run(of("cached"), func(b *testing.B) {
			warm(b, f, p, secrets, api, func(int) pod { i++; return pod{"api", fmt.Sprintf("api-%d", i)} })
		})
		p.Stop()
	}
}

// BenchmarkAzureConnections is 1,000 mounts of ten secrets, 50 at once, of 50
// identities. Target: under 100 connections.
func BenchmarkAzureConnections(b *testing.B) {
	path := program.Build(b)
	for b.Loop() {
		made, f := manyMounts(b, path, 1000)
		b.ReportMetric(float64(made), "connections")
		b.ReportMetric(float64(f.signIns()), "sign-ins")
		b.ReportMetric(float64(f.reads()), "store-calls")
	}
}

func TestManyMountsOfAVaultShareItsConnectionsAndItsChallenge(t *testing.T) {
	made, f := manyMounts(t, program.Build(t), 200)
	if made >= 100 {
		t.Errorf("got %d connections, want under 100", made)
	}
	if f.signIns() != 50 || f.Count("Challenge") != 1 {
		t.Errorf("got %d sign-ins and %d challenges, want one an identity and one a vault", f.signIns(), f.Count("Challenge"))
	}
}

// manyMounts mounts so many volumes, 50 at once, each with ten secrets of its
// own, so that none is in the cache, and counts the connections to Azure.
func manyMounts(t testing.TB, path string, mounts int) (connections int, f *farAzure) {
	t.Helper()
	f = newFarAzure(t)
	f.SetLatency(azure.KeyVault, 0)
	f.SetLatency(azure.Entra, 0)
	p := f.serve(t, path)
	defer p.Stop()
	var reqs []*pb.MountRequest
	for i := range mounts {
		reqs = append(reqs, f.mount(pod{fmt.Sprintf("sa-%d", i%50), fmt.Sprintf("pod-%d", i)}, f.secrets(10*i, 10)))
	}

	before := f.listen.Connections()
	each, total := all(t, p, 50, reqs)
	connections = f.listen.Connections() - before
	t.Logf("%d mounts in %s, median %s: %d connections, %d sign-ins, %d reads", mounts, total, median(each), connections, f.signIns(), f.reads())
	return connections, f
}

func TestAVaultThatThrottlesIsAskedFewTimesMoreThanItTakes(t *testing.T) {
	f := newFarAzure(t)
	f.SetLimit(azure.Limit{Service: azure.KeyVault, PerSecond: 100, Burst: 100, Per: "region"})
	p := f.serve(t, program.Build(t))
	var reqs []*pb.MountRequest
	for i := range 200 {
		reqs = append(reqs, f.mount(pod{fmt.Sprintf("sa-%d", i%20), fmt.Sprintf("pod-%d", i)}, f.secrets(10*i, 10)))
	}

	each, total := all(t, p, len(reqs), reqs)
	const needed = 2000
	t.Logf("%d calls for %d reads; %s in all, p90 %s", f.Count(""), needed, total, each[len(each)*9/10])
	if made := f.reads(); float64(made) > 1.3*needed {
		t.Errorf("got %d reads, want at most 1.3 times %d", made, needed)
	}
}
