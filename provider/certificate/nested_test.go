package certificate

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
)

// encryptedContent encrypts bags as PBES2 with one iteration does.
func encryptedContent(t *testing.T, bags []bag, password string) contentInfo {
	t.Helper()
	must := func(der []byte, err error) []byte {
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		return der
	}
	salt, iv := []byte("saltsalt"), make([]byte, aes.BlockSize)
	plain := must(asn1.Marshal(bags))
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	plain = append(plain, []byte(strings.Repeat(string(rune(pad)), pad))...)
	block, err := aes.NewCipher(must(pbkdf2.Key(sha1.New, password, salt, 1, 32)))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(plain, plain)

	var s scheme
	s.Derivation.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	s.Derivation.Parameters = derivation{Salt: salt, Iterations: 1}
	s.For = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, Parameters: asn1.RawValue{FullBytes: must(asn1.Marshal(iv))}}
	e := encryptedData{}
	e.Content.Type = oidData
	e.Content.Algorithm = pkix.AlgorithmIdentifier{Algorithm: oidPBES2, Parameters: asn1.RawValue{FullBytes: must(asn1.Marshal(s))}}
	e.Content.Encrypted = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, Bytes: plain}

	return contentInfo{Type: oidEncryptedData, Content: explicit(must(asn1.Marshal(e)))}
}

// A key inside the encrypted part may ask for a thousand million iterations,
// which nobody sees before that part is open: were it opened, this test would
// not end.
func TestAKeyInsideTheEncryptedPartIsNeverOpened(t *testing.T) {
	w := newWorld(t, made()["ECDSA"], true)
	certificate, err := nobodysCertificate()
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(w.key)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	params, err := asn1.Marshal(struct {
		Salt       []byte
		Iterations int
	}{[]byte("saltsalt"), 1 << 30})
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	dear, err := asn1.Marshal(shroudedKey{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 3}, Parameters: asn1.RawValue{FullBytes: params}},
		Encrypted: make([]byte, 64),
	})
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	hidden := encryptedContent(t, []bag{certificate, {ID: oidShroudedKey, Value: explicit(dear)}}, "right")
	secret, err := bmp("right")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}

	for what, open := range map[string][]bag{
		"beside a key":    {{ID: oidKeyBag, Value: explicit(pkcs8)}, certificate},
		"as the only key": {certificate},
	} {
		der, err := assemble(open, &hidden, secret)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		if _, err := Parse(nil, der, "right"); err == nil || !strings.Contains(err.Error(), "exactly one key bag") {
			t.Errorf("%s: got %v, want a refusal", what, err)
		}
	}
}
