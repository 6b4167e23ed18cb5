package aws

import (
	"fmt"
	"maps"
	"slices"

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
	i := &strict.Ignored{AnyCase: true}
	entry := strict.FieldsOf[descriptor]("json")
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if !slices.Contains(knownParameters(), name) {
			i.Unknown(nil, name, name, strict.Level{What: "unknown parameter", Known: knownParameters(), Elsewhere: entry, Where: "an entry of objects"})
		}
	}

	root, err := strict.Parse(parameters["objects"], "objects")
	if err != nil || root == nil || root.Kind != yaml.SequenceNode {
		return i.Errors // Plan says so
	}
	level := strict.Level{What: "unknown field", Known: entry, Elsewhere: knownParameters(), Where: "parameters"}
	for n, one := range root.Content {
		i.Fields(one, fmt.Sprintf("objects[%d]", n), level, func(name, at string, value *yaml.Node) { inner(i, name, at, value) })
	}

	return i.Errors
}

// inner looks at what stands below an entry.
func inner(i *strict.Ignored, name, at string, value *yaml.Node) {
	level := strict.Level{What: "unknown field", Elsewhere: strict.FieldsOf[descriptor]("json"), Where: "the entry itself"}
	switch name {
	case "failoverObject":
		level.Known = strict.FieldsOf[failover]("json")
		i.Fields(value, at, level, nil)
	case "jmesPath":
		level.Known = strict.FieldsOf[jmesEntry]("json")
		for j, one := range value.Content {
			i.Fields(one, fmt.Sprintf("%s[%d]", at, j), level, nil)
		}
	}
}
