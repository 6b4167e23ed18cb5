// Package coffre reads SecretProviderClasses in Coffre's own schema
// (docs/reference.md), the same on every store. It is strict: an unknown
// parameter or field, a wrong type, a combination that means nothing, an
// illegal path or two objects making one file is an error that names the field
// and the nearest known one, and all of them are reported at once. It does no
// I/O.
package coffre

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/strict"
	"github.com/coffre-csi/coffre/provider/template"
)

// Name of the dialect: of its socket, and of spec.provider.
const Name = "coffre"

// Parameters of a SecretProviderClass.
const (
	paramStore   = "store"
	paramInline  = "inlineStore"
	paramObjects = "objects"
	paramRefresh = "refresh"
	paramForce   = "forceRefresh"
)

var knownParameters = []string{paramForce, paramInline, paramObjects, paramRefresh, paramStore}

// Dialect reads the schema; inline stores may be of its kinds.
type Dialect struct {
	Kinds store.Kinds
}

// Plan reads a request's parameters. Its error is strict.Errors.
func (d Dialect) Plan(b *budget.Budget, req request.Request) (plan.Plan, error) {
	r := reader{req: req, Decoder: strict.Decoder{Budget: b}}
	for _, name := range slices.Sorted(maps.Keys(req.Parameters)) {
		if slices.Contains(knownParameters, name) || len(r.Errors) >= strict.MaxErrors {
			continue
		}
		hint := "; known parameters: " + strings.Join(knownParameters, ", ")
		if near := strict.Nearest(name, knownParameters); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		r.Add(nil, strict.Join("", name), "unknown parameter%s", hint)
	}

	r.store.Name = req.Parameters[paramStore]
	if inline, ok := req.Parameters[paramInline]; ok {
		if r.store.Name != "" {
			r.Add(nil, paramInline, "cannot stand beside store; leave one of them out")
		}
		if err := strict.Charge(b, inline); err != nil {
			r.Add(nil, paramInline, "%s", err)
			return plan.Plan{}, r.Errors
		}
		config, errs := d.Kinds.ParseInline(inline, paramInline)
		r.Errors = append(r.Errors, errs...)
		r.store = store.Selector{Inline: config}
	}

	if text, ok := req.Parameters[paramRefresh]; ok {
		if err := r.refresh.UnmarshalText([]byte(text)); err != nil {
			r.Add(nil, paramRefresh, "%s", err)
		}
	}

	if text := req.Parameters[paramForce]; text != "" {
		r.force = req.Class + "\x00" + text
	}
	p := plan.Plan{Objects: r.objects(req.Parameters[paramObjects])}
	if len(r.Errors) > 0 {
		return plan.Plan{}, r.Errors
	}

	return p, nil
}

// object is one entry of objects as it is written.
type object struct {
	Name           string            `yaml:"name"`
	Find           *find             `yaml:"find"`
	Store          string            `yaml:"store"`
	Version        string            `yaml:"version"`
	Type           string            `yaml:"type"`
	File           string            `yaml:"file"`
	Mode           *mode             `yaml:"mode"`
	Key            string            `yaml:"key"`
	Keys           *keys             `yaml:"keys"`
	Decode         string            `yaml:"decode"`
	Format         string            `yaml:"format"`
	Encryption     string            `yaml:"encryption"`
	Password       *password         `yaml:"password"`
	SourcePassword *password         `yaml:"sourcePassword"`
	Template       string            `yaml:"template"`
	Secrets        map[string]secret `yaml:"secrets"`
	Rewrite        *rewrite          `yaml:"rewrite"`
	Optional       bool              `yaml:"optional"`
	Refresh        store.Refresh     `yaml:"refresh"`
}

type find struct {
	Prefix string            `yaml:"prefix"`
	Regexp string            `yaml:"regexp"`
	Tags   map[string]string `yaml:"tags"`
}

type rewrite struct {
	Regexp string `yaml:"regexp"`
	With   string `yaml:"with"`
}

// reader reads the objects of one SecretProviderClass.
type reader struct {
	strict.Decoder
	req     request.Request
	store   store.Selector
	refresh store.Refresh
	force   string
}

