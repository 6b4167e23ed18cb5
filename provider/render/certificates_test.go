package render

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/provider/certificate"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
)

// selfSigned is a key and its certificate as PEM.
func selfSigned(t *testing.T) (key, cert string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shop"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return block("PRIVATE KEY", pkcs8), block("CERTIFICATE", der)
}

func pfxOf(t *testing.T, text, password string) []byte {
	t.Helper()
	bundle, err := certificate.Parse(nil, []byte(text), "")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	der, err := bundle.PFX(nil, password, certificate.Modern)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	return der
}

func TestACertificateIsADocument(t *testing.T) {
	key, cert := selfSigned(t)
	der := pfxOf(t, cert+key, "")
	for what, value := range map[string]string{
		"PEM": cert + key, "PEM, key first": key + cert, "PFX": string(der), "PFX in base64": base64.StdEncoding.EncodeToString(der),
		"PEM in base64": base64.StdEncoding.EncodeToString([]byte(cert + key)),
	} {
		p, a := one(value, plan.Output{Keys: &plan.Keys{All: true}})
		files, err := Files(mount(), p, a)
		if err != nil {
			t.Errorf("%s: got the error %v, want three files", what, err)
			continue
		}
		if got, want := show(files), "ca.crt="+cert+"|tls.crt="+cert+"|tls.key="+key; got != want {
			t.Errorf("%s: got %s, want the key and the certificate", what, got)
		}
		p, a = one(value, plan.Output{Key: "tls.key"})
		if files, err = Files(mount(), p, a); err != nil || string(files[0].Contents) != key {
			t.Errorf("%s: got the error %v, want the key", what, err)
		}
	}

	p, a := one(cert, plan.Output{Key: "tls.key"})
	if _, err := Files(mount(), p, a); err == nil || !strings.Contains(err.Error(), `has no key "tls.key"`) {
		t.Errorf("a certificate alone: got %v, want that it has no tls.key", err)
	}
}

func TestACertificateMayBeTheValueOfAKeyOrOfSeveral(t *testing.T) {
	key, cert := selfSigned(t)
	document := func(pairs map[string]any) string {
		text, err := json.Marshal(pairs)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		return string(text)
	}
	for what, c := range map[string]struct {
		value string
		out   plan.Output
	}{
		"a PFX under a key":    {document(map[string]any{"pfx": pfxOf(t, cert+key, ""), "x": 1}), plan.Output{Format: plan.PEM, Key: "pfx"}},
		"what Vault issues":    {document(map[string]any{"certificate": cert, "private_key": key, "ca_chain": []string{cert}, "expiration": 1}), plan.Output{Format: plan.PEM}},
		"a Secret of type tls": {document(map[string]any{"tls.crt": cert, "tls.key": key}), plan.Output{Format: plan.PEM}},
		"PEM in another order": {cert + key, plan.Output{Format: plan.PEM}},
	} {
		p, a := one(c.value, c.out)
		files, err := Files(mount(), p, a)
		if err != nil || string(files[0].Contents) != key+cert {
			t.Errorf("%s: got the error %v and %d files, want the key and its certificate", what, err, len(files))
		}
	}
	p, a := one(`{"password":"hunter2"}`, plan.Output{Format: plan.PEM})
	if _, err := Files(mount(), p, a); err == nil || !strings.Contains(err.Error(), "holds no certificate") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("no certificate: got %v, want that", err)
	}
}

func TestPasswordsOpenAndLock(t *testing.T) {
	key, cert := selfSigned(t)
	p, a := one(string(pfxOf(t, cert+key, "old")), plan.Output{Format: plan.PFX})
	p.Objects[0].Sources = append(p.Objects[0].Sources,
		plan.Source{Query: plan.Query{Ref: store.Ref{Name: "old"}}, Password: plan.OpensSource},
		plan.Source{Query: plan.Query{Ref: store.Ref{Name: "new"}}, Password: plan.LocksFile, Key: "word"})
	found := func(name, value, version string) plan.Answer {
		return plan.Answer{Found: []plan.Found{{Ref: store.Ref{Name: name}, Secret: store.Secret{Value: store.Value(value), Version: version}}}}
	}
	made := func(version string) File {
		t.Helper()
		files, err := Files(mount(), p, append(a[:1:1], found("old", "old\n", "1"), found("new", `{"word":"new"}`, version)))
		if err != nil {
			t.Fatalf("got the error %v, want a file", err)
		}
		return files[0]
	}

	file := made("1")
	bundle, err := certificate.Parse(nil, file.Contents, "new")
	if err != nil || string(bundle.KeyPEM()) != key {
		t.Errorf("got the error %v, want a PFX that the new password opens", err)
	}
	if again := made("1"); !bytes.Equal(file.Contents, again.Contents) || file.Version != again.Version {
		t.Error("a remount writes another file")
	}
	if made("2").Version == file.Version {
		t.Error("a new version of the password is no new version of the file")
	}

	_, err = Files(mount(), p, append(a[:1:1], found("old", "wrong", "1"), found("new", `{"word":"new"}`, "1")))
	if err == nil || !strings.Contains(err.Error(), "its password is another") {
		t.Errorf("another password: got %v, want that", err)
	}
	_, err = Files(mount(), p, append(a[:1:1], found("old", "old", "1"), found("new", "{}", "1")))
	if err == nil || !strings.Contains(err.Error(), `new: has no key "word"`) {
		t.Errorf("a password without its key: got %v, want that", err)
	}
}

func TestAMissingOptionalPasswordLeavesTheFileOut(t *testing.T) {
	key, cert := selfSigned(t)
	p, a := one(cert+key, plan.Output{Format: plan.JKS})
	p.Objects[0].Sources = append(p.Objects[0].Sources, plan.Source{Password: plan.LocksFile})
	files, err := Files(mount(), p, append(a, plan.Answer{}))
	if err != nil || len(files) != 0 {
		t.Errorf("got %d files and the error %v, want none", len(files), err)
	}
}
