package aws_test

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

func TestIRSAThroughTheSDKsOwnChain(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetSecret(region, "s", aws.Text("x"))
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(w.token(oidc.Request{})), 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
	t.Setenv("AWS_ROLE_ARN", shopARN)
	t.Setenv("AWS_ROLE_SESSION_NAME", "pod-1@shop")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS"} {
		t.Setenv(name, "") // whatever the developer's own environment says
	}
	cfg := ok[sdk.Config](t)(config.LoadDefaultConfig(ctx, config.WithRegion(region), config.WithHTTPClient(w.http)))
	out := ok[*secretsmanager.GetSecretValueOutput](t)(secretsmanager.NewFromConfig(cfg).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("s")}))
	if *out.SecretString != "x" {
		t.Errorf("%+v", out)
	}
	want := []string{"sts:eu-west-3:AssumeRoleWithWebIdentity", "secretsmanager:eu-west-3:GetSecretValue s"}
	if got := w.Notation(); !slices.Equal(got, want) {
		t.Errorf("calls %q", got)
	}
	if c := w.Calls()[1]; c.Caller != "pod-1@shop" || c.Role != shopARN || c.Status != 200 {
		t.Errorf("%+v", c)
	}
}

func TestWebIdentityIsVerified(t *testing.T) {
	w := start(t, aws.Options{})
	stranger := ok[*oidc.Issuer](t)(oidc.NewIssuer("https://stranger.test"))
	impostor := ok[*oidc.Issuer](t)(oidc.NewIssuer(issuer().URL))
	good := w.token(oidc.Request{})
	now := w.clock.Now()
	aud := []string{"sts.amazonaws.com"}
	for _, tc := range []struct {
		name          string
		token         string
		role, session string
		code, message string
	}{
		{name: "good", token: good},
		{name: "audience is one string", token: w.token(oidc.Request{Claims: map[string]any{"aud": "sts.amazonaws.com"}})},
		{name: "one audience of several", token: w.token(oidc.Request{Audiences: []string{"a", "sts.amazonaws.com"}})},
		{name: "not a JWT", token: "irsa-token", code: "InvalidIdentityToken"},
		{name: "unknown issuer", token: stranger.Token(oidc.Request{Audiences: aud}), code: "InvalidIdentityToken",
			message: "No OpenIDConnect provider found in your account for https://stranger.test"},
		{name: "another's key", token: impostor.Token(oidc.Request{Audiences: aud}), code: "InvalidIdentityToken"},
		{name: "changed claims", token: splice(good, w.token(oidc.Request{Namespace: "shop", ServiceAccount: "admin"})), code: "InvalidIdentityToken"},
		{name: "unsigned", token: good[:strings.LastIndex(good, ".")+1], code: "InvalidIdentityToken"},
		{name: "audience of Pod Identity", token: w.token(oidc.Request{Audiences: []string{"pods.eks.amazonaws.com"}}), code: "InvalidIdentityToken", message: "Incorrect token audience"},
		{name: "expired", token: w.token(oidc.Request{Issued: now.Add(-2 * time.Hour)}), code: "ExpiredTokenException"},
		{name: "without expiry", token: w.token(oidc.Request{Claims: map[string]any{"exp": nil}}), code: "ExpiredTokenException"},
		{name: "not yet valid", token: w.token(oidc.Request{Issued: now.Add(time.Hour)}), code: "InvalidIdentityToken"},
		{name: "subject not trusted", token: w.token(oidc.Request{Namespace: "other"}), code: "AccessDenied",
			message: "Not authorized to perform sts:AssumeRoleWithWebIdentity"},
		{name: "unknown role", token: good, role: shopARN + "x", code: "AccessDenied", message: "Not authorized to perform sts:AssumeRoleWithWebIdentity"},
		{name: "role too short", token: good, role: "r", code: "ValidationError"},
		{name: "role is no ARN", token: good, role: "role/that-is-no-arn-at-all", code: "ValidationError", message: "Request ARN is invalid"},
		{name: "session with a slash", token: good, session: "a/b", code: "ValidationError"},
		{name: "session of one letter", token: good, session: "a", code: "ValidationError"},
		{name: "session too long", token: good, session: strings.Repeat("a", 65), code: "ValidationError"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := &sts.AssumeRoleWithWebIdentityInput{RoleArn: str(shopARN), RoleSessionName: str("session"), WebIdentityToken: &tc.token}
			if tc.role != "" {
				in.RoleArn = &tc.role
			}
			if tc.session != "" {
				in.RoleSessionName = &tc.session
			}
			out, err := sts.NewFromConfig(w.config()).AssumeRoleWithWebIdentity(ctx, in)
			if tc.code != "" {
				wantCode(t, err, tc.code, tc.message)
				return
			}
			if err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			if *out.AssumedRoleUser.Arn != shop || *out.SubjectFromWebIdentityToken != "system:serviceaccount:shop:api" || !out.Credentials.Expiration.After(now) {
				t.Errorf("%+v", out)
			}
		})
	}
}

