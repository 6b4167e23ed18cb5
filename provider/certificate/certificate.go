// Package certificate reads what stores hold of certificates (PEM bundles and
// PFX files, which are PKCS#12, binary or in base64) into a key and a chain, and
// writes them as PEM, PFX and Java keystores. render calls it for Coffre's own
// schema, and the Azure dialect for its provider's files.
//
// It never judges a certificate: what is expired, revoked or signed by nobody
// is written as it was found. What it reads may be hostile: sizes are bounded,
// the iterations of a password's derivation are charged to the mount's budget
// before anything is derived, and no error quotes the value. What it writes is
// a function of what it read, salts and dates too, so that a remount changes no
// file.
package certificate

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/coffre-csi/coffre/provider/budget"
)

// Bounds of one value.
const (
	MaxBytes        = 1 << 20 // of text or DER
	maxCertificates = 200
	maxKeyBytes     = 10 << 10 // of DER; an RSA key of 16384 bits takes 9.5 KiB
)

// What reading costs, beside the bytes: units of budget.Work.
const (
	certificateWork = 64 << 10
	keyWork         = 700 // a byte of a key: the numbers of an RSA key are checked
)

// Bundle is what a value holds: at most one private key, and certificates.
type Bundle struct {
	Key          crypto.PrivateKey // nil where there is none
	Certificates []*x509.Certificate

	pkcs8 []byte // the key's
}

// Error says why a value cannot be read or written as a certificate. Its text
// follows the name of the secret, and quotes nothing of its value.
type Error struct{ Text string }

func (e *Error) Error() string { return e.Text }

// cause is a library's error without what it may quote: x509's have the names
// that stand in a certificate.
func cause(err error) string {
	if text := err.Error(); strings.HasPrefix(text, "pkcs12: ") && !strings.Contains(text, "x509: ") {
		return text
	}
	return "it is damaged, or of a kind that is not known here"
}

func failed(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// Holds says whether a value looks like a certificate or its key: PEM text, or
// a PFX as it is or in base64. It reads no more than the beginning of a PFX.
func Holds(value []byte) bool {
	head := fromBase64(value, 64)
	return isPEM(value) || isPFX(value) || isPEM(head) || isPFX(head)
}

// Parse reads a value. password opens what is encrypted in it; it is empty for
// most.
func Parse(b *budget.Budget, value []byte, password string) (*Bundle, error) {
	if len(value) > MaxBytes {
		return nil, failed("is %d bytes; certificates are read from at most %d", len(value), MaxBytes)
	}
	if err := charge(b, len(value)); err != nil {
		return nil, err
	}

	der := value
	if text := fromBase64(value, len(value)); text != nil {
		der = text
	}
	switch {
	case isPFX(der):
		return parsePFX(b, der, password)
	case isPEM(der):
		return parsePEM(b, der, password)
	}

	return nil, failed("holds no certificate: it is neither PEM text nor a PFX (PKCS#12), binary or in base64")
}

// charge pays for the copies of a value.
func charge(b *budget.Budget, size int) error {
	if err := b.Bytes(8 * size); err != nil {
		return err
	}
	return b.Work(16 * size)
}

// fromBase64 decodes the text's first characters, white space left out; nil
// where the text is no base64.
func fromBase64(text []byte, limit int) []byte {
	compact := make([]byte, 0, min(limit, len(text)))
	for _, c := range text {
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
			continue
		}
		if len(compact) == limit {
			break
		}
		compact = append(compact, c)
	}
	if len(compact) == 0 || len(compact)%4 != 0 {
		return nil
	}

	out, err := base64.StdEncoding.AppendDecode(nil, compact)
	if err != nil {
		return nil
	}

	return out
}

// addCertificate reads one certificate of the bundle.
func (c *Bundle) addCertificate(b *budget.Budget, der []byte) error {
	if len(c.Certificates) == maxCertificates {
		return failed("holds more than %d certificates", maxCertificates)
	}
	if err := b.Work(certificateWork); err != nil {
		return err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return failed("its certificate %d cannot be read: %s", len(c.Certificates)+1, cause(err))
	}
	same := func(other *x509.Certificate) bool { return bytes.Equal(other.Raw, parsed.Raw) }
	if !slices.ContainsFunc(c.Certificates, same) {
		c.Certificates = append(c.Certificates, parsed)
	}

	return nil
}

var errKeyKind error = &Error{"its private key is of no kind that can be read here: RSA, ECDSA on P-224 to P-521, Ed25519 and X25519 can"}

// setKey takes the bundle's one key.
func (c *Bundle) setKey(key crypto.PrivateKey) error {
	if c.Key != nil {
		return failed("holds several private keys, of which none can be chosen")
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return errKeyKind
	}
	c.Key, c.pkcs8 = key, pkcs8

	return nil
}
