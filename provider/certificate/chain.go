package certificate

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"slices"
)

// Chain are the certificates from leaf to root. The leaf is the one that the
// private key belongs to, else the first that issued no other. What cannot be
// linked to it follows in the order in which it is held.
func (c *Bundle) Chain() []*x509.Certificate {
	rest := slices.Clone(c.Certificates)
	var chain []*x509.Certificate
	for at := c.leaf(); at >= 0; at = slices.IndexFunc(rest, issues(chain[len(chain)-1])) {
		chain = append(chain, rest[at])
		rest = slices.Delete(rest, at, at+1)
	}

	return append(chain, rest...)
}

// Authorities are the roots that the bundle holds: its self-signed
// certificates; where there is none the last of the chain, unless that is the
// leaf.
func (c *Bundle) Authorities() []*x509.Certificate {
	chain := c.Chain()
	var roots []*x509.Certificate
	for _, one := range chain {
		if bytes.Equal(one.RawIssuer, one.RawSubject) {
			roots = append(roots, one)
		}
	}
	if len(roots) > 0 || len(chain) < 2 {
		return roots
	}

	return chain[len(chain)-1:]
}

// leaf is the place of the leaf, -1 where there is no certificate.
func (c *Bundle) leaf() int {
	if at := slices.IndexFunc(c.Certificates, c.belongs); at >= 0 {
		return at
	}
	for i, one := range c.Certificates {
		issued := func(other *x509.Certificate) bool { return other != one && issues(other)(one) }
		if !slices.ContainsFunc(c.Certificates, issued) {
			return i
		}
	}

	return min(0, len(c.Certificates)-1)
}

// belongs says whether the bundle's key is a certificate's.
func (c *Bundle) belongs(one *x509.Certificate) bool {
	private, ok := c.Key.(crypto.Signer)
	if !ok {
		return false
	}
	public, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool })

	return ok && public.Equal(one.PublicKey)
}

// issues says of a certificate whether it is the issuer of another: by the
// identifiers of their keys where both have them, else by their names
// (RFC 5280, 4.2.1.1 and 4.1.2.4).
func issues(child *x509.Certificate) func(*x509.Certificate) bool {
	return func(parent *x509.Certificate) bool {
		if len(child.AuthorityKeyId) > 0 && len(parent.SubjectKeyId) > 0 {
			return bytes.Equal(child.AuthorityKeyId, parent.SubjectKeyId)
		}
		return bytes.Equal(child.RawIssuer, parent.RawSubject)
	}
}
