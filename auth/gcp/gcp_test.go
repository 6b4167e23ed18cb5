package gcp_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	gcpauth "github.com/coffre-csi/coffre/auth/gcp"
	"github.com/coffre-csi/coffre/auth/kubernetes"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/gcp"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

const (
	pool       = "shop.svc.id.goog"
	cluster    = "identitynamespace:shop.svc.id.goog:https://container.googleapis.com/v1/projects/shop/locations/europe-west9/clusters/blue"
	federation = "//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/pool/providers/eks"
	email      = "shop@shop.iam.gserviceaccount.com"
	member     = "principal://iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/shop.svc.id.goog/subject/ns/shop/sa/api"
)

// world is the strict fake behind TLS with a GKE cluster, a provider of
// federation and a service account that shop/api may act as.
type world struct {
	*gcp.Server
	issuer      *oidc.Issuer
	options     gcpauth.Options
	annotations map[string]string
	refuse      error        // of the API server
	read        atomic.Int32 // ServiceAccounts
}

func start(t testing.TB) *world {
	t.Helper()
	w := &world{Server: gcp.New(gcp.Options{}), issuer: fixture.Issuer(t, "https://oidc.example/cluster"), annotations: map[string]string{}}
	w.AddIssuer(w.issuer.URL, w.issuer.Keys())
	w.AddProject("shop", "42")
	w.AddProvider(gcp.GKE("shop", "europe-west9", "blue", w.issuer.URL))
	w.AddProvider(gcp.Provider{Audience: federation, Issuer: w.issuer.URL})
	w.SetNode("shop", "europe-west9", "blue", "")
	w.AddServiceAccount(email)
	w.Grant("projects/-/serviceAccounts/"+email, "roles/iam.workloadIdentityUser", member)

	ca := fixture.Authority(t)
	google := fixture.Serve(t, "", w.Server, ca)
	w.options = gcpauth.Options{
		Network:         gcpauth.NewNetwork(gcpauth.NetworkOptions{Dial: google.DialContext, TLS: &tls.Config{RootCAs: ca.Pool()}}),
		ServiceAccounts: w, MetadataHost: fixture.Serve(t, "", w.MetadataServer(), nil).Addr(),
	}
	return w
}

func (w *world) ServiceAccountAnnotation(_ context.Context, _, _, key string) (string, error) {
	w.read.Add(1)
	return w.annotations[key], w.refuse
}

func (w *world) broker(t testing.TB) *gcpauth.Broker {
	b := gcpauth.New(w.options)
	t.Cleanup(b.Close)
	return b
}

// pod is a pod of shop/api with a token for each audience.
func (w *world) pod(audiences ...string) auth.Identity {
	id := auth.Identity{Namespace: "shop", ServiceAccount: "api", Tokens: auth.Tokens{}}
	for _, a := range audiences {
		raw := w.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: "api", Audiences: []string{a}, Issued: time.Now().Add(-time.Minute)})
		id.Tokens[a] = auth.NewToken(raw, oidc.Expiry(raw))
	}
	return id
}

// signIn opens a session and asks for its token.
func signIn(t testing.TB, b *gcpauth.Broker, id auth.Identity, login gcpauth.Login) (auth.Token, error) {
	t.Helper()
	if login.Method == "" {
		login.Method = gcpauth.WorkloadIdentity
	}
	s, err := b.Open(t.Context(), id, login)
	if err != nil {
		return auth.Token{}, err
	}
	return s.Token(t.Context())
}

func TestSixtyMountsOfOneIdentityAreOneExchangeAndOneImpersonation(t *testing.T) {
	w := start(t)
	w.annotations[gcpauth.AccountAnnotation] = email
	b, id := w.broker(t), w.pod(pool)

	var all sync.WaitGroup
	for range 60 {
		all.Go(func() {
			if _, err := signIn(t, b, id, gcpauth.Login{}); err != nil {
				t.Errorf("got the error %v, want a token", err)
			}
		})
	}
	all.Wait()
	if sts, iam := w.Count("Token"), w.Count("GenerateAccessToken"); sts != 1 || iam != 1 {
		t.Errorf("got %d exchanges and %d impersonations, want one of each", sts, iam)
	}
}

func TestEveryWayToSignInGivesATokenThatGoogleTakes(t *testing.T) {
	for name, c := range map[string]struct {
		audience string
		login    gcpauth.Login
	}{
		"the cluster by its pool":          {pool, gcpauth.Login{}},
		"federation by its audience":       {federation, gcpauth.Login{Audience: federation}},
		"federation by its https audience": {"https:" + federation, gcpauth.Login{Audience: federation}},
		"a service account of the store":   {pool, gcpauth.Login{Account: email}},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			got, err := signIn(t, w.broker(t), w.pod(c.audience), c.login)
			if err != nil || !strings.HasPrefix(got.Reveal(), "ya29.") || time.Until(got.Expires) < 50*time.Minute {
				t.Errorf("got the error %v and an end %v, want a token for an hour", err, got.Expires)
			}
		})
	}
}

