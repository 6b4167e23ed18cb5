package certificate

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"hash"
	"unicode/utf16"

	"github.com/coffre-csi/coffre/provider/budget"
)

// maxIterations is how often a password may be hashed for one key. OpenSSL and
// Windows hash 2,000 times, Java 10,000.
const maxIterations = 300_000

// What one iteration costs in units of budget.Work: two blocks of a hash, three
// keys' worth of them in the old schemes.
const iterationWork = 128

// oldIterationBytes is what the library allocates for one iteration of an old
// scheme: a hash for each of three.
const oldIterationBytes = 96

var (
	oidSHA1   = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
	oidPBMAC1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}

	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidHMACSHA512 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11}
)

type macData struct {
	Digest struct {
		Algorithm pkix.AlgorithmIdentifier
		Sum       []byte
	}
	Salt       []byte
	Iterations int `asn1:"optional,default:1"`
}

// scheme is what PBES2 and PBMAC1 name: how a key is derived, and what it is
// for (RFC 8018, A.4 and A.5).
type scheme struct {
	Derivation struct {
		Algorithm  asn1.ObjectIdentifier
		Parameters derivation
	}
	For pkix.AlgorithmIdentifier
}

// derivation are the parameters of PBKDF2.
type derivation struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

var errScheme error = &Error{"is encrypted in a way that is not known here: PBES2 with PBKDF2 and PKCS#12's own schemes are"}

// chargeScheme pays for opening what an algorithm encrypts.
func chargeScheme(b *budget.Budget, a pkix.AlgorithmIdentifier) error {
	if a.Algorithm.Equal(oidPBES2) {
		var s scheme
		if _, err := asn1.Unmarshal(a.Parameters.FullBytes, &s); err != nil {
			return errScheme
		}
		return chargeIterations(b, s.Derivation.Parameters.Iterations)
	}

	var old struct {
		Salt       []byte
		Iterations int
	}
	if _, err := asn1.Unmarshal(a.Parameters.FullBytes, &old); err != nil {
		return errScheme
	}

	if err := chargeIterations(b, old.Iterations); err != nil {
		return err
	}

	return b.Bytes(old.Iterations * oldIterationBytes)
}

// chargeIterations pays for a derivation before it is made.
func chargeIterations(b *budget.Budget, n int) error {
	if n < 1 || n > maxIterations {
		return failed("hashes its password %d times; from 1 to %d are taken", n, maxIterations)
	}
	return b.Work(n * iterationWork)
}

// ErrPassword says that a PFX has a password, where none was given.
var ErrPassword error = &Error{"cannot be opened: its password is not the empty one; name the secret that holds it as sourcePassword"}

var errOther error = &Error{"cannot be opened: its password is another than that of sourcePassword"}

// password is the form of a password that the MAC of a content proves: an empty
// one has two. A PFX without a MAC proves nothing.
func (m macData) password(b *budget.Budget, content []byte, password string) ([]byte, error) {
	secret, err := bmp(password)
	if err != nil || len(m.Digest.Algorithm.Algorithm) == 0 {
		return secret, err
	}
	forms := [][]byte{secret}
	if password == "" {
		forms = append(forms, nil)
	}

	for _, form := range forms {
		sum, err := m.sum(b, content, form, password)
		if err != nil {
			return nil, err
		}
		if hmac.Equal(sum, m.Digest.Sum) {
			return form, nil
		}
	}

	if password == "" {
		return nil, ErrPassword
	}
	return nil, errOther
}

// sum is the MAC of a content.
func (m macData) sum(b *budget.Budget, content, secret []byte, password string) ([]byte, error) {
	algorithm := m.Digest.Algorithm
	if algorithm.Algorithm.Equal(oidPBMAC1) {
		return modernMAC(b, algorithm, content, password)
	}
	newHash := hashOf(algorithm.Algorithm)
	if newHash == nil {
		return nil, failed("has a MAC of a kind that is not known here (%s)", algorithm.Algorithm)
	}
	if err := chargeIterations(b, m.Iterations); err != nil {
		return nil, err
	}
	mac := hmac.New(newHash, macKey(newHash, m.Salt, secret, m.Iterations))
	mac.Write(content)

	return mac.Sum(nil), nil
}

func hashOf(oid asn1.ObjectIdentifier) func() hash.Hash {
	switch {
	case oid.Equal(oidSHA1):
		return sha1.New
	case oid.Equal(oidSHA256), oid.Equal(oidHMACSHA256):
		return sha256.New
	case oid.Equal(oidSHA384):
		return sha512.New384
	case oid.Equal(oidSHA512), oid.Equal(oidHMACSHA512):
		return sha512.New
	}
	return nil
}

// modernMAC is PBMAC1 (RFC 9579).
func modernMAC(b *budget.Budget, a pkix.AlgorithmIdentifier, content []byte, password string) ([]byte, error) {
	var s scheme
	if _, err := asn1.Unmarshal(a.Parameters.FullBytes, &s); err != nil {
		return nil, errScheme
	}
	d := s.Derivation.Parameters
	prf, newHash := hashOf(d.PRF.Algorithm), hashOf(s.For.Algorithm)
	if prf == nil || newHash == nil || d.KeyLength < 20 || d.KeyLength > 64 {
		return nil, errScheme
	}
	if err := chargeIterations(b, d.Iterations); err != nil {
		return nil, err
	}
	key, err := pbkdf2.Key(prf, password, d.Salt, d.Iterations, d.KeyLength)
	if err != nil {
		return nil, errScheme
	}
	mac := hmac.New(newHash, key)
	mac.Write(content)

	return mac.Sum(nil), nil
}

// macKey derives the key of a MAC (RFC 7292, B.2, steps 1 to 6 A with the ID 3).
// It is as long as the hash, so that one round is all.
func macKey(newHash func() hash.Hash, salt, secret []byte, iterations int) []byte {
	const macID = 3
	h := newHash()
	size := h.BlockSize()
	h.Write(bytes.Repeat([]byte{macID}, size))
	h.Write(filled(salt, size))
	h.Write(filled(secret, size))
	key := h.Sum(nil)

	for range iterations - 1 {
		h.Reset()
		h.Write(key)
		key = h.Sum(key[:0])
	}

	return key
}

// filled repeats a text up to the next multiple of a size.
func filled(text []byte, size int) []byte {
	if len(text) == 0 {
		return nil
	}
	length := (len(text) + size - 1) / size * size
	return bytes.Repeat(text, length/len(text)+1)[:length]
}

// newMAC is the MAC of a content that was proven already.
func newMAC(content, secret []byte) macData {
	m := macData{Salt: []byte("proven"), Iterations: 1}
	m.Digest.Algorithm = pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue}
	mac := hmac.New(sha256.New, macKey(sha256.New, m.Salt, secret, 1))
	mac.Write(content)
	m.Digest.Sum = mac.Sum(nil)

	return m
}

// bmp is a password as PKCS#12 hashes it: UTF-16, big end first, and a zero.
func bmp(password string) ([]byte, error) {
	var out []byte
	for _, unit := range append(utf16.Encode([]rune(password)), 0) {
		if unit >= 0xD800 && unit < 0xE000 {
			return nil, failed("its password holds a character that PKCS#12 cannot have")
		}
		out = append(out, byte(unit>>8), byte(unit))
	}

	return out, nil
}
