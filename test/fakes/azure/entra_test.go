package azure_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azcloud "github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/coffre-csi/coffre/test/fakes/azure"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

func errorsAs[T error](err error, target *T) bool { return errors.As(err, target) }

// stale is a credential that always has the same token.
type stale struct{ azcore.AccessToken }

func (s stale) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: s.Token, ExpiresOn: time.Now().Add(time.Hour * 1000)}, nil
}

var keyVaultScope = policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}}

func TestEntraRefusesWithTheCodeOfTheMistake(t *testing.T) {
	w := start(t, azure.Options{})
	w.AddApp(azure.App{ClientID: "no-federation", Secrets: []string{"x"}})
	right := azure.TokenExchange
	stranger := fixture.Issuer(t, "https://oidc.elsewhere")
	forged := fixture.Issuer(t, issuer().URL)
	api := oidc.Request{Namespace: "shop", ServiceAccount: "api", Audiences: []string{right}}
	late := api
	late.Issued = time.Now().Add(-2 * time.Hour)

	for name, r := range map[string]struct {
		clientID, token string
		status          int
		code            string
	}{
		"unknown application": {"nobody", w.token("shop", "api", right), 400, "AADSTS700016: Application with identifier 'nobody' was not found in the directory"},
		"wrong issuer":        {shopID, stranger.Token(api), 401, "AADSTS700211: No matching federated identity record found for presented assertion issuer 'https://oidc.elsewhere'"},
		"wrong subject":       {shopID, w.token("shop", "web", right), 401, "AADSTS700213: No matching federated identity record found for presented assertion subject 'system:serviceaccount:shop:web'"},
		"wrong audience":      {shopID, w.token("shop", "api", "vault"), 401, "AADSTS700212: No matching federated identity record found for presented assertion audience 'vault'"},
		"no federation":       {"no-federation", w.token("shop", "api", right), 401, "AADSTS70025: The client 'no-federation' has no configured federated identity credentials."},
		"expired":             {shopID, issuer().Token(late), 401, "AADSTS700024: Client assertion is not within its valid time range."},
		"forged":              {shopID, forged.Token(api), 401, "AADSTS50013"},
		"no token":            {shopID, "x", 401, "AADSTS50027: JWT token is invalid or malformed."},
	} {
		_, err := w.assert(t, r.clientID, r.token).GetToken(ctx, keyVaultScope)
		wantError(t, name, err, r.status, r.code)
	}
	if _, err := w.asShop(t).GetToken(ctx, keyVaultScope); err != nil {
		t.Errorf("what is right: got the error %v, want a token", err)
	}
}

func TestSecretsAndCertificatesSignIn(t *testing.T) {
	w := start(t, azure.Options{})
	cert, key := certificate(t)
	stranger, strangeKey := certificate(t)
	w.AddApp(azure.App{ClientID: "by-certificate", Certificates: []*x509.Certificate{cert}})

	for secret, want := range map[string]string{"client-s3cret": "", "wrong": "AADSTS7000215: Invalid client secret provided."} {
		c := ok[*azidentity.ClientSecretCredential](t)(azidentity.NewClientSecretCredential(azure.DefaultTenant, shopID, secret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: w.options()}))
		wantToken(t, "a secret", c, want)
	}
	for _, r := range []struct {
		cert *x509.Certificate
		key  crypto.PrivateKey
		want string
	}{{cert, key, ""}, {stranger, strangeKey, "AADSTS700027"}} {
		c := ok[*azidentity.ClientCertificateCredential](t)(azidentity.NewClientCertificateCredential(azure.DefaultTenant, "by-certificate",
			[]*x509.Certificate{r.cert}, r.key, &azidentity.ClientCertificateCredentialOptions{ClientOptions: w.options()}))
		wantToken(t, "a certificate", c, r.want)
	}
	unknown := ok[*azidentity.ClientSecretCredential](t)(azidentity.NewClientSecretCredential("no-such-tenant", shopID, "client-s3cret",
		&azidentity.ClientSecretCredentialOptions{ClientOptions: w.options()}))
	wantToken(t, "another tenant", unknown, "AADSTS90002: Tenant 'no-such-tenant' not found.")
}

// wantToken wants a token, or an error with a text.
func wantToken(t *testing.T, what string, c azcore.TokenCredential, want string) {
	t.Helper()
	_, err := c.GetToken(ctx, keyVaultScope)
	if want == "" && err != nil {
		t.Errorf("%s: got the error %v, want a token", what, err)
	}
	if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: got the error %v, want %s", what, err, want)
	}
}

