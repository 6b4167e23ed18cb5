package sops

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/coffre-csi/coffre/provider/store"
)

// maxFiles bounds what a List looks at.
const maxFiles = 10_000

// folder is a store of a folder of documents. A secret's name is a document's
// path below the folder, or PATH#KEY for one key of it.
//
// Every file is opened through an os.Root, so that neither a name nor a
// symbolic link leads out of the folder. Links inside of it are followed:
// ConfigMap and Secret volumes are made of them.
//
// Where the store has a prefix, its folder is the root: what stands beside it
// is another tenant's, and no link leads there.
type folder struct {
	*reader
	prefix string // of every name
}

// within is the folder of the prefix, ending in a slash, or "".
func (d *folder) within() string { return d.prefix[:strings.LastIndexByte(d.prefix, '/')+1] }

func (d *folder) root() (*os.Root, error) {
	root, err := os.OpenRoot(d.settings.Directory)
	if err == nil && d.within() != "" {
		whole := root
		root, err = whole.OpenRoot(path.Clean(d.within()))
		whole.Close()
	}
	if err != nil {
		return nil, store.Errorf(store.Unavailable, "the folder %s cannot be read: %s", d.place(), reason(err))
	}
	return root, nil
}

// place is the folder, for an error.
func (d *folder) place() string { return filepath.Join(d.settings.Directory, d.within()) }

// Fetch decrypts every document that the refs name once.
func (d *folder) Fetch(ctx context.Context, refs []store.Ref) ([]store.Secret, error) {
	ids, err := d.identities()
	if err != nil {
		return nil, err
	}
	root, err := d.root()
	if err != nil {
		return nil, err
	}
	defer root.Close()

	type result struct {
		*opened
		err *store.Error
	}
	documents := map[string]result{}
	read := func(ref store.Ref) (store.Secret, *store.Error) {
		if err := checkRef(ref); err != nil {
			return store.Secret{}, err
		}
		file, key, hasKey := strings.Cut(ref.Name, "#")
		if !hasKey {
			key = whole
		}
		r, known := documents[file]
		if !known {
			r.opened, r.err = d.document(root, file, ids)
			documents[file] = r
		}
		if r.err != nil {
			return store.Secret{}, store.RefErrorf(r.err.Reason, ref, "%s", r.err.Text)
		}
		return r.secret(ref, key)
	}

	total := 0
	errs, secrets := store.Errors{}, make([]store.Secret, len(refs))
	for i, ref := range refs {
		if ctx.Err() != nil {
			return nil, store.Errorf(store.Unavailable, "the time ran out while documents were decrypted")
		}
		secret, err := read(ref)
		if err != nil {
			errs[i] = err
			continue
		}
		secrets[i] = secret
		if err := add(&total, secret); err != nil {
			return nil, err
		}
	}

	return secrets, errs.OrNil()
}

func (d *folder) document(root *os.Root, file string, ids identities) (*opened, *store.Error) {
	if !filepath.IsLocal(file) || path.Clean(file) != file || file == whole || strings.ContainsAny(file, "\x00\\") {
		return nil, store.Errorf(store.Invalid, "is no clean path of a file below the folder")
	}
	below, inside := strings.CutPrefix(file, d.within())
	if !inside || !strings.HasPrefix(file, d.prefix) {
		return nil, store.Errorf(store.Invalid, "is no file below the store's prefix")
	}
	text, err := readFile(root.Open, below)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		names, _ := d.names(root, func(name string) bool { return strings.HasPrefix(name, d.prefix) })
		for i := range names {
			names[i] = strings.TrimPrefix(names[i], d.prefix) // as the tenant writes it
		}
		return nil, store.Errorf(store.NotFound, "%s has no such file%s", d.place(), nearest(strings.TrimPrefix(file, d.prefix), names))
	case errors.Is(err, errTooLarge):
		return nil, store.Errorf(store.Invalid, "the document is larger than %d KiB", maxDocument>>10)
	case errors.Is(err, errNotRegular):
		return nil, store.Errorf(store.Invalid, "is no file")
	case err != nil && strings.Contains(err.Error(), "escapes"): // os.Root has no error value for it
		return nil, store.Errorf(store.Invalid, "is a link that leads out of the folder")
	case err != nil:
		return nil, store.Errorf(store.Unavailable, "%s cannot be read: %s", filepath.Join(d.settings.Directory, file), reason(err))
	}

	return d.open(text, "the document", formatOf(file), ids)
}

// List gives the paths of the encrypted documents. Folders whose names begin
// with a dot are left out: they are Git's, or a ConfigMap volume's inside.
func (d *folder) List(_ context.Context, f store.Filter, limit int) ([]store.Ref, error) {
	found, err := finder(f, limit)
	if err != nil {
		return nil, err
	}
	root, err := d.root()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	names, err := d.names(root, found.Named)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := readFile(root.Open, strings.TrimPrefix(name, d.within()))
		if encrypted := err == nil && strings.Contains(text, marker); encrypted && !found.TakeTagged(name) {
			break
		}
	}

	return found.Refs()
}

// names are the paths of the folder's files that match, the prefix's folder
// with them.
func (d *folder) names(root *os.Root, match func(string) bool) ([]string, error) {
	var names []string
	seen := 0
	err := fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil && name == ".":
			return err
		case err != nil:
			return nil // gone since, or not for us to see
		case e.IsDir():
			if name != "." && strings.HasPrefix(e.Name(), ".") {
				return fs.SkipDir
			}
			return nil
		}

		if seen++; seen > maxFiles {
			return store.Errorf(store.Invalid, "the folder %s has more than %d files", d.place(), maxFiles)
		}
		full := d.within() + name
		if info, err := root.Stat(name); err == nil && info.Mode().IsRegular() && match(full) {
			names = append(names, full)
		}
		return nil
	})

	if e := new(store.Error); errors.As(err, &e) {
		return nil, e
	}
	if err != nil {
		return nil, store.Errorf(store.Unavailable, "the folder %s cannot be read: %s", d.place(), reason(err))
	}

	return names, nil
}
