package azure

import (
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/provider/strict"
)

// Ignored says what the Azure provider, and so this dialect, takes without a
// word and without effect: parameters and fields that are misspelt or stand in
// the wrong place. It is for whoever looks at a class before it is applied; a
// Mount never asks.
func (Dialect) Ignored(parameters map[string]string) strict.Errors {
	i := &strict.Ignored{}
	fields := strict.FieldsOf[entry]("yaml")
	level := strict.Level{What: "unknown parameter", Known: knownParameters(), Elsewhere: fields, Where: "an entry of objects"}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if !slices.Contains(knownParameters(), name) && !slices.Contains(unused(), name) {
			i.Unknown(nil, name, name, level)
		}
	}

	root, err := strict.Parse(parameters["objects"], "objects")
	if err != nil || root == nil {
		return i.Errors // Plan says so
	}
	if root.Kind == yaml.MappingNode {
		level = strict.Level{What: "unknown field", Known: []string{"array"}, Elsewhere: fields, Where: "an entry of array"}
		i.Fields(root, "objects", level, nil)
		root = array(root)
	}
	if root == nil || root.Kind != yaml.SequenceNode {
		return i.Errors
	}
	level = strict.Level{What: "unknown field", Known: fields, Elsewhere: knownParameters(), Where: "parameters"}
	for n, one := range root.Content {
		i.Line = 0
		if one.Kind == yaml.ScalarNode { // YAML in YAML
			i.Line = one.Line - 1
			if one.Style == yaml.LiteralStyle || one.Style == yaml.FoldedStyle {
				i.Line++ // it begins on the next line
			}
			if one, err = strict.Parse(one.Value, ""); err != nil || one == nil {
				continue
			}
		}
		i.Fields(one, fmt.Sprintf("objects[%d]", n), level, nil)
	}

	return i.Errors
}

// unused are parameters that classes of older versions of the Azure provider
// have, and that do no harm.
func unused() []string { return []string{"resourceGroup", "subscriptionId"} }

// array is the list in a mapping.
func array(root *yaml.Node) *yaml.Node {
	for k := 0; k+1 < len(root.Content); k += 2 {
		if root.Content[k].Value == "array" {
			return root.Content[k+1]
		}
	}
	return nil
}
