package aws

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

// wire is the strict fake over TLS: it verifies tokens, trust, signatures and
// permissions.
type wire struct {
	*aws.Server
	issuer *oidc.Issuer
	kinds  store.Kinds
	roles  map[string]string
}

const shopRole = "arn:aws:iam::123456789012:role/shop"

func newWire(t testing.TB, permissions ...aws.Rule) *wire {
	t.Helper()
	issuer, err := oidc.NewIssuer("https://oidc.test")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	fake := aws.New(aws.Options{})
	fake.AddIssuer(issuer.URL, issuer.Keys())
	if permissions == nil {
		permissions = []aws.Rule{{Actions: []string{"*"}, Resources: []string{"*"}}}
	}
	fake.AddRole(aws.Role{ARN: shopRole, Subjects: []string{"system:serviceaccount:shop:api", "system:serviceaccount:shop:web"}, Permissions: permissions})
	ca, err := serve.NewAuthority()
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	l, err := serve.Start("127.0.0.1:0", fake, ca)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	t.Cleanup(l.Close)
	transport := l.Client().Transport.(*http.Transport).Clone()
	transport.MaxConnsPerHost, transport.MaxIdleConnsPerHost = 64, 64
	w := &wire{Server: fake, issuer: issuer}
	sdk := awsauth.NewSDK(awsauth.SDKOptions{Version: "test", Transport: transport})
	w.kinds = Kinds(Options{SDK: sdk, Broker: awsauth.New(awsauth.Options{SDK: sdk})})
	return w
}

func (w *wire) pod(serviceAccount, audience string) auth.Identity {
	r := oidc.Request{Namespace: "shop", ServiceAccount: serviceAccount, Audiences: []string{audience}}
	return auth.Identity{Namespace: "shop", ServiceAccount: serviceAccount, Tokens: auth.Tokens{
		awsauth.AudienceIRSA: auth.NewToken(w.issuer.Token(r), time.Now().Add(time.Hour))}}
}

func (w *wire) fetch(t testing.TB, kind string, id auth.Identity, s Settings, refs ...store.Ref) ([]store.Secret, error) {
	t.Helper()
	if s.Region == "" {
		s.Region = "eu-west-3"
	}
	if s.RoleARN == "" {
		s.RoleARN = shopRole
	}
	config, errs := Inline(kind, "wire", s, store.InlineOptions{Dialect: store.OwnDialect})
	if errs != nil {
		t.Fatalf("got the error %v, want none", errs)
	}
	for _, k := range w.kinds {
		if k.Name == kind {
			opened, err := k.Open(t.Context(), *config, id)
			if err != nil {
				return nil, err
			}
			return opened.Fetch(t.Context(), refs)
		}
	}
	panic(kind)
}

func TestStrictAWSIsSatisfied(t *testing.T) {
	w := newWire(t)
	for i := range 5 {
		w.SetSecretValue("eu-west-3", fmt.Sprint("prod/", i), fmt.Sprint("s", i))
	}
	got, err := w.fetch(t, SecretsManager, w.pod("api", awsauth.AudienceIRSA), Settings{}, refs("prod/0", "prod/1", "prod/2", "prod/3", "prod/4")...)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if string(got[4].Value) != "s4" || got[4].Version == "" {
		t.Errorf("%v", got)
	}
	if calls := strings.Join(w.Notation(), "\n"); strings.Count(calls, "\n") != 1 {
		t.Errorf(`got %v, where strings.Count(calls, "\n") != 1 must not be so`, calls)
	}
	for _, c := range w.Calls() {
		if c.Op == "BatchGetSecretValue" && c.Caller != "coffre-shop-api" {
			t.Errorf("CloudTrail shows %q", c.Caller)
		}
	}
}

