package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/store"
)

// The types of object. A certificate comes with its key, by way of the secret
// behind it; a public certificate is the leaf alone.
const (
	Secret            = "secret"
	Key               = "key"
	Certificate       = "certificate"
	PublicCertificate = "public-certificate"
)

// Media types of a certificate's secret. One with another content type has
// UnknownCertificate, followed by what it says.
const (
	PKCS12             = "application/x-pkcs12"
	PEM                = "application/x-pem-file"
	UnknownCertificate = "application/x-unknown-certificate; content-type="
)

// UnknownContentType is the content type that a certificate's secret has in the
// place of one that is known; "" where it has none.
func UnknownContentType(media string) (contentType string, ok bool) {
	return strings.CutPrefix(media, UnknownCertificate)
}

// object is what a ref names, in Key Vault's own terms.
type object struct {
	collection, name, version string
	kind                      string // the ref's type
}

// Grammars, by "About keys, secrets, and certificates: Vault-name and
// Object-name". Both go into a path.
var (
	objectName = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	versionID  = regexp.MustCompile(`^[0-9a-zA-Z-]{1,64}$`)
)

func objectOf(ref store.Ref) (object, *store.Error) {
	o := object{name: ref.Name, version: ref.Version, kind: cmp.Or(ref.Type, Secret)}
	switch o.kind {
	case Secret, Certificate:
		o.collection = "secrets"
	case Key:
		o.collection = "keys"
	case PublicCertificate:
		o.collection = "certificates"
	default:
		return o, store.Errorf(store.Invalid, "%.40q is no type of object", ref.Type)
	}

	switch {
	case !objectName.MatchString(o.name):
		return o, store.Errorf(store.Invalid, "is no name that Key Vault has: letters, digits and - only, at most 127")
	case o.version != "" && !versionID.MatchString(o.version):
		return o, store.Errorf(store.Invalid, "version %.40q is no version of Key Vault's", o.version)
	}
	return o, nil
}

// at is the address of an object; of its current version it ends in a slash.
func (v *visit) at(o object) *url.URL {
	return &url.URL{Scheme: "https", Host: v.vault.host, Path: "/" + o.collection + "/" + o.name + "/" + o.version}
}

// content is what an object holds.
type content struct {
	id                          string
	value                       []byte
	media                       string
	notBefore, expires, created *time.Time
}

// read reads one ref.
func (v *visit) read(ctx context.Context, ref store.Ref) (store.Secret, *store.Error) {
	o, err := objectOf(ref)
	if err != nil {
		return store.Secret{}, err
	}
	if ref.Extra != "" {
		if o.version, err = v.versionBefore(ctx, ref, o); err != nil {
			return store.Secret{}, err
		}
	}

	var c content
	failure := v.do(ctx, operations[o.collection], func(ctx context.Context, t auth.Token) error {
		body, err := v.get(ctx, v.at(o), t)
		if err != nil {
			return err
		}
		c, err = decode(o, body)
		return err
	})
	if failure != nil {
		return store.Secret{}, v.refused(failure, o)
	}
	return v.deliver(o, c)
}

// operations are the SDK's names of them, by collection.
var operations = map[string]string{"secrets": "GetSecret", "keys": "GetKey", "certificates": "GetCertificate"}

// deliver checks what a vault answered.
func (v *visit) deliver(o object, c content) (store.Secret, *store.Error) {
	version, ok := o.versionIn(c.id)
	if !ok {
		return store.Secret{}, store.Errorf(store.Unavailable, "%s answered about another object", v.vault.host)
	}
	if o.kind == Certificate && c.media == "" {
		return store.Secret{}, store.Errorf(store.Invalid, "is a secret of %s and no certificate: leave type out, or name a certificate", v.vault.host)
	}
	if err := v.cloud.times.check(v, o, c); err != nil {
		return store.Secret{}, err
	}
	return store.Secret{Value: c.value, Version: version, Media: c.media}, nil
}

