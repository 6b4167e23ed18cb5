package vaultcore

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/serve"
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

// Gate is the way to a core, over TLS and HTTP/2 as Vault itself speaks it:
// counted, slowed, throttled and disturbed as the test says.
type Gate struct {
	*traffic.Gate
	Address string

	core http.Handler
}

// Behind puts a gate before the core, until the test ends. In clear where there
// is no authority.
func (c *Core) Behind(t testing.TB, ca *serve.Authority) *Gate {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(fixture.OK[*url.URL](t)(url.Parse(c.Address)))
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 100}
	g := &Gate{Gate: traffic.New(traffic.Options{}), core: proxy}
	g.Address = fixture.Serve(t, "", g, ca).URL()
	return g
}

// HTTP2 says that the gate speaks it, under every name.
func (g *Gate) HTTP2(string) bool { return true }

func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	call := g.Begin(traffic.Call{Service: "vault", Op: operation(path), IDs: []string{path}})
	refuse := func(o traffic.Outcome, f traffic.Fault) { g.refuse(w, call, o, f) }
	if !g.Disturb(w, r, call, refuse) {
		g.core.ServeHTTP(w, r)
	}
}

// refuse words a fault as Vault does.
func (g *Gate) refuse(w http.ResponseWriter, call *traffic.Call, o traffic.Outcome, f traffic.Fault) {
	if o == traffic.Throttle {
		f.Status, f.Message = http.StatusTooManyRequests, "request path \""+call.IDs[0]+"\": rate limit quota exceeded"
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.Status)
	fmt.Fprintf(w, `{"errors":[%q]}`, f.Message)
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
