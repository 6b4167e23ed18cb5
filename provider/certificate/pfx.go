package certificate

import (
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/coffre-csi/coffre/provider/budget"
)

// A PFX (RFC 7292) names how often a password is hashed, in up to four places,
// and one of them may be inside an encrypted part. The library hashes as often
// as it is told, so it is never given a PFX as it came: here the password is
// checked by the MAC, every count that stands in the open is charged, and then
// the parts are put together anew, those with a key before the encrypted one. A
// second key, in there, is refused by the library before it is opened.

// Identifiers of PKCS#12, #7 and #5.
var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidKeyBag        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 1}
	oidShroudedKey   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidCertBag       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidX509          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}
)

type pfx struct {
	Version  int
	AuthSafe contentInfo
	Mac      macData `asn1:"optional"`
}

// contentInfo's content is [0] EXPLICIT.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"optional"`
}

type encryptedData struct {
	Version int
	Content struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Encrypted asn1.RawValue `asn1:"optional"`
	}
}

// bag's value is [0] EXPLICIT.
type bag struct {
	ID         asn1.ObjectIdentifier
	Value      asn1.RawValue
	Attributes asn1.RawValue `asn1:"optional"`
}

type shroudedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Encrypted []byte
}

// isPFX looks at the beginning: a sequence, version 3, and a data content.
func isPFX(der []byte) bool {
	head := der[:min(len(der), 10)]
	for skip := 2; skip <= 6 && skip+3 <= len(head); skip++ {
		if head[0] == 0x30 && head[skip] == 0x02 && head[skip+1] == 0x01 && head[skip+2] == 0x03 {
			return true
		}
	}
	return false
}

var errPFX error = &Error{"begins like a PFX and cannot be read as one: only DER with a password's MAC is known here"}

func parsePFX(b *budget.Budget, der []byte, password string) (*Bundle, error) {
	var outer pfx
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 || !outer.AuthSafe.Type.Equal(oidData) {
		return nil, errPFX
	}
	var content []byte
	if _, err := asn1.Unmarshal(outer.AuthSafe.Content.Bytes, &content); err != nil {
		return nil, errPFX
	}
	secret, err := outer.Mac.password(b, content, password)
	if err != nil {
		return nil, err
	}
	parts, err := takeApart(b, content)
	if err != nil {
		return nil, err
	}

	return parts.open(b, secret, password)
}

// parts are what a PFX is made of: the bags that stand in the open, and one
// encrypted content.
type parts struct {
	bags      []bag
	keys      int // of bags
	encrypted *contentInfo
}

// takeApart reads the contents, and charges what opening each will cost.
func takeApart(b *budget.Budget, content []byte) (*parts, error) {
	var contents []contentInfo
	if _, err := asn1.Unmarshal(content, &contents); err != nil || len(contents) > maxCertificates {
		return nil, errPFX
	}

	p := &parts{}
	for i, c := range contents {
		var err error
		switch {
		case c.Type.Equal(oidData):
			err = p.plain(b, c)
		case c.Type.Equal(oidEncryptedData) && p.encrypted == nil:
			p.encrypted = &contents[i]
			err = chargeEncrypted(b, c)
		case c.Type.Equal(oidEncryptedData):
			err = failed("is a PFX with several encrypted parts; one for the certificates is what is read here")
		default:
			err = failed("is a PFX with a part that no password opens (content type %s)", c.Type)
		}
		if err != nil {
			return nil, err
		}
	}

	return p, nil
}

func chargeEncrypted(b *budget.Budget, c contentInfo) error {
	var e encryptedData
	if _, err := asn1.Unmarshal(c.Content.Bytes, &e); err != nil {
		return errPFX
	}
	return chargeScheme(b, e.Content.Algorithm)
}

// plain takes the bags of a part that is not encrypted; keys in it are.
func (p *parts) plain(b *budget.Budget, c contentInfo) error {
	var data []byte
	var bags []bag
	if _, err := asn1.Unmarshal(c.Content.Bytes, &data); err != nil {
		return errPFX
	}
	if _, err := asn1.Unmarshal(data, &bags); err != nil {
		return errPFX
	}

	for _, one := range bags {
		switch {
		case one.ID.Equal(oidKeyBag) || one.ID.Equal(oidShroudedKey):
			p.keys++
			if err := chargeKey(b, one); err != nil {
				return err
			}
		case one.ID.Equal(oidCertBag):
			if err := b.Work(certificateWork); err != nil {
				return err
			}
		}
	}
	if p.bags = append(p.bags, bags...); p.keys > 1 || len(p.bags) > maxCertificates {
		return failed("is a PFX with several private keys, or more than %d certificates", maxCertificates)
	}

	return nil
}

