package main

import (
	"bytes"
	"encoding/pem"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// authorities are the certificate authorities that the image trusts: Mozilla's
// list, as the Go project keeps it in golang.org/x/crypto, pinned by go.sum.
//
// It was chosen over the building machine's own file, which differs from one
// machine to the next, and over Debian's package, which would need Debian's
// archive and a pin that expires. It is a file in the image rather than an
// import of the program (about the same size) so that a company's own
// authority can be added beside it: mount one and set SSL_CERT_DIR; the
// imported list gives way as soon as the system has any.
//
// An authority that is trusted only for certificates issued before some day is
// left out, because a PEM file cannot say so.
func authorities() []byte {
	var list bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		pem.Encode(&list, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
	}
	return list.Bytes()
}
