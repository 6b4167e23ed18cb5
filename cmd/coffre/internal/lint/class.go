package lint

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/cmd/coffre/internal/manifest"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/strict"
)

func titleOf(c manifest.Class) string {
	return "SecretProviderClass " + manifest.Qualified(c.Namespace, c.Name)
}

// class checks one SecretProviderClass: as the API server would, then as its
// provider would on a Mount, then against what the platform configured.
func (c *check) class(i int, class manifest.Class) {
	c.report.Checked++
	object := titleOf(class)
	before := len(c.report.Findings)
	c.head(class, object)
	c.texts(class, object)
	c.fields(class, object)
	c.secretObjects(class, object)
	dialect, ok := c.Dialects[class.Provider]
	if !ok {
		c.provider(class, object)
		return
	}
	c.placeholders(class, object)
	filled := len(c.report.Findings)
	if d, ok := dialect.(ignorer); ok {
		for _, m := range d.Ignored(class.Parameters) {
			at := class.At(m.Path, 0)
			if m.Line > 0 { // a key that stands twice has two lines
				at = class.At("objects", m.Line)
			}
			c.say(classIgnored, at, object, m.Path, "%s", m.Text)
		}
	}

	p, err := c.plan(class, class.Namespace, class.Parameters)
	if err != nil {
		c.refused(class, object, err, c.report.Findings[before:filled])
		return
	}
	c.plans[i] = p
	c.held(class, object, p)
	c.files(class, object, p)
}

var apiVersions = []string{manifest.Group + "/v1", manifest.Group + "/v1alpha1"}

// head checks what every object begins with.
func (c *check) head(class manifest.Class, object string) {
	n := class.Object
	version, kind := manifest.Text(manifest.Child(n, "apiVersion")), manifest.Text(manifest.Child(n, "kind"))
	switch {
	case kind != "SecretProviderClass":
		c.say(classKind, class.At("kind", 0), object, "kind", "%q is no kind of %s", kind, manifest.Group)
	case version == apiVersions[1]:
		c.say(classDeprecated, class.At("apiVersion", 0), object, "apiVersion", "%s is deprecated", version)
	case version != apiVersions[0]:
		c.say(classAPIVersion, class.At("apiVersion", 0), object, "apiVersion", "%q is no version of the driver's API", version)
	}
	if class.Name == "" && manifest.Text(manifest.Descend(n, "metadata", "generateName")) == "" {
		c.say(className, class.At("metadata.name", 0), object, "metadata.name", "is missing")
	}
	if class.Provider == "" {
		c.say(className, class.At("spec.provider", 0), object, "spec.provider", "is missing")
	}
}

// texts finds parameters that are no texts. What a list or mapping was meant to
// say is checked on as if it had been written as text.
func (c *check) texts(class manifest.Class, object string) {
	n := manifest.Descend(class.Object, "spec", "parameters")
	if n != nil && n.Kind != yaml.MappingNode && n.Tag != "!!null" {
		c.say(classField, class.At("spec.parameters", 0), object, "spec.parameters", "must be a mapping of names to texts")
	}
	for _, name := range slices.Sorted(maps.Keys(class.Parameters)) {
		value := class.Parameter(name)
		what := manifest.NotText(value)
		if what == "" {
			continue
		}
		at := manifest.Place{File: class.File, Line: manifest.LineOf(n, name)}
		c.say(classText, at, object, "spec.parameters."+name, "is %s, and parameters are texts", what)
		switch value.Kind {
		case yaml.ScalarNode:
			c.remedy("Put it in quotes: %s: %q", name, value.Value)
		default:
			c.remedy("Write %s: | and leave what follows as it is.", name)
		}
	}
}

// known are the fields of a SecretProviderClass, by the driver's CRD (v1.6.1).
var known = map[string][]string{
	"":                            {"apiVersion", "kind", "metadata", "spec", "status"},
	"spec":                        {"provider", "parameters", "secretObjects"},
	"spec.secretObjects[]":        {"secretName", "type", "data", "labels", "annotations"},
	"spec.secretObjects[].data[]": {"objectName", "key"},
}

