package certificate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/provider/budget"
)

// world is a chain of three and the leaf's key.
type world struct {
	root, middle, leaf *x509.Certificate
	key                crypto.Signer
}

func keys() map[string]crypto.Signer {
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	ecKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	return map[string]crypto.Signer{"RSA": rsaKey, "ECDSA": ecKey, "Ed25519": edKey}
}

var made = sync.OnceValue(keys)

// newWorld signs a chain; withIDs says whether the certificates name the
// identifiers of their keys.
func newWorld(t testing.TB, key crypto.Signer, withIDs bool) world {
	t.Helper()
	w := world{key: key}
	sign := func(name string, serial int64, ca bool, of crypto.PublicKey, parent *x509.Certificate, by crypto.Signer) *x509.Certificate {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IsCA: ca, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour).Truncate(time.Second), NotAfter: time.Now().Add(24 * time.Hour),
		}
		if withIDs {
			template.SubjectKeyId = []byte(name)
		}
		if parent == nil {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, of, by)
		if err != nil {
			t.Fatalf("got the error %v, want a certificate", err)
		}
		out, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatalf("got the error %v, want a certificate", err)
		}
		if !withIDs { // the library makes one for an authority
			out.SubjectKeyId, out.AuthorityKeyId = nil, nil
		}
		return out
	}
	_, rootKey, _ := ed25519.GenerateKey(rand.Reader)
	_, middleKey, _ := ed25519.GenerateKey(rand.Reader)
	w.root = sign("root", 1, true, rootKey.Public(), nil, rootKey)
	w.middle = sign("middle", 2, true, middleKey.Public(), w.root, rootKey)
	w.leaf = sign("leaf", 3, false, key.Public(), w.middle, middleKey)

	return w
}

func (w world) bundle(t testing.TB, certificates ...*x509.Certificate) *Bundle {
	t.Helper()
	c := &Bundle{Certificates: certificates}
	if err := c.setKey(w.key); err != nil {
		t.Fatalf("got the error %v, want a key", err)
	}
	return c
}

func names(certificates []*x509.Certificate) string {
	var out []string
	for _, c := range certificates {
		out = append(out, c.Subject.CommonName)
	}
	return strings.Join(out, " ")
}

func TestTheChainIsFromLeafToRootHoweverItIsHeld(t *testing.T) {
	for _, withIDs := range []bool{true, false} {
		w := newWorld(t, made()["ECDSA"], withIDs)
		all := []*x509.Certificate{w.root, w.middle, w.leaf}
		for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			held := []*x509.Certificate{all[order[0]], all[order[1]], all[order[2]]}
			for what, c := range map[string]*Bundle{"with its key": w.bundle(t, held...), "without": {Certificates: held}} {
				if got := names(c.Chain()); got != "leaf middle root" {
					t.Errorf("identifiers %v, %s, held as %s: got %s, want leaf middle root", withIDs, what, names(held), got)
				}
				if got := names(c.Authorities()); got != "root" {
					t.Errorf("identifiers %v, %s: got the authorities %s, want root", withIDs, what, got)
				}
			}
		}
	}
}

func TestACertificateThatLinksToNothingComesLast(t *testing.T) {
	w, other := newWorld(t, made()["ECDSA"], true), newWorld(t, made()["RSA"], true)
	other.root.Subject.CommonName, other.root.SubjectKeyId = "other", []byte("other")
	c := w.bundle(t, other.root, w.root, w.leaf)
	if got := names(c.Chain()); got != "leaf other root" {
		t.Errorf("got %s, want the leaf, and the others as they are held", got)
	}
	alone := w.bundle(t, w.leaf)
	if got := alone.Authorities(); len(got) != 0 {
		t.Errorf("a leaf alone: got the authorities %s, want none", names(got))
	}
	if got := names(w.bundle(t, w.leaf, w.middle).Authorities()); got != "middle" {
		t.Errorf("without a root: got the authorities %s, want middle", got)
	}
}

