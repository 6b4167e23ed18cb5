package gcp_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	credentials "cloud.google.com/go/iam/credentials/apiv1"
	"cloud.google.com/go/iam/credentials/apiv1/credentialspb"
	"cloud.google.com/go/parametermanager/apiv1/parametermanagerpb"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"

	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/gcp"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

const robot = "shop@shop.iam.gserviceaccount.com"

func TestTokensAreExchangedForWhatTheProviderTrusts(t *testing.T) {
	w := start(t, gcp.Options{})
	stranger := fixture.Issuer(t, "https://oidc.elsewhere")
	late := issuer().Token(oidc.Request{Audiences: []string{federation}, Issued: time.Now().Add(-2 * time.Hour)})
	forged := fixture.Issuer(t, issuer().URL)
	w.AddProvider(gcp.Provider{Audience: federation + "-2", Issuer: issuer().URL, Subjects: []string{"system:serviceaccount:shop:api"},
		TokenAudiences: []string{"own"}})
	w.AddProvider(gcp.Provider{Audience: federation + "-3", Issuer: issuer().URL, Disabled: true})

	for name, r := range map[string]struct{ audience, token, code, text string }{
		"right":             {federation, w.token("shop", "api", ""), "", ""},
		"https":             {federation, w.token("shop", "api", "https:"+federation), "", ""},
		"own audience":      {federation + "-2", w.token("shop", "api", "own"), "", ""},
		"condition":         {federation + "-2", w.token("shop", "web", "own"), "unauthorized_client", "attribute condition"},
		"disabled provider": {federation + "-3", w.token("shop", "api", ""), "invalid_target", "disabled or deleted"},
		"unknown provider":  {"//iam.googleapis.com/x", w.token("shop", "api", ""), "invalid_target", "doesn't exist"},
		"wrong audience":    {federation, w.token("shop", "api", "sts.amazonaws.com"), "invalid_grant", "[sts.amazonaws.com] does not match"},
		"wrong issuer":      {federation, stranger.Token(oidc.Request{Audiences: []string{federation}}), "invalid_grant", "The issuer in ID Token https://oidc.elsewhere"},
		"forged":            {federation, forged.Token(oidc.Request{Audiences: []string{federation}}), "invalid_grant", "Invalid JWT"},
		"expired":           {federation, late, "invalid_grant", "expired"},
		"no token":          {federation, "x", "invalid_request", "parse"},
	} {
		form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "audience": {r.audience},
			"scope": {"https://www.googleapis.com/auth/cloud-platform"}, "subject_token": {r.token},
			"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"}}
		res := ok[*http.Response](t)(w.http.PostForm("https://sts.googleapis.com/v1/token", form))
		body := string(ok[[]byte](t)(io.ReadAll(res.Body)))
		res.Body.Close()
		if r.code == "" {
			if res.StatusCode != 200 || !strings.Contains(body, `"expires_in":3600`) {
				t.Errorf("%s: got %d %s, want a token for 3600 seconds", name, res.StatusCode, body)
			}
			continue
		}
		if res.StatusCode != 400 || !strings.Contains(body, `"error":"`+r.code+`"`) || !strings.Contains(body, r.text) {
			t.Errorf("%s: got %d %s, want the error %s: %s", name, res.StatusCode, body, r.code, r.text)
		}
	}
}

func TestAGKEClusterIsAProviderToo(t *testing.T) {
	w := start(t, gcp.Options{})
	cluster := gcp.GKE("shop", "europe-west9", "blue", issuer().URL)
	w.AddProvider(cluster)
	w.SetSecretValue(mysql, "x")

	body := `{"grantType":"urn:ietf:params:oauth:grant-type:token-exchange","subjectTokenType":"urn:ietf:params:oauth:token-type:jwt",
		"requestedTokenType":"urn:ietf:params:oauth:token-type:access_token","scope":"https://www.googleapis.com/auth/cloud-platform",
		"subjectToken":"` + w.token("shop", "api", "shop.svc.id.goog") + `","audience":"` + cluster.Audience + `"}`
	res := ok[*http.Response](t)(w.http.Post("https://securetoken.googleapis.com/v1/identitybindingtoken", "application/json", strings.NewReader(body)))
	text := string(ok[[]byte](t)(io.ReadAll(res.Body)))
	res.Body.Close()
	_, rest, found := strings.Cut(text, `"access_token":"`)
	raw, _, _ := strings.Cut(rest, `"`)
	if res.StatusCode != 200 || !found {
		t.Fatalf("got %d %s, want a token", res.StatusCode, text)
	}
	source := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: raw})

	pool := "iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/shop.svc.id.goog"
	for _, member := range []string{
		"principal://" + pool + "/subject/ns/shop/sa/api", "principalSet://" + pool + "/namespace/shop",
		"principalSet://" + pool + "/*", "serviceAccount:shop.svc.id.goog[shop/api]",
	} {
		w.Revoke("")
		_, err := access(w.secrets(t, "", source), mysql+"/versions/1")
		wantStatus(t, "without a grant to "+member, err, codes.PermissionDenied, "")
		w.Grant(mysql, accessor, member)
		if _, err := access(w.secrets(t, "", source), mysql+"/versions/1"); err != nil {
			t.Errorf("granted to %s: got the error %v, want the value", member, err)
		}
	}
}

