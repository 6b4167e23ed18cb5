// Package vault is a fake of HashiCorp Vault for what its real core
// (test/vaultcore) cannot do in a test: time that is the test's own, namespaces,
// and answers that cost so little that a benchmark measures Coffre. It has the
// auth method jwt, KV v2 and an engine that issues leases, and words its
// refusals as the core does: its tests ask both the same. It rejects by default:
// tokens that it did not issue, routes and namespaces that it does not have,
// paths that no role may read.
//
// The gate stands before the fake, and before the core. Nothing here is ever
// linked into the product.
package vault

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// What a Gate counts requests as.
const (
	Login  = "login"
	Token  = "token"  // renewed or revoked
	Renew  = "renew"  // of a lease
	Revoke = "revoke" // of a lease
	Read   = "read"   // anything else
)

// Gate is the way to a Vault, HTTP/2 as Vault itself speaks it where there is
// TLS: counted, slowed, throttled and disturbed as the test says.
type Gate struct {
	*traffic.Gate
	vault http.Handler
}

// Before puts a gate before a Vault.
func Before(vault http.Handler, now func() time.Time) *Gate {
	return &Gate{Gate: traffic.New(traffic.Options{Now: now}), vault: vault}
}

// HTTP2 says that the gate speaks it, under every name.
func (g *Gate) HTTP2(string) bool { return true }

func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	call := g.Begin(traffic.Call{Service: "vault", Op: operation(path), IDs: []string{path}})
	refuse := func(o traffic.Outcome, f traffic.Fault) { g.refuse(w, call, o, f) }
	if !g.Disturb(w, r, call, refuse) {
		g.vault.ServeHTTP(w, r)
	}
}

// refuse words a fault as Vault does.
func (g *Gate) refuse(w http.ResponseWriter, call *traffic.Call, o traffic.Outcome, f traffic.Fault) {
	if o == traffic.Throttle {
		f.Status, f.Message = http.StatusTooManyRequests, fmt.Sprintf("request path %q: rate limit quota exceeded", call.IDs[0])
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())))
	}
	answer{status: f.Status, errors: []string{f.Message}}.write(w, "")
	g.End(call, f.Status, f.Message)
}

func operation(path string) string {
	switch {
	case strings.HasPrefix(path, "auth/token/"):
		return Token
	case strings.HasPrefix(path, "auth/"):
		return Login
	case strings.HasPrefix(path, "sys/leases/renew"):
		return Renew
	case strings.HasPrefix(path, "sys/leases/revoke"):
		return Revoke
	}
	return Read
}
