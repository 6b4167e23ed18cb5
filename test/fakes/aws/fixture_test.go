package aws_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

const (
	region  = "eu-west-3"
	shopARN = "arn:aws:iam::123456789012:role/shop"
	shop    = "arn:aws:sts::123456789012:assumed-role/shop/session"
)

// issuer and ca are made once: keys take time.
var (
	issuer = sync.OnceValue(func() *oidc.Issuer { return must(oidc.NewIssuer("https://oidc.test/cluster")) })
	ca     = sync.OnceValue(func() *serve.Authority { return must(serve.NewAuthority()) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// world is a fake with one role, behind TLS.
type world struct {
	*aws.Server
	clock  fixture.Clock
	listen *serve.Listener
	http   *http.Client
}

func start(t testing.TB, opts aws.Options) *world {
	t.Helper()
	w := &world{}
	opts.Now = w.clock.Now
	w.Server = aws.New(opts)
	w.AddIssuer(issuer().URL, issuer().Keys())
	w.AddRole(aws.Role{ARN: shopARN, Subjects: []string{"system:serviceaccount:shop:*"}, Permissions: aws.AllowAll})
	w.listen = fixture.Serve(t, "", w.Server, ca())
	w.http = fixture.Client(t, w.listen)
	return w
}

func (w *world) token(r oidc.Request) string {
	if r.Namespace == "" {
		r.Namespace, r.ServiceAccount = "shop", "api"
	}
	if r.Audiences == nil {
		r.Audiences = []string{"sts.amazonaws.com"}
	}
	if r.Issued.IsZero() {
		r.Issued = w.clock.Now().Add(-time.Minute)
	}
	return issuer().Token(r)
}

type tokenText string

func (t tokenText) GetIdentityToken() ([]byte, error) { return []byte(t), nil }

// config is the SDK's, under the real host names, without retries.
func (w *world) config() sdk.Config {
	return sdk.Config{Region: region, HTTPClient: w.http, Retryer: func() sdk.Retryer { return sdk.NopRetryer{} }}
}

// asShop is config with the role's credentials, by IRSA.
func (w *world) asShop(t testing.TB) sdk.Config {
	t.Helper()
	cfg := w.config()
	c, err := stscreds.NewWebIdentityRoleProvider(sts.NewFromConfig(cfg), shopARN, tokenText(w.token(oidc.Request{})),
		func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = "session" }).Retrieve(context.Background())
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	cfg.Credentials = credentials.StaticCredentialsProvider{Value: c}
	return cfg
}

func (w *world) secrets(t testing.TB) *secretsmanager.Client {
	t.Helper()
	return secretsmanager.NewFromConfig(w.asShop(t))
}

func (w *world) parameters(t testing.TB) *ssm.Client {
	t.Helper()
	return ssm.NewFromConfig(w.asShop(t))
}

// wantCode checks a service's error: its code, and its text where one is given.
func wantCode(t testing.TB, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Fatalf("got %v, want the error %s", err, code)
	}
	if api.ErrorCode() != code || message != "" && api.ErrorMessage() != message {
		t.Fatalf("got %s: %q\nwant %s: %q", api.ErrorCode(), api.ErrorMessage(), code, message)
	}
}

func ok[T any](t testing.TB) func(T, error) T { return fixture.OK[T](t) }

var ctx = context.Background()
