package azure_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/coffre-csi/coffre/test/fakes/azure"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

const (
	shopID = "aaaaaaaa-0000-0000-0000-000000000001" // the client id of shop/api
	vault  = "shop"
	url    = "https://shop.vault.azure.net"
	user   = "Key Vault Secrets User"
)

// issuer and ca are made once: keys take time.
var (
	issuer = sync.OnceValue(func() *oidc.Issuer { return must(oidc.NewIssuer("https://oidc.test/cluster")) })
	ca     = sync.OnceValue(func() *serve.Authority { return must(serve.NewAuthority()) })
	ctx    = context.Background()
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func ok[T any](t testing.TB) func(T, error) T { return fixture.OK[T](t) }

// world is a fake behind TLS, with the vault shop and an application that
// trusts shop/api.
type world struct {
	*azure.Server
	clock  fixture.Clock
	listen *serve.Listener
	http   *http.Client
}

func start(t testing.TB, opts azure.Options) *world {
	t.Helper()
	w := &world{}
	opts.Now = w.clock.Now
	w.Server = azure.New(opts)
	w.AddIssuer(issuer().URL, issuer().Keys())
	w.AddVault(vault, azure.Vault{})
	w.AddApp(azure.App{ClientID: shopID, Secrets: []string{"client-s3cret"},
		Federated: []azure.Federated{{Issuer: issuer().URL, Subject: "system:serviceaccount:shop:api"}}})
	w.listen = fixture.Serve(t, "", w.Server, ca())
	w.http = fixture.Client(t, w.listen)
	return w
}

// options are the SDK's, under the real host names, without retries.
func (w *world) options() policy.ClientOptions {
	return policy.ClientOptions{Transport: w.http, Retry: policy.RetryOptions{MaxRetries: -1}}
}

func (w *world) token(namespace, name, audience string) string {
	return issuer().Token(oidc.Request{Namespace: namespace, ServiceAccount: name, Audiences: []string{audience},
		Issued: w.clock.Now().Add(-time.Minute)})
}

// assert is azidentity with a federated token.
func (w *world) assert(t testing.TB, clientID, token string) azcore.TokenCredential {
	t.Helper()
	return ok[*azidentity.ClientAssertionCredential](t)(azidentity.NewClientAssertionCredential(azure.DefaultTenant, clientID,
		func(context.Context) (string, error) { return token, nil },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: w.options()}))
}

func (w *world) asShop(t testing.TB) azcore.TokenCredential {
	t.Helper()
	return w.assert(t, shopID, w.token("shop", "api", azure.TokenExchange))
}

func (w *world) secrets(t testing.TB, url string, cred azcore.TokenCredential) *azsecrets.Client {
	t.Helper()
	return ok[*azsecrets.Client](t)(azsecrets.NewClient(url, cred, &azsecrets.ClientOptions{ClientOptions: w.options()}))
}

// get reads a secret's value.
func get(c *azsecrets.Client, name, version string) (string, error) {
	out, err := c.GetSecret(ctx, name, version, nil)
	if err != nil {
		return "", err
	}
	return *out.Value, nil
}

// wantError checks a service's error: its status, and parts of its text.
func wantError(t testing.TB, what string, err error, status int, parts ...string) {
	t.Helper()
	var failed *azcore.ResponseError
	var denied *azidentity.AuthenticationFailedError
	got := 0
	switch {
	case errors.As(err, &failed):
		got = failed.StatusCode
	case errors.As(err, &denied) && denied.RawResponse != nil:
		got = denied.RawResponse.StatusCode
	}
	if got != status {
		t.Errorf("%s: got status %d of %v, want %d", what, got, err, status)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: got %v\nwant %q in it", what, err, part)
		}
	}
}

// certificate is a new self-signed certificate with its key.
func certificate(t testing.TB) (*x509.Certificate, *rsa.PrivateKey) {
	t.Helper()
	key := ok[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shop"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der := ok[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))
	return ok[*x509.Certificate](t)(x509.ParseCertificate(der)), key
}
