package bench

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	vaultauth "github.com/coffre-csi/coffre/auth/vault"
	vaultstore "github.com/coffre-csi/coffre/provider/store/vault"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
	"github.com/coffre-csi/coffre/test/fakes/vault"
)

// The leases of the hour: a third of an hour at most, as databases lend them.
const (
	lease    = 5 * time.Minute
	leaseMax = 20 * time.Minute
)

// lending is a node whose pods each have a secret of KV and a dynamic
// credential, from the strict fake on the bubble's clock.
type lending struct {
	*vault.Server
	t *testing.T

	mu   sync.Mutex
	has  map[int]string // the credential that each pod has
	dead int            // moments at which a pod had one that Vault had ended
}

// slow answers after the store's latency.
type slow struct{ http.RoundTripper }

func (s slow) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(storeLatency)
	return s.RoundTripper.RoundTrip(r)
}

func (l *lending) begin(t *testing.T, issuer *oidc.Issuer, h *hour) rotated {
	l.Server, l.t, l.has = vault.New(nil), t, map[int]string{}
	l.AddIssuer(issuer.URL, issuer.Keys())
	l.AddRole(vault.Role{Name: "shop", Subjects: []string{"system:serviceaccount:shop:*"}, Paths: []string{"secret/*", "lender/*"}})
	l.Lend("", "lender/creds/db", vault.Lent{TTL: lease, Max: leaseMax})
	l.SetSecret("", "mysql", map[string]string{"host": "db"})

	broker := vaultauth.New(vaultauth.Options{Transport: slow{serve.InMemory(l)}})
	text := fmt.Sprintf("stores: {v: {kind: vault, namespaces: [shop], address: 'https://vault.example', auth: jwt, role: shop, refresh: %s}}", refresh)
	objects := "[{name: mysql, file: mysql}, {name: lender/creds/db, type: read, key: username, file: user}]"
	h.over = func() { h.calls = l.Counts() }
	return rotated{
		kinds: vaultstore.Kinds(vaultstore.Options{Broker: broker}), stores: text, audience: "vault",
		parameters: map[string]string{"store": "v", "objects": objects},
		begun:      func() { l.Reset() }, mounted: l.mounted,
	}
}

// mounted looks at what every pod has after one of them was mounted.
func (l *lending) mounted(pod int, r *pb.MountResponse) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range r.GetFiles() {
		if f.GetPath() == "user" {
			l.has[pod] = string(f.GetContents())
		}
	}

	ends := map[string]time.Time{}
	for _, lease := range l.Leases() {
		ends[lease.Username] = lease.Ends
	}
	for _, user := range l.has {
		if !time.Now().Before(ends[user]) {
			l.dead++
		}
	}
}

// needless counts the leases that came while the one before had more than half
// of its time left.
func (l *lending) needless() (n int) {
	before := map[string]vault.Lease{}
	for _, now := range l.Leases() {
		if old, has := before[now.Subject]; has && old.EndsBy(now.Issued).Sub(now.Issued) > lease/2+time.Second {
			n++
		}
		before[now.Subject] = now
	}
	return n
}

// TestAnHourOfRotationLeavesNoPodWithACredentialThatVaultEnded is the rotation
// benchmark of dynamic secrets; `make bench-rotation` prints it.
func TestAnHourOfRotationLeavesNoPodWithACredentialThatVaultEnded(t *testing.T) {
	l := &lending{}
	h := simulate(t, time.Hour, l.begin)
	var renewed []int
	for _, lease := range l.Leases() {
		renewed = append(renewed, lease.Renewed)
	}
	slices.Sort(renewed)
	all := 0
	for _, n := range renewed {
		all += n
	}
	fmt.Fprintf(os.Stdout, `a simulated hour of %d pods with a dynamic credential of Vault, %d service accounts, leases of %s that live %s at most
  republishes             %7d
  leases issued           %7d   of which needless: %d; reading each time: %d
  leases renewed          %7d
  requests of Vault       %7v
  a pod had a credential that Vault had ended: %d times
`, pods, serviceAccounts, lease, leaseMax, h.mounts, len(renewed), l.needless(), h.mounts, all, h.calls, l.dead)

	if l.dead > 0 {
		t.Errorf("%d times a pod had a credential that Vault had ended, want never", l.dead)
	}
	if n := l.needless(); n > 0 {
		t.Errorf("%d leases were issued without need, want none", n)
	}
	// Each lease lives at least as long as its renewals at two thirds let it.
	most := serviceAccounts * (1 + int((time.Hour+republish)/(leaseMax-lease)))
	if len(renewed) > most || len(renewed) < serviceAccounts*3 {
		t.Errorf("%d leases were issued, want %d to %d", len(renewed), serviceAccounts*3, most)
	}
}
