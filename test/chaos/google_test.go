package chaos

import (
	"crypto/tls"
	"fmt"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	gcpauth "github.com/coffre-csi/coffre/auth/gcp"
	"github.com/coffre-csi/coffre/provider/store"
	gcpstore "github.com/coffre-csi/coffre/provider/store/gcp"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/gcp"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

// google is the fake Google over TLS under its real host names, with the real
// client, real tokens of a GKE cluster and direct access for each service
// account.
type google struct {
	*gcp.Server
	issuer  *oidc.Issuer
	options gcpauth.Options
	allowed map[string]bool
	undo    []func()
}

const poolOfShop = "shop.svc.id.goog"

func TestNoStepBreaksAPromiseOnGoogle(t *testing.T) {
	g := &google{Server: gcp.New(gcp.Options{}), issuer: fixture.Issuer(t, "https://oidc.example/cluster"), allowed: map[string]bool{}}
	g.AddIssuer(g.issuer.URL, g.issuer.Keys())
	g.AddProject("shop", "42")
	g.AddProvider(gcp.GKE("shop", "europe-west9", "blue", g.issuer.URL))
	g.SetNode("shop", "europe-west9", "blue", "")

	ca := fixture.Authority(t)
	l := fixture.Serve(t, "", g.Server, ca)
	g.options = gcpauth.Options{
		Network:      gcpauth.NewNetwork(gcpauth.NetworkOptions{Dial: l.DialContext, TLS: &tls.Config{RootCAs: ca.Pool()}}),
		MetadataHost: fixture.Serve(t, "", g.MetadataServer(), nil).Addr(),
	}
	run(t, g, *steps/100) // a throttled project is asked every few seconds, really
}

func (g *google) kinds() store.Kinds {
	return gcpstore.Kinds(gcpstore.Options{Network: g.options.Network, Broker: gcpauth.New(g.options)})
}

func (g *google) stores() string {
	return fmt.Sprintf("stores: {chaos: {kind: gcp-secret-manager, project: shop, namespaces: [shop], refresh: %s, maxStale: %s, timeout: 4s}}", refresh, maxStale)
}

func (g *google) modes() []mode { return []mode{down, throttled, rubbish} }

func (g *google) set(name, value string) {
	if value == "" {
		g.DeleteSecret("projects/shop/secrets/" + name)
		return
	}
	g.SetSecretValue("projects/shop/secrets/"+name, value)
}

// grant gives the role on the project anew to those who have it.
func (g *google) grant(sa string, yes bool) {
	g.allowed[sa] = yes
	g.Revoke("projects/shop")
	for sa, yes := range g.allowed {
		if yes {
			g.Grant("projects/shop", "roles/secretmanager.secretAccessor",
				"principal://iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/"+poolOfShop+"/subject/ns/shop/sa/"+sa)
		}
	}
}

func (g *google) enter(m mode) {
	for _, undo := range g.undo {
		undo()
	}
	g.undo = nil
	fault := gcp.Fault{Service: gcp.SecretManager}
	switch m {
	case down:
		fault.Drop = true
	case throttled:
		fault.Code, fault.Message, fault.RetryAfter = "RESOURCE_EXHAUSTED", "Quota exceeded", 100*time.Millisecond
	case rubbish:
		fault.Garbage = true
	default:
		return
	}
	g.undo = append(g.undo, g.AddFault(fault))
}

func (g *google) expire() { g.RevokeAll() }

func (g *google) tokens(sa string) auth.Tokens {
	token := g.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: sa, Audiences: []string{poolOfShop}})
	return auth.Tokens{poolOfShop: auth.NewToken(token, oidc.Expiry(token))}
}

func (g *google) object(name string) string { return "{name: " + name + "}" }

func (g *google) whose(string) string { return "" }
