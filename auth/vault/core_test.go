package vault

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
	"github.com/coffre-csi/coffre/test/vaultcore"
)

// world is Vault's real core with every auth method that a store may name, over
// TLS, and a policy that each of them gives.
type world struct {
	core   *vaultcore.Core
	issuer *oidc.Issuer
	server Server
	broker *Broker
}

func begin(t *testing.T) *world {
	t.Helper()
	ca := fixture.Authority(t)
	w := &world{core: vaultcore.StartTLS(t, ca), issuer: fixture.Issuer(t, "https://oidc.example"), broker: New(Options{})}
	w.server = Server{Address: w.core.Address, CACert: string(ca.PEM())}
	w.core.Policy(t, "shop", `path "secret/*" { capabilities = ["read"] }`)
	w.core.Trust(t, w.issuer)
	w.core.Role(t, vaultcore.Role{Name: "shop", Subjects: "system:serviceaccount:shop:api", Policy: "shop"})
	return w
}

func (w *world) identity(audience string, secrets auth.Secrets) auth.Identity {
	raw := w.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: "api", Audiences: []string{audience}})
	tokens := auth.Tokens{audience: auth.NewToken(raw, oidc.Expiry(raw))}
	return auth.Identity{Namespace: "shop", ServiceAccount: "api", Tokens: tokens, Secrets: secrets}
}

// reviewer answers TokenReviews as the API server does, of the issuer's tokens.
func (w *world) reviewer(t *testing.T) string {
	t.Helper()
	trusted := &oidc.Issuers{}
	trusted.AddIssuer(w.issuer.URL, w.issuer.Keys())
	review := http.HandlerFunc(func(res http.ResponseWriter, req *http.Request) {
		var asked struct {
			Spec struct {
				Token     string
				Audiences []string
			}
		}
		_ = json.NewDecoder(req.Body).Decode(&asked)
		claims, err := trusted.VerifyToken(asked.Spec.Token)
		res.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(res).Encode(map[string]any{
			"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
			"status": map[string]any{
				"authenticated": err == nil, "audiences": asked.Spec.Audiences,
				"user": map[string]any{"username": claims.Subject, "uid": claims.Kubernetes.ServiceAccount.UID, "groups": []string{"system:serviceaccounts"}},
			},
		})
	})
	return fixture.Serve(t, "", review, nil).URL()
}

// methods mounts the other auth methods and says how to sign in by each.
func (w *world) methods(t *testing.T) map[Method]Login {
	t.Helper()
	do, body := w.core.Do, func(of any) string { return vaultcore.Body(t, of) }
	for _, m := range []string{"kubernetes", "approle", "userpass", "cert"} {
		do(t, "POST", "sys/auth/"+m, body(map[string]string{"type": m}))
	}
	do(t, "POST", "auth/kubernetes/config", body(map[string]any{"kubernetes_host": w.reviewer(t), "kubernetes_ca_cert": w.server.CACert, "disable_local_ca_jwt": true}))
	do(t, "POST", "auth/kubernetes/role/shop", body(map[string]any{
		"bound_service_account_names": "api", "bound_service_account_namespaces": "shop", "audience": "vault", "token_policies": "shop",
	}))
	do(t, "POST", "auth/approle/role/shop", `{"token_policies":"shop","token_ttl":"10m"}`)
	do(t, "POST", "auth/userpass/users/api", `{"password":"of-api","token_policies":"shop"}`)

	pair, certificate := clientCertificate(t)
	do(t, "POST", "auth/cert/certs/shop", body(map[string]any{"certificate": certificate, "token_policies": "shop"}))
	shown := w.server
	shown.ClientCertFile, shown.ClientKeyFile = vaultcore.WritePair(t, pair)
	return map[Method]Login{
		Kubernetes: {Server: w.server, Method: Kubernetes, Role: "shop", Audience: "vault"},
		JWT:        {Server: w.server, Method: JWT, Role: "shop", Audience: "vault"},
		AppRole:    {Server: w.server, Method: AppRole},
		Userpass:   {Server: w.server, Method: Userpass},
		Token:      {Server: w.server, Method: Token},
		Cert:       {Server: shown, Method: Cert, Role: "shop"},
	}
}

