// Package render turns values into files: keys, decoding, formats, templates,
// names, modes. Pure functions of a plan and the cache's answers; the same
// input gives the same files in the same order on every node. Its errors name
// the object and the key, never a value.
package render

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/jsontext"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
)

// MaxBytes is the most that one answer's files hold together: under the
// driver's 4 MiB message limit, with room for paths and versions.
const MaxBytes = 3<<20 + 512<<10

// File is one file of the volume.
type File struct {
	Path     string
	Mode     int32
	Contents store.Value

	// ID and Version are the object version that stands for the file in the
	// pod's status. Version is stable while the content is, different when it
	// changes, the same on every node, and made of the store's own versions and
	// the object's text, never of the content.
	ID      string
	Version string

	overlaid bool // another of the same path may follow it
}

// Files renders a plan. answers are in the order of plan.Queries. All mistakes
// are reported together; the files are sorted by path.
// What is rendered is charged to the mount's budget as it is made; where that
// is used up, or the time, the object that came too far is the only mistake.
func Files(b *budget.Budget, p plan.Plan, answers []plan.Answer) ([]File, error) {
	r := renderer{budget: b, documents: map[opened]parsed{}, values: map[*byte]any{}}
	for _, o := range p.Objects {
		n := len(o.Sources)
		r.object(o, answers[:n])
		answers = answers[n:]
		if b.Err() != nil {
			return nil, r.errors[len(r.errors)-1:]
		}
		if len(r.errors) >= maxErrors {
			break
		}
	}

	if len(r.errors) > 0 {
		return nil, r.errors
	}
	listed := slices.Clone(r.files)
	slices.SortStableFunc(r.files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	if err := r.checkSet(); err != nil {
		return nil, err
	}
	if p.AsListed {
		return listed, nil
	}

	return r.files, nil
}

// Errors are all objects that could not be rendered.
type Errors []error

func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "; ")
}

func (es Errors) Unwrap() []error { return es }

// maxErrors is how many mistakes are told of.
const maxErrors = 100

type renderer struct {
	budget *budget.Budget
	files  []File
	total  int // bytes of files
	errors Errors

	// What was read already of a secret that several objects draw on, by where
	// its value begins.
	documents map[opened]parsed
	values    map[*byte]any
}

// opened is a value by where it begins, and the password that opens it.
type opened struct {
	at       *byte
	password string
}

type parsed struct {
	*document
	err error
}

// document reads a secret's keys, once a secret.
func (r *renderer) document(value []byte, password string) (*document, error) {
	at := opened{unsafe.SliceData(value), password}
	if p, known := r.documents[at]; known && at.at != nil {
		return p.document, p.err
	}
	doc, err := parse(r.budget, value, password)
	if at.at != nil && r.budget.Err() == nil {
		r.documents[at] = parsed{doc, err}
	}
	return doc, err
}

// json reads a secret as JSON of any kind, once a secret.
func (r *renderer) json(value []byte) (any, error) {
	at := unsafe.SliceData(value)
	if v, known := r.values[at]; known && at != nil {
		return v, nil
	}
	v, err := jsontext.Parse(r.budget, value)
	if err == nil && at != nil {
		r.values[at] = v
	}
	if errors.Is(err, jsontext.ErrNotJSON) {
		err = errors.New("is no JSON, which jmesPath reads")
	}

	return v, err
}

// object renders one object: from each secret that its first source found, or
// once from all sources for a template.
func (r *renderer) object(o plan.Object, answers []plan.Answer) {
	fail := func(at plan.Found, format string, args ...any) {
		r.errors = append(r.errors, &plan.ObjectError{Field: o.Field, Object: o.Sources[0].Query.Object, Store: answers[0].Store, Ref: at.Ref, Text: fmt.Sprintf(format, args...)})
	}
	if o.Output.Template != nil {
		if file, err := r.templated(o, answers); err != nil {
			fail(plan.Found{}, "template: %s", err)
		} else if file != nil {
			if err := r.add(o, o.Output.ID, *file); err != nil {
				fail(plan.Found{}, "%s", err)
			}
		}

		return
	}

	words, err := r.passwords(o, answers)
	if err != nil {
		fail(plan.Found{}, "%s", err)
		return
	}
	if words.missing {
		return
	}

	for i, found := range answers[0].Found {
		if err := r.secret(o, found, i, words); err != nil {
			fail(found, "%s", err)
		}
		if r.budget.Err() != nil || len(r.errors) >= maxErrors {
			return
		}
	}
}

