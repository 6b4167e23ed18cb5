package aws_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

func agent(t *testing.T, w *world, addr string) string {
	t.Helper()
	l, err := serve.Start(addr, w.PodIdentityAgent(), nil)
	if err != nil {
		t.Skipf("needs an IPv6 address on loopback: %v", err)
	}
	t.Cleanup(l.Close)
	return l.URL() + "/v1/credentials"
}

func provider(url, token string) *endpointcreds.Provider {
	return endpointcreds.New(url, func(o *endpointcreds.Options) {
		o.AuthorizationToken = token
		o.Retryer = sdk.NopRetryer{}
	})
}

func TestPodIdentityThroughTheSDKsOwnProvider(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			w := start(t, aws.Options{})
			w.SetSecret(region, "s", aws.Text("x"))
			w.Associate(aws.Association{Namespace: "shop", ServiceAccount: "api", RoleARN: shopARN})
			cfg := w.config()
			p := provider(agent(t, w, addr), w.token(oidc.Request{Audiences: []string{"pods.eks.amazonaws.com"}}))
			c := ok[sdk.Credentials](t)(p.Retrieve(ctx))
			if c.AccountID != aws.Account || !c.CanExpire || time.Until(c.Expires) < 5*time.Hour {
				t.Errorf("%+v", c)
			}
			cfg.Credentials = p
			ok[*secretsmanager.GetSecretValueOutput](t)(secretsmanager.NewFromConfig(cfg).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("s")}))
			if got := w.Notation()[0]; got != "podidentity:/v1/credentials auth=system:serviceaccount:shop:api" {
				t.Errorf("got %s, want the token's subject in the place of the token", got)
			}
		})
	}
}

func TestPodIdentityRefuses(t *testing.T) {
	w := start(t, aws.Options{})
	w.Associate(aws.Association{Namespace: "shop", ServiceAccount: "api", RoleARN: shopARN})
	w.Associate(aws.Association{Namespace: "shop", ServiceAccount: "lost", RoleARN: "arn:aws:iam::123456789012:role/gone"})
	url := agent(t, w, "127.0.0.1:0")
	aud := []string{"pods.eks.amazonaws.com"}
	for _, tc := range []struct{ name, token, want string }{
		{"no token", "", "Service account token cannot be empty"},
		{"no JWT", "pod-token", "Service account token cannot be parsed"},
		{"audience of IRSA", w.token(oidc.Request{}), "(InvalidTokenException)"},
		{"expired", w.token(oidc.Request{Audiences: aud, Issued: time.Now().Add(-2 * time.Hour)}), "(ExpiredTokenException)"},
		{"no association", w.token(oidc.Request{Audiences: aud, Namespace: "other"}), "(AccessDeniedException): "},
		{"role that is gone", w.token(oidc.Request{Audiences: aud, Namespace: "shop", ServiceAccount: "lost"}), "(AccessDeniedException): "},
		{"claims that disagree", w.token(oidc.Request{Audiences: aud, Claims: map[string]any{"sub": "system:serviceaccount:other:api"}}), "(AccessDeniedException): "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := provider(url, tc.token).Retrieve(ctx)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
	for _, tc := range []struct {
		method, url string
		want        int
	}{
		{"POST", url, 405}, {"GET", strings.TrimSuffix(url, "credentials"), 404}, {"GET", strings.TrimSuffix(url, "v1/credentials"), 404},
		{"GET", "https://secretsmanager.eu-west-3.amazonaws.com/v1/credentials", 404},
	} {
		req, _ := http.NewRequest(tc.method, tc.url, nil)
		client := http.DefaultClient
		if strings.HasPrefix(tc.url, "https") {
			client = w.http
		}
		res := ok[*http.Response](t)(client.Do(req))
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != tc.want {
			t.Errorf("%s %s: %d", tc.method, tc.url, res.StatusCode)
		}
	}
}

func TestPodIdentityInTheNotationOfTheCases(t *testing.T) {
	w := start(t, aws.Options{AcceptAnyToken: true})
	ok[sdk.Credentials](t)(provider(agent(t, w, "127.0.0.1:0"), "pod-token").Retrieve(ctx))
	if got := w.Notation(); !slices.Equal(got, []string{"podidentity:/v1/credentials auth=pod-token"}) {
		t.Errorf("%q", got)
	}
}