// clientCertificate is one that signs itself.
func clientCertificate(t *testing.T) (*tls.Certificate, string) {
	t.Helper()
	key := fixture.OK[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "coffre"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der := fixture.OK[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(text)
}

// secrets are what the tenant brings for a method.
func (w *world) secrets(t *testing.T, m Method) auth.Secrets {
	t.Helper()
	switch m {
	case AppRole:
		id := w.core.Do(t, "GET", "auth/approle/role/shop/role-id", "")["role_id"]
		secret := w.core.Do(t, "POST", "auth/approle/role/shop/secret-id", "{}")["secret_id"]
		return auth.Secrets{"roleID": fmt.Sprint(id), "secretID": fmt.Sprint(secret)}
	case Userpass:
		return auth.Secrets{"username": "api", "password": "of-api"}
	case Token:
		return auth.Secrets{"token": w.core.Token}
	}
	return nil
}

// policies are those of a session's token, as Vault itself says.
func policies(t *testing.T, s *Session) string {
	t.Helper()
	c, _, err := s.Token(t.Context())
	if err != nil {
		t.Fatalf("got the error %v, want a token", err)
	}
	secret, err := s.Do(t.Context(), Call{Method: "GET", Path: "auth/token/lookup-self", Token: c.Reveal()})
	if err != nil {
		t.Fatalf("got the error %v, want the token known", err)
	}
	return fmt.Sprint(secret.Data["policies"])
}

func TestEveryWayToSignInWorksOnVaultsRealCore(t *testing.T) {
	w := begin(t)
	for method, login := range w.methods(t) {
		t.Run(string(method), func(t *testing.T) {
			s, err := w.broker.Open(w.identity("vault", w.secrets(t, method)), login)
			if err != nil {
				t.Fatalf("got the error %v, want a session", err)
			}
			want := "shop"
			if method == Token {
				want = "root"
			}
			if got := policies(t, s); !strings.Contains(got, want) {
				t.Errorf("got the policies %s, want %s among them", got, want)
			}
		})
	}
}

func TestAWrappedSecretIDServesOnce(t *testing.T) {
	w := begin(t)
	login := w.methods(t)[AppRole]
	secrets := w.secrets(t, AppRole)
	delete(secrets, "secretID")
	secrets["secretIDWrapped"] = w.core.Wrapped(t, "auth/approle/role/shop/secret-id")

	s, err := w.broker.Open(w.identity("vault", secrets), login)
	if err != nil {
		t.Fatalf("got the error %v, want a session", err)
	}
	if got := policies(t, s); !strings.Contains(got, "shop") {
		t.Errorf("got the policies %s, want shop among them", got)
	}

	again, err := New(Options{}).Open(w.identity("vault", secrets), login)
	if err != nil {
		t.Fatalf("got the error %v, want a session", err)
	}
	_, _, err = again.Token(t.Context())
	if err == nil || !strings.Contains(err.Error(), "wrapping token is not valid or does not exist") || fault.ReasonOf(err) != fault.Denied {
		t.Errorf("got %v of a wrapping token that was used, want it denied in Vault's words", err)
	}
}

// The line says what Vault said, who asked, and where to look.
func TestWhoIsNotLetInHearsVaultsOwnWords(t *testing.T) {
	w := begin(t)
	methods := w.methods(t)
	other := w.identity("other", nil)
	stranger := w.identity("vault", nil)
	raw := w.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: "web", Audiences: []string{"vault"}})
	stranger.Tokens = auth.Tokens{"vault": auth.NewToken(raw, oidc.Expiry(raw))}
	for name, c := range map[string]struct {
		id     auth.Identity
		method Method
		change func(*Login)
		want   string
	}{
		"service account": {stranger, Kubernetes, nil, "Code: 403. Errors: service account name not authorized"},
		"role":            {w.identity("vault", nil), Kubernetes, func(l *Login) { l.Role = "nobody" }, `invalid role name "nobody": at https://`},
		"mount":           {w.identity("vault", nil), Kubernetes, func(l *Login) { l.Mount = "elsewhere" }, "Code: 403. Errors: permission denied"},
		"audience":        {other, JWT, func(l *Login) { l.Audience = "other" }, "do the role's bound names, namespaces and audience (\"other\") match?"},
		"secret id":       {w.identity("vault", auth.Secrets{"roleID": "x", "secretID": "y"}), AppRole, nil, "(auth/approle) does not take what the Secret of nodePublishSecretRef holds"},
	} {
		t.Run(name, func(t *testing.T) {
			login := methods[c.method]
			if c.change != nil {
				c.change(&login)
			}
			s, err := w.broker.Open(c.id, login)
			if err != nil {
				t.Fatalf("got the error %v, want a session", err)
			}
			_, _, err = s.Token(t.Context())
			if fault.ReasonOf(err) != fault.Denied || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "failed to login: ") {
				t.Errorf("got %s %v, want it denied with %s", fault.ReasonOf(err), err, c.want)
			}
		})
	}
}

