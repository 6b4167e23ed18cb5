package aws

import (
	"strings"

	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
	awsstore "github.com/coffre-csi/coffre/provider/store/aws"
)

// plan turns a checked entry into its objects: the document, and one for each
// jmesPath entry, from one read of the secret.
func (d *descriptor) plan(r *reader, field string) []plan.Object {
	source := plan.Source{Query: d.query(r, field)}
	mode := permission(r.req.Mode, d.FilePermission)
	main := plan.Object{Field: field, Sources: []plan.Source{source}, Output: plan.Output{
		File: fileName(r.translation, d.ObjectAlias, d.ObjectName), Mode: mode, Decode: plan.Decoding(d.Decode), StoreVersion: true,
	}}
	if d.JSONKeys != "" || source.Query.Find != nil {
		main.Output.File = ""
		if d.JSONKeys != "" {
			main.Output.Keys = &plan.Keys{All: true}
			if d.ObjectAlias != "" { // the keys stand below it
				main.Output.File = fileName(r.translation, d.ObjectAlias, "") + r.separator()
			}
		}

		main.Output.Rewrite = r.rewrite()
	}

	objects := []plan.Object{main}
	for _, j := range d.JMESPath {
		objects = append(objects, plan.Object{Field: field, Sources: []plan.Source{source}, Output: plan.Output{
			File: fileName(r.translation, j.ObjectAlias, ""), Mode: permission(mode, j.FilePermission), JMESPath: j.compiled,
			NonString: j.AllowNonString, Decode: plan.Decoding(j.Decode), StoreVersion: true,
		}})
	}

	return objects
}

func (r *reader) separator() string {
	if r.translation == "" {
		return "/"
	}
	return r.translation
}

// rewrite translates the slashes of names that are known at mount time only.
func (r *reader) rewrite() *plan.Rewrite {
	pattern, with := "/", strings.ReplaceAll(r.translation, "$", "$$")
	if r.translation == "" {
		pattern = "^/+"
	}
	compiled, err := r.budget.Compile(pattern)
	if err != nil {
		r.bad("", "%s", err)
	}
	return &plan.Rewrite{Regexp: compiled, With: with}
}

// query asks for the entry's secret.
func (d *descriptor) query(r *reader, field string) plan.Query {
	config := r.secrets
	if d.service() == ssmParameter {
		config = r.parameters
	}
	q := plan.Query{
		Field: field, Store: store.Selector{Inline: config}, Optional: d.Optional, Force: r.force,
		Ref:     d.ref(),
		Refresh: r.refresh.Duration(),
	}

	if d.Refresh != "" {
		var own store.Refresh
		_ = own.UnmarshalText([]byte(d.Refresh)) // checked
		q.Refresh = own.Duration()
	}

	switch d.ObjectNameMatch {
	case "prefix":
		q.Find, q.Ref = &store.Filter{Prefix: d.ObjectName}, store.Ref{}
	case "regexp":
		q.Find, q.Ref = &store.Filter{Regexp: d.ObjectName}, store.Ref{}
	}
	if q.Refresh == 0 {
		if d.ObjectVersion != "" { // a version never changes
			q.Refresh = store.Never
		}
		// The AWS provider reads on every republish; so does this dialect,
		// unless somebody chose a refresh time.
		q.Volume = r.req.Class + "\x00" + r.req.TargetPath
	}

	return q
}

// ref is the secret that the entry names, with what the other region calls it.
func (d *descriptor) ref() store.Ref {
	ref := store.Ref{Name: d.ObjectName}
	var extra awsstore.Extra
	ref.Version, extra = awsstore.Version(d.ObjectVersion, d.ObjectVersionLabel)
	if f := d.FailoverObject; f.ObjectName != "" {
		extra.Failover = awsstore.Alternate{Name: f.ObjectName, Version: f.ObjectVersion, Stage: f.ObjectVersionLabel}
	}
	ref.Extra = extra.String()
	return ref
}

// names finds entries that cannot stand beside each other.
type names struct {
	*reader
	seen    map[[3]string]bool // objectName, alias and label of each entry
	aliases map[string]bool
	files   map[string]string // path → the entry that makes it
}

func (n *names) add(field string, d *descriptor) {
	if n.seen == nil {
		n.seen, n.aliases, n.files = map[[3]string]bool{}, map[string]bool{}, map[string]string{}
	}
	before := len(n.errors)
	if id := [3]string{d.ObjectName, d.ObjectAlias, d.ObjectVersionLabel}; d.ObjectName != "" && n.seen[id] {
		alias, label := "no object alias", "no version label"
		if d.ObjectAlias != "" {
			alias = "duplicate object alias " + d.ObjectAlias
		}
		if d.ObjectVersionLabel != "" {
			label = "duplicate version label " + d.ObjectVersionLabel
		}
		n.bad(field, "found descriptor with duplicate object name %s, %s, and %s", d.ObjectName, alias, label)
	} else {
		n.seen[id] = true
		if d.ObjectAlias != "" && n.aliases[d.ObjectAlias] {
			n.bad(field, "Name already in use for objectAlias: found duplicate object alias %s", d.ObjectAlias)
		}
		n.aliases[d.ObjectAlias] = true
	}

	for _, j := range d.JMESPath {
		if j.ObjectAlias != "" && n.aliases[j.ObjectAlias] {
			n.bad(field, "Name already in use for objectAlias: found duplicate object alias %s in JMES path entry %s", j.ObjectAlias, j.Path)
		}
		n.aliases[j.ObjectAlias] = true
	}

	if len(n.errors) > before || d.ObjectNameMatch != "" || d.JSONKeys != "" {
		return
	}
	n.file(field, fileName(n.translation, d.ObjectAlias, d.ObjectName))
	for _, j := range d.JMESPath {
		n.file(field, fileName(n.translation, j.ObjectAlias, ""))
	}
}

// file refuses a path that two entries make: the last would take the place of
// the others, and nobody would know.
func (n *names) file(field, path string) {
	if other, ok := n.files[path]; ok && path != "" {
		n.bad(field, "%q is the file of %s too; give one of them another objectAlias", path, other)
		return
	}
	n.files[path] = field
}