func TestStrictAWSRefusesAndTheErrorSaysWhatToDo(t *testing.T) {
	w := newWire(t, aws.Rule{Actions: []string{"secretsmanager:GetSecretValue"}, Resources: []string{"*:secret:prod/*"}})
	w.SetSecretValue("eu-west-3", "prod/a", "a")
	w.SetSecretValue("eu-west-3", "ops/a", "a")
	good := w.pod("api", awsauth.AudienceIRSA)
	for _, c := range []struct {
		id   auth.Identity
		name string
		want string
	}{
		{w.pod("web", "vault"), "prod/a", "the role's trust policy does not accept the pod's token: role " + shopRole + " (service account shop/web): the role's account needs an IAM OIDC provider"},
		{w.pod("other", awsauth.AudienceIRSA), "prod/a", "the role's trust policy does not accept the pod: role " + shopRole + " (service account shop/other): it must allow"},
		{good, "ops/a", "ops/a: access denied: role " + shopRole + " (service account shop/api) lacks secretsmanager:GetSecretValue, in eu-west-3"},
	} {
		_, err := w.fetch(t, SecretsManager, c.id, Settings{}, store.Ref{Name: c.name})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v", err)
		}
	}
	// May read, may not batch: the batch is refused once, and the secrets come one by one.
	for _, n := range []string{"b", "c", "d"} {
		w.SetSecretValue("eu-west-3", "prod/"+n, n)
	}
	w.Reset()
	for range 2 {
		if _, err := w.fetch(t, SecretsManager, good, Settings{}, refs("prod/a", "prod/b", "prod/c", "prod/d")...); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
	}
	if w.Count("BatchGetSecretValue") != 1 || w.Count("GetSecretValue") != 8 {
		t.Errorf("got %v, which is not what this test promises", w.Notation())
	}
}

func TestRevokedSessionsLogInAgain(t *testing.T) {
	w := newWire(t)
	w.SetSecretValue("eu-west-3", "a", "1")
	id := w.pod("api", awsauth.AudienceIRSA)
	for range 2 {
		if _, err := w.fetch(t, SecretsManager, id, Settings{}, store.Ref{Name: "a"}); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		w.RevokeAll()
	}
	if n := w.Count("AssumeRoleWithWebIdentity"); n != 2 {
		t.Errorf(`got %v, where n != 2 must not be so`, w.Notation())
	}
}

// Sixty pods of one service account that start at once, without a cache above.
func TestConnectionsAreSharedAndBounded(t *testing.T) {
	w := newWire(t)
	for i := range 10 {
		w.SetSecretValue("eu-west-3", fmt.Sprint("s", i), "v")
	}
	id := w.pod("api", awsauth.AudienceIRSA)
	var all sync.WaitGroup
	for range 60 {
		all.Go(func() {
			var wanted []store.Ref
			for i := range 10 {
				wanted = append(wanted, store.Ref{Name: fmt.Sprint("s", i), Version: "AWSCURRENT"})
			}
			if _, err := w.fetch(t, SecretsManager, id, Settings{}, wanted...); err != nil {
				t.Errorf("got the error %v, want none", err)
			}
		})
	}
	all.Wait()
	if n := w.Count("AssumeRoleWithWebIdentity"); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestStrictParameterStore(t *testing.T) {
	w := newWire(t)
	w.Load(aws.World{})
	w.SetParameterValue("eu-west-3", "/app/a", "one")
	w.SetParameterValue("eu-west-3", "/app/a", "two")
	w.SetParameterValue("eu-west-3", "/app/b", "b")
	id := w.pod("api", awsauth.AudienceIRSA)
	got, err := w.fetch(t, ParameterStore, id, Settings{}, store.Ref{Name: "/app/a"}, store.Ref{Name: "/app/a", Version: "1"}, store.Ref{Name: "/app/b"})
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if string(got[0].Value) != "two" || string(got[1].Value) != "one" || string(got[2].Value) != "b" || got[0].Version != "2" {
		t.Errorf("%q %q %q %s", []byte(got[0].Value), []byte(got[1].Value), []byte(got[2].Value), got[0].Version)
	}
}