// splice puts the claims of b under the signature of a.
func splice(a, b string) string {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	return x[0] + "." + y[1] + "." + x[2]
}

func TestRoleOfOneIssuer(t *testing.T) {
	w := start(t, aws.Options{})
	other := ok[*oidc.Issuer](t)(oidc.NewIssuer("https://other-cluster.test"))
	w.AddIssuer(other.URL, other.Keys())
	w.AddRole(aws.Role{ARN: shopARN, Issuer: issuer().URL, Subjects: []string{"*"}})
	assume := func(token string) error {
		_, err := sts.NewFromConfig(w.config()).AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
			RoleArn: str(shopARN), RoleSessionName: str("session"), WebIdentityToken: &token})
		return err
	}
	if err := assume(w.token(oidc.Request{})); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
	wantCode(t, assume(other.Token(oidc.Request{Audiences: []string{"sts.amazonaws.com"}})), "AccessDenied", "")
}

func TestAnyTokenWhereTheCasesHaveNone(t *testing.T) {
	w := start(t, aws.Options{AcceptAnyToken: true})
	w.SetSecret(region, "s", aws.Text("x"))
	cfg := w.config()
	cfg.Credentials = stscreds.NewWebIdentityRoleProvider(sts.NewFromConfig(cfg), "r", tokenText("irsa-token"))
	ok[*secretsmanager.GetSecretValueOutput](t)(secretsmanager.NewFromConfig(cfg).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("s")}))
}

func TestRoleChaining(t *testing.T) {
	const vaultARN = "arn:aws:iam::999999999999:role/path/to/vault"
	w := start(t, aws.Options{})
	w.AddRole(aws.Role{ARN: vaultARN, AssumableBy: []string{"arn:aws:iam::123456789012:role/sh*"}, ExternalID: "ext-1",
		RequiredTags: map[string]string{"namespace": "shop*"}, Permissions: aws.AllowAll})
	cfg := w.asShop(t)
	client := sts.NewFromConfig(cfg)
	tags := []types.Tag{{Key: str("namespace"), Value: str("shop")}}
	for _, tc := range []struct {
		name     string
		external string
		tags     []types.Tag
		duration int32
		code     string
	}{
		{"good", "ext-1", tags, 900, ""},
		{"wrong external id", "ext-2", tags, 900, "AccessDenied"},
		{"no tags", "ext-1", nil, 900, "AccessDenied"},
		{"wrong tag", "ext-1", []types.Tag{{Key: str("namespace"), Value: str("x")}}, 900, "AccessDenied"},
		{"too short", "ext-1", tags, 60, "ValidationError"},
		{"chained sessions last an hour at most", "ext-1", tags, 7200, "ValidationError"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := client.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: str(vaultARN), RoleSessionName: str("chained"),
				ExternalId: &tc.external, Tags: tc.tags, DurationSeconds: &tc.duration})
			if tc.code != "" {
				wantCode(t, err, tc.code, "")
				return
			}
			if err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			next := w.config()
			next.Credentials = credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken)
			me := ok[*sts.GetCallerIdentityOutput](t)(sts.NewFromConfig(next).GetCallerIdentity(ctx, nil))
			if *me.Arn != "arn:aws:sts::999999999999:assumed-role/vault/chained" || *me.Account != "999999999999" {
				t.Errorf("%s of %s", *me.Arn, *me.Account)
			}
		})
	}
	_, err := client.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: str(vaultARN), RoleSessionName: str("chained")})
	wantCode(t, err, "AccessDenied", "User: "+shop+" is not authorized to perform: sts:AssumeRole on resource: "+vaultARN)
}

