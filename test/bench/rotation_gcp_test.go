package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"

	gcpauth "github.com/coffre-csi/coffre/auth/gcp"
	gcpstore "github.com/coffre-csi/coffre/provider/store/gcp"
	"github.com/coffre-csi/coffre/test/fakes/gcp"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

// google is a project whose secrets are read for five service accounts, from
// the strict fake on the bubble's clock: real clients, TLS and HTTP/2 over pipes
// in memory.
type google struct{ *gcp.Server }

const gcpFederation = "//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/pool/providers/node"

func (g *google) begin(t *testing.T, issuer *oidc.Issuer, h *hour) rotated {
	g.Server = gcp.New(gcp.Options{})
	g.SetLatency("", storeLatency)
	g.AddIssuer(issuer.URL, issuer.Keys())
	g.AddProject("shop", "42")
	g.AddProvider(gcp.Provider{Audience: gcpFederation, Issuer: issuer.URL})
	g.Grant("projects/shop", "roles/secretmanager.secretAccessor", "principalSet://iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/pool/*")
	var objects strings.Builder
	for i := range secretsAPod {
		g.SetSecretValue(fmt.Sprintf("projects/shop/secrets/secret-%d", i), "value")
		fmt.Fprintf(&objects, "- {name: secret-%d}\n", i)
	}

	ca, err := serve.NewAuthority()
	if err != nil {
		t.Fatalf("no authority: %v", err)
	}
	memory := bufconn.Listen(64 << 10)
	listener := serve.On(memory, g.Server, ca)
	network := gcpauth.NewNetwork(gcpauth.NetworkOptions{
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return memory.DialContext(ctx) },
		// The certificates are younger than the bubble, whose time begins in 2000.
		TLS: &tls.Config{RootCAs: ca.Pool(), Time: func() time.Time { return time.Now().AddDate(50, 0, 0) }},
	})
	broker := gcpauth.New(gcpauth.Options{Network: network, Audience: gcpFederation})
	kinds := gcpstore.Kinds(gcpstore.Options{Network: network, Broker: broker})
	h.over = func() {
		h.calls = g.Counts()
		kinds[0].Close()
		broker.Close()
		network.Close()
		listener.Close()
	}
	return rotated{
		kinds: kinds, audience: gcpFederation, parameters: map[string]string{"store": "paris", "objects": objects.String()},
		stores: fmt.Sprintf("stores: {paris: {kind: gcp-secret-manager, project: shop, namespaces: [shop], refresh: %s}}", refresh),
		begun:  func() { h.initial = g.Count("AccessSecretVersion"); g.Reset() },
	}
}

// TestAnHourOfRotationReadsGoogleOnceARefresh is the rotation benchmark of
// Google; `make bench-rotation` prints it.
func TestAnHourOfRotationReadsGoogleOnceARefresh(t *testing.T) {
	h := simulate(t, time.Hour, (&google{}).begin)
	distinct := serviceAccounts * secretsAPod
	target := distinct * int(time.Hour/refresh)
	reads := h.calls["AccessSecretVersion"]
	fmt.Fprintf(os.Stdout, `a simulated hour of %d pods on a project of Google's, %d secrets each, %d service accounts, refresh %s
  republishes             %7d
  secrets read            %7d   target: at most %d
  sign-ins                %7d
  a republish, p99, waits %7s for Google
`, pods, secretsAPod, serviceAccounts, refresh, h.mounts, reads, target, h.calls["Token"], percentile(h.waited, 99))
	if reads > target+distinct/10 {
		t.Errorf("got %d reads, want at most one a secret and refresh: %d", reads, target)
	}
	if h.initial != distinct {
		t.Errorf("got %d reads to start with, want %d", h.initial, distinct)
	}
	if h.calls["ListSecrets"] != 0 {
		t.Errorf("got %d lists, want none: their quota is small", h.calls["ListSecrets"])
	}
	if signIns := h.calls["Token"]; signIns > 2*serviceAccounts {
		t.Errorf("got %d sign-ins in the hour, want at most two an identity", signIns)
	}
	if percentile(h.waited, 99) > 0 {
		t.Errorf("got one republish in a hundred that waited %s for Google, want none", percentile(h.waited, 99))
	}
}
