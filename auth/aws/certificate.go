package aws

import (
	"crypto/tls"
	"errors"
)

func isCertificate(err error) bool {
	v := new(tls.CertificateVerificationError)
	return errors.As(err, &v)
}
