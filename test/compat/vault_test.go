package compat

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/node"
	"github.com/coffre-csi/coffre/test/program"
	"github.com/coffre-csi/coffre/test/vaultcore"
)

func TestVaultClasses(t *testing.T) {
	replay(t, "vault.json", func(t *testing.T, path string, _ json.RawMessage) world { return beginVault(t, path, "vault", "vault") })
}

// The OpenBao provider is a fork of Vault's: the same facts hold, under any of
// its three prefixes, which the cases take in turn. OpenBao's own server is not
// among what these tests ask.
func TestBaoClasses(t *testing.T) {
	prefixes, n := []string{"bao", "openbao", "vault"}, 0
	replay(t, "vault.json", func(t *testing.T, path string, _ json.RawMessage) world {
		n++
		return beginVault(t, path, "openbao", prefixes[n%len(prefixes)])
	})
}

// vaultWorld is a server that says what a case scripts, and nothing else.
type vaultWorld struct {
	dialect, prefix, address string
	program                  *program.Process

	mu     sync.Mutex
	script map[string]scripted
	seen   []string
	logins int
}

// scripted is one answer. Echo is the key under which the request's body comes
// back.
type scripted struct {
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body"`
	Echo   string          `json:"echo"`
}

func beginVault(t *testing.T, path, dialect, prefix string) *vaultWorld {
	t.Helper()
	w := &vaultWorld{dialect: dialect, prefix: prefix}
	n := node.New(t)
	w.address = fixture.Serve(t, "", w, nil).URL()
	stores := filepath.Join(t.TempDir(), "stores.yaml")
	policy := fmt.Sprintf("dialects: {%s: {address: %q, allowedAddresses: ['*']}}\n", dialect, w.address)
	if err := os.WriteFile(stores, []byte(policy), 0o600); err != nil {
		t.Fatalf("the stores: %v", err)
	}
	w.program = n.Serve(t, path, dialect, []string{"VAULT_TOKEN=nobodys"}, "--stores", stores)
	return w
}

func (w *vaultWorld) ServeHTTP(res http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	call := req.Method + " " + req.URL.RequestURI()
	login := strings.HasSuffix(req.URL.Path, "/login")
	w.note(call, login, body)

	answer, known := w.script[call]
	switch {
	case !login && req.Header.Get("X-Vault-Token") != fmt.Sprintf("t%d", w.logins):
		res.WriteHeader(http.StatusForbidden)
		fmt.Fprint(res, `{"errors":["permission denied"]}`)
	case known && answer.Echo != "":
		fmt.Fprintf(res, `{"data":{%q:%s}}`, answer.Echo, body)
	case known:
		res.WriteHeader(answer.Status)
		_, _ = res.Write(answer.Body)
	case login:
		fmt.Fprintf(res, `{"auth":{"client_token":"t%d","lease_duration":3600,"renewable":true}}`, w.logins)
	default:
		res.WriteHeader(http.StatusNotFound)
		fmt.Fprint(res, `{"errors":[]}`)
	}
}

func (w *vaultWorld) note(call string, login bool, body []byte) {
	if !login {
		w.seen = append(w.seen, "read:"+call)
		return
	}
	w.logins++
	w.seen = append(w.seen, "login:"+call)
	var said struct{ JWT, Role string }
	_ = json.Unmarshal(body, &said)
	w.seen = append(w.seen, "jwt:"+said.JWT)
}

