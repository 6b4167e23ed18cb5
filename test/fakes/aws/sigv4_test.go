package aws_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

// signed is a request as the SDK's signer makes it, with one thing changed
// before and one after.
type signed struct {
	url, body       string
	service, region string
	at              time.Time
	before, after   func(*http.Request)
}

func (s signed) send(t *testing.T, w *world, c sdk.Credentials) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.url, strings.NewReader(s.body))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "secretsmanager.GetSecretValue")
	if s.before != nil {
		s.before(req)
	}
	sum := sha256.Sum256([]byte(s.body))
	if err := v4.NewSigner().SignHTTP(ctx, c, req, hex.EncodeToString(sum[:]), s.service, s.region, s.at); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if s.after != nil {
		s.after(req)
	}
	res := ok[*http.Response](t)(w.http.Do(req))
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	var e struct {
		Type string `json:"__type"`
	}
	json.Unmarshal(body, &e)
	if res.Header.Get("x-amzn-RequestId") == "" {
		t.Error("no x-amzn-RequestId")
	}
	return res.StatusCode, e.Type
}

func TestSignatureIsVerified(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetSecret(region, "s", aws.Text("x"))
	c := ok[sdk.Credentials](t)(w.asShop(t).Credentials.Retrieve(ctx))
	now := time.Now()
	const host = "https://secretsmanager.eu-west-3.amazonaws.com/"
	change := func(s signed, do func(*signed)) signed { do(&s); return s }
	good := signed{url: host, body: `{"SecretId":"s"}`, service: "secretsmanager", region: region, at: now}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, tc := range []struct {
		name string
		with func(*signed)
		code string // "" is success
	}{
		{"good", func(s *signed) {}, ""},
		{"14 minutes slow", func(s *signed) { s.at = now.Add(-14 * time.Minute) }, ""},
		{"16 minutes slow", func(s *signed) { s.at = now.Add(-16 * time.Minute) }, "InvalidSignatureException"},
		{"16 minutes fast", func(s *signed) { s.at = now.Add(16 * time.Minute) }, "InvalidSignatureException"},
		{"other region than the host", func(s *signed) { s.region = "us-east-1" }, "InvalidSignatureException"},
		{"other service than the host", func(s *signed) { s.service = "ssm" }, "InvalidSignatureException"},
		{"body changed", func(s *signed) {
			s.after = func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"SecretId":"t"}`)) }
		}, "InvalidSignatureException"},
		{"query added", func(s *signed) { s.after = func(r *http.Request) { r.URL.RawQuery = "a=b" } }, "InvalidSignatureException"},
		{"query signed", func(s *signed) { s.before = func(r *http.Request) { r.URL.RawQuery = "b=%2F+x&a=~" } }, ""},
		{"target changed", func(s *signed) { s.after = header("X-Amz-Target", "secretsmanager.DescribeSecret") }, "InvalidSignatureException"},
		{"x-amz header not signed", func(s *signed) { s.after = header("X-Amz-Extra", "1") }, "InvalidSignatureException"},
		{"hash of another body", func(s *signed) { s.before = header("X-Amz-Content-Sha256", strings.Repeat("0", 64)) }, "InvalidSignatureException"},
		{"token missing", func(s *signed) { s.after = header("X-Amz-Security-Token", "") }, "UnrecognizedClientException"},
		{"token of another", func(s *signed) { s.after = header("X-Amz-Security-Token", "x") }, "UnrecognizedClientException"},
		{"no signature", func(s *signed) { s.after = header("Authorization", "") }, "MissingAuthenticationTokenException"},
		{"not a signature", func(s *signed) { s.after = header("Authorization", "Bearer x") }, "IncompleteSignatureException"},
		{"no date", func(s *signed) { s.after = header("X-Amz-Date", "") }, "IncompleteSignatureException"},
		{"other content type", func(s *signed) { s.before = header("Content-Type", "application/json") }, "UnknownOperationException"},
		{"unknown operation", func(s *signed) { s.before = header("X-Amz-Target", "secretsmanager.DeleteSecret") }, "UnknownOperationException"},
		{"other service's operation", func(s *signed) { s.before = header("X-Amz-Target", "AmazonSSM.GetParameters") }, "UnknownOperationException"},
		{"not JSON", func(s *signed) { s.body = "{" }, "SerializationException"},
		{"other path", func(s *signed) { s.url += "x" }, "UnknownOperationException"},
		{"host of no service", func(s *signed) { s.url = "https://s3.eu-west-3.amazonaws.com/" }, "UnknownHost"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, code := change(good, tc.with).send(t, w, c)
			if code != tc.code || (status == 200) != (tc.code == "") {
				t.Errorf("got %d %s, want %q", status, code, tc.code)
			}
		})
	}
	secret := c
	secret.SecretAccessKey += "x"
	if _, code := good.send(t, w, secret); code != "InvalidSignatureException" {
		t.Errorf("wrong secret: %s", code)
	}
	stranger := c
	stranger.AccessKeyID = "ASIASTRANGER"
	if _, code := good.send(t, w, stranger); code != "UnrecognizedClientException" {
		t.Errorf("unknown key: %s", code)
	}
}

func TestExpiredAndRevokedCredentials(t *testing.T) {
	w := start(t, aws.Options{})
	cfg := w.asShop(t)
	in := &secretsmanager.GetSecretValueInput{SecretId: str("s")}
	w.clock.Move(59 * time.Minute)
	// The SDK signs with the real time: the skew is the test's doing, so only
	// the order of the checks matters here.
	_, err := secretsmanager.NewFromConfig(cfg).GetSecretValue(ctx, in)
	wantCode(t, err, "InvalidSignatureException", "")
	w.clock.Move(time.Minute)
	_, err = secretsmanager.NewFromConfig(cfg).GetSecretValue(ctx, in)
	wantCode(t, err, "ExpiredTokenException", "The security token included in the request is expired")
	_, err = sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	wantCode(t, err, "ExpiredToken", "")
	w.RevokeAll()
	_, err = ssm.NewFromConfig(cfg).GetParameter(ctx, &ssm.GetParameterInput{Name: str("p")})
	wantCode(t, err, "UnrecognizedClientException", "The security token included in the request is invalid.")
	_, err = sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	wantCode(t, err, "InvalidClientTokenId", "")
}

func TestLongTermKey(t *testing.T) {
	w := start(t, aws.Options{})
	w.AddKey("AKIAEXAMPLE", "secret", "arn:aws:iam::123456789012:user/me", aws.AllowAll)
	cfg := w.config()
	cfg.Credentials = credentials.NewStaticCredentialsProvider("AKIAEXAMPLE", "secret", "")
	me := ok[*sts.GetCallerIdentityOutput](t)(sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil))
	if *me.Arn != "arn:aws:iam::123456789012:user/me" {
		t.Error(*me.Arn)
	}
}

func TestMethodsAndBodies(t *testing.T) {
	w := start(t, aws.Options{})
	get := func(method, url, contentType, body string) int {
		req, _ := http.NewRequest(method, url, strings.NewReader(body))
		req.Header.Set("Content-Type", contentType)
		res := ok[*http.Response](t)(w.http.Do(req))
		res.Body.Close()
		return res.StatusCode
	}
	const form = "application/x-www-form-urlencoded"
	webIdentity := url.Values{"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {shopARN},
		"RoleSessionName": {"session"}, "WebIdentityToken": {w.token(oidc.Request{})}}
	for _, tc := range []struct {
		method, url, contentType, body string
		want                           int
	}{
		{"GET", "https://ssm.eu-west-3.amazonaws.com/", "", "", 405},
		{"PUT", "https://sts.eu-west-3.amazonaws.com/", form, "Action=GetCallerIdentity", 405},
		{"POST", "https://sts.eu-west-3.amazonaws.com/", "text/plain", "Action=GetCallerIdentity", 404},
		{"POST", "https://sts.eu-west-3.amazonaws.com/", form, "Action=GetCallerIdentity&Version=2011-06-15", 403},
		{"POST", "https://sts.eu-west-3.amazonaws.com/", form, "Action=AssumeRoleWithWebIdentity", 400},
		{"POST", "https://sts.eu-west-3.amazonaws.com/", form, "%zz", 400},
		{"POST", "https://sts.eu-west-3.amazonaws.com/", form, webIdentity.Encode(), 200},
		{"POST", "https://sts.eu-west-3.amazonaws.com/", form, strings.Replace(webIdentity.Encode(), "2011-06-15", "2010-01-01", 1), 400},
		{"POST", "https://secretsmanager.mars.amazonaws.com/", form, "", 404},
		{"POST", "https://sts.cn-north-1.amazonaws.com/", form, "", 404},
		{"POST", w.listen.URL() + "/", "text/plain", "x", 404},
		{"POST", w.listen.URL() + "/other", form, "Action=GetCallerIdentity", 404},
		{"POST", "https://ssm.eu-west-3.amazonaws.com/", form, strings.Repeat("x", 1<<20+1), 413},
	} {
		if got := get(tc.method, tc.url, tc.contentType, tc.body); got != tc.want {
			t.Errorf("%s %s: got %d, want %d", tc.method, tc.url, got, tc.want)
		}
	}
}
