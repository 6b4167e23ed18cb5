package certificate

import (
	"bytes"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/provider/budget"
)

// run runs a tool that this test is about, and gives what it wrote. openssl must
// be there (make test installs it); keytool comes with a JDK, and make test says
// where it is missing.
func run(t *testing.T, tool string, arguments ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil && tool == "keytool" {
		t.Skip("needs keytool, of a JDK")
	} else if err != nil {
		t.Fatalf("needs %s, which is not installed", tool)
	}
	var errs bytes.Buffer
	cmd := exec.Command(tool, arguments...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: got the error %v, want none: %s%s", tool, strings.Join(arguments, " "), err, errs.String(), out)
	}
	return out
}

func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	return path
}

func TestOpenSSLReadsWhatIsWritten(t *testing.T) {
	for what, key := range made() {
		w := newWorld(t, key, true)
		c := w.bundle(t, w.root, w.leaf, w.middle)
		text := file(t, "tls.pem", c.PEM())
		if got := string(run(t, "openssl", "x509", "-in", text, "-noout", "-subject")); !strings.Contains(got, "leaf") {
			t.Errorf("%s: openssl reads first %s, want the leaf", what, got)
		}
		run(t, "openssl", "pkey", "-in", text, "-noout", "-check")

		for _, encryption := range []string{Modern, Legacy} {
			for _, password := range []string{"", "changeit"} {
				der, err := c.PFX(nil, password, encryption)
				if err != nil {
					t.Fatalf("%s: got the error %v, want a PFX", what, err)
				}
				read := run(t, "openssl", "pkcs12", "-in", file(t, "tls.pfx", der), "-nodes", "-passin", "pass:"+password)
				back, err := Parse(nil, read, "")
				if err != nil || names(back.Certificates) != "leaf middle root" || !bytes.Equal(back.KeyPEM(), c.KeyPEM()) {
					t.Errorf("%s, %s, password %q: openssl reads something else, %v", what, encryption, password, err)
				}
			}
		}
	}
}

func TestKeytoolReadsWhatIsWritten(t *testing.T) {
	w := newWorld(t, made()["RSA"], true)
	c := w.bundle(t, w.root, w.leaf, w.middle)
	jks, err := c.JKS(nil, "changeit")
	if err != nil {
		t.Fatalf("got the error %v, want a keystore", err)
	}
	trust, err := (&Bundle{Certificates: []*x509.Certificate{w.root, w.middle}}).JKS(nil, "changeit")
	if err != nil {
		t.Fatalf("got the error %v, want a keystore", err)
	}
	pfx, err := c.PFX(nil, "changeit", Modern)
	if err != nil {
		t.Fatalf("got the error %v, want a PFX", err)
	}
	trustPFX, err := (&Bundle{Certificates: []*x509.Certificate{w.root, w.middle}}).PFX(nil, "changeit", Legacy)
	if err != nil {
		t.Fatalf("got the error %v, want a PFX", err)
	}

	for _, k := range []struct {
		name    string
		content []byte
		want    []string
	}{
		{"key.jks", jks, []string{"PrivateKeyEntry", "Certificate chain length: 3", "Alias name: certificate"}},
		{"trust.jks", trust, []string{"trustedCertEntry", "Your keystore contains 2 entries", "Alias name: ca-1"}},
		{"key.p12", pfx, []string{"PrivateKeyEntry", "Certificate chain length: 3"}},
		{"trust.p12", trustPFX, []string{"trustedCertEntry", "Your keystore contains 2 entries"}},
	} {
		out := string(run(t, "keytool", "-J-Duser.language=en", "-list", "-v", "-keystore", file(t, k.name, k.content), "-storepass", "changeit"))
		for _, want := range k.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: keytool says nothing of %q:\n%s", k.name, want, out)
			}
		}
	}

	// The key can be taken out, with the keystore's password.
	exported := filepath.Join(t.TempDir(), "out.p12")
	run(t, "keytool", "-importkeystore", "-srckeystore", file(t, "k.jks", jks), "-srcstorepass", "changeit", "-destkeystore", exported, "-deststoretype", "PKCS12", "-deststorepass", "changeit")
	der, err := os.ReadFile(exported)
	if err != nil {
		t.Fatalf("got the error %v, want keytool's file", err)
	}
	back, err := Parse(nil, der, "changeit")
	if err != nil || names(back.Chain()) != "leaf middle root" || !bytes.Equal(back.KeyPEM(), c.KeyPEM()) {
		t.Errorf("what keytool made of the keystore: got the error %v, want the same key and chain", err)
	}
}