func (w *vaultWorld) hold(t *testing.T, c, step json.RawMessage) {
	t.Helper()
	var says struct {
		Secrets map[string]scripted `json:"secrets"`
	}
	for _, raw := range []json.RawMessage{c, step} {
		if err := json.Unmarshal(raw, &says); err != nil {
			t.Fatalf("the case's secrets: %v", err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.script, w.seen = says.Secrets, nil
}

func (w *vaultWorld) calls() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

func (w *vaultWorld) client() pb.CSIDriverProviderClient { return w.program }

// parameters are a case's in the spelling of the dialect.
func (w *vaultWorld) parameters(p map[string]string) {
	for name, value := range p {
		value = strings.ReplaceAll(value, "$VAULT", w.address)
		p[name] = value
		if rest, ok := strings.CutPrefix(name, "vault"); ok && w.prefix != "vault" {
			delete(p, name)
			p[w.prefix+rest] = value
		}
	}
}

// tokens are a case's, for the dialect's own audience. What the case looks for
// stays in them.
func (w *vaultWorld) tokens(attribute *string) *string {
	if attribute == nil {
		return nil
	}
	text := strings.ReplaceAll(*attribute, `"vault":`, fmt.Sprintf("%q:", w.dialect))
	return &text
}

func (w *vaultWorld) volume() request.Volume {
	v := node.Pod{Namespace: "default", ServiceAccount: "sa-1", Name: "pod-1"}.Volume(nil)
	forLong := time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	v.Identity.Tokens = auth.Tokens{w.dialect: auth.NewToken("for-"+w.dialect, forLong), "custom": auth.NewToken("for-custom", forLong)}
	return v
}

// Every mistake is one line that says what Vault said, whose it is and what to
// do. Vault is its real core, 1.14.0, behind a gate.
func TestEveryMistakeIsOneLineInTheDialectOfTheVaultProvider(t *testing.T) {
	m := strictVault(t, "vault", "dialects: {vault: {address: $ADDRESS, allowedAddresses: ['https://*.example.com:8200']}}")
	m.class = map[string]string{
		"roleName": "shop", "vaultAuthMountPath": "jwt",
		"objects": "[{objectName: password, secretPath: secret/data/prod/mysql, secretKey: password}]",
	}
	m.refuse(t, "vault-refusals.json")
}

func TestEveryMistakeWithVaultIsOneLineInCoffresOwnSchema(t *testing.T) {
	m := strictVault(t, "coffre", `stores:
  vault: {kind: vault, namespaces: [shop], address: $ADDRESS, auth: jwt, role: shop}
  unknown: {kind: vault, namespaces: [shop], address: $ADDRESS, auth: jwt, role: nobody}
  others: {kind: vault, namespaces: [billing], address: $ADDRESS, auth: jwt, role: billing}
  bao: {kind: openbao, namespaces: [shop], address: $ADDRESS, auth: jwt, role: shop}
  approle: {kind: vault, namespaces: [shop], address: $ADDRESS, auth: approle}
  v1: {kind: vault, namespaces: [shop], address: $ADDRESS, auth: jwt, role: shop, kvVersion: 1}
`)
	m.class = map[string]string{"store": "vault", "objects": "[{name: prod/mysql, key: password, file: password}]"}
	m.refuse(t, "coffre-vault-refusals.json")
}

const shopPolicy = `
path "secret/data/prod/*"     { capabilities = ["read"] }
path "secret/metadata/prod/*" { capabilities = ["read", "list"] }
path "lender/creds/*"         { capabilities = ["read"] }
path "kv/*"                   { capabilities = ["read"] }
`

// strictVault holds a secret, one that was deleted and one of others.
func strictVault(t *testing.T, dialect, stores string) mistakes {
	core, n := vaultcore.Start(t), node.New(t)
	core.Engines(t)
	core.Trust(t, n.Issuer)
	core.Policy(t, "shop", shopPolicy)
	for _, namespace := range []string{"shop", "billing"} {
		core.Role(t, vaultcore.Role{Name: namespace, Subjects: "system:serviceaccount:" + namespace + ":*", Policy: "shop"})
	}
	core.Put(t, "prod/mysql", map[string]string{"password": "s3cret"})
	core.Put(t, "prod/gone", map[string]string{"password": "s3cret"})
	core.Do(t, "DELETE", "secret/data/prod/gone", "")
	core.Put(t, "hr/salaries", map[string]string{"of": "others"})
	gate, address := core.Behind(t, n.CA)

	file := filepath.Join(t.TempDir(), "stores.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(stores, "$ADDRESS", address)), 0o600); err != nil {
		t.Fatalf("the stores: %v", err)
	}
	p := n.Serve(t, program.Build(t), dialect, nil, "--stores", file)
	return mistakes{node: n, client: p, gate: gate.Gate, audience: "vault", address: address}
}