func TestEveryCloudHasItsAuthority(t *testing.T) {
	w := start(t, azure.Options{})
	w.SetSecretValue(vault, "mysql", "x")
	w.Grant(vault, user, shopID)
	for suffix, config := range map[string]azcloud.Configuration{
		"vault.azure.net": azcloud.AzurePublic, "vault.azure.cn": azcloud.AzureChina, "vault.usgovcloudapi.net": azcloud.AzureGovernment,
		"vault.stack.example": {ActiveDirectoryAuthorityHost: "https://login.stack.example/"},
	} {
		options := w.options()
		options.Cloud = config
		c := ok[*azidentity.ClientAssertionCredential](t)(azidentity.NewClientAssertionCredential(azure.DefaultTenant, shopID,
			func(context.Context) (string, error) { return w.token("shop", "api", azure.TokenExchange), nil },
			&azidentity.ClientAssertionCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: suffix == "vault.stack.example"}))
		if got, err := get(w.secrets(t, "https://shop."+suffix, c), "mysql", ""); err != nil || got != "x" {
			t.Errorf("%s: got %q and the error %v, want the value", suffix, got, err)
		}
	}
}

func TestANodesIdentitiesSignInThroughIMDS(t *testing.T) {
	w := start(t, azure.Options{})
	w.AddApp(azure.App{ClientID: "system"})
	w.AddApp(azure.App{ClientID: "user-1"})
	w.AddApp(azure.App{ClientID: "user-2"})
	plain := fixture.Client(t, fixture.Serve(t, "", w.Server, nil))
	credential := func(clientID string) azcore.TokenCredential {
		o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: w.options()}
		o.Transport = plain
		if clientID != "" {
			o.ID = azidentity.ClientID(clientID)
		}
		return ok[*azidentity.ManagedIdentityCredential](t)(azidentity.NewManagedIdentityCredential(o))
	}

	wantToken(t, "a node without an identity", credential(""), "Identity not found")
	w.SetNode("", "user-1", "user-2")
	wantToken(t, "one of several", credential(""), "Multiple user assigned identities exist")
	wantToken(t, "one that is named", credential("user-2"), "")
	wantToken(t, "one that is not the node's", credential("system"), "Identity not found")
	w.SetNode("system", "user-1", "user-2")
	wantToken(t, "the system's", credential(""), "")
	if last := w.Calls()[w.Count("")-1]; last.Caller != "system" {
		t.Errorf("got the caller %q, want system", last.Caller)
	}
}

func TestAPodsIdentityComesThroughNMI(t *testing.T) {
	w := start(t, azure.Options{})
	w.AssignPod("shop", "api-0", shopID)
	ask := func(pod string) (int, string) {
		req := httptest.NewRequest(http.MethodGet, "/host/token/?resource=https://vault.azure.net", nil)
		req.Header.Set("podns", "shop")
		req.Header.Set("podname", pod)
		rec := httptest.NewRecorder()
		w.NMI().ServeHTTP(rec, req)
		return rec.Code, rec.Body.String()
	}
	if code, body := ask("api-0"); code != 200 || !strings.Contains(body, `"clientid":"`+shopID+`"`) || !strings.Contains(body, "access_token") {
		t.Errorf("got %d %s, want a token of %s", code, body, shopID)
	}
	if code, _ := ask("web-0"); code != 404 {
		t.Errorf("a pod without an identity: got %d, want 404", code)
	}
}

func TestIdentityBindingsAreReachedByTheirServerNameOnly(t *testing.T) {
	w := start(t, azure.Options{})
	const sni = "a0123.ests.aks"
	cluster := fixture.Authority(t)
	w.AddApp(azure.App{ClientID: "bound", Binding: issuer().URL})
	l := fixture.Serve(t, "", w.IdentityBindings(sni), cluster)
	ask := func(serverName, audience string) (int, string) {
		c := &http.Client{Transport: &http.Transport{
			DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return l.DialContext(ctx, "tcp", "") },
			TLSClientConfig: &tls.Config{ServerName: serverName, RootCAs: cluster.Pool()},
		}}
		defer c.CloseIdleConnections()
		form := "client_id=bound&grant_type=client_credentials&scope=https%3A%2F%2Fvault.azure.net%2F.default" +
			"&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion=" + w.token("shop", "api", audience)
		res := ok[*http.Response](t)(c.Post("https://kubernetes.default.svc/"+azure.DefaultTenant+"/oauth2/v2.0/token",
			"application/x-www-form-urlencoded", strings.NewReader(form)))
		defer res.Body.Close()
		return res.StatusCode, string(ok[[]byte](t)(io.ReadAll(res.Body)))
	}

	if code, body := ask(sni, azure.IdentityBinding); code != 200 || !strings.Contains(body, "access_token") {
		t.Errorf("got %d %s, want a token", code, body)
	}
	if code, body := ask(sni, azure.TokenExchange); code != 401 || !strings.Contains(body, "AADSTS700212") {
		t.Errorf("a token of another audience: got %d %s, want 401", code, body)
	}
	if code, _ := ask("kubernetes.default.svc", azure.IdentityBinding); code != http.StatusMisdirectedRequest {
		t.Errorf("another server name: got %d, want 421", code)
	}
}
