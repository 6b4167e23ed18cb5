package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// epoch is the time of everything in an image: a real one would make two
// builds of the same source differ.
var epoch = time.Unix(0, 0).UTC()

// A spec says all there is to say about an image; the same spec always makes
// the same image.
type spec struct {
	platform v1.Platform
	config   v1.Config
	dirs     []string
	files    []file
	links    []link
}

type file struct {
	path       string // in the image
	content    []byte
	executable bool
}

type link struct{ at, to string }

// readFile takes a file's content and whether it is a program from the
// building machine, and nothing else: the rest of the mode is its umask's.
func readFile(source, destination string) (file, error) {
	content, err := os.ReadFile(source)
	if err != nil {
		return file{}, err
	}
	info, err := os.Stat(source)
	if err != nil {
		return file{}, err
	}
	return file{path: destination, content: content, executable: info.Mode()&0o111 != 0}, nil
}

// image makes the image, in one layer. Its media types are OCI's.
func (s spec) image() (v1.Image, error) {
	content, err := s.layer()
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	img, err = mutate.Append(img, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "coffre/build/image"},
	})
	if err != nil {
		return nil, err
	}
	made, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config := made.DeepCopy()
	config.Created = v1.Time{Time: epoch}
	config.OS = s.platform.OS
	config.Architecture = s.platform.Architecture
	config.Variant = s.platform.Variant
	config.Config = s.config
	return mutate.ConfigFile(img, config)
}

// layer is the file system as a tar stream, sorted by path, so that a
// directory always comes before what is in it.
func (s spec) layer() ([]byte, error) {
	type entry struct {
		header  tar.Header
		content []byte
	}
	entries := map[string]entry{}
	add := func(at string, e entry) error {
		given := at
		if at = inside(given); at == "" {
			return fmt.Errorf("%q is not a path in an image", given)
		}
		if was, taken := entries[at]; taken && !(was.header.Typeflag == tar.TypeDir && e.header.Typeflag == tar.TypeDir) {
			return fmt.Errorf("two things are to be at /%s", at)
		}
		e.header.Name, e.header.ModTime = at, epoch
		if e.header.Typeflag == tar.TypeDir {
			e.header.Name += "/"
		}
		entries[at] = e
		return nil
	}

	for _, f := range s.files {
		mode := int64(0o644)
		if f.executable {
			mode = 0o755
		}
		h := tar.Header{Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(f.content))}
		if err := add(f.path, entry{h, f.content}); err != nil {
			return nil, err
		}
	}
	for _, l := range s.links {
		h := tar.Header{Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: l.to}
		if err := add(l.at, entry{header: h}); err != nil {
			return nil, err
		}
	}
	for _, d := range s.directories() {
		mode := int64(0o755)
		if d == "tmp" {
			mode = 0o1777 // as programs expect of it
		}
		h := tar.Header{Typeflag: tar.TypeDir, Mode: mode}
		if err := add(d, entry{header: h}); err != nil {
			return nil, err
		}
	}

	var stream bytes.Buffer
	w := tar.NewWriter(&stream)
	sorted := make([]entry, 0, len(entries))
	for _, e := range entries {
		sorted = append(sorted, e)
	}
	slices.SortFunc(sorted, func(a, b entry) int { return cmp.Compare(a.header.Name, b.header.Name) })
	for _, e := range sorted {
		if err := w.WriteHeader(&e.header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return stream.Bytes(), nil
}

// directories are the ones asked for, and every one above a file or a link.
func (s spec) directories() []string {
	var all []string
	above := func(p string) {
		for d := path.Dir(inside(p)); d != "."; d = path.Dir(d) {
			all = append(all, d)
		}
	}
	for _, d := range s.dirs {
		all = append(all, inside(d))
		above(d)
	}
	for _, f := range s.files {
		above(f.path)
	}
	for _, l := range s.links {
		above(l.at)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// inside is a path as a layer spells it: relative to the image's root, which
// nothing leaves.
func inside(p string) string {
	return strings.TrimPrefix(path.Clean("/"+p), "/")
}

// writeTarball writes the form that `docker save` writes.
func writeTarball(file, ref string, img v1.Image) error {
	tag, err := name.NewTag(ref, name.StrictValidation)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(file, tag, img)
}
