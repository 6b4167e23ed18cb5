// Package vaultcore runs a real Vault core (version 1.14.0, MPL-2.0; storage in
// memory) for the project's tests. The program is built from test/tools/vault
// on first use. It is never linked into the product.
package vaultcore

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

// Core is a running Vault, unsealed.
type Core struct {
	Address   string `json:"address"`
	Token     string `json:"token"` // root's
	UnsealKey string `json:"unsealKey"`

	client *http.Client
}

// Start runs a core until the test ends; the arguments are the program's own.
func Start(t testing.TB, args ...string) *Core {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	build := exec.Command(filepath.Join(filepath.Dir(here), "..", "tools", "vault", "build.sh"))
	var said bytes.Buffer
	build.Stderr = &said
	dir, err := build.Output()
	if err != nil {
		t.Fatalf("Vault's core is not built: %v\n%s", err, said.String())
	}

	c := exec.Command(filepath.Join(strings.TrimSpace(string(dir)), "vaultcore"), args...)
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatalf("the core's input: %v", err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatalf("the core's output: %v", err)
	}
	if err := c.Start(); err != nil {
		t.Fatalf("the core does not start: %v", err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = c.Process.Kill()
		_ = c.Wait()
	})

	core := &Core{client: http.DefaultClient}
	if err := json.NewDecoder(stdout).Decode(core); err != nil {
		t.Fatalf("the core says nothing of itself: %v", err)
	}
	return core
}

// StartTLS is Start with a certificate of an authority: the core asks for the
// client's, too.
func StartTLS(t testing.TB, ca *serve.Authority) *Core {
	t.Helper()
	pair := fixture.OK[*tls.Certificate](t)(ca.Certificate("127.0.0.1"))
	cert, key := WritePair(t, pair)
	core := Start(t, "-cert", cert, "-key", key)
	core.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}}
	return core
}

// WritePair writes a certificate and its key as PEM and returns the files.
func WritePair(t testing.TB, pair *tls.Certificate) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	private := fixture.OK[[]byte](t)(x509.MarshalPKCS8PrivateKey(pair.PrivateKey))
	files := map[string]*pem.Block{"crt": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, "key": {Type: "PRIVATE KEY", Bytes: private}}
	for name, block := range files {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatalf("the %s: %v", name, err)
		}
	}
	return filepath.Join(dir, "crt"), filepath.Join(dir, "key")
}

// Do asks as root: a body of JSON for a write, "" for none. The answer is its
// data, nil where there is none; a refusal ends the test.
func (c *Core) Do(t testing.TB, method, path, body string) map[string]any {
	t.Helper()
	status, data := c.Try(t, method, path, body)
	if status >= 300 {
		t.Fatalf("%s %s: got the status %d, want success", method, path, status)
	}
	return data
}

// Try is Do for what may be refused.
func (c *Core) Try(t testing.TB, method, path, body string) (status int, data map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.Address+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	req.Header.Set("X-Vault-Token", c.Token)
	res, err := c.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	raw, _ := io.ReadAll(res.Body)
	var answer struct {
		Data map[string]any `json:"data"`
	}
	_ = json.Unmarshal(raw, &answer)
	return res.StatusCode, answer.Data
}
