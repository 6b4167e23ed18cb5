package azure

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/test/fakes/azure"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

const (
	shopID   = "aaaaaaaa-0000-0000-0000-000000000001"
	resource = "https://vault.azure.net"
)

// world is the strict fake with the application of shop/api.
type world struct {
	*azure.Server
	clock       fixture.Clock
	issuer      *oidc.Issuer
	options     Options
	annotations map[string]string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{annotations: map[string]string{}}
	w.Server = azure.New(azure.Options{Now: w.clock.Now})
	w.issuer = fixture.Issuer(t, "https://oidc.example/cluster")
	w.AddIssuer(w.issuer.URL, w.issuer.Keys())
	w.AddApp(azure.App{ClientID: shopID, Secrets: []string{"client-s3cret"},
		Federated: []azure.Federated{{Issuer: w.issuer.URL, Subject: "system:serviceaccount:shop:api"}}})

	ca := fixture.Authority(t)
	network := NewNetwork(NetworkOptions{Dial: fixture.Serve(t, "", w.Server, ca).DialContext, TLS: &tls.Config{RootCAs: ca.Pool()}})
	clear := &http.Client{Transport: &http.Transport{DialContext: fixture.Serve(t, "", w.Server, nil).DialContext}}
	w.options = Options{Network: network, ServiceAccounts: w, Local: clear, Now: w.clock.Now}
	return w
}

func (w *world) ServiceAccountAnnotation(_ context.Context, _, _, key string) (string, error) {
	return w.annotations[key], nil
}

func (w *world) identity(account string) auth.Identity {
	raw := w.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: account, Audiences: []string{TokenExchangeAudience}, Issued: w.clock.Now().Add(-time.Minute)})
	return auth.Identity{Namespace: "shop", ServiceAccount: account, Pod: auth.Pod{Name: account + "-0"},
		Tokens: auth.Tokens{TokenExchangeAudience: auth.NewToken(raw, oidc.Expiry(raw))}}
}

// signIn opens a session and asks for a token.
func (w *world) signIn(t testing.TB, id auth.Identity, l Login) (auth.Token, error) {
	t.Helper()
	b := New(w.options)
	defer b.Close()
	if l.Cloud.Authority == "" {
		l.Cloud, _ = CloudOf("", "")
	}
	s, err := b.Open(t.Context(), id, l)
	if err != nil {
		return auth.Token{}, err
	}
	return s.Token(t.Context(), resource)
}

func as(method Method) Login {
	return Login{Method: method, Tenant: azure.DefaultTenant, Client: shopID}
}

func wantRefusal(t testing.TB, what string, err error, reason fault.Reason, parts ...string) {
	t.Helper()
	if err == nil || fault.ReasonOf(err) != reason {
		t.Errorf("%s: got %s: %v, want %s", what, fault.ReasonOf(err), err, reason)
	}
	for _, part := range parts {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("%s: got %v\nwant in it: %s", what, err, part)
		}
	}
	if strings.Contains(fmt.Sprint(err), "s3cret") || strings.Contains(fmt.Sprint(err), "eyJ") {
		t.Errorf("%s: got a secret or a token in the error", what)
	}
}

