// Package sopstest makes SOPS documents with the stock sops command, for the
// project's tests. The command is built from test/tools/sops on first use.
package sopstest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A Key is an age key pair.
type Key struct {
	Public string // the recipient: age1…
	Secret string // the identity: AGE-SECRET-KEY-1…
}

// NewKey makes an age key.
func NewKey(t testing.TB) Key { return newKey(t) }

// NewPostQuantumKey makes a hybrid ML-KEM-768 and X25519 age key.
func NewPostQuantumKey(t testing.TB) Key { return newKey(t, "-pq") }

func newKey(t testing.TB, args ...string) Key {
	t.Helper()
	var k Key
	for line := range strings.Lines(run(t, "age-keygen", nil, "", args...)) {
		line = strings.TrimSpace(line)
		if public, ok := strings.CutPrefix(line, "# public key: "); ok {
			k.Public = public
		}
		if strings.HasPrefix(line, "AGE-SECRET-KEY-") {
			k.Secret = line
		}
	}
	if k.Public == "" || k.Secret == "" {
		t.Fatal("age-keygen printed no key")
	}
	return k
}

// Encrypt makes a document of plaintext for the given age recipients. format
// is yaml, json, dotenv, ini or binary.
func Encrypt(t testing.TB, format, plaintext string, recipients ...string) string {
	t.Helper()
	return Sops(t, Key{}, plaintext, "encrypt", "--input-type", format, "--output-type", format,
		"--age", strings.Join(recipients, ","), "--filename-override", "plain."+format)
}

// Decrypt is what `sops decrypt` makes of a document.
func Decrypt(t testing.TB, key Key, format, document string) string {
	t.Helper()
	return Sops(t, key, document, "decrypt", "--input-type", format, "--output-type", format,
		"--filename-override", "document."+format)
}

// Sops runs the command with the age key and standard input given, away from
// the user's own configuration, and returns its standard output.
func Sops(t testing.TB, key Key, stdin string, args ...string) string {
	t.Helper()
	env := []string{"SOPS_AGE_KEY=" + key.Secret, "SOPS_CONFIG=" + os.DevNull, "SOPS_DISABLE_VERSION_CHECK=1"}
	return run(t, "sops", env, stdin, args...)
}

func run(t testing.TB, command string, env []string, stdin string, args ...string) string {
	t.Helper()
	dir, err := Tools()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	c := exec.Command(filepath.Join(dir, command), args...)
	c.Dir = home
	c.Env = append([]string{"HOME=" + home, "PATH=" + dir}, env...)
	c.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", command, strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

// Tools is the folder that holds sops and age-keygen, built on first use.
var Tools = sync.OnceValues(func() (string, error) {
	script, err := buildScript()
	if err != nil {
		return "", err
	}
	c := exec.Command("sh", script)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return "", errors.New("the sops command cannot be built: " + err.Error())
	}
	return strings.TrimSpace(string(out)), nil
})

// buildScript looks for test/tools/sops upwards: a test runs in its package's
// folder.
func buildScript() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		script := filepath.Join(dir, "test", "tools", "sops", "build.sh")
		if _, err := os.Stat(script); err == nil {
			return script, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("test/tools/sops/build.sh is not above the working directory")
		}
		dir = parent
	}
}
