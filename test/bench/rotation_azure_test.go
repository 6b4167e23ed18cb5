package bench

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	azureauth "github.com/coffre-csi/coffre/auth/azure"
	azurestore "github.com/coffre-csi/coffre/provider/store/azure"
	"github.com/coffre-csi/coffre/test/fakes/azure"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

// microsoft is a vault whose secrets are read for five service accounts, from
// the strict fake on the bubble's clock.
type microsoft struct{ *azure.Server }

func (m *microsoft) begin(_ *testing.T, issuer *oidc.Issuer, h *hour) rotated {
	m.Server = azure.New(azure.Options{})
	m.AddIssuer(issuer.URL, issuer.Keys())
	app := azure.App{ClientID: "shop-client"}
	for i := range serviceAccounts {
		subject := fmt.Sprintf("system:serviceaccount:shop:sa-%d", i)
		app.Federated = append(app.Federated, azure.Federated{Issuer: issuer.URL, Subject: subject})
	}
	m.AddApp(app)
	m.AddVault("shop", azure.Vault{})
	m.Grant("shop", "Key Vault Secrets User", app.ClientID)
	var objects strings.Builder
	for i := range secretsAPod {
		m.SetSecretValue("shop", fmt.Sprintf("secret-%d", i), "value")
		fmt.Fprintf(&objects, "- {name: secret-%d}\n", i)
	}

	network := azureauth.NewNetwork(azureauth.NetworkOptions{Transport: slow{serve.InMemory(m)}})
	broker := azureauth.New(azureauth.Options{Network: network})
	text := fmt.Sprintf("stores: {vault: {kind: azure-key-vault, vault: shop, tenantID: %s, clientID: shop-client, namespaces: [shop], refresh: %s}}", azure.DefaultTenant, refresh)
	h.over = func() { h.calls = m.Counts() }
	return rotated{
		kinds: azurestore.Kinds(azurestore.Options{Network: network, Broker: broker}), stores: text, audience: azure.TokenExchange,
		parameters: map[string]string{"store": "vault", "objects": objects.String()},
		begun:      func() { h.initial = m.Count("GetSecret"); m.Reset() },
	}
}

// TestAnHourOfRotationReadsAVaultOnceARefresh is the rotation benchmark of
// Azure; `make bench-rotation` prints it.
func TestAnHourOfRotationReadsAVaultOnceARefresh(t *testing.T) {
	h := simulate(t, time.Hour, (&microsoft{}).begin)
	distinct := serviceAccounts * secretsAPod
	target := distinct * int(time.Hour/refresh)
	reads := h.calls["GetSecret"]
	fmt.Fprintf(os.Stdout, `a simulated hour of %d pods on a vault of Azure's, %d secrets each, %d service accounts, refresh %s
  republishes             %7d
  secrets read            %7d   target: at most %d
  sign-ins                %7d   challenges: %d
  a republish, p99, waits %7s for the vault
`, pods, secretsAPod, serviceAccounts, refresh, h.mounts, reads, target, h.calls["Token"], h.calls["Challenge"], percentile(h.waited, 99))
	if reads > target+distinct/10 {
		t.Errorf("got %d reads, want at most one a secret and refresh: %d", reads, target)
	}
	if h.initial != distinct {
		t.Errorf("got %d reads to start with, want %d", h.initial, distinct)
	}
	if h.calls["Token"] != 0 || h.calls["Challenge"] != 0 {
		t.Errorf("got %d sign-ins and %d challenges in the hour, want none: tokens last a day", h.calls["Token"], h.calls["Challenge"])
	}
	if percentile(h.waited, 99) > 0 {
		t.Errorf("got one republish in a hundred that waited %s for the vault, want none", percentile(h.waited, 99))
	}
}
