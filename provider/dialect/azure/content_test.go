package azure

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth/azure"
	"github.com/coffre-csi/coffre/provider/certificate"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
	azurestore "github.com/coffre-csi/coffre/provider/store/azure"
)

const mediaPFX = "application/x-pkcs12"

// chain is a key, and certificates from leaf to root; without identifiers
// nothing links them.
func chain(t *testing.T, identifiers bool) (key string, certificates []string) {
	t.Helper()
	keys := make([]*ecdsa.PrivateKey, 3)
	parents := make([]*x509.Certificate, 3)
	certificates = make([]string, 3)
	for i := 2; i >= 0; i-- { // the root first
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatalf("got the error %v, want a key", err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: fmt.Sprint("c", i)}, BasicConstraintsValid: true,
			NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		}
		if identifiers {
			template.SubjectKeyId, template.IsCA = []byte{byte(i)}, true
		}
		parent, by := template, keys[i]
		if i < 2 {
			parent, by = parents[i+1], keys[i+1]
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, keys[i].Public(), by)
		if err != nil {
			t.Fatalf("got the error %v, want a certificate", err)
		}
		if parents[i], err = x509.ParseCertificate(der); err != nil {
			t.Fatalf("got the error %v, want a certificate", err)
		}
		certificates[i] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(keys[0])
	if err != nil {
		t.Fatalf("got the error %v, want a key", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), certificates
}

// pfxOf is a PFX of PEM blocks as Key Vault holds it. Its certificates are in
// the order of the chain.
func pfxOf(t *testing.T, encryption, password string, blocks ...string) string {
	t.Helper()
	bundle, err := certificate.Parse(nil, []byte(strings.Join(blocks, "")), "")
	if err != nil {
		t.Fatalf("got the error %v, want a bundle", err)
	}
	der, err := bundle.PFX(nil, password, encryption)
	if err != nil {
		t.Fatalf("got the error %v, want a PFX", err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func TestASecretBecomesWhatTheAzureProviderWrites(t *testing.T) {
	key, c := chain(t, true)
	text := key + c[0] + c[1]
	parameters := "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
	for what, x := range map[string]struct {
		c            content
		value, media string
		want         string
	}{
		"plain":                   {content{format: formatPFX}, " x\n", "", " x\n"},
		"base64, with line ends":  {content{encoding: encodingBase64}, "aGVs\nbG8=\n", "", "hello"},
		"hex":                     {content{encoding: encodingHex}, "68656C6c6f", "", "hello"},
		"PEM, never ordered":      {content{}, c[1] + key + c[0], azurestore.PEM, c[1] + key + c[0]},
		"PEM asked for as PFX":    {content{format: formatPFX}, text, azurestore.PEM, text},
		"PEM's certificates":      {content{part: partCertificates}, c[1] + key + c[0], azurestore.PEM, c[1] + c[0]},
		"PEM's key and all else":  {content{part: partKey}, parameters + key + c[0], azurestore.PEM, parameters + key},
		"PFX as it is":            {content{format: formatPFX}, pfxOf(t, certificate.Modern, "", text), mediaPFX, pfxOf(t, certificate.Modern, "", text)},
		"a modern PFX as PEM":     {content{format: formatPEM}, pfxOf(t, certificate.Modern, "", c[2], c[1], key, c[0]), mediaPFX, key + c[0] + c[1] + c[2]},
		"an old PFX as PEM":       {content{}, pfxOf(t, certificate.Legacy, "", text), mediaPFX, text},
		"the certificates of PFX": {content{part: partCertificates, format: formatPFX}, pfxOf(t, certificate.Legacy, "", text), mediaPFX, c[0] + c[1]},
		"the key of PFX":          {content{part: partKey, format: formatPFX}, pfxOf(t, certificate.Legacy, "", text), mediaPFX, key},
	} {
		got, err := x.c.Select(nil, store.Secret{Value: store.Value(x.value), Media: x.media})
		if err != nil || string(got) != x.want {
			t.Errorf("%s: got %q and the error %v, want %q", what, got, err, x.want)
		}
	}
	binary, err := content{format: formatPFX, encoding: encodingBase64}.Select(nil, store.Secret{Value: store.Value(pfxOf(t, certificate.Modern, "", text)), Media: mediaPFX})
	if err != nil || !bytes.HasPrefix(binary, []byte{0x30}) {
		t.Errorf("a PFX in base64: got %d bytes and the error %v, want it binary", len(binary), err)
	}
}

func TestTheOrderOfTheVaultIsKeptWhereNotAllIsLinked(t *testing.T) {
	_, c := chain(t, true)
	_, loose := chain(t, false)
	parse := func(texts ...string) (out []*x509.Certificate) {
		for _, text := range texts {
			block, _ := pem.Decode([]byte(text))
			one, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatalf("got the error %v, want a certificate", err)
			}
			out = append(out, one)
		}
		return out
	}
	for what, x := range map[string]struct{ held, want []*x509.Certificate }{
		"root first":   {parse(c[2], c[1], c[0]), parse(c[0], c[1], c[2])},
		"no middle":    {parse(c[2], c[0]), parse(c[2], c[0])},
		"no root":      {parse(c[1], c[0]), parse(c[0], c[1])},
		"two leaves":   {parse(c[1], c[0], loose[0]), parse(c[1], c[0], loose[0])},
		"no identifer": {parse(loose[1], loose[0]), parse(loose[1], loose[0])},
		"one":          {parse(c[2]), parse(c[2])},
		"none":         {nil, nil},
	} {
		same := func(a, b *x509.Certificate) bool { return a.Equal(b) }
		if got := linked(x.held); !slices.EqualFunc(got, x.want, same) {
			t.Errorf("%s: got %d certificates in another order, want that of the chain or the vault", what, len(got))
		}
	}
}

func TestASecretThatCannotBeWrittenSaysWhy(t *testing.T) {
	key, c := chain(t, true)
	locked := pfxOf(t, certificate.Legacy, "word", key+c[0])
	for _, x := range []struct {
		c            content
		value, media string
		want         string
	}{
		{content{encoding: encodingBase64}, "not base64!", "", "illegal base64 data at input byte 3"},
		{content{encoding: encodingHex}, "hunter2", "", "encoding/hex: invalid byte"},
		{content{encoding: encodingHex}, "abc", "", "encoding/hex: odd length hex string"},
		{content{}, "invalid", mediaPFX, "illegal base64 data at input byte 4"},
		{content{}, "aGVsbG8=", mediaPFX, "holds no certificate"},
		{content{}, locked, mediaPFX, "pkcs12: decryption password incorrect"},
		{content{}, "x", azurestore.UnknownCertificate + "text/plain", "failed to get certificate. unknown content type 'text/plain'"},
		{content{part: partKey, must: true}, "x", "", "splitCertAndKey: the secret belongs to no certificate"},
	} {
		_, err := x.c.Select(nil, store.Secret{Value: store.Value(x.value), Media: x.media})
		if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "'h'") {
			t.Errorf("%q: got %v, want %q", x.value, err, x.want)
		}
	}
	if _, err := (content{part: partKey}).Select(nil, store.Secret{Value: store.Value("x")}); !errors.Is(err, plan.ErrNoPart) {
		t.Errorf("a plain secret beside the flag: got %v, want no part", err)
	}
}

func TestFailuresAreWordedAsTheAzureProviderDoes(t *testing.T) {
	const object = "objectType:secret, objectName:a, objectVersion:"
	query := func(method azure.Method, text string, cause error) error {
		config := &store.Config{Settings: &azurestore.Settings{Auth: method, TenantID: "t"}}
		return &plan.QueryError{
			Query: plan.Query{Object: object, Store: store.Selector{Inline: config}},
			Err:   &store.Error{Reason: store.Precondition, Store: "shop", Text: text, Cause: cause},
		}
	}
	missing := &azure.Answer{URL: "https://shop.vault.azure.net/secrets/a/", Status: 404, Code: "SecretNotFound"}
	for _, c := range []struct {
		err  error
		want string
	}{
		{query("", "there is none", missing), "failed to get " + object + ": GET https://shop.vault.azure.net/secrets/a/ RESPONSE 404: 404 Not Found ERROR CODE: SecretNotFound (shop: there is none"},
		{query(azure.ServicePrincipal, "could not find clientid in secrets", &azure.Answer{Setup: true, SignIn: true}), "failed to build auth config for mode None: could not find clientid in secrets"},
		{query(azure.TokenProxy, "clientID is required for identity binding", &azure.Answer{Setup: true, SignIn: true}), "failed to build auth config for mode AzureTokenProxy: clientID is required"},
		{query(azure.WorkloadIdentity, "it is not known whom", &azure.Answer{Setup: true, SignIn: true}), "failed to build auth config for mode None: failed to get credentials, nodePublishSecretRef secret is not set, and it is not known whom"},
		{query("", "cloudName X is not valid, error: open f", &azure.Answer{Setup: true}), "failed to mount objects, error: cloudName X is not valid, error: open f (shop)"},
		{query("", "nmi response failed with status code: 404, response body: x", &azure.Answer{SignIn: true, Status: 404}), "failed to get " + object + ": nmi response failed with status code: 404"},
		{query("", "no answer: secret value is nil", &azure.Answer{}), "failed to mount objects, error: secret value is nil (" + object},
		{&plan.ObjectError{Object: object, Text: "illegal base64 data at input byte 3" + byEncoding + "base64)"}, "failed to mount objects, error: illegal base64 data at input byte 3 (objectEncoding: base64) (" + object},
		{&plan.ObjectError{Object: object, Text: "illegal base64 data at input byte 4"}, "failed to mount objects, error: failed to get " + object + ": illegal base64 data at input byte 4"},
		{&request.Error{Part: request.PartPod, Text: "none"}, "failed to mount objects, error: pod name is not provided"},
		{&request.Error{Part: request.PartSecrets, Text: "x", Cause: errors.New("unexpected end of JSON input")}, "failed to unmarshal secrets, error: unexpected end of JSON input"},
		{&request.Error{Part: request.PartTokens, Text: "x", Cause: errors.New("bad")}, "failed to build auth config for mode None: failed to parse workload identity tokens, error: failed to unmarshal service account tokens, error: bad"},
	} {
		if got := (Dialect{}).Explain(c.err); !strings.Contains(got.Error(), c.want) || !errors.Is(got, c.err) {
			t.Errorf("got %v\nwant %s", got, c.want)
		}
	}
}
