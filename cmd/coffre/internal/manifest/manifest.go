// Package manifest reads the files that coffre render and coffre lint take, and
// keeps of them what the way of a secret goes through: SecretProviderClasses,
// the pods that mount them, the Secrets and ServiceAccounts beside, the
// platform's stores. Every part keeps the file and line it stands on.
//
// It judges nothing and contacts nobody. What cannot be read is a Problem and
// never the end: one broken document hides no other. Size, number of nodes and
// the expansion of aliases are bounded.
package manifest

import "go.yaml.in/yaml/v3"

// Set is what a number of files hold together.
type Set struct {
	Classes         []Class
	Mounts          []Mount
	Secrets         []Secret
	ServiceAccounts []ServiceAccount
	References      []Reference
	Stores          []Stores
	Problems        []Problem
}

// Place is where something stands; a Line of 0 is the file as a whole.
type Place struct {
	File string
	Line int
}

// Trouble is what kept a file or a document, or a part of one, from being read.
type Trouble int

// Troubles, from the file inwards.
const (
	Unreadable Trouble = iota // the system did not give it
	TooLarge                  // over a bound
	NoYAML                    // no YAML, or not the Kubernetes object that its kind says
	Unrendered                // a Helm template
	OfChart                   // the same, in its chart: nobody means to apply it as it is
	KeyTwice                  // the last of two equal keys wins
)

// Problem is one thing that could not be read as it stands.
type Problem struct {
	Place
	Trouble Trouble
	Object  string // "" where it is not known
	Field   string
	Text    string
}

// Class is a SecretProviderClass.
type Class struct {
	Place
	Namespace, Name string // Namespace is "" where the file leaves it to kubectl -n
	Provider        string
	Parameters      map[string]string
	SecretObjects   []SecretObject
	// Object is the whole of it, for rules that look at single fields.
	Object *yaml.Node

	parameters map[string]*yaml.Node
}

// SecretObject is one entry of spec.secretObjects.
type SecretObject struct {
	Place
	Field   string // spec.secretObjects[0]
	Name    string
	Type    string
	Entries []SecretEntry
	Node    *yaml.Node
}

// SecretEntry is one entry of a SecretObject's data.
type SecretEntry struct {
	Place
	Field           string // spec.secretObjects[0].data[1]
	ObjectName, Key string
	Node            *yaml.Node
}

// Mount is a volume of a workload that mounts a SecretProviderClass.
type Mount struct {
	Place
	Workload       string // Deployment/api
	Namespace      string // as a Class's
	ServiceAccount string
	Volume         string
	Class          string
	Attributes     map[string]string // of the volume, without the class
	SecretRef      string            // nodePublishSecretRef
	ReadOnly       bool
	SubPaths       []Place // volumeMounts of it that use subPath
	NonRoot        bool    // the pod runs as another user than root
	Node           *yaml.Node
}

// Line of a field of the volume, as "csi.readOnly"; of what is nearest above it
// where it is missing.
func (m Mount) At(field string) Place { return Place{m.File, LineOf(m.Node, field)} }

// Reference is an environment variable that reads a key of a Secret.
type Reference struct {
	Place
	Workload, Namespace string
	Field               string // spec.template.spec.containers[0].env[1]
	Secret, Key         string // Key is "" for envFrom
	Optional            bool
	// Classes are those that the same pod mounts.
	Classes []string
}

// Secret is a Kubernetes Secret's data.
type Secret struct {
	Place
	Namespace, Name string
	Data            map[string]string
}

// ServiceAccount is what render and lint need of one.
type ServiceAccount struct {
	Place
	Namespace, Name string
	Annotations     map[string]string
}

// Stores is a store configuration: as the chart's values hold it, or as the
// file that the provider reads.
type Stores struct {
	Place
	In   string // what holds it: values, ConfigMap kube-system/coffre-stores
	Node *yaml.Node
	// Dialects is the policy beside the stores, without the chart's switches;
	// nil where there is none.
	Dialects *yaml.Node
}

// SameNamespace says whether two namespaces may be one: what a file leaves open
// is decided by who applies it.
func SameNamespace(a, b string) bool { return a == "" || b == "" || a == b }

// Qualified is NAMESPACE/NAME, or the name where the namespace is left open.
func Qualified(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}