func TestWithoutATokenOfTheAudienceTheErrorNamesBoth(t *testing.T) {
	b := New(Options{})
	login := Login{Server: Server{Address: "https://vault.example"}, Method: Kubernetes, Role: "shop", Audience: "vault"}
	id := auth.Identity{Namespace: "shop", ServiceAccount: "api", Tokens: auth.Tokens{"": auth.NewToken("own", time.Now().Add(time.Hour))}}
	_, err := b.Open(id, login)
	if err == nil || !strings.Contains(err.Error(), `"vault"`) || !strings.Contains(err.Error(), `audience ""`) {
		t.Errorf("got the error %v, want both audiences named", err)
	}

	login.APIServer = true
	if _, err := b.Open(id, login); err != nil {
		t.Errorf("got the error %v where the platform takes the API server's token, want none", err)
	}
}

// The process's environment is the provider's, and no pod's.
func TestVaultsVariablesOfTheEnvironmentAreNobodys(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "nobodys")
	t.Setenv("VAULT_NAMESPACE", "nowhere")
	t.Setenv("VAULT_WRAP_TTL", "60s")
	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1")
	t.Setenv("VAULT_AGENT_ADDR", "http://127.0.0.1:1")
	w := begin(t)
	s, err := w.broker.Open(w.identity("vault", nil), Login{Server: w.server, Method: JWT, Role: "shop", Audience: "vault"})
	if err != nil {
		t.Fatalf("got the error %v, want a session", err)
	}
	if got := policies(t, s); !strings.Contains(got, "shop") {
		t.Errorf("got the policies %s, want those of the role", got)
	}
}

func TestATokenIsRevokedAtAStopUnlessItsLeasesGoOn(t *testing.T) {
	w := begin(t)
	open := func(role string) (*Session, Credential) {
		s, err := w.broker.Open(w.identity("vault", nil), Login{Server: w.server, Method: JWT, Role: role, Audience: "vault"})
		if err != nil {
			t.Fatalf("got the error %v, want a session", err)
		}
		c, _, err := s.Token(context.Background())
		if err != nil {
			t.Fatalf("got the error %v, want a token", err)
		}
		return s, c
	}
	w.core.Role(t, vaultcore.Role{Name: "leased", Subjects: "system:serviceaccount:shop:api", Policy: "shop"})
	_, plainly := open("shop")
	_, leased := open("leased")
	w.broker.Leased(leased.Reveal())
	w.broker.Close()

	for name, c := range map[string]struct {
		token Credential
		want  int
	}{"without leases": {plainly, http.StatusForbidden}, "with a lease": {leased, http.StatusOK}} {
		status, _ := w.core.Try(t, "POST", "auth/token/lookup", vaultcore.Body(t, map[string]string{"token": c.token.Reveal()}))
		if status != c.want {
			t.Errorf("got the status %d of a token %s after the stop, want %d", status, name, c.want)
		}
	}
}

// elsewhere is a server that must hear nothing.
func elsewhere(t *testing.T) *serve.Listener {
	return fixture.Serve(t, "", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another host was asked %s, with a token: %t", r.URL.Path, r.Header.Get("X-Vault-Token") != "")
	}), nil)
}

func TestARedirectStaysOnTheHost(t *testing.T) {
	away := elsewhere(t)
	standby := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/away":
			http.Redirect(w, r, away.URL()+"/v1/away", http.StatusTemporaryRedirect)
		case "/v1/here":
			http.Redirect(w, r, "/v1/active", http.StatusTemporaryRedirect)
		default:
			fmt.Fprintf(w, `{"data":{"token":%q}}`, r.Header.Get("X-Vault-Token"))
		}
	})
	b, server := New(Options{}), Server{Address: fixture.Serve(t, "", standby, nil).URL()}
	secret, err := b.Do(t.Context(), server, Call{Method: "GET", Path: "here", Token: "mine"})
	if err != nil || secret.Data["token"] != "mine" {
		t.Errorf("got the error %v, want a redirect on the host followed with the token", err)
	}
	_, err = b.Do(t.Context(), server, Call{Method: "GET", Path: "away", Token: "mine"})
	if reasonOf(err) != fault.Unavailable {
		t.Errorf("got %v of a redirect to another host, want it not followed, and unavailable", err)
	}
}