func TestWhatEntraRefusesNamesTheCommandThatMends(t *testing.T) {
	federated := func(f azure.Federated) func(*world) {
		return func(w *world) {
			f.Issuer = strings.Replace(f.Issuer, "OWN", w.issuer.URL, 1)
			w.AddApp(azure.App{ClientID: shopID, Federated: []azure.Federated{f}})
		}
	}
	const own = "system:serviceaccount:shop:api"
	command := "az identity federated-credential create --name shop-api --identity-name NAME --resource-group GROUP --issuer https://oidc.example/cluster --subject " +
		own + " --audiences api://AzureADTokenExchange (NAME and GROUP are those of the identity whose client id is " + shopID + ")"
	for name, c := range map[string]struct {
		change func(*world)
		login  func(*Login)
		reason fault.Reason
		want   []string
	}{
		"no federated credential": {change: func(w *world) { w.AddApp(azure.App{ClientID: shopID}) }, reason: fault.Denied, want: []string{"AADSTS70025: ", command}},
		"another issuer":          {change: federated(azure.Federated{Issuer: "https://other", Subject: own}), reason: fault.Denied, want: []string{"AADSTS700211: ", command}},
		"another subject":         {change: federated(azure.Federated{Issuer: "OWN", Subject: "x"}), reason: fault.Denied, want: []string{"AADSTS700213: ", command}},
		"another audience":        {change: federated(azure.Federated{Issuer: "OWN", Subject: own, Audience: "x"}), reason: fault.Denied, want: []string{"AADSTS700212: ", command}},
		"unknown application":     {login: func(l *Login) { l.Client = "nobody" }, reason: fault.Denied, want: []string{"AADSTS700016: ", "clientID nobody is no application or identity of tenant"}},
		"unknown tenant":          {login: func(l *Login) { l.Tenant = "elsewhere" }, reason: fault.Invalid, want: []string{"AADSTS90002: ", "tenantID elsewhere is no tenant of cloud AzurePublicCloud"}},
		"down": {change: func(w *world) {
			w.AddFault(azure.Fault{Service: azure.Entra, Status: 503, Code: "AADSTS90033", Message: "later"})
		}, reason: fault.Unavailable, want: []string{"login.microsoftonline.com failed"}},
		"a proxy's page": {change: func(w *world) { w.AddFault(azure.Fault{Service: azure.Entra, Garbage: true}) }, reason: fault.Unavailable, want: []string{"login.microsoftonline.com"}},
		"breaks off":     {change: func(w *world) { w.AddFault(azure.Fault{Service: azure.Entra, Drop: true}) }, reason: fault.Unavailable, want: []string{"login.microsoftonline.com cannot be reached"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, l := newWorld(t), as(WorkloadIdentity)
			if c.change != nil {
				c.change(w)
			}
			if c.login != nil {
				c.login(&l)
			}
			_, err := w.signIn(t, w.identity("api"), l)
			wantRefusal(t, name, err, c.reason, c.want...)
		})
	}
}

func TestARefusalKeepsItsTraceBesideTheText(t *testing.T) {
	w := newWorld(t)
	_, one := w.signIn(t, w.identity("stranger"), as(WorkloadIdentity))
	_, two := w.signIn(t, w.identity("stranger"), as(WorkloadIdentity))
	if fault.As(one, "").Detail.Request == "" || fault.As(one, "").Detail == fault.As(two, "").Detail {
		t.Errorf("got the details %+v and %+v, want two traces", fault.As(one, "").Detail, fault.As(two, "").Detail)
	}
	if fault.Same(one) != fault.Same(two) {
		t.Errorf("got two texts of one cause:\n%s\n%s", fault.Same(one), fault.Same(two))
	}
}

