package manifest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DriverName is the CSI driver's, as volumes name it.
const DriverName = "secrets-store.csi.k8s.io"

// Group is that of SecretProviderClasses.
const Group = "secrets-store.csi.x-k8s.io"

// object takes what is of interest from one object, or from each of a list.
func (r *reader) object(n *yaml.Node) {
	kind := Text(Child(n, "kind"))
	apiVersion := Text(Child(n, "apiVersion"))
	if list := Child(n, "items"); strings.HasSuffix(kind, "List") && list != nil {
		for _, item := range items(list) {
			if item.Kind == yaml.MappingNode {
				r.object(item)
			}
		}

		return
	}

	switch {
	case classLike(kind, apiVersion):
		r.class(n)
	case kind == "Secret" && apiVersion == "v1":
		r.secret(n)
	case kind == "ServiceAccount":
		m := Child(n, "metadata")
		r.set.ServiceAccounts = append(r.set.ServiceAccounts, ServiceAccount{
			r.place(n), Text(Child(m, "namespace")), Text(Child(m, "name")), texts(Child(m, "annotations")),
		})
	case kind == "ConfigMap":
		r.configMap(n)
	case kind == "Application" && strings.HasPrefix(apiVersion, "argoproj.io/"):
		r.application(n)
	case kind == "HelmRelease":
		r.values(Descend(n, "spec", "values"), "HelmRelease "+named(n))
	case kind == "" && apiVersion == "":
		r.values(n, "values")
	default:
		r.workload(n, kind)
	}
}

func (r *reader) place(n *yaml.Node) Place { return Place{r.name, n.Line} }

func named(n *yaml.Node) string {
	m := Child(n, "metadata")
	return Qualified(Text(Child(m, "namespace")), Text(Child(m, "name")))
}

// classLike takes what is meant to be a SecretProviderClass, though its kind or
// group be misspelt: a rule says so.
func classLike(kind, apiVersion string) bool {
	if kind == "SecretProviderClass" {
		return true
	}
	group, _, _ := strings.Cut(apiVersion, "/")
	return group == Group && kind != "SecretProviderClassPodStatus"
}

func (r *reader) class(n *yaml.Node) {
	m := Child(n, "metadata")
	parameters := Descend(n, "spec", "parameters")
	c := Class{
		Place: r.place(n), Namespace: Text(Child(m, "namespace")), Name: Text(Child(m, "name")),
		Provider: Text(Descend(n, "spec", "provider")), Parameters: map[string]string{}, Object: n, parameters: map[string]*yaml.Node{},
	}
	if parameters != nil && parameters.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(parameters.Content); i += 2 {
			name, value := parameters.Content[i].Value, parameters.Content[i+1]
			c.parameters[name] = value
			c.Parameters[name] = written(value)
		}
	}

	for i, item := range items(Descend(n, "spec", "secretObjects")) {
		field := fmt.Sprintf("spec.secretObjects[%d]", i)
		so := SecretObject{Place: r.place(item), Field: field, Name: Text(Child(item, "secretName")), Type: Text(Child(item, "type")), Node: item}
		for j, e := range items(Child(item, "data")) {
			so.Entries = append(so.Entries, SecretEntry{r.place(e), fmt.Sprintf("%s.data[%d]", field, j), Text(Child(e, "objectName")), Text(Child(e, "key")), e})
		}
		c.SecretObjects = append(c.SecretObjects, so)
	}

	r.keysTwice(n, "SecretProviderClass "+Qualified(c.Namespace, c.Name), "")
	r.set.Classes = append(r.set.Classes, c)
}

// written is a parameter's text; of a list or mapping, which a rule reports,
// the YAML that its author meant to put there.
func written(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return Text(n)
	}
	text, err := yaml.Marshal(n)
	if err != nil {
		return ""
	}
	return string(text)
}

// keysTwice finds keys that stand twice in one mapping: kubectl keeps the last.
func (r *reader) keysTwice(n *yaml.Node, object, field string) {
	seen := map[string]bool{}
	for i, c := range n.Content {
		switch {
		case n.Kind != yaml.MappingNode:
			r.keysTwice(c, object, fmt.Sprintf("%s[%d]", field, i))
		case i%2 == 1:
			r.keysTwice(c, object, strings.TrimPrefix(field+"."+n.Content[i-1].Value, "."))
		case seen[c.Value]:
			at := strings.TrimPrefix(field+"."+c.Value, ".")
			r.set.Problems = append(r.set.Problems, Problem{r.place(c), KeyTwice, object, at, "stands here twice, and the last one wins"})
		default:
			seen[c.Value] = true
		}
	}
}

// At is where a field of a class stands; of a parameter's text, where the
// parameter's name is what the field begins with. line is that within the text
// where the field itself cannot be found; 0 where it is not known.
func (c Class) At(field string, line int) Place {
	name := field
	if end := strings.IndexAny(field, ".["); end >= 0 {
		name = field[:end]
	}
	value, ok := c.parameters[name]
	if !ok {
		return Place{c.File, LineOf(c.Object, field)}
	}
	key, _ := pair(Descend(c.Object, "spec", "parameters"), name)
	below := strings.TrimPrefix(field[len(name):], ".")
	root := value
	if value.Kind == yaml.ScalarNode {
		root = Embedded(value)
	}
	switch {
	case below != "" && root != nil:
		return Place{c.File, LineOf(root, below)}
	case line > 0 && block(value):
		return Place{c.File, value.Line + line}
	case block(value):
		return Place{c.File, key.Line}
	}

	return Place{c.File, value.Line}
}

