package chaos

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	azureauth "github.com/coffre-csi/coffre/auth/azure"
	"github.com/coffre-csi/coffre/provider/store"
	azurestore "github.com/coffre-csi/coffre/provider/store/azure"
	"github.com/coffre-csi/coffre/test/fakes/azure"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

// Vaults of the store: what one does not answer, the other is asked for.
const vaultOne, vaultTwo = "shop", "spare"

// microsoft is the fake Azure over TLS under its real host names, with real
// tokens and an application a service account.
type microsoft struct {
	*azure.Server
	issuer *oidc.Issuer
	listen *serve.Listener
	ca     *serve.Authority
	undo   []func()
	mounts atomic.Int64
}

// now is the broker's clock: two seconds on a mount, so that a sign-in that
// failed a moment ago is tried again, as it would be minutes later.
func (m *microsoft) now() time.Time {
	return time.Now().Add(2 * time.Second * time.Duration(m.mounts.Load()))
}

func TestNoStepBreaksAPromiseOnAzure(t *testing.T) {
	m := &microsoft{Server: azure.New(azure.Options{}), issuer: fixture.Issuer(t, "https://oidc.example"), ca: fixture.Authority(t)}
	m.AddIssuer(m.issuer.URL, m.issuer.Keys())
	for _, vault := range []string{vaultOne, vaultTwo} {
		m.AddVault(vault, azure.Vault{})
	}
	m.listen = fixture.Serve(t, "", m, m.ca)
	run(t, m, *steps/50)
}

func client(sa string) string { return "client-of-" + sa }

// ServiceAccountAnnotation names the application of a service account.
func (m *microsoft) ServiceAccountAnnotation(_ context.Context, _, name, key string) (string, error) {
	if key == azureauth.ClientAnnotation {
		return client(name), nil
	}
	return azure.DefaultTenant, nil
}

func (m *microsoft) kinds() store.Kinds {
	network := azureauth.NewNetwork(azureauth.NetworkOptions{Dial: m.listen.DialContext, TLS: &tls.Config{RootCAs: m.ca.Pool()}})
	broker := azureauth.New(azureauth.Options{Network: network, ServiceAccounts: m, Now: m.now})
	return azurestore.Kinds(azurestore.Options{Network: network, Broker: broker})
}

func (m *microsoft) stores() string {
	return fmt.Sprintf("stores: {chaos: {kind: azure-key-vault, vault: %s, failoverVault: %s, namespaces: [shop], refresh: %s, maxStale: %s, timeout: 15s}}", vaultOne, vaultTwo, refresh, maxStale)
}

func (m *microsoft) modes() []mode { return []mode{down, throttled, rubbish, half} }

func (m *microsoft) set(name, value string) {
	for _, vault := range []string{vaultOne, vaultTwo} {
		if value == "" {
			m.DeleteObject(vault, azure.Secrets, name)
		} else {
			m.SetSecretValue(vault, name, value)
		}
	}
}

func (m *microsoft) grant(sa string, yes bool) {
	a := azure.App{ClientID: client(sa)}
	if yes {
		a.Federated = []azure.Federated{{Issuer: m.issuer.URL, Subject: "system:serviceaccount:shop:" + sa}}
		m.Grant(vaultOne, "Key Vault Secrets User", a.ClientID)
		m.Grant(vaultTwo, "Key Vault Secrets User", a.ClientID)
	}
	m.AddApp(a)
	m.RevokeAll() // tokens keep what they were given
}

func (m *microsoft) enter(now mode) {
	for _, undo := range m.undo {
		undo()
	}
	m.undo = nil
	fault := func(f azure.Fault) { m.undo = append(m.undo, m.AddFault(f)) }
	switch now {
	case down:
		m.undo = append(m.undo, m.TakeDown(vaultOne), m.TakeDown(vaultTwo))
	case half:
		m.undo = append(m.undo, m.TakeDown(vaultOne))
	case throttled:
		fault(azure.Fault{Service: azure.KeyVault, Status: 429, Code: "Throttled", Message: "too many requests"})
	case rubbish:
		fault(azure.Fault{Service: azure.KeyVault, Garbage: true})
	}
}

func (m *microsoft) expire() { m.RevokeAll() }

func (m *microsoft) tokens(sa string) auth.Tokens {
	m.mounts.Add(1)
	token := m.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: sa, Audiences: []string{azure.TokenExchange}})
	return auth.Tokens{azure.TokenExchange: auth.NewToken(token, oidc.Expiry(token))}
}

func (m *microsoft) whose(string) string { return "" }

func (m *microsoft) object(name string) string { return "{name: " + name + "}" }