func TestWhatOpenSSLWritesIsRead(t *testing.T) {
	w := newWorld(t, made()["RSA"], true)
	c := w.bundle(t, w.leaf, w.middle, w.root)
	in := file(t, "in.pem", c.PEM())
	for _, more := range []string{
		"", "-legacy", "-descert -legacy", "-macalg sha512", "-macalg sha384", "-iter 10000", "-keypbe NONE", "-certpbe NONE -keypbe NONE", "-certpbe NONE",
		"-keypbe aes-128-cbc -certpbe aes-192-cbc", "-nomac", "-passout pass:", "-name x -caname y",
	} {
		out := filepath.Join(t.TempDir(), "out.p12")
		arguments := append([]string{"pkcs12", "-export", "-in", in, "-out", out}, strings.Fields(more)...)
		password := ""
		if !strings.Contains(more, "-passout") {
			arguments, password = append(arguments, "-passout", "pass:right"), "right"
		}
		run(t, "openssl", arguments...)
		der, err := os.ReadFile(out)
		if err != nil {
			t.Fatalf("got the error %v, want openssl's file", err)
		}
		back, err := Parse(nil, der, password)
		if err != nil || names(back.Chain()) != "leaf middle root" || !bytes.Equal(back.KeyPEM(), c.KeyPEM()) {
			t.Errorf("openssl pkcs12 -export %s: got the error %v, want the key and its chain", more, err)
		}
	}
}

func TestAPFXWithoutAKeyIsItsCertificates(t *testing.T) {
	w := newWorld(t, made()["RSA"], true)
	in, out := file(t, "in.pem", CertificatesPEM([]*x509.Certificate{w.root, w.middle})), filepath.Join(t.TempDir(), "out.p12")
	run(t, "openssl", "pkcs12", "-export", "-nokeys", "-in", in, "-out", out, "-passout", "pass:right")
	der, err := os.ReadFile(out)
	if err != nil {
		t.Fatalf("got the error %v, want openssl's file", err)
	}
	back, err := Parse(nil, der, "right")
	if err != nil || back.Key != nil || names(back.Certificates) != "root middle" {
		t.Errorf("got %+v and the error %v, want the certificates", back, err)
	}
}

func TestAnEncryptedKeyIsOpenedByThePassword(t *testing.T) {
	w := newWorld(t, made()["ECDSA"], true)
	c := w.bundle(t, w.leaf)
	locked := run(t, "openssl", "pkcs8", "-topk8", "-in", file(t, "k.pem", c.KeyPEM()), "-passout", "pass:right")
	text := append(CertificatesPEM(c.Certificates), locked...)
	back, err := Parse(nil, text, "right")
	if err != nil || !bytes.Equal(back.KeyPEM(), c.KeyPEM()) {
		t.Errorf("got the error %v, want the key", err)
	}
	if _, err := Parse(nil, text, "wrong"); err == nil || !strings.Contains(err.Error(), "cannot be opened") {
		t.Errorf("with another password: got %v, want that it cannot be opened", err)
	}
}

// A PFX may ask for any number of iterations; what is too dear is refused
// before it is begun, wherever it stands.
func TestIterationsAreRefusedBeforeTheyAreMade(t *testing.T) {
	w := newWorld(t, made()["ECDSA"], true)
	in := file(t, "in.pem", w.bundle(t, w.leaf).PEM())
	for _, more := range []string{"-iter 300001", "-iter 300001 -nomaciter", "-iter 300001 -nomaciter -certpbe NONE"} {
		out := filepath.Join(t.TempDir(), "out.p12")
		run(t, "openssl", append([]string{"pkcs12", "-export", "-in", in, "-out", out, "-passout", "pass:right"}, strings.Fields(more)...)...)
		der, err := os.ReadFile(out)
		if err != nil {
			t.Fatalf("got the error %v, want openssl's file", err)
		}
		if _, err := Parse(nil, der, "right"); err == nil || !strings.Contains(err.Error(), "hashes its password 300001 times") {
			t.Errorf("%s: got %v, want a refusal", more, err)
		}
	}

	b := budget.New(t.Context(), nil, "shop")
	out := filepath.Join(t.TempDir(), "out.p12")
	run(t, "openssl", "pkcs12", "-export", "-in", in, "-out", out, "-passout", "pass:right", "-iter", "200000")
	der, err := os.ReadFile(out)
	if err != nil {
		t.Fatalf("got the error %v, want openssl's file", err)
	}
	for n := 0; ; n++ {
		if _, err := Parse(b, der, "right"); err != nil {
			if n < 1 || n > 3 || !strings.Contains(err.Error(), "bytes of work") {
				t.Errorf("after %d: got %v, want the limit of work after one to three", n, err)
			}
			return
		}
	}
}