// fields finds what the CRD does not have at the top and below spec.
func (c *check) fields(class manifest.Class, object string) {
	elsewhere := map[string]string{
		"provider": "spec", "parameters": "spec", "secretObjects": "spec", "objects": "spec.parameters", "store": "spec.parameters", "region": "spec.parameters",
		"inlineStore": "spec.parameters", "secretName": "an entry of spec.secretObjects", "name": "metadata", "namespace": "metadata", "labels": "metadata", "annotations": "metadata",
	}
	for _, at := range []string{"", "spec"} {
		n := class.Object
		if at != "" {
			n = manifest.Child(n, at)
		}
		c.unknown(class, object, classField, n, at, known[at], elsewhere)
	}

	spec := manifest.Child(class.Object, "spec")
	if n := manifest.Child(spec, "secretObjects"); n != nil && n.Kind != yaml.SequenceNode && n.Tag != "!!null" {
		c.say(classField, class.At("spec.secretObjects", 0), object, "spec.secretObjects", "must be a list; begin each entry with a dash")
	}
}

// unknown finds the keys of a mapping that are not known there.
func (c *check) unknown(class manifest.Class, object, id string, n *yaml.Node, at string, known []string, elsewhere map[string]string) {
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if slices.Contains(known, key.Value) {
			continue
		}
		field := strict.Join(at, key.Value)
		hint := "; known fields: " + list(known)
		if where, ok := elsewhere[key.Value]; ok && where != at {
			hint = "; it belongs in " + where
		} else if near := strict.Nearest(key.Value, known); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		c.say(id, manifest.Place{File: class.File, Line: key.Line}, object, field, "unknown field%s", hint)
	}
}

// secretObjects checks their shape; files checks what they are made of.
func (c *check) secretObjects(class manifest.Class, object string) {
	for _, so := range class.SecretObjects {
		c.unknown(class, object, secretIncomplete, so.Node, so.Field, known["spec.secretObjects[]"], map[string]string{"objectName": "an entry of data", "key": "an entry of data"})
		if so.Node.Kind != yaml.MappingNode {
			c.say(secretIncomplete, so.Place, object, so.Field, "must be a mapping with secretName, type and data")
			continue
		}
		if so.Name == "" {
			c.say(secretIncomplete, so.Place, object, so.Field+".secretName", "is missing: the Secret needs a name")
		}
		if so.Type == "" {
			c.say(secretIncomplete, so.Place, object, so.Field+".type", "is missing: write type: Opaque, unless the Secret is of a special type")
		}
		if len(so.Entries) == 0 {
			c.say(secretIncomplete, class.At(so.Field+".data", 0), object, so.Field+".data", "is missing: a list of objectName and key")
		}
		c.entries(class, object, so)
	}
}

func (c *check) entries(class manifest.Class, object string, so manifest.SecretObject) {
	keys := map[string]string{}
	for _, e := range so.Entries {
		c.unknown(class, object, secretIncomplete, e.Node, e.Field, known["spec.secretObjects[].data[]"], map[string]string{"secretName": so.Field, "type": so.Field})
		if e.ObjectName == "" {
			c.say(secretIncomplete, e.Place, object, e.Field+".objectName", "is missing: the file that the key is made of")
		}
		if e.Key == "" {
			c.say(secretIncomplete, e.Place, object, e.Field+".key", "is missing: the key in the Secret")
			continue
		}
		if other, ok := keys[e.Key]; ok {
			c.say(secretKeyTwice, class.At(e.Field+".key", 0), object, e.Field+".key", "%q is the key of %s too", e.Key, other)
		}
		keys[e.Key] = e.Field
	}
}

// provider judges one that this build has no dialect of.
func (c *check) provider(class manifest.Class, object string) {
	if class.Provider == "" {
		return // said already
	}
	names := slices.Sorted(maps.Keys(c.Dialects))
	at := class.At("spec.provider", 0)
	if near := strict.Nearest(class.Provider, names); near != "" && !slices.Contains(otherProviders, class.Provider) {
		c.say(classProvider, at, object, "spec.provider", "%q is no provider; did you mean %q?", class.Provider, near)
		return
	}
	c.say(classUnserved, at, object, "spec.provider", "%q is not checked: this build reads %s", class.Provider, list(names))
}

