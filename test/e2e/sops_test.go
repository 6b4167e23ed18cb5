//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// An ageKey is a key pair as age-keygen makes it.
type ageKey struct {
	private string // the file, comments and all: what people put into a Secret
	public  string
}

func newAgeKey() (ageKey, error) {
	private, err := command("", "age-keygen")
	if err != nil {
		return ageKey{}, err
	}
	return ageKey{private: private, public: regexp.MustCompile(`age1[a-z0-9]+`).FindString(private)}, nil
}

// encrypt makes a SOPS document for the key, by the stock tool.
func encrypt(plain object) (string, error) {
	folder, err := os.MkdirTemp("", "coffre-e2e-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(folder)
	// JSON is YAML, and sops goes by the file's name.
	file := filepath.Join(folder, "plain.yaml")
	text, err := json.Marshal(plain)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", err
	}
	return command("", "sops", "encrypt", "--age", key.public, file)
}

// platformDocuments are the files of the store "documents", one for each test
// that changes one.
func platformDocuments() (object, error) {
	documents := object{}
	for file, plain := range map[string]object{
		"shop.yaml":     {"mysql": object{"user": "shop", "password": "from the platform"}},
		"rotating.yaml": {"password": "before"},
	} {
		encrypted, err := encrypt(plain)
		if err != nil {
			return nil, err
		}
		documents[file] = encrypted
	}
	return documents, nil
}

// keyFor puts the age key into a Secret of the namespace, for the pods'
// nodePublishSecretRef, and returns the Secret's name.
func keyFor(ns namespace) string {
	ns.t.Helper()
	ns.apply(object{
		"apiVersion": "v1", "kind": "Secret",
		"metadata":   object{"name": "age-key"},
		"stringData": object{"age.agekey": key.private},
	})
	return "age-key"
}

// mustEncrypt is encrypt in a test.
func mustEncrypt(t *testing.T, plain object) string {
	t.Helper()
	document, err := encrypt(plain)
	must(t, err)
	return document
}
