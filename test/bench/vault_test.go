package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/vault"
	"github.com/coffre-csi/coffre/test/node"
	"github.com/coffre-csi/coffre/test/program"
	"github.com/coffre-csi/coffre/test/vaultcore"
)

// What Vault is far away by: it stands in the same region, as a rule.
const vaultRoundTrip = 10 * time.Millisecond

// farVault is a Vault, far away, behind a node whose tokens it trusts: the
// strict fake, or the real core behind a gate, which costs the processors of
// this machine more than Coffre does.
type farVault struct {
	*vault.Gate
	*node.Node
	stores string
	put    func(name string, keys map[string]string)
}

func newFarVault(t testing.TB) *farVault {
	t.Helper()
	fake, n := vault.New(nil), node.New(t)
	fake.AddIssuer(n.Issuer.URL, n.Issuer.Keys())
	fake.AddRole(vault.Role{Name: "shop", Subjects: []string{"system:serviceaccount:shop:*"}, Paths: []string{"secret/*"}, TTL: 2 * time.Hour})
	put := func(name string, keys map[string]string) { fake.SetSecret("", name, keys) }
	return distance(t, &farVault{Gate: fake.Gate, Node: n, put: put}, fixture.Serve(t, "", fake, n.CA).URL())
}

const vaultPolicy = `
path "secret/*"       { capabilities = ["read", "list"] }
path "lender/creds/*" { capabilities = ["read"] }
`

func newFarCore(t testing.TB) (*farVault, *vaultcore.Core) {
	t.Helper()
	core, n := vaultcore.Start(t), node.New(t)
	core.Engines(t)
	core.Trust(t, n.Issuer)
	core.Policy(t, "shop", vaultPolicy)
	core.Role(t, vaultcore.Role{Name: "shop", Subjects: "system:serviceaccount:shop:*", Policy: "shop", TTL: "2h"})
	gate, address := core.Behind(t, n.CA)
	put := func(name string, keys map[string]string) { core.Put(t, name, keys) }
	return distance(t, &farVault{Gate: gate, Node: n, put: put}, address), core
}

func distance(t testing.TB, f *farVault, address string) *farVault {
	t.Helper()
	f.SetLatency("", vaultRoundTrip)
	f.stores = filepath.Join(t.TempDir(), "stores.yaml")
	if err := os.WriteFile(f.stores, []byte(fmt.Sprintf("dialects: {vault: {address: %q}}\n", address)), 0o600); err != nil {
		t.Fatalf("the stores: %v", err)
	}
	return f
}

func (f *farVault) serve(t testing.TB, path string) *program.Process {
	t.Helper()
	p := f.Serve(t, path, "vault", nil, "--stores", f.stores)
	f.Reset()
	return p
}

func (f *farVault) mount(p pod, objects string) *pb.MountRequest {
	parameters := map[string]string{"roleName": "shop", "vaultAuthMountPath": "jwt", "objects": objects}
	return f.Volume(node.Pod{ServiceAccount: p.serviceAccount, Name: p.name}, parameters, "vault").MountRequest()
}

// secrets puts n secrets and lists a key of each, as a class does.
func (f *farVault) secrets(n int) string {
	var list strings.Builder
	for i := range n {
		f.put(fmt.Sprintf("prod-%d", i), map[string]string{"password": fmt.Sprintf("%08d", i)})
		fmt.Fprintf(&list, "- {objectName: f%d, secretPath: secret/data/prod-%d, secretKey: password}\n", i, i)
	}
	return list.String()
}

// dynamic is a user and a password of one lease.
const dynamic = `
- {objectName: user, secretPath: lender/creds/app, secretKey: username}
- {objectName: password, secretPath: lender/creds/app, secretKey: password}
`

func (f *farVault) roundTrip() time.Duration { return vaultRoundTrip }
func (f *farVault) reads() int               { return f.Count(vault.Read) }
func (f *farVault) signIns() int             { return f.Count(vault.Login) }

// BenchmarkVault is one volume after the other, and a Deployment that comes up;
// see BenchmarkAWS. Target: 50 secrets cold in under 60 ms, which is six round
// trips.
func BenchmarkVault(b *testing.B) {
	path := program.Build(b)
	f := newFarVault(b)
	for _, n := range []int{1, 10, 50} {
		secrets := f.secrets(n)
		of := func(what string) string { return fmt.Sprintf("%d-secrets/%s", n, what) }
		b.Run(of("cold"), func(b *testing.B) { cold(b, f, path, deployment(f, "api", 1, secrets), together) })
		p := f.serve(b, path)
		b.Run(of("republish"), func(b *testing.B) { // reads anew, as the Vault provider does
			warm(b, f, p, secrets, pod{"api", "api-0"}, func(int) pod { return pod{"api", "api-0"} })
		})
		b.Run(of("next-pod"), func(b *testing.B) {
			warm(b, f, p, secrets, pod{"api", "api-0"}, func(i int) pod { return pod{"api", fmt.Sprintf("api-%d", i+1)} })
		})
		p.Stop()
		b.Run(of("60-at-once"), func(b *testing.B) { cold(b, f, path, deployment(f, "api", 60, secrets), together) })
	}
}

func TestSixtyPodsOfAVaultRoleShareOneSignInAndTheirReads(t *testing.T) {
	f, _ := newFarCore(t)
	p := f.serve(t, program.Build(t))
	all(t, p, 60, deployment(f, "api", 60, f.secrets(10)))
	if f.signIns() != 1 || f.reads() != 10 {
		t.Errorf("got %v, want one sign-in and 10 reads", f.Counts())
	}
}

func TestAThousandRepublishesOfAHundredPodsAreOneLease(t *testing.T) {
	f, _, leases := republished(t, program.Build(t))
	t.Logf("100 pods, 1,000 republishes: %d sign-in, %d read, %d lease", f.signIns(), f.reads(), leases)
	if f.signIns() != 1 || f.reads() != 1 || leases != 1 {
		t.Errorf("got %v and %d leases, want one sign-in, one read and one lease", f.Counts(), leases)
	}
}

// republished mounts a dynamic credential of the real core for 100 pods, and
// republishes each of them ten times. took is of the republishes.
func republished(t testing.TB, path string) (f *farVault, took time.Duration, leases int) {
	t.Helper()
	f, core := newFarCore(t)
	p := f.serve(t, path)
	defer p.Stop()
	reqs := deployment(f, "api", 100, dynamic)
	all(t, p, 100, reqs)
	for range 10 {
		_, total := all(t, p, 100, reqs)
		took += total
	}
	return f, took, len(core.Leases(t, "lender/creds/app"))
}

// BenchmarkVaultLease is 1,000 republishes of 100 pods of one service account
// with a user and a password of one lease. Target: one lease.
func BenchmarkVaultLease(b *testing.B) {
	path := program.Build(b)
	var got figures
	most := 0
	for range b.N {
		f, took, leases := republished(b, path)
		got.round(f, took)
		most = max(most, leases)
	}
	got.report(b, vaultRoundTrip)
	b.ReportMetric(float64(most), "leases")
}
