package azure

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/golang-jwt/jwt/v5"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
)

// SecretKeys are what a service principal's Secret holds, in any case.
const SecretKeys = "clientid, and clientsecret or clientcertificate"

// principal is an application and what it proves itself with.
type principal struct {
	client, secret string
	certificate    *x509.Certificate
	key            *rsa.PrivateKey
}

// readPrincipal reads what the tenant brings. The sentences of what is missing
// are the Azure provider's.
func readPrincipal(s auth.Secrets) (p principal, err error) {
	if len(s) == 0 {
		return p, setup(fault.Precondition, "failed to get credentials, nodePublishSecretRef secret is not set (it holds %s)", SecretKeys)
	}

	p.client = valueOf(s, "clientid")
	certificate := valueOf(s, "clientcertificate")
	p.secret = valueOf(s, "clientsecret")
	switch {
	case p.client == "":
		return p, setup(fault.Precondition, "could not find clientid in secrets")
	case !ValidClient(p.client):
		return p, setup(fault.Invalid, "clientid in the Secret of nodePublishSecretRef is no client id")
	case certificate != "":
		return p, p.readCertificate(certificate, valueOf(s, "clientcertificatepassword"))
	case p.secret == "":
		return p, setup(fault.Precondition, "could not find clientsecret in secrets")
	}
	return p, nil
}

// valueOf finds a key in any case; of two spellings the first in order is it.
func valueOf(s auth.Secrets, name string) string {
	i := slices.IndexFunc(s.Keys(), func(k string) bool { return strings.EqualFold(k, name) })
	if i < 0 {
		return ""
	}
	return s[s.Keys()[i]]
}

func (p *principal) readCertificate(text, password string) error {
	certificates, key, err := azidentity.ParseCertificates([]byte(text), []byte(password))
	private, isRSA := key.(*rsa.PrivateKey)
	if err != nil || !isRSA || len(certificates) == 0 {
		return setup(fault.Invalid, "clientcertificate in the Secret of nodePublishSecretRef is no PEM and no PFX of a certificate with its RSA key")
	}
	p.certificate, p.key = certificates[0], private
	return nil
}

// assertionLife is how long an assertion may be shown.
const assertionLife = 10 * time.Minute

// assertion is the application's word for itself, signed with its certificate:
// "Microsoft identity platform application authentication certificate
// credentials".
func (p *principal) assertion(endpoint string, now time.Time) (string, error) {
	sum := sha256.Sum256(p.certificate.Raw)
	t := jwt.NewWithClaims(jwt.SigningMethodPS256, jwt.RegisteredClaims{
		Issuer: p.client, Subject: p.client, Audience: jwt.ClaimStrings{endpoint}, ID: rand.Text(),
		NotBefore: jwt.NewNumericDate(now), IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(assertionLife)),
	})
	t.Header["x5t#S256"] = base64.RawURLEncoding.EncodeToString(sum[:])
	return t.SignedString(p.key)
}
