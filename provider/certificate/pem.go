package certificate

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"

	"github.com/coffre-csi/coffre/provider/budget"
)

// Types of PEM blocks (RFC 7468, and OpenSSL's before it).
const (
	typeCertificate  = "CERTIFICATE"
	typeX509         = "X509 CERTIFICATE"
	typePKCS8        = "PRIVATE KEY"
	typePKCS1        = "RSA PRIVATE KEY"
	typeEC           = "EC PRIVATE KEY"
	typeEncrypted    = "ENCRYPTED PRIVATE KEY"
	typeECParameters = "EC PARAMETERS"
)

var begin = []byte("-----BEGIN ")

// isPEM says whether a line begins a block that Parse reads. Text before the
// first block is what OpenSSL writes there.
func isPEM(value []byte) bool {
	for rest := value; ; {
		at := bytes.Index(rest, begin)
		if at < 0 {
			return false
		}
		atLineStart := at == 0 || rest[at-1] == '\n'
		rest = rest[at+len(begin):]
		kind, _, found := bytes.Cut(rest[:min(40, len(rest))], []byte("-----"))
		if !atLineStart || !found {
			continue
		}
		switch string(kind) {
		case typeCertificate, typeX509, typePKCS8, typePKCS1, typeEC, typeEncrypted:
			return true
		}
	}
}

// parsePEM reads all blocks; those of other kinds are left alone.
func parsePEM(b *budget.Budget, text []byte, password string) (*Bundle, error) {
	c := &Bundle{}
	var encrypted []byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var err error
		switch block.Type {
		case typeCertificate, typeX509:
			err = c.addCertificate(b, block.Bytes)
		case typeEncrypted:
			encrypted = block.Bytes
		case typePKCS8, typePKCS1, typeEC:
			err = c.addKey(b, block)
		}
		if err != nil {
			return nil, err
		}
	}

	if encrypted != nil {
		key, err := openKey(b, encrypted, password)
		if err != nil {
			return nil, err
		}
		if err := c.setKey(key); err != nil {
			return nil, err
		}
	}
	if c.Key == nil && len(c.Certificates) == 0 {
		return nil, failed("is PEM text without a certificate or a private key that can be read")
	}

	return c, nil
}

// addKey reads a block that is a key in the clear.
func (c *Bundle) addKey(b *budget.Budget, block *pem.Block) error {
	if block.Headers["DEK-Info"] != "" {
		return failed("its private key is encrypted in the old way of PEM, which is not read here; write it as PKCS#8 (openssl pkcs8 -topk8)")
	}
	key, err := parseKey(b, block.Type, block.Bytes)
	if err != nil {
		return err
	}

	return c.setKey(key)
}

func parseKey(b *budget.Budget, kind string, der []byte) (key crypto.PrivateKey, err error) {
	if len(der) > maxKeyBytes {
		return nil, failed("its private key is %d bytes; the limit is %d", len(der), maxKeyBytes)
	}
	if err := b.Work(keyWork * len(der)); err != nil {
		return nil, err
	}

	switch kind {
	case typePKCS1:
		key, err = x509.ParsePKCS1PrivateKey(der)
	case typeEC:
		key, err = x509.ParseECPrivateKey(der)
	default:
		key, err = x509.ParsePKCS8PrivateKey(der)
	}
	if err != nil {
		return nil, errKeyKind
	}

	return key, nil
}

// PEM writes the key as PKCS#8, where there is one, and the chain after it.
func (c *Bundle) PEM() []byte { return append(c.KeyPEM(), CertificatesPEM(c.Chain())...) }

// KeyPEM is the key as PKCS#8; nil where there is none.
func (c *Bundle) KeyPEM() []byte {
	if c.Key == nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: typePKCS8, Bytes: c.pkcs8})
}

// CertificatesPEM are certificates, one after the other.
func CertificatesPEM(certificates []*x509.Certificate) []byte {
	var out []byte
	for _, one := range certificates {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: typeCertificate, Bytes: one.Raw})...)
	}
	return out
}
