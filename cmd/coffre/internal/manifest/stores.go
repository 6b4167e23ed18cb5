package manifest

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// values takes the stores of Helm values: the chart's own, or those of a chart
// that has Coffre's among its parts.
func (r *reader) values(n *yaml.Node, in string) {
	for _, v := range []*yaml.Node{n, Child(n, "coffre")} {
		if key, stores := pair(v, "stores"); storesLike(stores) {
			r.set.Stores = append(r.set.Stores, Stores{r.place(key), in, stores, policy(Child(v, "dialects"))})
		}
	}
}

// policy is what the chart writes beside the stores of its value `dialects`:
// everything but the switches.
func policy(n *yaml.Node) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return n
	}
	all := *n
	all.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		entry := *n.Content[i+1]
		if entry.Kind == yaml.MappingNode {
			entry.Content = nil
			for j := 0; j+1 < len(n.Content[i+1].Content); j += 2 {
				if name := n.Content[i+1].Content[j]; name.Value != "enabled" {
					entry.Content = append(entry.Content, name, n.Content[i+1].Content[j+1])
				}
			}

			if len(entry.Content) == 0 {
				continue
			}
		}

		all.Content = append(all.Content, n.Content[i], &entry)
	}

	if len(all.Content) == 0 {
		return nil
	}

	return &all
}

// storesLike keeps the value `stores` of some other chart from being read as
// Coffre's: one of its entries has a field that every store has.
func storesLike(n *yaml.Node) bool {
	if n == nil {
		return false
	}
	if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		return true
	}
	for _, entry := range n.Content {
		if Child(entry, "kind") != nil || Child(entry, "namespaces") != nil {
			return true
		}
	}

	return false
}

// configMap takes the stores of a ConfigMap like the chart's, whose text is the
// file that the provider reads.
func (r *reader) configMap(n *yaml.Node) {
	data := Child(n, "data")
	if data == nil || data.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(data.Content); i += 2 {
		if root := Embedded(data.Content[i+1]); root != nil && Child(root, "apiVersion") == nil {
			r.values(root, fmt.Sprintf("ConfigMap %s", named(n)))
		}
	}
}

// application takes the Helm values of an Argo CD Application.
func (r *reader) application(n *yaml.Node) {
	spec := Child(n, "spec")
	sources := append([]*yaml.Node{Child(spec, "source")}, items(Child(spec, "sources"))...)
	for _, source := range sources {
		helm := Child(source, "helm")
		r.values(Child(helm, "valuesObject"), "Application "+named(n))
		r.values(Embedded(Child(helm, "values")), "Application "+named(n))
	}
}
