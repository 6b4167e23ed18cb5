package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/certificate"
	"github.com/coffre-csi/coffre/provider/plan"
)

// Keys of a certificate read as a document, as Secrets of the type
// kubernetes.io/tls have them.
const (
	keyChain       = "tls.crt" // leaf first, then each issuer
	keyPrivate     = "tls.key" // PKCS#8
	keyAuthorities = "ca.crt"
)

// certificateKeys is a certificate as a document: its keys as JSON. What it
// does not hold is no key.
func certificateKeys(b *budget.Budget, value []byte, password string) ([]byte, error) {
	bundle, err := certificate.Parse(b, value, password)
	if err != nil {
		return nil, err
	}
	pairs := map[string]string{}
	for key, text := range map[string][]byte{
		keyChain:       certificate.CertificatesPEM(bundle.Chain()),
		keyPrivate:     bundle.KeyPEM(),
		keyAuthorities: certificate.CertificatesPEM(bundle.Authorities()),
	} {
		if len(text) > 0 {
			pairs[key] = string(text)
		}
	}

	return json.Marshal(pairs)
}

// certificate writes a certificate as one file.
func (r *renderer) certificate(out plan.Output, value []byte, words passwords) ([]byte, error) {
	if out.Key != "" {
		doc, err := r.document(value, words.source)
		if err != nil {
			return nil, err
		}
		if value, err = doc.path(r.budget, out.Key); err != nil {
			return nil, err
		}
	}
	bundle, err := r.bundle(value, words.source)
	if err != nil {
		return nil, err
	}

	switch out.Format {
	case plan.PFX:
		return bundle.PFX(r.budget, words.file, out.Encryption)
	case plan.JKS:
		return bundle.JKS(r.budget, words.file)
	}

	return bundle.PEM(), nil
}

// bundle reads a value that is a certificate, or a document whose texts are its
// parts: what Vault issues, or a Secret of the type kubernetes.io/tls.
func (r *renderer) bundle(value []byte, password string) (*certificate.Bundle, error) {
	if !certificate.Holds(value) {
		if doc, err := r.document(value, ""); err == nil {
			text, err := blocks(r.budget, doc)
			if err != nil {
				return nil, err
			}
			value = text
		}
	}
	return certificate.Parse(r.budget, value, password)
}

// blocks are the PEM texts of a document, in the order of its keys.
func blocks(b *budget.Budget, doc *document) ([]byte, error) {
	if err := b.Bytes(4 * len(doc.json)); err != nil {
		return nil, err
	}

	var out bytes.Buffer
	for _, key := range doc.keys {
		var texts []string
		var text string
		if raw := doc.top[key]; json.Unmarshal(raw, &text) == nil {
			texts = []string{text}
		} else if json.Unmarshal(raw, &texts) != nil {
			continue
		}
		for _, one := range texts {
			if certificate.Holds([]byte(one)) {
				out.WriteString(one + "\n")
			}
		}
	}

	return out.Bytes(), nil
}

// passwords are those of one object.
type passwords struct {
	source, file string
	from         []plan.Found
	missing      bool // an optional one is
}

// passwords reads an object's passwords. A line break at a password's end is no
// part of it: editors and shells add one.
func (r *renderer) passwords(o plan.Object, answers []plan.Answer) (passwords, error) {
	var words passwords
	for i, source := range o.Sources {
		if source.Password == "" {
			continue
		}
		if len(answers[i].Found) == 0 {
			words.missing = true
			continue
		}
		found := answers[i].Found[0]
		text, err := r.password(source, found.Secret.Value)
		if err != nil {
			return words, fmt.Errorf("%s: %w", found.Ref, err)
		}
		words.from = append(words.from, found)
		if source.Password == plan.OpensSource {
			words.source = text
		} else {
			words.file = text
		}
	}

	return words, nil
}

const maxPassword = 1024 // bytes

func (r *renderer) password(source plan.Source, value []byte) (string, error) {
	if source.Key != "" {
		doc, err := r.document(value, "")
		if err != nil {
			return "", err
		}
		if value, err = doc.path(r.budget, source.Key); err != nil {
			return "", err
		}
	}
	text := bytes.TrimSuffix(bytes.TrimSuffix(value, []byte("\n")), []byte("\r"))
	if len(text) > maxPassword {
		return "", errors.New("is too long for a password")
	}

	return string(text), nil
}
