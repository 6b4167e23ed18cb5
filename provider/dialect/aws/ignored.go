package aws

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/provider/strict"
)

func knownParameters() []string {
	return []string{"failoverRegion", "forceRefresh", "objects", "pathTranslation", "preferredAddressType", "refresh", "region", "usePodIdentity"}
}

// Ignored says what the AWS provider, and so this dialect, takes without a word
// and without effect: parameters and fields that are misspelt or stand in the
// wrong place, and keys that stand twice. It is for whoever looks at a class
// before it is applied; a Mount never asks.
func (Dialect) Ignored(parameters map[string]string) strict.Errors {
	i := &ignored{}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if !slices.Contains(knownParameters(), name) {
			i.unknown(nil, name, name, level{"unknown parameter", knownParameters(), fieldsOf[descriptor](), "an entry of objects"})
		}
	}

	root, err := strict.Parse(parameters["objects"], "objects")
	if err != nil || root == nil || root.Kind != yaml.SequenceNode {
		return i.errors // Plan says so
	}
	for n, entry := range root.Content {
		i.fields(entry, fmt.Sprintf("objects[%d]", n), level{"unknown field", fieldsOf[descriptor](), knownParameters(), "parameters"})
	}

	return i.errors
}

type ignored struct{ errors strict.Errors }

// level is what may stand in one mapping, and the names of the level that a
// field is most likely to have slipped from.
type level struct {
	what             string
	known, elsewhere []string
	where            string
}

func (i *ignored) unknown(n *yaml.Node, path, name string, l level) {
	hint := "; known: " + strings.Join(l.known, ", ")
	if near := strict.Nearest(name, l.known); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	if slices.Contains(l.elsewhere, name) {
		hint = "; it belongs in " + l.where
	}
	i.add(n, path, "%s, which is ignored%s", l.what, hint)
}

func (i *ignored) add(n *yaml.Node, path, format string, args ...any) {
	line := 0
	if n != nil {
		line = n.Line
	}
	i.errors = append(i.errors, strict.Error{Path: path, Line: line, Text: fmt.Sprintf(format, args...)})
}

// fields looks at one mapping. Letter case does not matter: the AWS provider's
// reader does not mind it.
func (i *ignored) fields(n *yaml.Node, path string, l level) {
	if n.Kind != yaml.MappingNode {
		return
	}
	seen := map[string]bool{}
	for k := 0; k+1 < len(n.Content); k += 2 {
		key, value := n.Content[k], n.Content[k+1]
		at := strict.Join(path, key.Value)
		if seen[key.Value] {
			i.add(key, at, "stands here twice, and the last one wins: is the dash of a second entry missing?")
			continue
		}
		seen[key.Value] = true
		same := func(name string) bool { return strings.EqualFold(name, key.Value) }
		if key.Tag != "!!merge" && !slices.ContainsFunc(l.known, same) {
			i.unknown(key, at, key.Value, l)
		}
		switch {
		case same("failoverObject"):
			i.fields(value, at, level{"unknown field", fieldsOf[failover](), fieldsOf[descriptor](), "the entry itself"})
		case same("jmesPath"):
			for j, entry := range value.Content {
				i.fields(entry, fmt.Sprintf("%s[%d]", at, j), level{"unknown field", fieldsOf[jmesEntry](), fieldsOf[descriptor](), "the entry itself"})
			}
		}
	}
}

// fieldsOf are the names of a struct's fields as they are written.
func fieldsOf[T any]() []string {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		if name := f.Tag.Get("json"); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
