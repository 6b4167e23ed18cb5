package azure

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/certificate"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
	azurestore "github.com/coffre-csi/coffre/provider/store/azure"
)

// Parts of a certificate that are files of their own, by their endings.
const (
	partCertificates = "crt"
	partKey          = "key"
)

// content makes of a secret what the Azure provider writes. It is a
// plan.Selector. A secret that belongs to a certificate has a media type; any
// other is written as it is.
type content struct {
	format, encoding string // in small letters
	part             string // "" for the whole
	vaultOrder       bool
	must             bool // the secret must be a certificate
}

// String is what shapes the file.
func (c content) String() string {
	return strings.Join([]string{c.format, c.encoding, c.part, fmt.Sprint(c.vaultOrder)}, " ")
}

// Select implements plan.Selector.
func (c content) Select(b *budget.Budget, s store.Secret) ([]byte, error) {
	if err := b.Bytes(2 * len(s.Value)); err != nil {
		return nil, err
	}
	text, err := c.text(b, s)
	if err != nil {
		return nil, err
	}

	return c.decode(text)
}

func (c content) text(b *budget.Budget, s store.Secret) ([]byte, error) {
	unknown, isUnknown := azurestore.UnknownContentType(s.Media)
	switch {
	case isUnknown:
		return nil, fmt.Errorf("failed to get certificate. unknown content type '%.80s'", unknown)
	case s.Media == "" && c.part != "" && c.must:
		return nil, errors.New("splitCertAndKey: the secret belongs to no certificate")
	case s.Media == "" && c.part != "":
		return nil, plan.ErrNoPart
	case s.Media == "":
		return s.Value, nil
	case s.Media == azurestore.PEM:
		return c.fromPEM(s.Value)
	}
	return c.fromPFX(b, s.Value)
}

// fromPEM is the text as it is, or its certificates, or all else in it.
func (c content) fromPEM(text []byte) ([]byte, error) {
	if c.part == "" {
		return text, nil
	}
	var out []byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if (block.Type == "CERTIFICATE") == (c.part == partCertificates) {
			out = append(out, pem.EncodeToMemory(block)...)
		}
	}

	return out, nil
}

// fromPFX is the base64 text as it is, or PEM: the key, then the certificates
// in their order.
func (c content) fromPFX(b *budget.Budget, text []byte) ([]byte, error) {
	if c.part == "" && c.format == formatPFX {
		return text, nil
	}
	der, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return nil, err
	}
	bundle, err := certificate.Parse(b, der, "")
	if errors.Is(err, certificate.ErrPassword) {
		return nil, errors.New("pkcs12: decryption password incorrect: the PFX has a password, and certificates of Key Vault have none")
	}
	if err != nil {
		return nil, err
	}

	certificates := bundle.Certificates
	if !c.vaultOrder {
		certificates = linked(certificates)
	}
	switch c.part {
	case partKey:
		return bundle.KeyPEM(), nil
	case partCertificates:
		return certificate.CertificatesPEM(certificates), nil
	}

	return append(bundle.KeyPEM(), certificate.CertificatesPEM(certificates)...), nil
}

// byEncoding follows the error of an objectEncoding.
const byEncoding = " (objectEncoding: "

// decode undoes objectEncoding, with the sentences of Go's decoders, which the
// Azure provider passes on; but for what they quote.
func (c content) decode(text []byte) ([]byte, error) {
	out, err := text, error(nil)
	switch c.encoding {
	case encodingBase64:
		out, err = base64.StdEncoding.DecodeString(string(text))
	case encodingHex:
		out, err = hex.DecodeString(string(text))
	}
	if invalid := hex.InvalidByteError(0); errors.As(err, &invalid) {
		err = errors.New("encoding/hex: invalid byte")
	}
	if err != nil {
		return nil, fmt.Errorf("%w%s%s)", err, byEncoding, c.encoding)
	}

	return out, nil
}
