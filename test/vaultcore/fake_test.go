package vaultcore

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/vault"
)

// asking is one of the two servers, asked by one token.
type asking struct{ address, token, lease string }

// said is what matters of an answer.
type said struct {
	Errors    []string       `json:"errors"`
	LeaseID   string         `json:"lease_id"`
	Renewable bool           `json:"renewable"`
	Duration  int            `json:"lease_duration"`
	Data      map[string]any `json:"data"`
	Auth      *struct {
		ClientToken string `json:"client_token"`
		Duration    int    `json:"lease_duration"`
		Renewable   bool   `json:"renewable"`
	} `json:"auth"`
}

func (a *asking) ask(t *testing.T, method, path, body string) (status int, s said) {
	t.Helper()
	body = strings.ReplaceAll(body, "LEASE", a.lease)
	req := fixture.OK[*http.Request](t)(http.NewRequestWithContext(t.Context(), method, a.address+"/v1/"+path, strings.NewReader(body)))
	req.Header.Set("X-Vault-Token", a.token)
	res := fixture.OK[*http.Response](t)(http.DefaultClient.Do(req))
	defer res.Body.Close()
	_ = json.NewDecoder(res.Body).Decode(&s)

	if s.Auth != nil {
		a.token = s.Auth.ClientToken
	}
	if s.LeaseID != "" {
		a.lease = s.LeaseID
	}
	return res.StatusCode, s
}

// summary is an answer without what is each server's own.
func (s said) summary(status int) string {
	text := fmt.Sprintf("%d %q lease %t renewable %t for %d", status, s.Errors, s.LeaseID != "", s.Renewable, s.Duration)
	if s.Auth != nil {
		text += fmt.Sprintf(" token renewable %t for %d", s.Auth.Renewable, s.Auth.Duration)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Data)) {
		switch inner := s.Data[key].(type) {
		case map[string]any:
			text += fmt.Sprintf(" %s: %v", key, slices.Sorted(maps.Keys(inner)))
		case []any:
			text += fmt.Sprintf(" %s: %v", key, inner)
		default:
			text += " " + key
		}
	}
	return text
}

// What the fake does is what the core does, as far as these requests go.
func TestTheFakeAnswersAsTheCoreDoes(t *testing.T) {
	const policy = `path "secret/*" { capabilities = ["read", "list"] }
path "lender/*" { capabilities = ["read"] }
path "secret/data/hidden" { capabilities = ["deny"] }`
	issuer := fixture.Issuer(t, "https://oidc.example")
	core, fake := Start(t), vault.New(nil)
	core.Engines(t)
	core.Trust(t, issuer)
	core.Policy(t, "shop", policy)
	core.Role(t, Role{Name: "shop", Subjects: "system:serviceaccount:shop:api", Policy: "shop"})
	core.Put(t, "a", map[string]string{"k": "v"})
	core.Put(t, "folder/b", map[string]string{"k": "v"})
	fake.AddIssuer(issuer.URL, issuer.Keys())
	fake.AddRole(vault.Role{Name: "shop", Subjects: []string{"system:serviceaccount:shop:api"}, Paths: []string{"secret/data/a", "secret/data/none", "secret/metadata/*", "lender/*"}})
	fake.SetSecret("", "a", map[string]string{"k": "v"})
	fake.SetSecret("", "folder/b", map[string]string{"k": "v"})
	fake.Lend("", "lender/creds/app", vault.Lent{TTL: 768 * time.Hour, Max: 768 * time.Hour})

	login := func(sa, audience, role string) string {
		raw := issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: sa, Audiences: []string{audience}})
		return Body(t, map[string]string{"jwt": raw, "role": role})
	}
	both := []*asking{{address: core.Address}, {address: fixture.Serve(t, "", fake, nil).URL()}}
	for _, c := range []struct{ what, method, path, body string }{
		{"nobody reads", "GET", "secret/data/a", ""},
		{"another's token signs in", "POST", "auth/jwt/login", login("web", "vault", "shop")},
		{"a token of another audience signs in", "POST", "auth/jwt/login", login("api", "other", "shop")},
		{"a role that is not there", "POST", "auth/jwt/login", login("api", "vault", "nobody")},
		{"a mount that is not there", "POST", "auth/nope/login", login("api", "vault", "shop")},
		{"signing in", "POST", "auth/jwt/login", login("api", "vault", "shop")},
		{"a secret", "GET", "secret/data/a", ""},
		{"a version", "GET", "secret/data/a?version=1", ""},
		{"a version that is not there", "GET", "secret/data/a?version=7", ""},
		{"a secret that is not there", "GET", "secret/data/none", ""},
		{"a secret that is denied", "GET", "secret/data/hidden", ""},
		{"a path that no policy names", "GET", "elsewhere/x", ""},
		{"a list", "LIST", "secret/metadata/", ""},
		{"a list of nothing", "LIST", "secret/metadata/none/", ""},
		{"a credential", "GET", "lender/creds/app", ""},
		{"its renewal", "PUT", "sys/leases/renew", `{"lease_id":"LEASE"}`},
		{"its revocation, which the default policy does not allow", "PUT", "sys/leases/revoke", `{"lease_id":"LEASE"}`},
		{"the renewal of a lease that is not there", "PUT", "sys/leases/renew", `{"lease_id":"lender/creds/app/none"}`},
		{"the token's renewal", "POST", "auth/token/renew-self", `{}`},
		{"the token's end", "POST", "auth/token/revoke-self", ``},
		{"a token that has ended", "GET", "secret/data/a", ""},
	} {
		var answers []string
		for _, a := range both {
			status, s := a.ask(t, c.method, c.path, c.body)
			answers = append(answers, s.summary(status))
		}
		if answers[0] != answers[1] {
			t.Errorf("%s\nthe core says %s\nthe fake says %s", c.what, answers[0], answers[1])
		}
	}
}