// otherProviders are names near to ours that are somebody's.
var otherProviders = []string{"azure", "gcp", "vault", "openbao", "akeyless", "conjur", "infisical", "oci", "scaleway", "gopass"}

// placeholder is what people leave for others to fill in: <region>, ${REGION},
// $PROJECT_ID, and REGION or ACCOUNT_ID in an ARN.
var (
	placeholder    = regexp.MustCompile(`<[A-Za-z][A-Za-z0-9 _.-]*>|\$\{[A-Za-z_][A-Za-z0-9_]*\}|\$[A-Z][A-Z0-9_]{2,}\b|\{\{-?\s*(\.Values|\.Release|\.Chart|include)\b[^}]*\}\}`)
	arnPlaceholder = regexp.MustCompile(`\barn:[^\s:"']*:[^\s:"']*:([^\s:"']*):([^\s:"']*):`)
	arnRegion      = regexp.MustCompile(`^([a-z]{2,5}(-[a-z]{2,12}){1,3}-[0-9]{1,2})?$`)
	arnAccount     = regexp.MustCompile(`^([0-9]{12}|aws)?$`)
)

// expressions are fields whose text has braces, angles and dollars of its own.
var expressions = []string{"template", "regexp", "with", "path", "document"}

func (c *check) placeholders(class manifest.Class, object string) {
	for _, name := range slices.Sorted(maps.Keys(class.Parameters)) {
		root := class.Lines(name)
		if root == nil { // no YAML: what Plan says of it counts, but for this
			if found := unfilled(class.Parameters[name]); found != "" {
				c.say(classPlaceholder, class.At(name, 0), object, name, placeholderText, found)
			}
			continue
		}

		c.scalars(root, func(n *yaml.Node) {
			if found := unfilled(n.Value); found != "" {
				c.say(classPlaceholder, manifest.Place{File: class.File, Line: n.Line}, object, name, placeholderText, found)
			}
		})
	}
}

const placeholderText = "%q looks like a placeholder that was not filled in"

func (c *check) scalars(n *yaml.Node, each func(*yaml.Node)) {
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && (i%2 == 0 || slices.Contains(expressions, n.Content[i-1].Value)) {
			continue
		}
		c.scalars(child, each)
	}
	if n.Kind == yaml.ScalarNode {
		each(n)
	}
}

// unfilled is the placeholder in a text, "" where there is none.
func unfilled(text string) string {
	if found := placeholder.FindString(text); found != "" {
		return found
	}
	m := arnPlaceholder.FindStringSubmatch(text)
	switch {
	case m == nil:
		return ""
	case !arnRegion.MatchString(m[1]):
		return m[1]
	case !arnAccount.MatchString(m[2]):
		return m[2]
	}

	return ""
}

// refused reports what the dialect says, each at its field. A mistake that was
// said already, at the same line, is one finding and not two.
func (c *check) refused(class manifest.Class, object string, err error, said []Finding) {
	mistakes := strict.Errors{}
	if !errors.As(err, &mistakes) {
		mistakes = strict.Errors{{Text: err.Error()}}
	}
	taken := map[int]bool{}
	for _, f := range said {
		taken[f.Line] = f.Rule == classPlaceholder || f.Rule == classText
	}
	for _, m := range mistakes {
		field, at := c.locate(class, m)
		if taken[at.Line] {
			continue
		}
		c.say(classRefused, at, object, field, "%s", m.Text)
		if key := hyphenated.FindStringSubmatch(m.Text); key != nil {
			c.remedy(`A key with a hyphen stands in double quotes: path: '%s'`, quoteSteps(key[1]))
		}
	}
}

var hyphenated = regexp.MustCompile(`path "([A-Za-z0-9_.-]*-[A-Za-z0-9_.-]*)" is no JMESPath`)

func quoteSteps(path string) string {
	steps := strings.Split(path, ".")
	for i, s := range steps {
		if strings.Contains(s, "-") {
			steps[i] = `"` + s + `"`
		}
	}
	return strings.Join(steps, ".")
}