func (r *reader) objects(text string) []plan.Object {
	if err := strict.Charge(r.Budget, text); err != nil {
		r.Add(nil, paramObjects, "%s", err)
		return nil
	}
	root, err := strict.Parse(text, paramObjects)
	switch {
	case err != nil:
		r.Errors = append(r.Errors, err.(strict.Error))
		return nil
	case root == nil || root.Kind == yaml.ScalarNode && root.Tag == "!!null" || root.Kind == yaml.SequenceNode && len(root.Content) == 0:
		r.Add(nil, paramObjects, "is empty; list at least one object, for example: - {name: prod/mysql, key: password, file: database-password}")
		return nil
	case root.Kind != yaml.SequenceNode:
		r.Add(root, paramObjects, "must be a list; begin each object with a dash")
		return nil
	case len(root.Content) > plan.MaxObjects:
		r.Add(root, paramObjects, "lists %d objects; the limit is %d", len(root.Content), plan.MaxObjects)
		return nil
	}
	var objects []plan.Object
	files := map[string]string{} // path → the object that makes it
	for i, n := range root.Content {
		field := fmt.Sprintf("%s[%d]", paramObjects, i)
		if err := r.Budget.Err(); err != nil { // the object before went over
			break
		}
		if len(r.Errors) >= strict.MaxErrors {
			break
		}

		before := len(r.Errors)
		var o object
		r.Decode(n, field, &o)
		made := r.object(n, field, o)
		if err := r.Budget.Queries(len(made.Sources)); err != nil {
			r.Add(n, field, "%s", err)
		}
		if len(r.Errors) > before {
			continue
		}

		objects = append(objects, made)
		if file := made.Output.File; !made.Several() {
			if other, ok := files[file]; ok {
				r.Add(n, field+".file", "%q is the file of %s too", file, other)
			}
			files[file] = field
		}
	}

	return objects
}

// object checks one entry and turns it into its planned form.
func (r *reader) object(n *yaml.Node, field string, o object) plan.Object {
	bad := func(name, format string, args ...any) { r.Add(n, strict.Join(field, name), format, args...) }

	out := plan.Object{Field: field, Output: plan.Output{Mode: r.req.Mode, Key: o.Key}}
	out.Sources = append(r.sources(o, field, bad), r.passwords(o, field, bad)...)
	if o.Mode != nil {
		out.Output.Mode = int32(*o.Mode)
	}
	if shapes := o.shapes(); len(shapes) > 1 {
		bad(shapes[1], "cannot stand beside %s: each says what the file holds", shapes[0])
	}
	if o.Keys != nil {
		out.Output.Keys = (*plan.Keys)(o.Keys)
	}
	switch d := plan.Decoding(o.Decode); d {
	case "", plan.Base64, plan.Base64URL, plan.Hex, plan.Auto:
		out.Output.Decode = d
	default:
		bad("decode", "%.40q is not base64, base64url, hex or auto", o.Decode)
	}
	switch f := plan.Format(o.Format); f {
	case "", plan.JSON, plan.YAML, plan.Dotenv, plan.Properties, plan.PEM, plan.PFX, plan.JKS:
		out.Output.Format, out.Output.Encryption = f, o.Encryption
	default:
		bad("format", "%.40q is not json, yaml, dotenv or properties, nor pem, pfx or jks for a certificate", o.Format)
	}
	o.checkCertificate(bad)
	if o.Template != "" {
		t, err := template.Parse(r.Budget, o.Template)
		if err != nil {
			bad("template", "%s", err)
		}
		out.Output.Template = t
		if o.Find != nil {
			bad("template", "cannot stand beside find; name the secrets under secrets")
		}
	} else if o.Secrets != nil {
		bad("secrets", "are for a template to draw on, and there is none")
	}
	if o.Rewrite != nil {
		if o.Keys == nil && o.Find == nil {
			bad("rewrite", "changes the names that keys and find make; this object has neither")
		}
		if len(o.Rewrite.With) > maxWith {
			bad("rewrite.with", "is longer than %d bytes", maxWith)
		}
		out.Output.Rewrite = &plan.Rewrite{Regexp: compile(r.Budget, o.Rewrite.Regexp, "rewrite.regexp", bad), With: o.Rewrite.With}
	}

	out.Output.File = file(o, out.Several(), bad)

	return out
}

// sources are the object's own secret, or search, and those that its template
// draws on.
func (r *reader) sources(o object, field string, bad func(string, string, ...any)) []plan.Source {
	query := func(at string, s secret) plan.Query { return r.query(o, at, s, bad) }
	var sources []plan.Source
	switch {
	case o.Name != "" && o.Find != nil:
		bad("find", "cannot stand beside name: an object is one secret, or a search")
	case o.Name != "":
		checkName(o.Name, "name", bad)
		sources = append(sources, plan.Source{Query: query(field, secret{Name: o.Name, Version: o.Version, Type: o.Type})})
	case o.Find != nil:
		if o.Version != "" {
			bad("version", "cannot stand beside find: it names a version of one secret")
		}
		q := query(field, secret{Type: o.Type})
		q.Find = r.filter(*o.Find, bad)
		sources = append(sources, plan.Source{Query: q})
	case len(o.Secrets) == 0:
		bad("name", "is missing: an object needs a name, or find")
	}
	for _, alias := range slices.Sorted(maps.Keys(o.Secrets)) {
		s := o.Secrets[alias]
		if !identifier.MatchString(alias) {
			bad("secrets", "%.40q cannot be written in a template; use letters, digits and _", alias)
		}
		checkName(s.Name, "secrets."+alias, bad)
		sources = append(sources, plan.Source{Alias: alias, Query: query(field+".secrets."+alias, s)})
	}

	return sources
}

