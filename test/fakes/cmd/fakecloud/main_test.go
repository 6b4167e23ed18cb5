package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

const data = `{"aws": {
  "secrets": {"secretsmanager": {"eu-west-3": {"prod/mysql": {"versions": [{"id": "v1", "string": "s3cret"}]}}}},
  "roles": [{"arn": "arn:aws:iam::123456789012:role/shop", "subjects": ["system:serviceaccount:shop:api"],
             "permissions": [{"actions": ["secretsmanager:*"]}]}],
  "associations": [{"namespace": "shop", "serviceAccount": "api", "roleArn": "arn:aws:iam::123456789012:role/shop"}]
}, "gcp": {"secretmanager": {"projects/shop/secrets/mysql": {"versions": [{"text": "s3cret"}]}}},
   "azure": {"vaults": {"shop": {}}}}`

type text string

func (t text) GetIdentityToken() ([]byte, error) { return []byte(t), nil }

// begin runs the command and returns its addresses by name.
func begin(t *testing.T, o options) map[string]string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, o, w)
		w.Close()
	}()
	at := map[string]string{}
	lines := bufio.NewScanner(r)
	for lines.Scan() && lines.Text() != "ready" {
		name, url, _ := strings.Cut(lines.Text(), " ")
		at[name] = url
	}
	if lines.Text() != "ready" {
		t.Fatal(<-ended)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return at
}

func TestTheCommandServesWhatItsDataSay(t *testing.T) {
	issuer, err := oidc.NewIssuer("https://oidc.test")
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(issuer)
	defer api.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "data.json")
	if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	at := begin(t, options{listen: "https://127.0.0.1:0", agent: "http://127.0.0.1:0", control: "127.0.0.1:0", tlsDir: dir, data: file,
		issuer: issuer.URL, jwksURL: api.URL + "/openid/v1/jwks", region: "eu-west-3"})
	pem, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	cfg := sdk.Config{Region: "eu-west-3", BaseEndpoint: sdk.String(at["clouds"]),
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}}
	token := issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"sts.amazonaws.com", "pods.eks.amazonaws.com"}})
	for _, want := range []string{"s3cret", "rotated"} {
		for name, p := range map[string]sdk.CredentialsProvider{
			"IRSA":         stscreds.NewWebIdentityRoleProvider(sts.NewFromConfig(cfg), "arn:aws:iam::123456789012:role/shop", text(token)),
			"Pod Identity": endpointcreds.New(at["agent"]+"/v1/credentials", func(o *endpointcreds.Options) { o.AuthorizationToken = token }),
		} {
			cfg.Credentials = p
			out, err := secretsmanager.NewFromConfig(cfg).GetSecretValue(context.Background(), &secretsmanager.GetSecretValueInput{SecretId: sdk.String("prod/mysql")})
			if err != nil || *out.SecretString != want {
				t.Errorf("%s: %v", name, err)
			}
		}
		req, _ := http.NewRequest("PUT", at["control"]+"/aws/secret?region=eu-west-3&name=prod/mysql", strings.NewReader("rotated"))
		if res, err := http.DefaultClient.Do(req); err != nil || res.StatusCode != 200 {
			t.Fatal(err)
		}
	}
}

func TestTheCommandRefusesWhatItCannotServe(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.json")
	os.WriteFile(bad, []byte(`{"aws": {"secrets": {"s3": {}}}}`), 0o600)
	for _, o := range []options{
		{listen: "127.0.0.1:0"}, {listen: "https://127.0.0.1:0"}, {data: "/nonexistent"}, {data: bad},
		{issuer: "https://x"}, {jwksFile: "x"}, {issuer: "https://x", jwksFile: "/nonexistent"},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if run(ctx, o, io.Discard) == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func TestOneAddressServesEveryCloud(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data.json")
	if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
		t.Fatalf("the data: %v", err)
	}
	at := begin(t, options{listen: "http://127.0.0.1:0", data: file, region: "eu-west-3"})

	for request, want := range map[string]int{
		"secretmanager.googleapis.com /v1/projects/shop/secrets/mysql/versions/1:access": 401,
		"sts.googleapis.com /v1/nothing":                                                 404,
		"169.254.169.254 /computeMetadata/v1/project/project-id":                         403, // without its header
		"169.254.169.254 /metadata/identity/oauth2/token":                                400, // without its header
		"shop.vault.azure.net /secrets/mysql":                                            401,
		"other.vault.azure.net /secrets/mysql":                                           404,
		"login.microsoftonline.com /common/discovery/instance":                           200,
		"secretsmanager.eu-west-3.amazonaws.com /":                                       405,
	} {
		host, path, _ := strings.Cut(request, " ")
		req, _ := http.NewRequest(http.MethodGet, at["clouds"]+path, nil)
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Errorf("%s: %v", request, err)
			continue
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: got %s, want %d", request, res.Status, want)
		}
	}
}
