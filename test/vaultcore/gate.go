package vaultcore

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/serve"
	"github.com/coffre-csi/coffre/test/fakes/vault"
)

// Behind puts a gate before the core, until the test ends, and returns the
// gate's address. In clear where there is no authority.
func (c *Core) Behind(t testing.TB, ca *serve.Authority) (*vault.Gate, string) {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(fixture.OK[*url.URL](t)(url.Parse(c.Address)))
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 100}
	g := vault.Before(proxy, nil)
	return g, fixture.Serve(t, "", g, ca).URL()
}