// query asks for one secret of an object.
func (r *reader) query(o object, at string, s secret, bad func(string, string, ...any)) plan.Query {
	for name, text := range map[string]string{"version": s.Version, "type": s.Type} {
		if len(text) > maxLabel {
			bad(name, "has %d bytes; no store has one over %d", len(text), maxLabel)
		}
	}

	ref := store.Ref{Name: s.Name, Version: s.Version, Type: s.Type}
	q := plan.Query{Field: at, Store: r.store, Ref: ref, Optional: o.Optional, Force: r.force}
	if name := cmp.Or(s.Store, o.Store); name != "" {
		q.Store = store.Selector{Name: name}
	}
	if q.Store == (store.Selector{}) && r.req.Parameters[paramInline] == "" {
		bad("store", "is missing, and the SecretProviderClass names no store and no inlineStore")
	}
	if q.Refresh = r.refresh.Duration(); o.Refresh != 0 {
		q.Refresh = o.Refresh.Duration()
	}

	return q
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// maxWith bounds what one match of a rewrite becomes.
const maxWith = 1024 // bytes

const maxLabel = 512 // bytes of a version or a type
const maxName = 2048 // bytes; the longest of the stores' own limits, an ARN of Parameter Store

func checkName(name, at string, bad func(string, string, ...any)) {
	switch {
	case name == "":
		bad(at, "is empty")
	case len(name) > maxName:
		bad(at, "is longer than %d bytes", maxName)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }):
		bad(at, "holds a character that no store has in a name")
	}
}

func (r *reader) filter(f find, bad func(string, string, ...any)) *store.Filter {
	if f.Prefix == "" && f.Regexp == "" && len(f.Tags) == 0 {
		bad("find", "is empty; give it a prefix, a regexp or tags")
	}
	if f.Regexp != "" {
		compile(r.Budget, f.Regexp, "find.regexp", bad)
	}
	var tags []string
	for _, k := range slices.Sorted(maps.Keys(f.Tags)) {
		if strings.ContainsAny(k+f.Tags[k], ",=") {
			bad("find.tags", "%.40q: commas and equals signs cannot be searched for", k)
		}
		tags = append(tags, k+"="+f.Tags[k])
	}

	return &store.Filter{Prefix: f.Prefix, Regexp: f.Regexp, Tags: strings.Join(tags, ",")}
}

// file is the path of the object's file, or the folder of its files, ending in
// "/" or empty.
func file(o object, several bool, bad func(string, string, ...any)) string {
	switch {
	case several:
		folder, isFolder := strings.CutSuffix(o.File, "/")
		if o.File != "" && !isFolder {
			bad("file", "%.120q must end in /: this object makes several files", o.File)
		} else if reason := plan.PathFault(folder); o.File != "" && reason != "" {
			bad("file", "%.120q %s", o.File, reason)
		}
		return o.File
	case o.File != "":
		if strings.HasSuffix(o.File, "/") {
			bad("file", "%.120q is a folder, and this object makes one file", o.File)
		} else if reason := plan.PathFault(o.File); reason != "" {
			bad("file", "%.120q %s", o.File, reason)
		}
		return o.File
	case o.Name == "" && len(o.Secrets) == 0: // said already
	case o.Name == "":
		bad("file", "is missing: a template that draws on several secrets needs its file named")
	case strings.Contains(o.Name, "/") || plan.PathFault(o.Name) != "":
		bad("file", "is missing, and %.120q cannot be the file's name", o.Name)
	}

	return o.Name
}

func compile(b *budget.Budget, pattern, at string, bad func(string, string, ...any)) *budget.Pattern {
	if pattern == "" {
		bad(at, "is empty; give it a regular expression")
		return nil
	}
	re, err := b.Compile(pattern)
	if err != nil {
		bad(at, "%s", err)
	}
	return re
}

// shapes are the fields that each say what the file holds, of those that are
// set.
func (o object) shapes() []string {
	var set []string
	add := func(is bool, name string) {
		if is {
			set = append(set, name)
		}
	}

	add(o.Key != "" && !plan.Format(o.Format).Certificate(), "key") // a certificate may be the value of a key
	add(o.Keys != nil, "keys")
	add(o.Format != "", "format")
	add(o.Template != "", "template")
	return set
}
