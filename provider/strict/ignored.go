package strict

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Ignored gathers what a lenient reader takes without a word and without
// effect: fields that are misspelt or stand in the wrong place, and keys that
// stand twice. It is for whoever looks at a text before it is used.
type Ignored struct {
	Errors Errors
	// AnyCase says that the reader does not mind letter case.
	AnyCase bool
	// Line is added to the lines of nodes: those before a text within a text.
	Line int
}

// Level is what may stand in one mapping, and the names of the level that a
// field is most likely to have slipped from.
type Level struct {
	What      string // "unknown field"
	Known     []string
	Elsewhere []string
	Where     string // Elsewhere, in words
}

// Add notes a mistake at a node, nil where there is none.
func (i *Ignored) Add(n *yaml.Node, path, format string, args ...any) {
	line := 0
	if n != nil {
		line = n.Line + i.Line
	}
	i.Errors = append(i.Errors, Error{Path: path, Line: line, Text: fmt.Sprintf(format, args...)})
}

// Unknown notes a name that a level does not have.
func (i *Ignored) Unknown(n *yaml.Node, path, name string, l Level) {
	hint := "; known: " + strings.Join(l.Known, ", ")
	if near := Nearest(name, l.Known); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	if slices.Contains(l.Elsewhere, name) {
		hint = "; it belongs in " + l.Where
	}
	i.Add(n, path, "%s, which is ignored%s", l.What, hint)
}

// Fields looks at one mapping, and hands each value on with the name that is
// known of its key; inner may be nil.
func (i *Ignored) Fields(n *yaml.Node, path string, l Level, inner func(name, at string, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		return
	}
	seen := map[string]bool{}
	for k := 0; k+1 < len(n.Content); k += 2 {
		key, value := n.Content[k], n.Content[k+1]
		at := Join(path, key.Value)
		if seen[key.Value] {
			i.Add(key, at, "stands here twice, and the last one wins: is the dash of a second entry missing?")
			continue
		}
		seen[key.Value] = true

		name := i.known(key.Value, l)
		if name == "" && key.Tag != "!!merge" {
			i.Unknown(key, at, key.Value, l)
		}
		if name != "" && inner != nil {
			inner(name, at, value)
		}
	}
}

// known is a key as the level has it; "" where it has none.
func (i *Ignored) known(key string, l Level) string {
	at := slices.IndexFunc(l.Known, func(name string) bool {
		return name == key || i.AnyCase && strings.EqualFold(name, key)
	})
	if at < 0 {
		return ""
	}
	return l.Known[at]
}

// FieldsOf are the names of a struct's fields by a tag, sorted.
func FieldsOf[T any](tag string) []string {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		if name, _, _ := strings.Cut(f.Tag.Get(tag), ","); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
