package gcp_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	parametermanager "cloud.google.com/go/parametermanager/apiv1"
	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google/externalaccount"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/oauth"
	"google.golang.org/grpc/status"

	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/gcp"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

const (
	mysql    = "projects/shop/secrets/mysql"
	accessor = "roles/secretmanager.secretAccessor"

	federation = "//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/pool/providers/eks"
	shopAPI    = "principal://iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/pool/subject/system:serviceaccount:shop:api"
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

// world is a fake behind TLS, in which the project shop has the number 42, and
// a provider trusts the issuer.
type world struct {
	*gcp.Server
	clock  fixture.Clock
	listen *serve.Listener
	http   *http.Client
}

func start(t testing.TB, opts gcp.Options) *world {
	t.Helper()
	w := &world{}
	opts.Now = w.clock.Now
	w.Server = gcp.New(opts)
	w.AddIssuer(issuer().URL, issuer().Keys())
	w.AddProject("shop", "42")
	w.AddProvider(gcp.Provider{Audience: federation, Issuer: issuer().URL})
	w.listen = fixture.Serve(t, "", w.Server, ca())
	w.http = fixture.Client(t, w.listen)
	return w
}

// token is a service account's for an audience; "" is the federation's.
func (w *world) token(namespace, name, audience string) string {
	if audience == "" {
		audience = federation
	}
	return issuer().Token(oidc.Request{Namespace: namespace, ServiceAccount: name, Audiences: []string{audience},
		Issued: w.clock.Now().Add(-time.Minute)})
}

// federate is Google's own library, exchanging a token of shop/api, and
// impersonating a service account where one is named.
func (w *world) federate(t testing.TB, token, impersonate string) oauth2.TokenSource {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatalf("the token's file: %v", err)
	}
	config := externalaccount.Config{
		Audience: federation, SubjectTokenType: "urn:ietf:params:oauth:token-type:jwt",
		TokenURL:         "https://sts.googleapis.com/v1/token",
		CredentialSource: &externalaccount.CredentialSource{File: file},
		Scopes:           []string{"https://www.googleapis.com/auth/cloud-platform"},
	}
	if impersonate != "" {
		config.ServiceAccountImpersonationURL =
			"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/" + impersonate + ":generateAccessToken"
	}
	source, err := externalaccount.NewTokenSource(context.WithValue(ctx, oauth2.HTTPClient, w.http), config)
	if err != nil {
		t.Fatalf("the credentials' configuration: %v", err)
	}
	return source
}

// asShop is the federated token of shop/api.
func (w *world) asShop(t testing.TB) oauth2.TokenSource {
	t.Helper()
	token := ok[*oauth2.Token](t)(w.federate(t, w.token("shop", "api", ""), "").Token())
	return oauth2.StaticTokenSource(token)
}

// dial is a connection to a real host name.
func (w *world) dial(t testing.TB, host string, source oauth2.TokenSource) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+host+":443",
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: ca().Pool()})),
		grpc.WithPerRPCCredentials(oauth.TokenSource{TokenSource: source}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return w.listen.DialContext(ctx, "tcp", "")
		}))
	if err != nil {
		t.Fatalf("dial %s: %v", host, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// secrets is Google's client of an endpoint; "" is the global one.
func (w *world) secrets(t testing.TB, location string, source oauth2.TokenSource) *secretmanager.Client {
	t.Helper()
	conn := w.dial(t, host("secretmanager", location), source)
	return ok[*secretmanager.Client](t)(secretmanager.NewClient(ctx, option.WithGRPCConn(conn)))
}

func (w *world) parameters(t testing.TB, location string, source oauth2.TokenSource) *parametermanager.Client {
	t.Helper()
	conn := w.dial(t, host("parametermanager", location), source)
	return ok[*parametermanager.Client](t)(parametermanager.NewClient(ctx, option.WithGRPCConn(conn)))
}

func host(service, location string) string {
	if location == "" {
		return service + ".googleapis.com"
	}
	return service + "." + location + ".rep.googleapis.com"
}

// rest asks over REST, and is the answer's status and JSON.
func (w *world) rest(t testing.TB, url string, source oauth2.TokenSource) (int, map[string]any) {
	t.Helper()
	req := ok[*http.Request](t)(http.NewRequest(http.MethodGet, url, nil))
	token := ok[*oauth2.Token](t)(source.Token())
	token.SetAuthHeader(req)
	res := ok[*http.Response](t)(w.http.Do(req))
	defer res.Body.Close()
	var body map[string]any
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
		t.Fatalf("%s: the answer is no JSON: %v", url, err)
	}
	return res.StatusCode, body
}

// wantStatus checks a service's error: its code, and a part of its text.
func wantStatus(t testing.TB, what string, err error, code codes.Code, text string) {
	t.Helper()
	if got := status.Convert(err); got.Code() != code || !strings.Contains(got.Message(), text) {
		t.Errorf("%s: got %s: %q\nwant %s: %q", what, got.Code(), got.Message(), code, text)
	}
}

// oauthContext makes Google's library sign in through the fake.
func oauthContext(w *world) context.Context { return context.WithValue(ctx, oauth2.HTTPClient, w.http) }
