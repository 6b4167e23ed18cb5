package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// An example with a file at the top, one in nested folders, a link and a
// folder that stands empty.
func example() spec {
	return spec{
		platform: v1.Platform{OS: "linux", Architecture: "arm64"},
		config:   v1.Config{Entrypoint: []string{"/app"}},
		dirs:     []string{"/tmp", "var/lib"},
		files: []file{
			{path: "/usr/share/app/data", content: []byte("data")},
			{path: "/app", content: []byte("program"), executable: true},
		},
		links: []link{{at: "/bin/app", to: "/app"}},
	}
}

func TestSameFilesMakeTheSameImageInAnyOrder(t *testing.T) {
	one := example()
	other := example()
	slices.Reverse(other.files)
	slices.Reverse(other.dirs)
	if a, b := digest(t, one), digest(t, other); a != b {
		t.Errorf("%s and %s", a, b)
	}
}

func TestLayerHoldsNothingOfTheBuildingMachine(t *testing.T) {
	source := filepath.Join(t.TempDir(), "app")
	// An odd umask and a recent time, which must not show.
	if err := os.WriteFile(source, []byte("program"), 0o711); err != nil {
		t.Fatal(err)
	}
	f, err := readFile(source, "/app")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers(t, spec{files: []file{f}}) {
		if h.Mode != 0o755 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || !h.ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("%+v", h)
		}
	}
}

func TestEveryFolderComesBeforeWhatIsInIt(t *testing.T) {
	seen := map[string]bool{"./": true}
	var names []string
	for _, h := range headers(t, example()) {
		if parent := filepath.Dir(strings.TrimSuffix(h.Name, "/")) + "/"; !seen[parent] {
			t.Errorf("%s comes before %s", h.Name, parent)
		}
		seen[h.Name] = true
		names = append(names, h.Name)
	}
	want := []string{"app", "bin/", "bin/app", "tmp/", "usr/", "usr/share/", "usr/share/app/", "usr/share/app/data", "var/", "var/lib/"}
	if !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

func TestTwoFilesAtOnePathAreRefused(t *testing.T) {
	s := example()
	s.links = append(s.links, link{at: "/app", to: "/elsewhere"})
	if _, err := s.image(); err == nil || !strings.Contains(err.Error(), "/app") {
		t.Errorf("got %v, want an error that names /app", err)
	}
}

func TestTrustedAuthoritiesCoverTheClouds(t *testing.T) {
	pool := x509.NewCertPool()
	list := authorities()
	if !pool.AppendCertsFromPEM(list) {
		t.Fatal("no certificate in the list")
	}
	if n := bytes.Count(list, []byte("BEGIN CERTIFICATE")); n < 100 {
		t.Errorf("only %d authorities", n)
	}
	var subjects strings.Builder
	for _, s := range pool.Subjects() { //nolint:staticcheck // deprecated for the system's pool only; this one is ours
		subjects.Write(s)
	}
	for _, name := range []string{"Amazon Root CA 1", "GTS Root R1", "DigiCert Global Root G2", "ISRG Root X1"} {
		if !strings.Contains(subjects.String(), name) {
			t.Errorf("%s is missing", name)
		}
	}
}

// The tarball and the layout are made from a stand-in program, so that the
// test needs nothing but the Go distribution.
func TestCoffreIsPackedForEveryPlatformTheSameEachTime(t *testing.T) {
	build := func() (string, *v1.IndexManifest) {
		source, out := t.TempDir(), filepath.Join(t.TempDir(), "dist")
		write(t, filepath.Join(source, "go.mod"), "module example.test/standin\n\ngo 1.26.0\n")
		write(t, filepath.Join(source, "main.go"), "package main\n\nvar version string\n\nfunc main() { println(version) }\n")
		if err := packCoffre([]string{"-source", source, "-package", ".", "-version", "v9", "-o", out}); err != nil {
			t.Fatal(err)
		}
		for _, p := range published {
			img, err := tarball.ImageFromPath(filepath.Join(out, "coffre-linux-"+p.Architecture+".tar"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(img); err != nil {
				t.Error(err)
			}
		}
		index, err := layout.ImageIndexFromPath(filepath.Join(out, "coffre-oci"))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Index(index); err != nil {
			t.Error(err)
		}
		top, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		inner, err := index.ImageIndex(top.Manifests[0].Digest)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := inner.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		return top.Manifests[0].Digest.String(), manifest
	}

	first, manifest := build()
	second, _ := build()
	if first != second {
		t.Errorf("%s and %s", first, second)
	}
	var got []string
	for _, m := range manifest.Manifests {
		got = append(got, m.Platform.String())
	}
	if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func digest(t *testing.T, s spec) string {
	t.Helper()
	img, err := s.image()
	if err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func headers(t *testing.T, s spec) []*tar.Header {
	t.Helper()
	stream, err := s.layer()
	if err != nil {
		t.Fatal(err)
	}
	var all []*tar.Header
	for r := tar.NewReader(bytes.NewReader(stream)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