// The sentences are the Azure provider's: alerts match on them.
func TestWhatARequestLacksIsSaidBeforeAnybodyIsAsked(t *testing.T) {
	w := newWorld(t)
	full := w.identity("api")
	bare := full
	bare.Tokens = nil
	secret := func(s auth.Secrets) auth.Identity { id := full; id.Secrets = s; return id }
	for name, c := range map[string]struct {
		id     auth.Identity
		change func(*Login)
		method Method
		want   string
	}{
		"no tokens":            {id: bare, method: WorkloadIdentity, want: "failed to parse workload identity tokens, error: service account tokens not found"},
		"no binding's token":   {id: full, method: TokenProxy, want: "failed to parse service account token for identity binding, error: token for audience api://AKSIdentityBinding not found"},
		"no tokens to bind":    {id: bare, method: TokenProxy, want: "service account tokens are required for identity binding"},
		"nobody to bind":       {id: full, method: TokenProxy, change: func(l *Login) { l.Client = "" }, want: "clientID is required for identity binding"},
		"nobody":               {id: full, method: WorkloadIdentity, change: func(l *Login) { l.Client = "" }, want: "the annotation azure.workload.identity/client-id"},
		"no tenant":            {id: full, method: WorkloadIdentity, change: func(l *Login) { l.Tenant = "" }, want: "tenantId is not provided: set the store's tenantID, or the annotation azure.workload.identity/tenant-id"},
		"no Secret":            {id: full, method: ServicePrincipal, want: "failed to get credentials, nodePublishSecretRef secret is not set"},
		"no id in the Secret":  {id: secret(auth.Secrets{"x": "y"}), method: ServicePrincipal, want: "could not find clientid in secrets"},
		"no proof in it":       {id: secret(auth.Secrets{"ClientID": shopID}), method: ServicePrincipal, want: "could not find clientsecret in secrets"},
		"no certificate in it": {id: secret(auth.Secrets{"clientid": shopID, "clientcertificate": "s3cret"}), method: ServicePrincipal, want: "is no PEM and no PFX"},
	} {
		l := as(c.method)
		if c.change != nil {
			c.change(&l)
		}
		_, err := w.signIn(t, c.id, l)
		if r := fault.ReasonOf(err); r != fault.Precondition && r != fault.Invalid {
			t.Errorf("%s: got %s, want precondition or invalid", name, r)
		}
		wantRefusal(t, name, err, fault.ReasonOf(err), c.want)
	}
	if n := len(w.Calls()); n != 0 {
		t.Errorf("got %d calls, want none", n)
	}
}

func TestTheServiceAccountSaysWhoItIs(t *testing.T) {
	w := newWorld(t)
	w.annotations[ClientAnnotation], w.annotations[TenantAnnotation] = shopID, azure.DefaultTenant
	if _, err := w.signIn(t, w.identity("api"), Login{}); err != nil {
		t.Errorf("got the error %v, want a token", err)
	}
	w.annotations[ClientAnnotation] = "a client/../x"
	_, err := w.signIn(t, w.identity("api"), Login{})
	wantRefusal(t, "a bad annotation", err, fault.Invalid, "is no client id")
}

func TestAServicePrincipalSignsInWithSecretOrCertificate(t *testing.T) {
	w := newWorld(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatalf("got the error %v, want a key", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shop"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatalf("got the error %v, want a certificate", err)
	}
	parsed, _ := x509.ParseCertificate(der)
	private, _ := x509.MarshalPKCS8PrivateKey(key)
	bundle := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})) + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	w.AddApp(azure.App{ClientID: "certified", Certificates: []*x509.Certificate{parsed}})

	login := Login{Method: ServicePrincipal, Tenant: azure.DefaultTenant}
	for _, s := range []auth.Secrets{{"clientId": shopID, "ClientSecret": "client-s3cret"}, {"clientid": "certified", "clientcertificate": bundle}} {
		id := w.identity("api")
		id.Secrets = s
		if _, err := w.signIn(t, id, login); err != nil {
			t.Errorf("%s: got the error %v, want a token", s["clientid"], err)
		}
	}
	id := w.identity("api")
	id.Secrets = auth.Secrets{"clientid": shopID, "clientsecret": "wrong-s3cret"}
	_, err = w.signIn(t, id, login)
	wantRefusal(t, "a wrong secret", err, fault.Denied, "AADSTS7000215", "az ad app credential reset --id "+shopID)
}

func TestTheNodesIdentityIsTheMetadataServersToGive(t *testing.T) {
	w := newWorld(t)
	w.AddApp(azure.App{ClientID: "uai-1"})
	w.SetNode(shopID, "uai-1")
	for _, client := range []string{"", "uai-1"} {
		if _, err := w.signIn(t, auth.Identity{}, Login{Method: ManagedIdentity, Client: client}); err != nil {
			t.Errorf("%q: got the error %v, want a token", client, err)
		}
	}
	_, err := w.signIn(t, auth.Identity{}, Login{Method: ManagedIdentity, Client: "another"})
	wantRefusal(t, "an identity that the node has not", err, fault.Denied, "the node has no managed identity another")
}

