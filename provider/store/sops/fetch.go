package sops

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/store"
)

// reader is what both shapes of store share: the settings and whose keys.
type reader struct {
	settings Settings
	secrets  auth.Secrets
}

// Principal tells the readers of one document apart: the platform with its key
// file, or a tenant by the static keys it brought.
func (r *reader) Principal() string {
	if r.settings.AgeKeyFile != "" {
		return "platform"
	}
	return r.secrets.Digest()
}

// identities are the age keys to read with.
func (r *reader) identities() (identities, error) {
	ids := identities{}
	if file := r.settings.AgeKeyFile; file != "" {
		text, err := readFile(os.Open, file)
		if err != nil {
			return nil, store.Errorf(store.Unavailable, "the age key file %s cannot be read: %s", file, reason(err))
		}
		if err := ids.add(text); err != nil {
			return nil, store.Errorf(store.Precondition, "the age key file %s %s", file, err)
		}
		if len(ids) == 0 {
			return nil, store.Errorf(store.Precondition, "the age key file %s holds no line that begins with %s", file, keyMark)
		}
		return ids, nil
	}

	for _, k := range r.secrets.Keys() {
		if err := ids.add(r.secrets[k]); err != nil {
			return nil, store.Errorf(store.Precondition, "the key %q of the Secret in nodePublishSecretRef %s", clip(k), err)
		}
	}

	if len(ids) == 0 {
		return nil, store.Errorf(store.Precondition, "no age secret key was given: name a Secret that holds one (a line %s1…) in the volume's nodePublishSecretRef, or let the platform set the store's ageKeyFile", keyMark)
	}

	return ids, nil
}

// maxOutput bounds what one Fetch gives: nested names may overlap, so that
// values can be larger together than the document is.
const maxOutput = 8 << 20 // bytes

// add counts a secret's bytes into total.
func add(total *int, s store.Secret) error {
	if *total += len(s.Value); *total > maxOutput {
		return store.Errorf(store.Invalid, "more than %d MiB of values were asked for at once", maxOutput>>20)
	}
	return nil
}

// opened is a document in the clear.
type opened struct {
	*document
	plain []mapping
}

func (r *reader) open(text, subject string, f Format, ids identities) (*opened, *store.Error) {
	d, err := r.parse(text, subject, f)
	if err != nil {
		return nil, err
	}
	plain, cause := d.decrypt(ids)
	if e := new(store.Error); errors.As(cause, &e) {
		return nil, store.Errorf(e.Reason, "%s %s", subject, e.Text)
	}
	return &opened{document: d, plain: plain}, nil
}

func (r *reader) parse(text, subject string, f Format) (*document, *store.Error) {
	if r.settings.Format != "" {
		f = r.settings.Format
	}
	d, err := parse(text, f)
	if err != nil {
		return nil, store.Errorf(store.Invalid, "%s %s", subject, err)
	}
	return d, nil
}

// secret is one name of a document. version is its name within the store.
func (o *opened) secret(ref store.Ref, name string) (store.Secret, *store.Error) {
	if name == whole {
		text, err := emit(o.plain, o.format)
		if err != nil {
			return store.Secret{}, store.RefErrorf(store.Invalid, ref, "the document %s", err)
		}
		return store.Secret{Value: text, Version: o.version(ref.Name, nil)}, nil
	}

	if o.format == Binary {
		return store.Secret{}, store.RefErrorf(store.NotFound, ref, "a binary document has no keys: its name is %q", whole)
	}
	steps, err := find(o.plain, name)
	switch {
	case errors.Is(err, errNoSuchKey):
		return store.Secret{}, store.RefErrorf(store.NotFound, ref, "the document has no such key%s", nearest(name, o.keys()))
	case err != nil:
		return store.Secret{}, store.RefErrorf(store.Invalid, ref, "%s", err)
	}
	v := at(o.plain, steps)
	text, isScalar, err := scalarText(v, o.format)
	if err == nil && !isScalar {
		text, err = compactJSON(v)
	}
	if err != nil {
		return store.Secret{}, store.RefErrorf(store.Invalid, ref, "%s", err)
	}

	return store.Secret{Value: text, Version: o.version(ref.Name, steps)}, nil
}

