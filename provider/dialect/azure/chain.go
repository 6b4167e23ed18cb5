package azure

import (
	"bytes"
	"crypto/x509"
	"slices"
)

// linked are certificates from leaf to root as the Azure provider orders them:
// by the identifiers of their keys alone. Where not every one is linked, they
// stay as they are. (certificate.Chain puts what it can first, and also goes by
// names and by the private key.)
func linked(held []*x509.Certificate) []*x509.Certificate {
	signs := func(parent, child *x509.Certificate) bool {
		return len(child.AuthorityKeyId) > 0 && bytes.Equal(parent.SubjectKeyId, child.AuthorityKeyId)
	}
	leaf := slices.IndexFunc(held, func(one *x509.Certificate) bool {
		return !slices.ContainsFunc(held, func(other *x509.Certificate) bool { return other != one && signs(one, other) })
	})
	if leaf < 0 {
		return held
	}

	rest := slices.Clone(held)
	var chain []*x509.Certificate
	for at := leaf; at >= 0; {
		last := rest[at]
		chain, rest = append(chain, last), slices.Delete(rest, at, at+1)
		at = slices.IndexFunc(rest, func(parent *x509.Certificate) bool { return signs(parent, last) })
	}
	if len(rest) > 0 {
		return held
	}

	return chain
}
