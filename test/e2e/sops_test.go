//go:build e2e

package e2e

import (
	"encoding/json"
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

// encrypt makes a SOPS document for the key, by the stock tool. (The package
// sopstest does it for other tests, and needs a testing.TB; the first
// documents here are made before any test runs.)
func encrypt(plain object) (string, error) {
	text, err := json.Marshal(plain) // JSON is YAML
	if err != nil {
		return "", err
	}
	return command(string(text), "sops", "encrypt", "--age", key.public, "--input-type", "yaml", "--output-type", "yaml", "--filename-override", "plain.yaml")
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