// secret makes an object's files of one secret, the one at a place in the
// answer.
func (r *renderer) secret(o plan.Object, found plan.Found, at int, words passwords) error {
	if o.Output.Select != nil {
		part, err := o.Output.Select.Select(r.budget, found.Secret)
		if errors.Is(err, plan.ErrNoPart) {
			return nil
		}
		if err != nil {
			return err
		}
		found.Secret.Value = part
	}

	id, name := o.Output.ID, found.Ref.Name
	if o.Sources[0].Query.History > 1 {
		name = strconv.Itoa(at)
		if id != "" {
			id += "/" + name
		}
	}
	from := append([]plan.Found{found}, words.from...)

	return r.parts(o, found, name, words, func(p part) error {
		path := o.Output.File
		if o.Several() {
			rewritten, err := r.rewrite(o.Output.Rewrite, p.name)
			if err != nil {
				return err
			}
			path += rewritten
		}

		return r.add(o, id, File{Path: path, Contents: p.value, Version: version(o, p.value, from)})
	})
}

// add takes a file as it is made. Its error is a limit; a path that is no
// file's is a mistake of its own.
func (r *renderer) add(o plan.Object, id string, f File) error {
	f.Mode = o.Output.Mode
	f.ID = cmp.Or(id, f.Path)
	f.overlaid = o.Output.Overlaid
	if reason := plan.PathFault(f.Path); reason != "" {
		r.errors = append(r.errors, &plan.ObjectError{Field: o.Field, Text: fmt.Sprintf("%q %s", shorten(f.Path), reason)})
		return nil
	}

	if err := r.budget.Files(1); err != nil {
		return err
	}
	if err := r.budget.Bytes(128 + len(f.Path)); err != nil {
		return err
	}
	if r.total += len(f.Path) + len(f.Contents); r.total > MaxBytes {
		return fmt.Errorf("makes the files more than %d bytes together, which is what the driver takes: leave some out, or use several volumes", MaxBytes)
	}
	r.files = append(r.files, f)

	return nil
}

// checkSet looks at the files together, sorted: two of one path, a file where
// another needs a folder.
func (r *renderer) checkSet() error {
	var errs Errors
	paths := make(map[string]bool, len(r.files))
	for _, f := range r.files {
		if paths[f.Path] && !f.overlaid {
			errs = append(errs, fmt.Errorf("%q is made by two objects; give one of them another file", shorten(f.Path)))
		}
		paths[f.Path] = true
	}

	for _, f := range r.files {
		for i, c := range f.Path {
			if c == '/' && paths[f.Path[:i]] {
				errs = append(errs, fmt.Errorf("%q is a file and the folder of %q", shorten(f.Path[:i]), shorten(f.Path)))
			}
		}
	}

	if len(errs) > 0 {
		return errs
	}

	return nil
}

// part is one value before it is named.
type part struct {
	name  string // from the secret's name and the key; used where the object makes several
	value store.Value
}

// parts cuts a secret into the values that the object asks for, and hands each
// on before the next is made.
func (r *renderer) parts(o plan.Object, found plan.Found, name string, words passwords, each func(part) error) error {
	if o.Output.Keys != nil {
		return r.exploded(o, found, name, words, each)
	}
	text, err := r.value(o.Output, found.Secret.Value, words)
	if err != nil {
		return err
	}
	return each(part{name, text})
}

// value is the one text that an object makes of a secret.
func (r *renderer) value(out plan.Output, value []byte, words passwords) ([]byte, error) {
	switch {
	case out.JMESPath != nil:
		data, err := r.json(value)
		if err != nil {
			return nil, err
		}
		text, err := out.JMESPath.Search(r.budget, data, out.NonString)
		if err != nil {
			return nil, err
		}
		return decode(r.budget, out.Decode, text)
	case out.Extract != nil:
		text, err := extract(r.budget, *out.Extract, value)
		if err != nil {
			return nil, err
		}
		return decode(r.budget, out.Decode, text)
	case out.Format == "" && out.Key == "":
		return decode(r.budget, out.Decode, value)
	case out.Format.Certificate():
		return r.certificate(out, value, words)
	}

	doc, err := r.document(value, words.source)
	if err != nil {
		return nil, err
	}
	if out.Format != "" {
		return write(r.budget, out.Format, doc, out.Decode)
	}
	text, err := doc.path(r.budget, out.Key)
	if err != nil {
		return nil, err
	}

	return decode(r.budget, out.Decode, text)
}