func TestImpersonationNeedsTheGrantOfEveryLink(t *testing.T) {
	w := start(t, gcp.Options{})
	const middle = "middle@shop.iam.gserviceaccount.com"
	w.AddServiceAccount(robot)
	w.AddServiceAccount(middle)
	w.SetSecretValue(mysql, "x")
	w.Grant(mysql, accessor, "serviceAccount:"+robot)

	impersonated := func() oauth2.TokenSource { return w.federate(t, w.token("shop", "api", ""), robot) }
	_, err := impersonated().Token()
	if err == nil || !strings.Contains(err.Error(), "iam.serviceAccounts.getAccessToken") {
		t.Errorf("got the error %v, want that of the missing grant", err)
	}
	w.Grant("projects/-/serviceAccounts/"+robot, "roles/iam.workloadIdentityUser", shopAPI)
	if _, err := access(w.secrets(t, "", impersonated()), mysql+"/versions/1"); err != nil {
		t.Errorf("got the error %v, want the value as %s", err, robot)
	}

	conn := w.dial(t, "iamcredentials.googleapis.com", w.asShop(t))
	iam := ok[*credentials.IamCredentialsClient](t)(credentials.NewIamCredentialsClient(ctx, option.WithGRPCConn(conn)))
	w.Revoke("projects/-/serviceAccounts/" + robot)
	request := &credentialspb.GenerateAccessTokenRequest{Name: "projects/-/serviceAccounts/" + robot,
		Delegates: []string{"projects/-/serviceAccounts/" + middle}, Scope: []string{"https://www.googleapis.com/auth/cloud-platform"}}
	const creator = "roles/iam.serviceAccountTokenCreator"
	w.Grant("projects/-/serviceAccounts/"+middle, "roles/iam.workloadIdentityUser", shopAPI) // tokens, but no delegation
	w.Grant("projects/-/serviceAccounts/"+robot, creator, "serviceAccount:"+middle)
	_, err = iam.GenerateAccessToken(ctx, request)
	wantStatus(t, "a delegate without implicitDelegation", err, codes.PermissionDenied, "iam.serviceAccounts.implicitDelegation")
	w.Revoke("projects/-/serviceAccounts/" + robot)
	w.Revoke("projects/-/serviceAccounts/" + middle)
	for _, grant := range []struct{ on, to string }{{middle, shopAPI}, {robot, "serviceAccount:" + middle}} {
		_, err := iam.GenerateAccessToken(ctx, request)
		wantStatus(t, "before the grant on "+grant.on, err, codes.PermissionDenied, "denied on resource")
		w.Grant("projects/-/serviceAccounts/"+grant.on, creator, grant.to)
	}
	got, err := iam.GenerateAccessToken(ctx, request)
	if err != nil || time.Until(got.GetExpireTime().AsTime()).Round(time.Minute) != time.Hour {
		t.Errorf("got %v and the error %v, want a token for an hour", got.GetExpireTime(), err)
	}
}

func TestTokensEndAndAreRevoked(t *testing.T) {
	w := start(t, gcp.Options{})
	w.SetSecretValue(mysql, "x")
	w.Grant(mysql, accessor, shopAPI)

	for name, end := range map[string]func(){"expiry": func() { w.clock.Move(time.Hour) }, "revocation": w.RevokeAll} {
		c := w.secrets(t, "", w.asShop(t))
		if _, err := access(c, mysql+"/versions/1"); err != nil {
			t.Errorf("%s: got the error %v, want the value before it", name, err)
		}
		end()
		_, err := access(c, mysql+"/versions/1")
		wantStatus(t, name, err, codes.Unauthenticated, "invalid authentication credentials")
	}
	_, err := access(w.secrets(t, "", oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "stolen"})), mysql+"/versions/1")
	wantStatus(t, "an invented token", err, codes.Unauthenticated, "invalid authentication credentials")
}