// Parameter is a parameter's value as it is written, nil where there is none.
func (c Class) Parameter(name string) *yaml.Node { return c.parameters[name] }

// Lines is the YAML of a parameter's text with the file's lines, nil where it
// is none.
func (c Class) Lines(parameter string) *yaml.Node {
	value := c.parameters[parameter]
	if value == nil || value.Kind != yaml.ScalarNode {
		return value
	}
	return Embedded(value)
}

func (r *reader) secret(n *yaml.Node) {
	m := Child(n, "metadata")
	s := Secret{r.place(n), Text(Child(m, "namespace")), Text(Child(m, "name")), map[string]string{}}
	data := texts(Child(n, "data"))
	for _, key := range slices.Sorted(maps.Keys(data)) {
		raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(data[key]), ""))
		if err != nil {
			r.set.Problems = append(r.set.Problems, Problem{Place{r.name, LineOf(n, "data."+key)}, NoYAML, "Secret " + named(n), "data." + key, "is no base64; write text under stringData"})
			continue
		}
		s.Data[key] = string(raw)
	}

	maps.Copy(s.Data, texts(Child(n, "stringData")))
	r.set.Secrets = append(r.set.Secrets, s)
}

// podTemplates are where the kinds that make pods keep them.
var podTemplates = [][]string{{"spec", "template"}, {"spec", "jobTemplate", "spec", "template"}, {"template"}, {"spec", "workloadRef", "template"}}

// workload takes the volumes of a pod, or of whatever makes pods.
func (r *reader) workload(n *yaml.Node, kind string) {
	pod, at := n, ""
	if kind != "Pod" {
		pod = nil
		for _, path := range podTemplates {
			if t := Descend(n, path...); Descend(t, "spec", "containers") != nil {
				pod, at = t, strings.Join(path, ".")+"."
				break
			}
		}
	}

	spec := Child(pod, "spec")
	if spec == nil {
		return
	}
	w := Mount{Workload: kind + "/" + Text(Descend(n, "metadata", "name")), Namespace: Text(Descend(n, "metadata", "namespace")),
		ServiceAccount: Text(Child(spec, "serviceAccountName")), NonRoot: nonRoot(spec)}
	if w.ServiceAccount == "" {
		w.ServiceAccount = Text(Child(spec, "serviceAccount"))
	}
	if w.ServiceAccount == "" {
		w.ServiceAccount = "default"
	}
	var classes []string
	for _, v := range items(Child(spec, "volumes")) {
		csi := Child(v, "csi")
		if Text(Child(csi, "driver")) != DriverName {
			continue
		}
		m := w
		attributes := texts(Child(csi, "volumeAttributes"))
		m.Place, m.Node, m.Volume = r.place(v), v, Text(Child(v, "name"))
		m.Class = attributes["secretProviderClass"]
		delete(attributes, "secretProviderClass")
		m.Attributes, m.SecretRef = attributes, Text(Descend(csi, "nodePublishSecretRef", "name"))
		m.ReadOnly = isTrue(Child(csi, "readOnly"))
		m.SubPaths = r.subPaths(spec, m.Volume)
		classes = append(classes, m.Class)
		r.set.Mounts = append(r.set.Mounts, m)
	}

	r.references(w, spec, at+"spec", classes)
}

func nonRoot(spec *yaml.Node) bool {
	context := Child(spec, "securityContext")
	user := Text(Child(context, "runAsUser"))
	return isTrue(Child(context, "runAsNonRoot")) || user != "" && user != "0"
}

var containerLists = []string{"initContainers", "containers"}

// subPaths are the volumeMounts that pin one file of the volume.
func (r *reader) subPaths(spec *yaml.Node, volume string) []Place {
	var found []Place
	for _, list := range containerLists {
		for _, c := range items(Child(spec, list)) {
			for _, m := range items(Child(c, "volumeMounts")) {
				key, _ := pair(m, "subPath")
				if key == nil {
					key, _ = pair(m, "subPathExpr")
				}
				if key != nil && Text(Child(m, "name")) == volume {
					found = append(found, r.place(key))
				}
			}
		}
	}

	return found
}

// references are the variables that read a Secret.
func (r *reader) references(w Mount, spec *yaml.Node, at string, classes []string) {
	for _, list := range containerLists {
		for i, c := range items(Child(spec, list)) {
			add := func(field string, ref *yaml.Node) {
				if name := Text(Child(ref, "name")); name != "" {
					r.set.References = append(r.set.References, Reference{
						r.place(ref), w.Workload, w.Namespace, fmt.Sprintf("%s.%s[%d].%s", at, list, i, field), name, Text(Child(ref, "key")), isTrue(Child(ref, "optional")), classes,
					})
				}
			}

			for j, e := range items(Child(c, "env")) {
				add(fmt.Sprintf("env[%d].valueFrom.secretKeyRef", j), Descend(e, "valueFrom", "secretKeyRef"))
			}
			for j, e := range items(Child(c, "envFrom")) {
				add(fmt.Sprintf("envFrom[%d].secretRef", j), Child(e, "secretRef"))
			}
		}
	}
}