func TestPodIdentityIsAskedOfNMI(t *testing.T) {
	w := newWorld(t)
	w.options.Local = &http.Client{Transport: &http.Transport{DialContext: fixture.Serve(t, "", w.NMI(), nil).DialContext}}
	w.AssignPod("shop", "api-0", shopID)
	if _, err := w.signIn(t, w.identity("api"), Login{Method: PodIdentity}); err != nil {
		t.Errorf("got the error %v, want a token", err)
	}
	_, err := w.signIn(t, w.identity("web"), Login{Method: PodIdentity})
	wantRefusal(t, "a pod without an identity", err, fault.Denied, "nmi response failed with status code: 404, response body: no azure identity found")
}

func TestAnIdentityBindingGoesThroughTheTokenProxyUnderItsServerName(t *testing.T) {
	w := newWorld(t)
	w.AddApp(azure.App{ClientID: shopID, Binding: w.issuer.URL})
	ca := fixture.Authority(t)
	name := serverName("0123")
	listener := fixture.Serve(t, "", w.IdentityBindings(name), ca)
	_, port, _ := net.SplitHostPort(listener.Addr())
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, ca.PEM(), 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	id := w.identity("api")
	raw := w.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: "api", Audiences: []string{IdentityBindingAudience}, Issued: w.clock.Now().Add(-time.Minute)})
	id.Tokens = auth.Tokens{IdentityBindingAudience: auth.NewToken(raw, oidc.Expiry(raw))}

	w.options.Binding = Binding{URL: "https://127.0.0.1:" + port, ServerName: name, CAFile: file}
	if _, err := w.signIn(t, id, as(TokenProxy)); err != nil {
		t.Errorf("got the error %v, want a token", err)
	}
	if got := strings.Join(w.Notation(), " "); !strings.HasPrefix(got, azure.TokenProxy+":") || strings.Contains(got, azure.Entra+":") {
		t.Errorf("got the calls %s, want them of the proxy alone", got)
	}
	w.options.Binding.ServerName = "another.ests.aks"
	_, err := w.signIn(t, id, as(TokenProxy))
	wantRefusal(t, "another server name", err, fault.Unavailable)
}

func TestACloudIsItsAuthorityAndItsSuffix(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cloud.json")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
	}
	write(`{"activeDirectoryEndpoint": "https://login.custom.test/", "keyVaultEndpoint": "https://vault.custom.test/", "keyVaultDNSSuffix": "vault.custom.test"}`)
	for name, want := range map[string]string{
		"": "https://login.microsoftonline.com vault.azure.net", "AZUREcloud": "https://login.microsoftonline.com vault.azure.net",
		"AzureUSGovernment": "https://login.microsoftonline.us vault.usgovcloudapi.net", "AzureChinaCloud": "https://login.chinacloudapi.cn vault.azure.cn",
		"AzureGermanCloud": "https://login.microsoftonline.de vault.microsoftazure.de", "azurestackcloud": "https://login.custom.test vault.custom.test",
	} {
		if c, err := CloudOf(name, file); err != nil || c.Authority+" "+c.Suffix != want {
			t.Errorf("%q: got %+v and the error %v, want %s", name, c, err, want)
		}
	}

	for text, want := range map[string]string{
		`{"activeDirectoryEndpoint": "http://login.custom.test", "keyVaultDNSSuffix": "vault.custom.test"}`:     "activeDirectoryEndpoint is no https URL",
		`{"activeDirectoryEndpoint": "https://login.custom.test", "keyVaultDNSSuffix": "vault/../custom.test"}`: "keyVaultDNSSuffix is no DNS name",
		`not json`: "holds no JSON",
	} {
		write(text)
		if _, err := CloudOf(StackCloud, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}
