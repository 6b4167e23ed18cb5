package certificate

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/coffre-csi/coffre/provider/budget"
)

// Encryptions of a PFX.
const (
	Modern = "modern" // AES-256 and SHA-256: OpenSSL 1.1.1, Java 12, Windows Server 2019 and later
	Legacy = "legacy" // 3DES and SHA-1: everything before
)

// Iterations of the library's encoders: of the certificates, the key and the
// MAC.
const (
	iterations        = 2048
	writtenIterations = 3 * iterations
)

// PFX writes the key and its chain; without a key the certificates, as a trust
// store of Java. An empty password encrypts nothing worth the name, and is what
// Windows and Azure write by default.
func (c *Bundle) PFX(b *budget.Budget, password, encryption string) ([]byte, error) {
	if err := c.chargeWriting(b, writtenIterations*iterationWork); err != nil {
		return nil, err
	}
	encoder, old := pkcs12.Modern2023, iterations/3 // of its MAC, which takes one hash
	if encryption == Legacy {
		encoder, old = pkcs12.LegacyDES, 2*iterations
	}
	if err := b.Bytes(old * oldIterationBytes); err != nil {
		return nil, err
	}
	encoder = encoder.WithRand(c.salts("pfx " + encryption))

	var out []byte
	var err error
	switch chain := c.Chain(); {
	case len(chain) == 0:
		return nil, failed("holds a private key and no certificate, which no PFX can be made of")
	case c.Key == nil:
		entries := make([]pkcs12.TrustStoreEntry, len(chain))
		for i, one := range chain {
			entries[i] = pkcs12.TrustStoreEntry{Cert: one, FriendlyName: fmt.Sprintf(aliasAuthority, i)}
		}
		out, err = encoder.EncodeTrustStoreEntries(entries, password)
	default:
		out, err = encoder.Encode(c.Key, chain[0], chain[1:], password)
	}
	if err != nil {
		return nil, failed("cannot be written as a PFX: %s", cause(err))
	}

	return out, nil
}

// Names of a keystore's entries.
const (
	aliasKey       = "certificate"
	aliasAuthority = "ca-%d"
)

// JKS writes a Java keystore: the key and its chain as the entry certificate;
// without a key every certificate as a trusted one, ca-0 and on. The password
// is the keystore's and the key's; Java wants six characters.
func (c *Bundle) JKS(b *budget.Budget, password string) ([]byte, error) {
	if err := c.chargeWriting(b, 0); err != nil {
		return nil, err
	}
	if text := jksPasswordFault(password); text != "" {
		return nil, failed("cannot be written as a Java keystore: %s", text)
	}
	chain := c.Chain()
	if len(chain) == 0 {
		return nil, failed("holds a private key and no certificate, which no Java keystore can be made of")
	}

	store := keystore.New(keystore.WithOrderedAliases(), keystore.WithCustomRandomNumberGenerator(c.salts("jks")))
	if err := c.fill(store, chain, password); err != nil {
		return nil, failed("cannot be written as a Java keystore: %s", err)
	}
	var out bytes.Buffer
	if err := store.Store(&out, []byte(password)); err != nil {
		return nil, failed("cannot be written as a Java keystore: %s", err)
	}

	return out.Bytes(), nil
}

// jksPasswordFault says what is wrong with a keystore's password.
func jksPasswordFault(password string) string {
	foreign := func(r rune) bool { return r < ' ' || r > '~' }
	switch {
	case len(password) < 6:
		return "its password has fewer than six characters, which Java does not take"
	case strings.ContainsFunc(password, foreign):
		return "its password holds a character that is not ASCII"
	}
	return ""
}

func (c *Bundle) fill(store keystore.KeyStore, chain []*x509.Certificate, password string) error {
	entries := make([]keystore.Certificate, len(chain))
	for i, one := range chain {
		entries[i] = keystore.Certificate{Type: "X.509", Content: one.Raw}
	}
	if c.Key != nil {
		entry := keystore.PrivateKeyEntry{CreationTime: chain[0].NotBefore, PrivateKey: c.pkcs8, CertificateChain: entries}
		return store.SetPrivateKeyEntry(aliasKey, entry, []byte(password))
	}

	for i, one := range entries {
		entry := keystore.TrustedCertificateEntry{CreationTime: chain[i].NotBefore, Certificate: one}
		if err := store.SetTrustedCertificateEntry(fmt.Sprintf(aliasAuthority, i), entry); err != nil {
			return err
		}
	}

	return nil
}

// chargeWriting pays for the copies of what is written, and more work.
func (c *Bundle) chargeWriting(b *budget.Budget, more int) error {
	size := len(c.pkcs8)
	for _, one := range c.Certificates {
		size += len(one.Raw)
	}
	if err := charge(b, size); err != nil {
		return err
	}
	return b.Work(more)
}

// salts are the random bytes of a file: the same for the same content, unlike
// for any other, and known to nobody who does not hold the private key. The
// password is no part of them, so that they say nothing of it.
func (c *Bundle) salts(purpose string) io.Reader {
	h := hmac.New(sha256.New, c.pkcs8)
	fmt.Fprintf(h, "coffre %s\n", purpose)
	for _, one := range c.Certificates {
		fmt.Fprintf(h, "%d\n", len(one.Raw))
		h.Write(one.Raw)
	}

	return rand.NewChaCha8([32]byte(h.Sum(nil)))
}