func TestAKeyFileSignsIn(t *testing.T) {
	w := start(t, gcp.Options{})
	w.SetSecretValue(mysql, "x")
	w.Grant(mysql, accessor, "serviceAccount:"+robot)
	key := w.KeyFile(robot)

	config, err := google.JWTConfigFromJSON(key, "https://www.googleapis.com/auth/cloud-platform")
	if err != nil {
		t.Fatalf("the key file: %v", err)
	}
	selfSigned, err := google.JWTAccessTokenSourceWithScope(key, "https://www.googleapis.com/auth/cloud-platform")
	if err != nil {
		t.Fatalf("the key file: %v", err)
	}
	for name, source := range map[string]oauth2.TokenSource{
		"by the token endpoint": config.TokenSource(oauthContext(w)), "by a JWT of its own": selfSigned,
	} {
		if _, err := access(w.secrets(t, "", source), mysql+"/versions/1"); err != nil {
			t.Errorf("%s: got the error %v, want the value", name, err)
		}
	}
}

func TestTheMetadataServerAnswersThoseWhoSayTheirFlavour(t *testing.T) {
	w := start(t, gcp.Options{})
	w.SetNode("shop", "europe-west9", "blue", robot)
	l := fixture.Serve(t, "", w.MetadataServer(), nil)

	for path, want := range map[string]string{
		"project/project-id": "shop", "project/numeric-project-id": "42", "instance/attributes/cluster-name": "blue",
		"instance/attributes/cluster-location": "europe-west9", "instance/service-accounts/default/email": robot, "instance/nothing": "404",
	} {
		if got := getMetadata(t, l.URL()+"/computeMetadata/v1/"+path, "Google"); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	if got := getMetadata(t, l.URL()+"/computeMetadata/v1/project/project-id", ""); got != "403" {
		t.Errorf("without the header: got %q, want 403", got)
	}

	w.SetSecretValue(mysql, "x")
	w.Grant(mysql, accessor, "serviceAccount:"+robot)
	body := getMetadata(t, l.URL()+"/computeMetadata/v1/instance/service-accounts/default/token", "Google")
	_, rest, _ := strings.Cut(body, `"access_token":"`)
	raw, _, _ := strings.Cut(rest, `"`)
	if _, err := access(w.secrets(t, "", oauth2.StaticTokenSource(&oauth2.Token{AccessToken: raw})), mysql+"/versions/1"); err != nil {
		t.Errorf("got the error %v, want the node's account to read", err)
	}
}

func getMetadata(t *testing.T, url, flavour string) string {
	t.Helper()
	req := ok[*http.Request](t)(http.NewRequest(http.MethodGet, url, nil))
	if flavour != "" {
		req.Header.Set("Metadata-Flavor", flavour)
	}
	res := ok[*http.Response](t)(http.DefaultClient.Do(req))
	defer res.Body.Close()
	if res.StatusCode != 200 {
		return res.Status[:3]
	}
	return string(ok[[]byte](t)(io.ReadAll(res.Body)))
}

func TestAParameterIsRenderedWithTheSecretsThatItMayRead(t *testing.T) {
	w := start(t, gcp.Options{})
	const name = "projects/shop/locations/global/parameters/app"
	w.SetSecretValue(mysql, "s3cret")
	w.SetParameterValue(name, "v1", `{"password": "__REF__("//secretmanager.googleapis.com/`+mysql+`/versions/latest")"}`)
	w.Grant(name, "roles/parametermanager.parameterAccessor", shopAPI)
	c := w.parameters(t, "", w.asShop(t))
	render := func(version string) (*parametermanagerpb.RenderParameterVersionResponse, error) {
		return c.RenderParameterVersion(ctx, &parametermanagerpb.RenderParameterVersionRequest{Name: name + "/versions/" + version})
	}

	_, err := render("v1")
	wantStatus(t, "a parameter without a grant", err, codes.PermissionDenied, "secretmanager.versions.access")
	w.Grant(mysql, accessor, w.Member(name))
	got, err := render("v1")
	if err != nil || string(got.GetRenderedPayload()) != `{"password": "s3cret"}` {
		t.Errorf("got %s and the error %v, want the secret in it", got.GetRenderedPayload(), err)
	}
	_, err = render("v2")
	wantStatus(t, "no such version", err, codes.NotFound, "was not found")
	w.SetParameter(name, gcp.Parameter{Versions: map[string]gcp.ParameterVersion{"v1": {Text: "x", Disabled: true}}})
	_, err = render("v1")
	wantStatus(t, "a disabled version", err, codes.FailedPrecondition, "disabled")
}