func TestAKeyFileOfTheTenantSignsInAndGoesToGoogleOnly(t *testing.T) {
	w := start(t)
	id := w.pod()
	key := string(w.KeyFile(email))
	id.Secrets = auth.Secrets{"key.json": key}
	if _, err := signIn(t, w.broker(t), id, gcpauth.Login{Method: gcpauth.KeyFile}); err != nil {
		t.Fatalf("got the error %v, want a token", err)
	}

	for what, text := range map[string]string{
		"another endpoint": strings.Replace(key, "https://oauth2.googleapis.com/token", "https://evil.example/token", 1),
		"an external file": `{"type":"external_account","audience":"` + federation + `","credential_source":{"file":"/etc/passwd"}}`,
		"no JSON":          "hunter2",
	} {
		id.Secrets = auth.Secrets{"key.json": text}
		_, err := signIn(t, w.broker(t), id, gcpauth.Login{Method: gcpauth.KeyFile})
		if fault.ReasonOf(err) != fault.Invalid || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: got %v, want an invalid key file that is not shown", what, err)
		}
	}
}

func TestTheAPIServersOwnTokenIsNeverSent(t *testing.T) {
	w := start(t)
	_, err := signIn(t, w.broker(t), w.pod(""), gcpauth.Login{})
	if fault.ReasonOf(err) != fault.Precondition || w.Count("Token") != 0 {
		t.Errorf("got %v and %d exchanges, want a missing token and none", err, w.Count("Token"))
	}
}

func TestServiceAccountsThatMayNotBeReadAreGoneWithout(t *testing.T) {
	w := start(t)
	w.refuse = &fault.Error{Reason: fault.Precondition, Text: "forbidden", Cause: &kubernetes.Error{Status: 403, Text: "forbidden"}}
	b := w.broker(t)
	for range 3 {
		if _, err := signIn(t, b, w.pod(pool), gcpauth.Login{}); err != nil {
			t.Fatalf("got the error %v, want the pod's own principal", err)
		}
	}
	if n := w.read.Load(); n != 1 {
		t.Errorf("got %d reads of a ServiceAccount, want one in a minute", n)
	}

	w.refuse = &fault.Error{Reason: fault.Unavailable, Text: "down", Cause: &kubernetes.Error{Text: "down"}}
	if _, err := signIn(t, w.broker(t), w.pod(pool), gcpauth.Login{}); fault.ReasonOf(err) != fault.Unavailable {
		t.Errorf("got %v while the API server is down, want unavailable: the pod may be another principal", err)
	}
}

func TestASilentMetadataServerCostsASecondOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and answers nothing
	if err != nil {
		t.Fatalf("got the error %v, want to listen", err)
	}
	defer l.Close()
	w := start(t)
	w.options.MetadataHost = l.Addr().String()
	b := w.broker(t)

	began := time.Now()
	for range 20 {
		if _, err := signIn(t, b, w.pod(pool), gcpauth.Login{}); fault.ReasonOf(err) != fault.Unavailable {
			t.Fatalf("got %v, want unavailable", err)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("got 20 sign-ins in %s, want a second for all of them, and not one for each", took)
	}
}

func TestRefusalsSayWhatWouldHelp(t *testing.T) {
	for name, c := range map[string]struct {
		fault  gcp.Fault
		login  gcpauth.Login
		issued time.Duration
		reason fault.Reason
		want   string
	}{
		"no such provider": {login: gcpauth.Login{Audience: strings.Replace(cluster, "blue", "green", 1)}, reason: fault.Denied,
			want: "status: 400: invalid_target"},
		"an expired token": {issued: -3 * time.Hour, reason: fault.Precondition, want: "kubelet brings a fresh one"},
		"STS is down":      {fault: gcp.Fault{Service: gcp.STS, Status: 503, Code: "unavailable"}, reason: fault.Unavailable, want: "securetoken.googleapis.com"},
		"a proxy's page":   {fault: gcp.Fault{Service: gcp.STS, Garbage: true}, reason: fault.Unavailable, want: "answered without a token"},
		"no grant": {login: gcpauth.Login{Account: "other@shop.iam.gserviceaccount.com"}, reason: fault.Denied,
			want: `gcloud iam service-accounts add-iam-policy-binding other@shop.iam.gserviceaccount.com --role=roles/iam.workloadIdentityUser --member="` + member + `"`},
		"IAM is down": {login: gcpauth.Login{Account: email}, fault: gcp.Fault{Service: gcp.IAM, Code: "UNAVAILABLE"}, reason: fault.Unavailable, want: "does not answer"},
		"no email":    {login: gcpauth.Login{Account: "shop"}, reason: fault.Invalid, want: "is no email of a service account"},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			if c.fault.Service != "" {
				w.AddFault(c.fault)
			}
			id := w.pod(pool)
			if c.issued != 0 {
				raw := w.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: "api", Audiences: []string{pool}, Issued: time.Now().Add(c.issued)})
				id.Tokens[pool] = auth.NewToken(raw, oidc.Expiry(raw))
			}
			_, err := signIn(t, w.broker(t), id, c.login)
			if fault.ReasonOf(err) != c.reason || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("got %s: %v\nwant %s: … %s …", fault.ReasonOf(err), err, c.reason, c.want)
			}
			if strings.Contains(fmt.Sprint(err), id.Tokens[pool].Reveal()) {
				t.Error("got the token in the error")
			}
		})
	}
}
