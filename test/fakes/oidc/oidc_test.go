package oidc_test

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

func TestTokensVerifyWithThePublishedKeys(t *testing.T) {
	i, err := oidc.NewIssuer("https://oidc.test")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	w := httptest.NewRecorder()
	i.ServeHTTP(w, httptest.NewRequest("GET", "/openid/v1/jwks", nil))
	keys, err := oidc.ParseJWKS(w.Body.Bytes())
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	token := i.Token(oidc.Request{Namespace: "shop", ServiceAccount: "api", Pod: "p", Audiences: []string{"a"}, Claims: map[string]any{"jti": "x", "nbf": nil}})
	c, err := keys.Verify(token)
	if err != nil || c.Subject != "system:serviceaccount:shop:api" || c.Kubernetes.Pod.Name != "p" || c.Audience[0] != "a" || c.NotBefore != 0 || c.Expires == 0 {
		t.Errorf("%+v, %v", c, err)
	}
	for text, want := range map[string]error{
		"a.b": oidc.ErrMalformed, "..": oidc.ErrMalformed, token + "x": oidc.ErrSignature, token[:len(token)-8] + "AAAAAAAA": oidc.ErrSignature,
	} {
		if _, err := keys.Verify(text); !errors.Is(err, want) {
			t.Errorf("%.20s…: %v", text, err)
		}
	}
	if _, err := (oidc.KeySet{}).Verify(token); !errors.Is(err, oidc.ErrKey) {
		t.Errorf("got the error %v, want %v", err, oidc.ErrKey)
	}
	for _, bad := range []string{"", "{}", `{"keys": [{"kty": "EC"}]}`, `{"keys": [{"kty": "RSA", "n": "*"}]}`} {
		if _, err := oidc.ParseJWKS([]byte(bad)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}