func TestTheLeafIsTheCertificateOfTheKey(t *testing.T) {
	w, other := newWorld(t, made()["ECDSA"], true), newWorld(t, made()["RSA"], true)
	other.leaf.Subject.CommonName = "other"
	c := w.bundle(t, other.leaf, w.middle, w.leaf)
	if got := names(c.Chain()); got != "leaf middle other" {
		t.Errorf("got %s, want the key's leaf and its issuer first", got)
	}
}

func TestEveryFormOfAKeyIsReadAndWrittenAsPKCS8(t *testing.T) {
	rsaKey, ecKey := made()["RSA"].(*rsa.PrivateKey), made()["ECDSA"].(*ecdsa.PrivateKey)
	ec, _ := x509.MarshalECPrivateKey(ecKey)
	ed, _ := x509.MarshalPKCS8PrivateKey(made()["Ed25519"])
	for what, block := range map[string]*pem.Block{
		"RSA":     {Type: typePKCS1, Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)},
		"ECDSA":   {Type: typeEC, Bytes: ec},
		"Ed25519": {Type: typePKCS8, Bytes: ed},
	} {
		w := newWorld(t, made()[what], true)
		text := append(CertificatesPEM([]*x509.Certificate{w.root, w.leaf}), pem.EncodeToMemory(block)...)
		text = append([]byte("Bag Attributes: none\n"), text...)
		c, err := Parse(nil, text, "")
		if err != nil {
			t.Errorf("%s: got the error %v, want a bundle", what, err)
			continue
		}
		out, rest := pem.Decode(c.PEM())
		key, err := x509.ParsePKCS8PrivateKey(out.Bytes)
		if err != nil || out.Type != typePKCS8 || !key.(interface{ Equal(crypto.PrivateKey) bool }).Equal(made()[what]) {
			t.Errorf("%s: got a %s and the error %v, want the key as PKCS#8", what, out.Type, err)
		}
		if want := CertificatesPEM([]*x509.Certificate{w.leaf, w.root}); !bytes.Equal(rest, want) {
			t.Errorf("%s: after the key come %d bytes, want the chain's %d", what, len(rest), len(want))
		}
		if !Holds(text) || !Holds([]byte(base64.StdEncoding.EncodeToString(c.PEM()))) {
			t.Errorf("%s: the text does not look like a certificate", what)
		}
	}
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	for what, key := range made() {
		w := newWorld(t, key, true)
		for _, encryption := range []string{Modern, Legacy} {
			for _, password := range []string{"", "päss wörd €"} {
				der, err := w.bundle(t, w.root, w.middle, w.leaf).PFX(nil, password, encryption)
				if err != nil {
					t.Fatalf("%s, %s: got the error %v, want a PFX", what, encryption, err)
				}
				wrapped := []byte(base64.StdEncoding.EncodeToString(der[:100]) + "\n")
				if !Holds(der) || !Holds(wrapped) {
					t.Errorf("%s, %s: does not look like a PFX", what, encryption)
				}
				back, err := Parse(nil, []byte(base64.StdEncoding.EncodeToString(der)), password)
				if err != nil {
					t.Errorf("%s, %s, password %q: got the error %v, want a bundle", what, encryption, password, err)
					continue
				}
				if got := names(back.Certificates); got != "leaf middle root" || !bytes.Equal(back.KeyPEM(), w.bundle(t).KeyPEM()) {
					t.Errorf("%s, %s: got %s, want the chain and its key", what, encryption, got)
				}
			}
		}
	}
}

func TestWithoutAKeyATrustStoreIsWritten(t *testing.T) {
	w := newWorld(t, made()["RSA"], true)
	c := &Bundle{Certificates: []*x509.Certificate{w.root, w.middle}}
	der, err := c.PFX(nil, "secret", Modern)
	if err != nil {
		t.Fatalf("got the error %v, want a PFX", err)
	}
	back, err := Parse(nil, der, "secret")
	if err != nil || back.Key != nil || names(back.Certificates) != "middle root" {
		t.Errorf("got %+v and the error %v, want the two certificates", back, err)
	}
}

