package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// repository is where the image is published: the chart's image.repository.
const repository = "ghcr.io/coffre-csi/coffre"

// published are the platforms that releases are for.
var published = []v1.Platform{
	{OS: "linux", Architecture: "amd64"},
	{OS: "linux", Architecture: "arm64"},
}

// packCoffre compiles Coffre for every platform, or for one, and writes
//
//	DIR/coffre-OS-ARCH.tar   one image each, for `ctr images import` and `docker load`
//	DIR/coffre-oci/          an OCI layout whose index names them all, to push
//
// and prints the digests.
func packCoffre(args []string) error {
	flags := flag.NewFlagSet("image coffre", flag.ExitOnError)
	source := flags.String("source", "", "folder of the Go module to compile")
	main := flags.String("package", "./cmd/coffre", "package in it to compile")
	version := flags.String("version", "", "version that the program and the image state; also the tag")
	out := flags.String("o", "", "folder to write to")
	platforms := published
	flags.Func("platform", "the one os/architecture to make the image for, instead of all it is published for", func(value string) error {
		p, err := v1.ParsePlatform(value)
		if err == nil {
			platforms = []v1.Platform{*p}
		}
		return err
	})
	flags.Parse(args)
	if *source == "" || *version == "" || *out == "" {
		flags.Usage()
		return errors.New("-source, -version and -o are needed")
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}

	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		program, err := compile(*source, *main, *version, p)
		if err != nil {
			return fmt.Errorf("compiling for %s: %w", p, err)
		}
		img, err := coffreSpec(program, *version, p).image()
		if err != nil {
			return err
		}
		tarball := filepath.Join(*out, "coffre-"+p.OS+"-"+p.Architecture+".tar")
		if err := writeTarball(tarball, repository+":"+*version, img); err != nil {
			return err
		}
		if err := report(p.String(), img); err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: &p},
		})
	}
	if err := report("index", index); err != nil {
		return err
	}
	return writeLayout(filepath.Join(*out, "coffre-oci"), *version, index)
}

// coffreSpec is Coffre's image: the program and the authorities it trusts. No
// shell, no C library, no package manager.
func coffreSpec(program []byte, version string, p v1.Platform) spec {
	return spec{
		platform: p,
		files: []file{
			{path: "/coffre", content: program, executable: true},
			{path: "/etc/ssl/certs/ca-certificates.crt", content: authorities()},
		},
		config: v1.Config{
			Entrypoint: []string{"/coffre"},
			// The folder of the driver's sockets is root's on every node.
			User: "0:0",
			Labels: map[string]string{
				"org.opencontainers.image.title":    "coffre",
				"org.opencontainers.image.source":   "https://github.com/coffre-csi/coffre",
				"org.opencontainers.image.licenses": "Apache-2.0",
				"org.opencontainers.image.version":  version,
			},
		},
	}
}

// compile makes a static program that holds no trace of the machine it was
// compiled on: no paths, and no state of the working copy beyond the version.
func compile(source, main, version string, p v1.Platform) ([]byte, error) {
	folder, err := os.MkdirTemp("", "coffre-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	binary := filepath.Join(folder, "coffre")
	build := exec.Command("go", "build",
		"-trimpath", "-buildvcs=false", "-mod=readonly",
		"-ldflags", "-s -w -X main.version="+version,
		"-o", binary, main)
	build.Dir = source
	build.Env = append(os.Environ(),
		"CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Architecture,
		// What the caller's environment may say and must not decide.
		"GOFLAGS=", "GOWORK=off", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(binary)
}

// writeLayout replaces folder by an OCI layout of the one index, named by tag.
func writeLayout(folder, tag string, index v1.ImageIndex) error {
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	path, err := layout.Write(folder, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": tag,
	}))
}

func report(what string, artifact interface{ Digest() (v1.Hash, error) }) error {
	digest, err := artifact.Digest()
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\t%s\n", what, digest)
	return err
}
