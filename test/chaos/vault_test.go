package chaos

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	vaultauth "github.com/coffre-csi/coffre/auth/vault"
	"github.com/coffre-csi/coffre/provider/store"
	vaultstore "github.com/coffre-csi/coffre/provider/store/vault"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/traffic"
	"github.com/coffre-csi/coffre/test/fakes/vault"
)

// What Vault lends in these tests: for so long, and prolonged to no more than
// that.
const (
	lentFor  = 5 * time.Minute
	lentMost = 20 * time.Minute
	dynamic  = "lender/creds/db"
)

// hashicorp is the strict fake Vault on the model's clock, with a role a service
// account, secrets of KV v2, and credentials that are issued for a time.
type hashicorp struct {
	*vault.Server
	issuer *oidc.Issuer
	at     string
	now    func() time.Time
	undo   []func()

	revoked []time.Time // when all credentials were ended
	resets  []time.Time // when a provider forgot what it had been lent
	used    map[string][]time.Time
}

func TestNoStepBreaksAPromiseOnVault(t *testing.T) {
	h := &hashicorp{issuer: fixture.Issuer(t, "https://oidc.example"), used: map[string][]time.Time{}}
	h.Server = vault.New(func() time.Time { return h.now() })
	h.AddIssuer(h.issuer.URL, h.issuer.Keys())
	h.Lend("", dynamic, vault.Lent{TTL: lentFor, Max: lentMost})
	h.at = fixture.Serve(t, "", h, nil).URL()
	h.now = time.Now
	run(t, h, *steps/50)
}

func (h *hashicorp) clock(now func() time.Time) { h.now = now }

func (h *hashicorp) kinds() store.Kinds {
	broker := vaultauth.New(vaultauth.Options{Now: h.now})
	return vaultstore.Kinds(vaultstore.Options{Broker: broker, Now: h.now})
}

// A role stands for each service account: its name is the token's to match.
func (h *hashicorp) stores() string {
	return fmt.Sprintf("stores: {chaos: {kind: vault, namespaces: [shop], address: %q, auth: jwt, role: pods, refresh: %s, maxStale: %s, timeout: 3s}}", h.at, refresh, maxStale)
}

func (h *hashicorp) modes() []mode { return []mode{down, throttled, rubbish} }

func (h *hashicorp) set(name, value string) {
	h.DeleteSecret("", name)
	if value != "" {
		h.SetSecret("", name, map[string]string{"value": value})
	}
}

func (h *hashicorp) object(name string) string {
	return fmt.Sprintf("{name: %[1]s, key: value, file: %[1]s}", name)
}

// grant changes a policy: it counts at once, for tokens that there are, too.
func (h *hashicorp) grant(sa string, yes bool) {
	h.AddRole(vault.Role{Name: "pods", Subjects: []string{"system:serviceaccount:shop:*"}})
	h.Allow(oidc.Subject("shop", sa), nil)
	if yes {
		h.Allow(oidc.Subject("shop", sa), []string{"secret/*", "lender/*", "sys/leases/revoke"})
	}
}

func (h *hashicorp) enter(m mode) {
	for _, undo := range h.undo {
		undo()
	}
	h.undo = nil
	switch m {
	case down:
		h.undo = append(h.undo, h.AddFault(traffic.Fault{Drop: true}))
	case throttled:
		h.undo = append(h.undo, h.AddFault(traffic.Fault{Status: http.StatusTooManyRequests, Message: "rate limit quota exceeded"}))
	case rubbish:
		h.undo = append(h.undo, h.AddFault(traffic.Fault{Garbage: true}))
	}
}

func (h *hashicorp) expire() {
	h.RevokeAll()
	h.revoked = append(h.revoked, h.now())
}

func (h *hashicorp) tokens(sa string) auth.Tokens {
	raw := h.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: sa, Audiences: []string{"vault"}, Issued: h.now()})
	return auth.Tokens{"vault": auth.NewToken(raw, oidc.Expiry(raw))}
}

func (h *hashicorp) whose(string) string { return "" }

func (h *hashicorp) lent() (entry, file string) {
	return "{name: " + dynamic + ", type: read, key: username, file: user}", "user"
}

func (h *hashicorp) restarted() { h.resets = append(h.resets, h.now()) }

// judge excuses one thing: what Vault ended before its time, nobody knows of
// until it would have had to be renewed.
func (h *hashicorp) judge(sa, user string) string {
	now := h.now()
	h.used[oidc.Subject("shop", sa)] = append(h.used[oidc.Subject("shop", sa)], now)
	ends, known := h.Ended(user)
	early := slices.ContainsFunc(h.revoked, ends.Equal)
	switch {
	case !known:
		return "which was never issued"
	case now.Before(ends), early && now.Sub(ends) < lentFor:
	default:
		return fmt.Sprintf("which Vault ended %s ago", now.Sub(ends))
	}
	for _, l := range h.Leases() {
		if l.Username == user && !strings.HasSuffix(l.Subject, ":"+sa) {
			return "which was issued to " + l.Subject
		}
	}
	return ""
}

// needless are leases that came while an older one of the same service account
// had more than half of its time left.
func (h *hashicorp) needless() (found []string) {
	before := map[string]vault.Lease{}
	for _, l := range h.Leases() {
		old, has := before[l.Subject]
		before[l.Subject] = l
		if !has || !old.EndsBy(l.Issued).After(l.Issued.Add(lentFor/2+time.Second)) || h.excused(l.Subject, old.Issued, l.Issued) {
			continue
		}
		found = append(found, fmt.Sprintf("%s to %s at %s, %s before %s ends", l.Username, l.Subject, l.Issued.Format("15:04:05"), old.EndsBy(l.Issued).Sub(l.Issued), old.Username))
	}
	return found
}

// excused says whether what was lent first was forgotten, ended by Vault, or
// idle before the second came.
func (h *hashicorp) excused(subject string, first, second time.Time) bool {
	between := func(at time.Time) bool { return !at.Before(first) && !at.After(second) }
	if slices.ContainsFunc(h.resets, between) || slices.ContainsFunc(h.revoked, between) {
		return true
	}
	last := first
	for _, at := range h.used[subject] {
		if at.Before(second) {
			last = at
		}
	}
	return second.Sub(last) > 55*time.Minute
}