// locate finds the very field that a dialect's sentence is about. Some of the
// AWS provider's sentences name it in words only, or quote its value.
func (c *check) locate(class manifest.Class, m strict.Error) (field string, at manifest.Place) {
	if m.Path == "" {
		for _, name := range slices.Sorted(maps.Keys(class.Parameters)) {
			if strings.Contains(m.Text, name) {
				return name, class.At(name, 0)
			}
		}

		return "", class.At("spec.parameters", 0)
	}

	index, ok := strings.CutPrefix(m.Path, "objects")
	if ok && strings.HasSuffix(index, "]") && !strings.Contains(index, ".") {
		if name := within(entry(class.Lines("objects"), index), m.Text); name != "" {
			field := strict.Join(m.Path, name)
			if at := class.At(field, 0); at.Line > 0 {
				return m.Path, at
			}
		}
	}

	return m.Path, class.At(m.Path, m.Line)
}

func entry(root *yaml.Node, index string) *yaml.Node {
	var i int
	if _, err := fmt.Sscanf(index, "[%d]", &i); err != nil || root == nil || root.Kind != yaml.SequenceNode || i >= len(root.Content) {
		return nil
	}
	return root.Content[i]
}

// within is the field of an entry that a sentence names, or whose value it
// quotes; "" where it does neither.
func within(n *yaml.Node, text string) string {
	if n == nil || n.Kind != yaml.MappingNode {
		return ""
	}
	text = strings.ReplaceAll(text, "File Permission", "filePermission")
	best, at := "", len(text)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, n.Content[i+1]
		if where := strings.Index(text, name); where >= 0 && where < at {
			best, at = name, where
			if value.Kind == yaml.SequenceNode {
				if deeper := inList(value, text[where+len(name):]); deeper != "" {
					best += deeper
				}
			}
		}
	}

	if best != "" {
		return best
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if value := n.Content[i+1]; value.Kind == yaml.ScalarNode && len(value.Value) > 1 && strings.Contains(text, value.Value) {
			return n.Content[i].Value
		}
	}

	return ""
}

// inList goes on into "[1]: path …".
func inList(n *yaml.Node, rest string) string {
	end := strings.Index(rest, "]")
	if !strings.HasPrefix(rest, "[") || end < 0 {
		return ""
	}
	index := rest[:end+1]
	if name := within(entry(n, index), rest[end+1:]); name != "" {
		return index + "." + name
	}
	return index
}

// files checks that each file that a Secret is made of is made by an object;
// objects that make several files are known at mount time only.
func (c *check) files(class manifest.Class, object string, p plan.Plan) {
	var files, folders []string
	for _, o := range p.Objects {
		if o.Several() {
			folders = append(folders, o.Output.File)
		} else {
			files = append(files, o.Output.File)
		}
	}

	for _, so := range class.SecretObjects {
		for _, e := range so.Entries {
			below := func(folder string) bool { return strings.HasPrefix(e.ObjectName, folder) }
			if e.ObjectName == "" || slices.Contains(files, e.ObjectName) || slices.ContainsFunc(folders, below) {
				continue
			}
			hint := "files: " + list(files)
			if near := strict.Nearest(e.ObjectName, files); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			field := e.Field + ".objectName"
			c.say(secretFile, class.At(field, 0), object, field, "Secret %s: no object makes the file %q; %s", so.Name, e.ObjectName, hint)
		}
	}
}

// twice finds classes that take each other's place, and Secrets that two
// classes make. The same class in two folders is how environments are kept.
func (c *check) twice() {
	type id struct{ folder, namespace, name string }
	classes, secrets := map[id]manifest.Class{}, map[id]manifest.Class{}
	for _, class := range c.set.Classes {
		if class.Name == "" {
			continue
		}
		folder := filepath.Dir(class.File)
		at := id{folder, class.Namespace, class.Name}
		if first, ok := classes[at]; ok {
			c.say(classTwice, class.Place, titleOf(class), "metadata.name", "stands in %s line %d too", first.File, first.Line)
			continue
		}
		classes[at] = class
		for _, so := range class.SecretObjects {
			of := id{folder, class.Namespace, so.Name}
			if first, ok := secrets[of]; ok && so.Name != "" && first.Name != class.Name {
				c.say(secretTwice, class.At(so.Field+".secretName", 0), titleOf(class), so.Field+".secretName", "Secret %q is made by %s too", so.Name, titleOf(first))
				continue
			}
			secrets[of] = class
		}
	}
}
