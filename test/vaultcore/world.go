package vaultcore

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

// Body is a request's body of what it holds.
func Body(t testing.TB, of any) string {
	t.Helper()
	return string(fixture.OK[[]byte](t)(json.Marshal(of)))
}

// Engines mounts what the tests read: KV v2 at secret and v1 at kv, lender,
// which issues leases, and pki with the role web.
func (c *Core) Engines(t testing.TB) {
	t.Helper()
	c.Do(t, "POST", "sys/mounts/secret", `{"type":"kv","options":{"version":"2"}}`)
	c.Do(t, "POST", "sys/mounts/kv", `{"type":"kv","options":{"version":"1"}}`)
	c.Do(t, "POST", "sys/mounts/lender", `{"type":"lender"}`)
	c.Do(t, "POST", "sys/mounts/pki", `{"type":"pki"}`)
	c.Do(t, "POST", "pki/root/generate/internal", `{"common_name":"root.example","ttl":"24h","key_type":"ec"}`)
	c.Do(t, "POST", "pki/roles/web", `{"allow_any_name":true,"max_ttl":"2h","key_type":"ec"}`)
}

// Put writes a secret of KV v2.
func (c *Core) Put(t testing.TB, name string, keys map[string]string) {
	t.Helper()
	c.Do(t, "POST", "secret/data/"+name, Body(t, map[string]any{"data": keys}))
}

// Policy writes a policy.
func (c *Core) Policy(t testing.TB, name, rules string) {
	t.Helper()
	c.Do(t, "PUT", "sys/policies/acl/"+name, Body(t, map[string]string{"policy": rules}))
}

// Trust mounts the auth method jwt, by which the issuer's tokens sign in.
func (c *Core) Trust(t testing.TB, issuer *oidc.Issuer) {
	t.Helper()
	c.Do(t, "POST", "sys/auth/jwt", `{"type":"jwt"}`)
	c.Do(t, "POST", "auth/jwt/config", Body(t, map[string]any{"jwt_validation_pubkeys": PublicKeys(t, issuer)}))
}

// PublicKeys are the issuer's, each as PEM.
func PublicKeys(t testing.TB, issuer *oidc.Issuer) (keys []string) {
	t.Helper()
	for _, public := range issuer.Keys() {
		der := fixture.OK[[]byte](t)(x509.MarshalPKIXPublicKey(public))
		keys = append(keys, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	}
	return keys
}

// A Role of the auth method jwt.
type Role struct {
	Name     string
	Subjects string // a glob, such as system:serviceaccount:shop:*
	Policy   string
	TTL      string // of its tokens; default 10m
}

// Role writes a role for the audience vault.
func (c *Core) Role(t testing.TB, r Role) {
	t.Helper()
	if r.TTL == "" {
		r.TTL = "10m"
	}
	c.Do(t, "POST", "auth/jwt/role/"+r.Name, Body(t, map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"vault"}, "bound_claims_type": "glob",
		"bound_claims": map[string]string{"sub": r.Subjects}, "token_policies": []string{r.Policy}, "token_ttl": r.TTL,
	}))
}

// Leases are the ids of the leases below a path, such as lender/creds/app, that
// live in Vault.
func (c *Core) Leases(t testing.TB, path string) (ids []string) {
	t.Helper()
	status, data := c.Try(t, "LIST", "sys/leases/lookup/"+path, "")
	if status == 404 {
		return nil
	}
	keys, _ := data["keys"].([]any)
	for _, k := range keys {
		if id, ok := k.(string); ok {
			ids = append(ids, path+"/"+id)
		}
	}
	return ids
}

// Wrapped is what a write answers, in a wrapping token that is good for one use.
func (c *Core) Wrapped(t testing.TB, path string) string {
	t.Helper()
	req := fixture.OK[*http.Request](t)(http.NewRequestWithContext(t.Context(), "POST", c.Address+"/v1/"+path, strings.NewReader("{}")))
	req.Header.Set("X-Vault-Token", c.Token)
	req.Header.Set("X-Vault-Wrap-TTL", "60s")
	res := fixture.OK[*http.Response](t)(c.client.Do(req))
	defer res.Body.Close()
	var answer struct {
		WrapInfo struct {
			Token string `json:"token"`
		} `json:"wrap_info"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.WrapInfo.Token == "" {
		t.Fatalf("%s: got no wrapping token: %v", path, err)
	}
	return answer.WrapInfo.Token
}