func chargeKey(b *budget.Budget, one bag) error {
	if len(one.Value.Bytes) > maxKeyBytes {
		return failed("its private key is %d bytes; the limit is %d", len(one.Value.Bytes), maxKeyBytes)
	}
	if err := b.Work(keyWork * len(one.Value.Bytes)); err != nil || one.ID.Equal(oidKeyBag) {
		return err
	}
	var shrouded shroudedKey
	if _, err := asn1.Unmarshal(one.Value.Bytes, &shrouded); err != nil {
		return errPFX
	}

	return chargeScheme(b, shrouded.Algorithm)
}

// open has the library decrypt the parts, put together with the key first. A
// PFX without a key gets one that is nobody's, which the library wants.
func (p *parts) open(b *budget.Budget, secret []byte, password string) (*Bundle, error) {
	withKey := p.keys > 0
	bags := p.bags
	if !withKey {
		placeholder, err := nobodysKey()
		if err != nil {
			return nil, err
		}
		bags = append([]bag{placeholder}, bags...)
	}
	der, err := assemble(bags, p.encrypted, secret)
	if err != nil {
		return nil, errPFX
	}

	key, leaf, others, err := pkcs12.DecodeChain(der, password)
	if err != nil {
		return nil, failed("is a PFX that cannot be opened: %s", cause(err))
	}
	c := &Bundle{}
	for _, one := range append([]*x509.Certificate{leaf}, others...) {
		if err := c.addCertificate(b, one.Raw); err != nil {
			return nil, err
		}
	}
	if withKey {
		err = c.setKey(key)
	}

	return c, err
}

// nobody is a key that anybody can make.
func nobody() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

// nobodysKey stands where a PFX has no key.
func nobodysKey() (bag, error) {
	der, err := x509.MarshalPKCS8PrivateKey(nobody())
	return bag{ID: oidKeyBag, Value: explicit(der)}, err
}

// nobodysCertificate stands where a key has no certificate.
func nobodysCertificate() (bag, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(nil, template, template, nobody().Public(), nobody())
	if err != nil {
		return bag{}, err
	}
	value, err := asn1.Marshal(struct {
		Type  asn1.ObjectIdentifier
		Value []byte `asn1:"tag:0,explicit"`
	}{oidX509, der})

	return bag{ID: oidCertBag, Value: explicit(value)}, err
}

// explicit wraps DER as [0] EXPLICIT.
func explicit(der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: der}
}

// assemble writes a PFX of bags in the open and an encrypted content.
func assemble(bags []bag, encrypted *contentInfo, secret []byte) ([]byte, error) {
	safe, err := asn1.Marshal(bags)
	if err != nil {
		return nil, err
	}
	if safe, err = asn1.Marshal(safe); err != nil {
		return nil, err
	}
	contents := []contentInfo{{Type: oidData, Content: explicit(safe)}}
	if encrypted != nil {
		contents = append(contents, *encrypted)
	}
	content, err := asn1.Marshal(contents)
	if err != nil {
		return nil, err
	}

	outer := pfx{Version: 3, AuthSafe: contentInfo{Type: oidData}, Mac: newMAC(content, secret)}
	octets, err := asn1.Marshal(content)
	if err != nil {
		return nil, err
	}
	outer.AuthSafe.Content = explicit(octets)

	return asn1.Marshal(outer)
}

// openKey reads a PKCS#8 key that a password encrypts, as a PFX's is.
func openKey(b *budget.Budget, der []byte, password string) (crypto.PrivateKey, error) {
	if password == "" {
		return nil, failed("its private key is encrypted; name the secret that holds its password as sourcePassword")
	}
	one := bag{ID: oidShroudedKey, Value: explicit(der)}
	if err := chargeKey(b, one); err != nil {
		return nil, err
	}
	secret, err := bmp(password)
	if err != nil {
		return nil, err
	}
	witness, err := nobodysCertificate()
	if err != nil {
		return nil, err
	}
	pfx, err := assemble([]bag{one, witness}, nil, secret)
	if err != nil {
		return nil, errKeyKind
	}

	key, _, _, err := pkcs12.DecodeChain(pfx, password)
	if err != nil {
		return nil, failed("its private key cannot be opened with the password of sourcePassword: %s", cause(err))
	}

	return key, nil
}