// exploded makes one value a key.
func (r *renderer) exploded(o plan.Object, found plan.Found, name string, words passwords, each func(part) error) error {
	doc, err := r.document(found.Secret.Value, words.source)
	if err != nil {
		return err
	}
	names := o.Output.Keys.Names
	if names == nil {
		if names, err = r.discovered(doc, o.Output.Keys); err != nil {
			return err
		}
	}

	prefix := ""
	if o.Sources[0].Query.Searches() {
		prefix = name + "/"
	}
	for _, key := range names {
		text, err := doc.value(r.budget, key)
		if err == nil {
			text, err = decode(r.budget, o.Output.Decode, text)
		}
		if err != nil {
			return fmt.Errorf("key %q: %w", shorten(key), err)
		}
		if err := each(part{prefix + key, text}); err != nil {
			return err
		}
	}

	return nil
}

// discovered are the keys that a value has and an object asks for.
func (r *renderer) discovered(doc *document, keys *plan.Keys) ([]string, error) {
	if !doc.named {
		return nil, errNoKeys
	}
	if keys.Regexp == nil {
		return doc.keys, nil
	}
	var names []string
	for _, k := range doc.keys {
		if err := keys.Regexp.Match(r.budget, len(k)); err != nil {
			return nil, err
		}
		if keys.Regexp.MatchString(k) {
			names = append(names, k)
		}
	}

	if len(names) == 0 {
		return nil, fmt.Errorf("no key matches")
	}

	return names, nil
}

// templated renders an object's template; nil where a secret that it needs is
// optional and missing.
func (r *renderer) templated(o plan.Object, answers []plan.Answer) (*File, error) {
	data := map[string]any{}
	words, err := r.passwords(o, answers)
	if err != nil || words.missing {
		return nil, err
	}
	all := words.from
	for i, source := range o.Sources {
		if source.Password != "" {
			continue
		}
		if len(answers[i].Found) == 0 {
			return nil, nil
		}
		found := answers[i].Found[0]
		all = append(all, found)
		if o.Output.Select != nil {
			var err error
			if found.Secret.Value, err = o.Output.Select.Select(r.budget, found.Secret); err != nil {
				return nil, err
			}
		}
		value, err := r.templateValue(found.Secret.Value, words.source)
		if err != nil {
			return nil, err
		}
		switch keys, isMap := value.(map[string]any); {
		case source.Alias != "":
			data[source.Alias] = value
		case isMap:
			for k, v := range keys {
				data[k] = v
			}
		default:
			data["value"] = value
		}
	}

	text, err := o.Output.Template.Execute(r.budget, data)
	if err != nil {
		return nil, err
	}
	if text, err = decode(r.budget, o.Output.Decode, text); err != nil {
		return nil, err
	}

	return &File{Path: o.Output.File, Contents: text, Version: version(o, text, all)}, nil
}

// templateValue is a secret as a template sees it: its keys, or its text. One
// line without braces is text: a password may look like a mapping (a: b) or a
// variable (a=b).
func (r *renderer) templateValue(value []byte, password string) (any, error) {
	text := bytes.TrimSpace(value)
	if bytes.HasPrefix(text, []byte("{")) || bytes.ContainsRune(text, '\n') {
		if doc, err := r.document(value, password); err == nil && doc.named {
			return doc.data(r.budget)
		} else if r.budget.Err() != nil {
			return nil, err
		}
	}
	return string(value), nil
}

// version is the store's own version where the file is the value as it is.
// Where the object's text shapes the file, a change of that text must change
// the version too: then it is a digest of the store's versions and the text.
func version(o plan.Object, content []byte, from []plan.Found) string {
	out := o.Output
	if out.Signed != nil {
		h := hmac.New(sha256.New, out.Signed.Key)
		h.Write(out.Signed.Prefix)
		h.Write(content)
		return base64.URLEncoding.EncodeToString(h.Sum(nil))
	}
	if len(from) == 1 && (out.StoreVersion || out.Shape() == "") {
		return from[0].Secret.Version
	}
	h := sha256.New()
	for _, f := range from {
		fmt.Fprintf(h, "%q %q %q\n", f.Ref.String(), f.Secret.Version, out.Shape())
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:15])
}

// rewrite is the name that a rewrite makes of one.
func (r *renderer) rewrite(rw *plan.Rewrite, name string) (string, error) {
	if rw == nil || len(name) > plan.MaxRewritten {
		return name, nil // no path is as long
	}
	rewritten, err := rw.Regexp.Replace(r.budget, name, rw.With, plan.MaxRewritten)
	if errors.Is(err, budget.ErrTooLong) {
		return "", fmt.Errorf("rewrite: makes a name of more than %d bytes", plan.MaxRewritten)
	}
	return rewritten, err
}

// shorten keeps a name that a tenant wrote to a length that fits an event.
func shorten(s string) string {
	if len(s) > 120 {
		return s[:120] + "…"
	}
	return s
}