// versionIn is the version in an id, https://VAULT/COLLECTION/NAME/VERSION, where
// it is the object's.
func (o object) versionIn(id string) (version string, ok bool) {
	u, err := url.Parse(id)
	if err != nil {
		return "", false
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	named := len(parts) == 3 && strings.EqualFold(parts[1], o.name)
	if !named || parts[2] == "" || o.version != "" && !strings.EqualFold(parts[2], o.version) {
		return "", false
	}
	return parts[2], true
}

// decode reads an answer; what it must hold and does not is no answer.
func decode(o object, body []byte) (content, error) {
	switch o.collection {
	case "keys":
		return decodeKey(body)
	case "certificates":
		return decodeCertificate(body)
	}
	return decodeSecret(body)
}

// incomplete is a success without what it must hold.
func incomplete(what string) *failed { return &failed{why: what} }

func decodeSecret(body []byte) (c content, err error) {
	var s azsecrets.Secret
	switch err := json.Unmarshal(body, &s); {
	case err != nil:
		return c, incomplete("the answer is no secret")
	case s.Value == nil:
		return c, incomplete("secret value is nil")
	case s.ID == nil:
		return c, incomplete("secret id is nil")
	}

	c = content{id: string(*s.ID), value: []byte(*s.Value)}
	if s.KID != nil {
		c.media = mediaOf(s.ContentType)
	}
	if a := s.Attributes; a != nil {
		c.notBefore, c.expires = a.NotBefore, a.Expires
	}
	return c, nil
}

// mediaOf is the media type of a certificate's secret.
func mediaOf(contentType *string) string {
	if contentType == nil {
		return UnknownCertificate
	}
	switch *contentType {
	case PKCS12, PEM:
		return *contentType
	}
	return UnknownCertificate + *contentType
}

func decodeKey(body []byte) (c content, err error) {
	var k azkeys.KeyBundle
	switch err := json.Unmarshal(body, &k); {
	case err != nil:
		return c, incomplete("the answer is no key")
	case k.Key == nil:
		return c, incomplete("key value is nil")
	case k.Key.KID == nil:
		return c, incomplete("key id is nil")
	}

	c = content{id: string(*k.Key.KID)}
	if c.value, err = publicKey(k.Key); err != nil {
		return c, err
	}
	if a := k.Attributes; a != nil {
		c.notBefore, c.expires = a.NotBefore, a.Expires
	}
	return c, nil
}

func decodeCertificate(body []byte) (c content, err error) {
	var got azcertificates.Certificate
	switch err := json.Unmarshal(body, &got); {
	case err != nil:
		return c, incomplete("the answer is no certificate")
	case len(got.CER) == 0:
		return c, incomplete("certificate value is nil")
	case got.ID == nil:
		return c, incomplete("certificate id is nil")
	}

	c = content{id: string(*got.ID), value: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: got.CER})}
	if a := got.Attributes; a != nil {
		c.notBefore, c.expires = a.NotBefore, a.Expires
	}
	return c, nil
}

// notAfter is what Ref.Extra says: the newest version that was there at a time.
const notAfter = "notAfter="

// NotAfter is a ref's Extra for the newest version made at or before t.
func NotAfter(t time.Time) string { return notAfter + t.UTC().Format(time.RFC3339) }

func (v *visit) versionBefore(ctx context.Context, ref store.Ref, o object) (string, *store.Error) {
	text, ok := strings.CutPrefix(ref.Extra, notAfter)
	limit, err := time.Parse(time.RFC3339, text)
	if !ok || err != nil || ref.Version != "" {
		return "", store.Errorf(store.Invalid, "%.60q says nothing of an object of Key Vault's", ref.Extra)
	}

	versions, failed := v.versions(ctx, o)
	if failed != nil {
		return "", failed
	}
	for _, one := range versions {
		if !one.created.After(limit) {
			return one.version, nil
		}
	}
	return "", store.Errorf(store.NotFound, "no versions found before objectNotAfter: %s", text)
}

// String names an object in an error.
func (o object) String() string { return fmt.Sprintf("%s/%s", o.collection, o.name) }