func TestRegionOfAnUnsignedCall(t *testing.T) {
	w := start(t, aws.Options{DefaultRegion: "us-west-2"})
	form := url.Values{"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {shopARN},
		"RoleSessionName": {"session"}, "WebIdentityToken": {w.token(oidc.Request{})}}
	for at, want := range map[string]string{
		"https://sts.eu-west-3.amazonaws.com/":      "eu-west-3",
		"https://sts-fips.us-east-2.amazonaws.com/": "us-east-2",
		"https://sts.amazonaws.com/":                "us-east-1",
		"https://sts.cn-north-1.amazonaws.com.cn/":  "cn-north-1",
		"https://sts.eu-west-1.api.aws/":            "eu-west-1",
		w.listen.URL() + "/":                        "us-west-2",
		w.listen.URL() + "/ap-south-1":              "ap-south-1",
		"https://us-gov-west-1.sts.localhost/":      "us-gov-west-1",
	} {
		w.Reset()
		res := ok[*http.Response](t)(w.http.PostForm(at, form))
		res.Body.Close()
		if got := w.Calls()[0]; res.StatusCode != 200 || got.Region != want {
			t.Errorf("%s: %d, region %q", at, res.StatusCode, got.Region)
		}
	}
}

func TestSingleEndpointAndFIPS(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetSecret("us-east-2", "s", aws.Text("x"))
	in := &secretsmanager.GetSecretValueInput{SecretId: str("s")}
	cfg := w.asShop(t)
	cfg.Region = "us-east-2"
	for name, set := range map[string]func(*secretsmanager.Options){
		"single endpoint": func(o *secretsmanager.Options) { o.BaseEndpoint = str(w.listen.URL()) },
		"with a path":     func(o *secretsmanager.Options) { o.BaseEndpoint = str(w.listen.URL() + "/us-east-2") },
		"FIPS":            func(o *secretsmanager.Options) { o.EndpointOptions.UseFIPSEndpoint = sdk.FIPSEndpointStateEnabled },
		"dual stack": func(o *secretsmanager.Options) {
			o.EndpointOptions.UseDualStackEndpoint = sdk.DualStackEndpointStateEnabled
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := secretsmanager.NewFromConfig(cfg, set).GetSecretValue(ctx, in)
			if err != nil || *out.SecretString != "x" {
				t.Errorf("got %v and the error %v, want x", out, err)
			}
		})
	}
	wrong := w.listen.URL() + "/eu-west-3"
	_, err := secretsmanager.NewFromConfig(cfg, func(o *secretsmanager.Options) { o.BaseEndpoint = &wrong }).GetSecretValue(ctx, in)
	wantCode(t, err, "InvalidSignatureException", "")
}

func TestTrustIsTheAuthoritys(t *testing.T) {
	w := start(t, aws.Options{})
	plain := &http.Client{Transport: &http.Transport{DialContext: w.listen.DialContext, TLSClientConfig: &tls.Config{}}}
	if _, err := plain.Get("https://sts.eu-west-3.amazonaws.com/"); err == nil {
		t.Error("a client without the authority trusted the fake")
	}
}