func TestTheSameContentIsTheSameFile(t *testing.T) {
	w := newWorld(t, made()["RSA"], true)
	other := newWorld(t, made()["ECDSA"], true)
	write := func(w world, what string) []byte {
		c := w.bundle(t, w.leaf, w.middle, w.root)
		var out []byte
		var err error
		if what == "jks" {
			out, err = c.JKS(nil, "changeit")
		} else {
			out, err = c.PFX(nil, "changeit", what)
		}
		if err != nil {
			t.Fatalf("%s: got the error %v, want a file", what, err)
		}
		return out
	}
	for _, what := range []string{"jks", Modern, Legacy} {
		if !bytes.Equal(write(w, what), write(w, what)) {
			t.Errorf("%s: two writings of one content differ", what)
		}
		if bytes.Equal(write(w, what), write(other, what)) {
			t.Errorf("%s: two contents are written alike", what)
		}
	}
	salt := make([]byte, 64)
	otherSalt := slices.Clone(salt)
	_, _ = w.bundle(t, w.leaf).salts("jks").Read(salt)
	_, _ = w.bundle(t, w.leaf, w.root).salts("jks").Read(otherSalt)
	if bytes.Equal(salt, otherSalt) {
		t.Error("two contents under one key have one salt")
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, made()["ECDSA"], true)
	locked, err := w.bundle(t, w.leaf).PFX(nil, "right", Modern)
	if err != nil {
		t.Fatalf("got the error %v, want a PFX", err)
	}
	keyTwice := append(w.bundle(t).KeyPEM(), w.bundle(t).KeyPEM()...)
	for _, c := range []struct{ what, value, password, want string }{
		{"no certificate", "hunter2", "", "holds no certificate"},
		{"too long", strings.Repeat("x", MaxBytes+1), "", "at most 1048576"},
		{"a PFX with another password", string(locked), "wrong", "its password is another"},
		{"a PFX with a password", string(locked), "", "its password is not the empty one"},
		{"a PFX cut short", string(locked[:200]), "right", "cannot be read as one"},
		{"a broken certificate", "-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n-----END CERTIFICATE-----\n", "", "its certificate 1 cannot be read"},
		{"a broken key", "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n", "", "of no kind that can be read"},
		{"two keys", string(keyTwice), "", "several private keys"},
		{"an encrypted key without a password", "-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVudGVyMg==\n-----END ENCRYPTED PRIVATE KEY-----\n", "", "sourcePassword"},
		{"only a mark", "-----BEGIN CERTIFICATE-----\n", "", "without a certificate"},
	} {
		_, err := Parse(nil, []byte(c.value), c.password)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want %q", c.what, err, c.want)
		}
	}
	for password, want := range map[string]string{"short": "six characters", "pässword": "not ASCII"} {
		if _, err := w.bundle(t, w.leaf).JKS(nil, password); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a keystore's password %q: got %v, want %q", password, err, want)
		}
	}
	if _, err := w.bundle(t).PFX(nil, "", Modern); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("a key alone: got %v, want an error", err)
	}
}

func TestManyWritingsUseUpTheBudget(t *testing.T) {
	w := newWorld(t, made()["ECDSA"], true)
	b := budget.New(t.Context(), nil, "shop")
	c := w.bundle(t, w.leaf)
	for n := 0; n < 1000; n++ {
		if _, err := c.PFX(b, "", Modern); err != nil {
			if !strings.Contains(err.Error(), "bytes of work") {
				t.Errorf("got %v, want the limit of work", err)
			}
			return
		}
	}
	t.Error("a thousand PFX files cost nothing")
}

// The library's own errors quote names that stand in a certificate.
func TestACertificateThatCannotBeReadIsNotQuoted(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("got the error %v, want a key", err)
	}
	uri := "http://hunter2\x7f/"
	names := append([]byte{0x30, byte(len(uri) + 2), 0x86, byte(len(uri))}, uri...) // a URI among the subject's alternative names
	template := &x509.Certificate{SerialNumber: big.NewInt(1), ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: names}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatalf("got the error %v, want a certificate", err)
	}
	if _, err := x509.ParseCertificate(der); err == nil || !strings.Contains(err.Error(), "hunter2") {
		t.Fatalf("the library says %v, which quotes nothing: this test shows nothing", err)
	}

	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if _, err := Parse(nil, text, ""); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "its certificate 1 cannot be read") {
		t.Errorf("got %v, want which certificate it is and nothing of it", err)
	}
}