// checkRef refuses what SOPS has no notion of.
func checkRef(ref store.Ref) *store.Error {
	if ref.Version != "" || ref.Extra != "" {
		return store.RefErrorf(store.Invalid, ref, "SOPS documents have no versions: what the document holds is current, and Git has its past")
	}
	if ref.Type != "" {
		return store.RefErrorf(store.Invalid, ref, "SOPS documents have no object types")
	}
	return nil
}

// single is a store of one document.
type single struct{ *reader }

// subject is what an error calls the document.
func (s *single) subject() string {
	if s.settings.File != "" {
		return "the document " + s.settings.File
	}
	return "the document"
}

func (s *single) text() (string, Format, error) {
	file := s.settings.File
	if file == "" {
		return s.settings.Document, "", nil
	}
	text, err := readFile(os.Open, file)
	if err != nil {
		return "", "", store.Errorf(store.Unavailable, "%s cannot be read: %s", s.subject(), reason(err))
	}
	return text, formatOf(file), nil
}

// Fetch decrypts the document once, however many refs there are.
func (s *single) Fetch(_ context.Context, refs []store.Ref) ([]store.Secret, error) {
	errs, secrets := store.Errors{}, make([]store.Secret, len(refs))
	for i, ref := range refs {
		if err := checkRef(ref); err != nil {
			errs[i] = err
		}
	}

	if len(errs) == len(refs) {
		return secrets, errs.OrNil()
	}
	ids, err := s.identities()
	if err != nil {
		return nil, err
	}
	text, f, err := s.text()
	if err != nil {
		return nil, err
	}
	o, failed := s.open(text, s.subject(), f, ids)
	if failed != nil {
		return nil, failed
	}
	total := 0
	for i, ref := range refs {
		if errs[i] != nil {
			continue
		}
		if secrets[i], failed = o.secret(ref, ref.Name); failed != nil {
			errs[i] = failed
		}
		if err := add(&total, secrets[i]); err != nil {
			return nil, err
		}
	}

	return secrets, errs.OrNil()
}

// List gives the document's top-level keys. They are not encrypted, so nothing
// is decrypted for it.
func (s *single) List(_ context.Context, f store.Filter, limit int) ([]store.Ref, error) {
	found, err := finder(f, limit)
	if err != nil {
		return nil, err
	}
	text, format, err := s.text()
	if err != nil {
		return nil, err
	}
	d, failed := s.parse(text, s.subject(), format)
	if failed != nil {
		return nil, failed
	}
	names := d.keys()
	if d.format == Binary {
		names = []string{whole}
	}
	for _, name := range names {
		if !found.TakeTagged(name) {
			break
		}
	}

	return found.Refs()
}

// finder takes the names that a filter wants: documents have no tags.
func finder(f store.Filter, limit int) (*store.Finder, error) {
	if f.Tags != "" {
		return nil, store.Errorf(store.Invalid, "SOPS documents have no tags to find secrets by")
	}
	found, err := store.NewFinder(f, limit)
	if err != nil {
		return nil, err
	}
	return found, nil
}

var (
	errTooLarge   = errors.New("it is larger than 1 MiB")
	errNotRegular = errors.New("it is no regular file")
)

// readFile reads a regular file of at most maxDocument bytes.
func readFile(open func(string) (*os.File, error), name string) (string, error) {
	f, err := open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return "", err
	} else if !info.Mode().IsRegular() {
		return "", errNotRegular
	}
	text, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err == nil && len(text) > maxDocument {
		err = errTooLarge
	}

	return string(text), err
}

// reason is an I/O error without the path, which the text around it names.
func reason(err error) string {
	if e := new(os.PathError); errors.As(err, &e) {
		return e.Err.Error()
	}
	return err.Error()
}

// nearest suggests a name, for an error, or is empty.
func nearest(name string, names []string) string {
	best, least := "", max(2, len(name)/3)+1
	for i, n := range names {
		if i == 500 || len(name) > 200 {
			break
		}
		if strings.EqualFold(n, name) {
			best = n
			break
		}
		if d := len(n) - len(name); d >= least || -d >= least {
			continue
		}
		if d := distance(name, n); d < least {
			best, least = n, d
		}
	}

	if best == "" {
		return ""
	}

	return "; is it " + clip(best) + "?"
}

// distance is the number of edits that make a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}

	return row[len(b)]
}
