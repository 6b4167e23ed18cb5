// Package render turns values into files: keys, decoding, formats, templates,
// names, modes. Pure functions of a plan and the cache's answers; the same
// input gives the same files in the same order on every node. Its errors name
// the object and the key, never a value.
package render

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

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
}

// Files renders a plan. answers are in the order of plan.Queries. All mistakes
// are reported together; the files are sorted by path.
func Files(p plan.Plan, answers []plan.Answer) ([]File, error) {
	r := renderer{}
	for _, o := range p.Objects {
		n := len(o.Sources)
		r.object(o, answers[:n])
		answers = answers[n:]
	}
	if len(r.errors) > 0 {
		return nil, r.errors
	}
	slices.SortFunc(r.files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	if err := r.checkSet(); err != nil {
		return nil, err
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

type renderer struct {
	files  []File
	owners []string // the object of each file
	errors Errors
}

// object renders one object: from each secret that its first source found, or
// once from all sources for a template.
func (r *renderer) object(o plan.Object, answers []plan.Answer) {
	fail := func(at plan.Found, format string, args ...any) {
		r.errors = append(r.errors, &plan.ObjectError{Field: o.Field, Store: answers[0].Store, Ref: at.Ref, Text: fmt.Sprintf(format, args...)})
	}
	if o.Output.Template != nil {
		if file, err := templated(o, answers); err != nil {
			fail(plan.Found{}, "template: %s", err)
		} else if file != nil {
			r.add(o, *file)
		}
		return
	}
	for _, found := range answers[0].Found {
		parts, err := parts(o, found)
		if err != nil {
			fail(found, "%s", err)
			continue
		}
		for _, part := range parts {
			name := o.Output.File
			if o.Several() {
				name = o.Output.File + rewrite(o.Output.Rewrite, part.name)
			}
			r.add(o, File{Path: name, Contents: part.value, Version: version(o, []plan.Found{found})})
		}
	}
}

func (r *renderer) add(o plan.Object, f File) {
	f.Mode = o.Output.Mode
	f.ID = cmp.Or(o.Output.ID, f.Path)
	if reason := plan.PathFault(f.Path); reason != "" {
		r.errors = append(r.errors, &plan.ObjectError{Field: o.Field, Text: fmt.Sprintf("%q %s", shorten(f.Path), reason)})
		return
	}
	r.files = append(r.files, f)
	r.owners = append(r.owners, o.Field)
}

// checkSet looks at the files together, sorted: two of one path, a file where
// another needs a folder, too many, too large.
func (r *renderer) checkSet() error {
	if len(r.files) > plan.MaxFiles {
		return Errors{fmt.Errorf("objects make %d files; the limit is %d", len(r.files), plan.MaxFiles)}
	}
	var errs Errors
	total := 0
	paths := make(map[string]bool, len(r.files))
	for _, f := range r.files {
		total += len(f.Path) + len(f.Contents)
		if paths[f.Path] {
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
	if total > MaxBytes {
		errs = append(errs, fmt.Errorf("the files hold %d bytes together; the driver takes %d: leave some out, or use several volumes", total, MaxBytes))
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

// parts cuts a secret into the values that the object asks for.
func parts(o plan.Object, found plan.Found) ([]part, error) {
	out, value := o.Output, found.Secret.Value
	switch {
	case out.Format != "":
		doc, err := parse(value)
		if err != nil {
			return nil, err
		}
		text, err := write(out.Format, doc, out.Decode)
		return []part{{found.Ref.Name, text}}, err
	case out.JMESPath != nil:
		text, err := out.JMESPath.Search(value, out.NonString)
		if err != nil {
			return nil, err
		}
		return decodedPart(found.Ref.Name, text, out.Decode)
	case out.Key != "":
		doc, err := parse(value)
		if err != nil {
			return nil, err
		}
		text, err := doc.path(out.Key)
		if err != nil {
			return nil, err
		}
		return decodedPart(found.Ref.Name, text, out.Decode)
	case out.Keys != nil:
		return exploded(o, found)
	default:
		return decodedPart(found.Ref.Name, value, out.Decode)
	}
}

func decodedPart(name string, value []byte, d plan.Decoding) ([]part, error) {
	text, err := decode(d, value)
	return []part{{name, text}}, err
}

// exploded makes one value a key.
func exploded(o plan.Object, found plan.Found) ([]part, error) {
	doc, err := parse(found.Secret.Value)
	if err != nil {
		return nil, err
	}
	keys := o.Output.Keys
	names := keys.Names
	if names == nil {
		names = doc.keys
		if keys.Regexp != nil {
			names = slices.DeleteFunc(slices.Clone(names), func(k string) bool { return !keys.Regexp.MatchString(k) })
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("no key matches")
		}
	}
	prefix := ""
	if o.Sources[0].Query.Find != nil {
		prefix = found.Ref.Name + "/"
	}
	parts := make([]part, 0, len(names))
	for _, key := range names {
		text, err := doc.value(key)
		if err == nil {
			text, err = decode(o.Output.Decode, text)
		}
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", shorten(key), err)
		}
		parts = append(parts, part{prefix + key, text})
	}
	return parts, nil
}

// templated renders an object's template; nil where a secret that it needs is
// optional and missing.
func templated(o plan.Object, answers []plan.Answer) (*File, error) {
	data := map[string]any{}
	var all []plan.Found
	for i, source := range o.Sources {
		if len(answers[i].Found) == 0 {
			return nil, nil
		}
		found := answers[i].Found[0]
		all = append(all, found)
		value, err := templateValue(found.Secret.Value)
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
	text, err := o.Output.Template.Execute(data)
	if err != nil {
		return nil, err
	}
	if text, err = decode(o.Output.Decode, text); err != nil {
		return nil, err
	}
	return &File{Path: o.Output.File, Contents: text, Version: version(o, all)}, nil
}

// templateValue is a secret as a template sees it: its keys, or its text. One
// line without braces is text: a password may look like a mapping (a: b) or a
// variable (a=b).
func templateValue(value []byte) (any, error) {
	text := bytes.TrimSpace(value)
	if bytes.HasPrefix(text, []byte("{")) || bytes.ContainsRune(text, '\n') {
		if doc, err := parse(text); err == nil {
			return doc.data()
		}
	}
	return string(value), nil
}

// version is the store's own version where the file is the value as it is.
// Where the object's text shapes the file, a change of that text must change
// the version too: then it is a digest of the store's versions and the text.
func version(o plan.Object, from []plan.Found) string {
	out := o.Output
	if len(from) == 1 && (out.StoreVersion || out.Shape() == "") {
		return from[0].Secret.Version
	}
	h := sha256.New()
	for _, f := range from {
		fmt.Fprintf(h, "%q %q %q\n", f.Ref.String(), f.Secret.Version, out.Shape())
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:15])
}

func rewrite(rw *plan.Rewrite, name string) string {
	if rw == nil {
		return name
	}
	return rw.Regexp.ReplaceAllString(name, rw.With)
}

// shorten keeps a name that a tenant wrote to a length that fits an event.
func shorten(s string) string {
	if len(s) > 120 {
		return s[:120] + "…"
	}
	return s
}
