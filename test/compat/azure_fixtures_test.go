package compat

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/coffre-csi/coffre/test/fakes/fixture"
)

// azureFixtures are the keys and certificates that the cases name as ${name}:
// keys and certificates as PEM, PFX files in base64 as Key Vault holds them,
// public keys as JSON web keys and as PEM. All are made anew.
func azureFixtures(t *testing.T) map[string]string {
	t.Helper()
	f := map[string]string{}
	ec := fixture.OK[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	chain := azureChain(t, ec)
	for name, cert := range chain {
		f["cert_"+name] = pemOf("CERTIFICATE", cert.Raw)
		f["cer_b64_"+name] = base64.StdEncoding.EncodeToString(cert.Raw)
	}
	f["key_ec"] = pemOf("PRIVATE KEY", fixture.OK[[]byte](t)(x509.MarshalPKCS8PrivateKey(ec)))

	for name, order := range map[string]string{
		"root_int1_leaf": "root int1 leaf", "root_int1_int2_leafnoski": "root int1 int2 leaf_noski", "int1_leaf_no_root": "int1 leaf",
		"leaf_root_missing_int": "leaf root", "root_leaf_missing_int": "root leaf",
	} {
		f["pfx_ec_"+name] = azurePFX(t, pkcs12.LegacyDES, ec, chain, strings.Fields(order))
	}
	f["pfx_modern_aes_sha256"] = azurePFX(t, pkcs12.Modern2023, ec, chain, []string{"leaf", "int1", "root"})
	locked := fixture.OK[[]byte](t)(pkcs12.Modern2023.Encode(ec, chain["leaf"], nil, "locked"))
	f["pfx_locked"] = base64.StdEncoding.EncodeToString(locked)

	private := fixture.OK[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	own := signed(t, "self", private.Public(), nil, private, nil)
	f["pfx_rsa_selfsigned"] = azurePFX(t, pkcs12.LegacyDES, private, map[string]*x509.Certificate{"self": own}, []string{"self"})
	f["jwk_rsa"] = text(t, map[string]string{"kty": "RSA", "n": url64(private.N.Bytes()), "e": url64(big.NewInt(int64(private.E)).Bytes())})
	f["pub_rsa"] = pemOf("PUBLIC KEY", fixture.OK[[]byte](t)(x509.MarshalPKIXPublicKey(private.Public())))
	f["jwk_oct_hsm"] = `{"kty":"oct-HSM"}`
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-521": elliptic.P521()} {
		key := fixture.OK[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(curve, rand.Reader))
		size := (curve.Params().BitSize + 7) / 8
		web := map[string]string{"kty": "EC", "crv": name, "x": url64(key.X.FillBytes(make([]byte, size))), "y": url64(key.Y.FillBytes(make([]byte, size)))}
		f["jwk_ec_"+name] = text(t, web)
		web["kty"] = "EC-HSM"
		f["jwk_echsm_"+name] = text(t, web)
		f["pub_ec_"+name] = pemOf("PUBLIC KEY", fixture.OK[[]byte](t)(x509.MarshalPKIXPublicKey(key.Public())))
	}

	return f
}

// azureChain is a root, two authorities below it, a leaf of the first and one of
// the second, which has no identifier of its own key.
func azureChain(t *testing.T, leaf *ecdsa.PrivateKey) map[string]*x509.Certificate {
	t.Helper()
	keys := map[string]*ecdsa.PrivateKey{}
	for _, name := range []string{"root", "int1", "int2"} {
		keys[name] = fixture.OK[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	}
	root := signed(t, "root", keys["root"].Public(), nil, keys["root"], []byte("root"))
	int1 := signed(t, "int1", keys["int1"].Public(), root, keys["root"], []byte("int1"))
	int2 := signed(t, "int2", keys["int2"].Public(), int1, keys["int1"], []byte("int2"))
	return map[string]*x509.Certificate{
		"root": root, "int1": int1, "int2": int2,
		"leaf":       signed(t, "leaf", leaf.Public(), int1, keys["int1"], []byte("leaf")),
		"leaf_noski": signed(t, "leaf-noski", leaf.Public(), int2, keys["int2"], nil),
	}
}

// signed is a certificate; one without a parent signs itself.
func signed(t *testing.T, name string, of crypto.PublicKey, parent *x509.Certificate, by crypto.Signer, id []byte) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, SubjectKeyId: id,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
	}
	if parent == nil {
		parent = template
	}
	der := fixture.OK[[]byte](t)(x509.CreateCertificate(rand.Reader, template, parent, of, by))
	return fixture.OK[*x509.Certificate](t)(x509.ParseCertificate(der))
}

func azurePFX(t *testing.T, e *pkcs12.Encoder, key crypto.Signer, all map[string]*x509.Certificate, order []string) string {
	t.Helper()
	certificates := make([]*x509.Certificate, len(order))
	for i, name := range order {
		certificates[i] = all[name]
	}
	return base64.StdEncoding.EncodeToString(fixture.OK[[]byte](t)(e.Encode(key, certificates[0], certificates[1:], "")))
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func url64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func text(t *testing.T, v any) string {
	t.Helper()
	return string(fixture.OK[[]byte](t)(json.Marshal(v)))
}

// filled puts fixtures in the place of their names, in JSON.
func filled(t *testing.T, raw []byte, fixtures map[string]string) []byte {
	t.Helper()
	return []byte(os.Expand(string(raw), func(name string) string {
		value, ok := fixtures[name]
		if !ok {
			t.Errorf("there is no fixture %s", name)
		}
		quoted := text(t, value)
		return quoted[1 : len(quoted)-1]
	}))
}
