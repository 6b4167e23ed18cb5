// Package manifest reads the Kubernetes manifests that coffre render and
// coffre lint take: SecretProviderClasses, the workloads that mount them and
// the Secrets that hold their static credentials. It keeps file and line.
package manifest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Set is what a number of files hold together.
type Set struct {
	Classes []Class
	Mounts  []Mount
	Secrets []Secret
	Stores  []Stores
}

// Place is where something stands.
type Place struct {
	File string
	Line int
}

// Class is a SecretProviderClass.
type Class struct {
	Place
	Namespace, Name, Provider string
	Parameters                map[string]string
	SecretObjects             []SecretObject
	lines                     map[string]int // of each parameter's text
}

// Line of a line of a parameter's text, both from 1; the class's own where the
// parameter is not there.
func (c Class) LineIn(parameter string, line int) int {
	at, ok := c.lines[parameter]
	if !ok {
		return c.Line
	}
	return at + max(line, 1) - 1
}

// SecretObject is one entry of spec.secretObjects.
type SecretObject struct {
	Place
	Name    string
	Objects []string // objectName of each data entry
}

// Mount is a volume of a workload that mounts a SecretProviderClass.
type Mount struct {
	Place
	Workload       string // Deployment/api
	Namespace      string
	ServiceAccount string
	Volume         string
	Class          string
	Attributes     map[string]string // of the volume, without the class
	SecretRef      string            // nodePublishSecretRef
	ReadOnly       bool
	SubPaths       []Place // volumeMounts of it that use subPath
	NonRoot        bool    // the pod runs as another user than root
}

// Secret is a Kubernetes Secret's data.
type Secret struct {
	Namespace, Name string
	Data            map[string]string
}

// Stores is a store configuration, as the chart's values hold it.
type Stores struct {
	Place
	Node *yaml.Node
}

// Read reads files; "-" is standard input.
func Read(files []string, stdin io.Reader) (Set, error) {
	var set Set
	for _, file := range files {
		text, err := readFile(file, stdin)
		if err != nil {
			return Set{}, err
		}
		if err := set.add(file, text); err != nil {
			return Set{}, err
		}
	}
	return set, nil
}

func readFile(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(file)
}

func (s *Set) add(file string, text []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
			continue
		}
		if err := s.object(file, doc.Content[0]); err != nil {
			return fmt.Errorf("%s:%d: %w", file, doc.Content[0].Line, err)
		}
	}
}

func (s *Set) object(file string, n *yaml.Node) error {
	var kind string
	if k := child(n, "kind"); k != nil {
		kind = k.Value
	}
	switch kind {
	case "SecretProviderClass":
		return s.class(file, n)
	case "Secret":
		return s.secret(n)
	case "Pod":
		return s.workload(file, n, n)
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job":
		return s.workload(file, n, descend(n, "spec", "template"))
	case "CronJob":
		return s.workload(file, n, descend(n, "spec", "jobTemplate", "spec", "template"))
	case "List":
		items := child(n, "items")
		if items == nil {
			return nil
		}
		for _, item := range items.Content {
			if err := s.object(file, item); err != nil {
				return err
			}
		}
	case "":
		if stores := child(n, "stores"); stores != nil && child(n, "apiVersion") == nil {
			s.Stores = append(s.Stores, Stores{Place{file, stores.Line}, stores})
		}
	}
	return nil
}

type metadata struct {
	Name      string `yaml:"name"`
	Namespace string `yaml:"namespace"`
}

func (m metadata) namespace() string {
	if m.Namespace == "" {
		return "default"
	}
	return m.Namespace
}

func (s *Set) class(file string, n *yaml.Node) error {
	var m struct {
		Metadata metadata `yaml:"metadata"`
		Spec     struct {
			Provider   string            `yaml:"provider"`
			Parameters map[string]string `yaml:"parameters"`
		} `yaml:"spec"`
	}
	if err := n.Decode(&m); err != nil {
		return err
	}
	c := Class{Place: Place{file, n.Line}, Namespace: m.Metadata.namespace(), Name: m.Metadata.Name, Provider: m.Spec.Provider, Parameters: m.Spec.Parameters, lines: map[string]int{}}
	if parameters := descend(n, "spec", "parameters"); parameters != nil {
		for i := 0; i+1 < len(parameters.Content); i += 2 {
			value := parameters.Content[i+1]
			line := value.Line
			if value.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
				line++ // the text begins below its indicator
			}
			c.lines[parameters.Content[i].Value] = line
		}
	}
	if objects := descend(n, "spec", "secretObjects"); objects != nil {
		for _, item := range objects.Content {
			var o struct {
				SecretName string `yaml:"secretName"`
				Data       []struct {
					ObjectName string `yaml:"objectName"`
				} `yaml:"data"`
			}
			if err := item.Decode(&o); err != nil {
				return err
			}
			so := SecretObject{Place: Place{file, item.Line}, Name: o.SecretName}
			for _, d := range o.Data {
				so.Objects = append(so.Objects, d.ObjectName)
			}
			c.SecretObjects = append(c.SecretObjects, so)
		}
	}
	s.Classes = append(s.Classes, c)
	return nil
}

func (s *Set) secret(n *yaml.Node) error {
	var m struct {
		Metadata   metadata          `yaml:"metadata"`
		Data       map[string]string `yaml:"data"`
		StringData map[string]string `yaml:"stringData"`
	}
	if err := n.Decode(&m); err != nil {
		return err
	}
	sec := Secret{Namespace: m.Metadata.namespace(), Name: m.Metadata.Name, Data: map[string]string{}}
	for k, v := range m.Data {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(v))
		if err != nil {
			return fmt.Errorf("data.%s is not base64", k)
		}
		sec.Data[k] = string(raw)
	}
	for k, v := range m.StringData {
		sec.Data[k] = v
	}
	s.Secrets = append(s.Secrets, sec)
	return nil
}

const driverName = "secrets-store.csi.k8s.io"

func (s *Set) workload(file string, n, template *yaml.Node) error {
	if template == nil {
		return nil
	}
	var m struct {
		Kind     string   `yaml:"kind"`
		Metadata metadata `yaml:"metadata"`
	}
	var pod struct {
		Spec struct {
			ServiceAccountName string `yaml:"serviceAccountName"`
			SecurityContext    struct {
				RunAsUser    *int64 `yaml:"runAsUser"`
				RunAsNonRoot bool   `yaml:"runAsNonRoot"`
			} `yaml:"securityContext"`
			Volumes []yaml.Node `yaml:"volumes"`
		} `yaml:"spec"`
	}
	if err := errors.Join(n.Decode(&m), template.Decode(&pod)); err != nil {
		return err
	}
	for _, v := range pod.Spec.Volumes {
		var volume struct {
			Name string `yaml:"name"`
			CSI  *struct {
				Driver               string            `yaml:"driver"`
				ReadOnly             bool              `yaml:"readOnly"`
				VolumeAttributes     map[string]string `yaml:"volumeAttributes"`
				NodePublishSecretRef struct {
					Name string `yaml:"name"`
				} `yaml:"nodePublishSecretRef"`
			} `yaml:"csi"`
		}
		if err := v.Decode(&volume); err != nil {
			return err
		}
		if volume.CSI == nil || volume.CSI.Driver != driverName {
			continue
		}
		mount := Mount{
			Place: Place{file, v.Line}, Workload: m.Kind + "/" + m.Metadata.Name, Namespace: m.Metadata.namespace(),
			ServiceAccount: pod.Spec.ServiceAccountName, Volume: volume.Name,
			Class: volume.CSI.VolumeAttributes["secretProviderClass"], Attributes: map[string]string{},
			SecretRef: volume.CSI.NodePublishSecretRef.Name, ReadOnly: volume.CSI.ReadOnly,
			NonRoot:  pod.Spec.SecurityContext.RunAsNonRoot || pod.Spec.SecurityContext.RunAsUser != nil && *pod.Spec.SecurityContext.RunAsUser != 0,
			SubPaths: subPaths(file, template, volume.Name),
		}
		if mount.ServiceAccount == "" {
			mount.ServiceAccount = "default"
		}
		for k, value := range volume.CSI.VolumeAttributes {
			if k != "secretProviderClass" {
				mount.Attributes[k] = value
			}
		}
		s.Mounts = append(s.Mounts, mount)
	}
	return nil
}

// subPaths are the volumeMounts that pin one file of the volume: they never
// see an update (driver issue 680).
func subPaths(file string, template *yaml.Node, volume string) []Place {
	var found []Place
	for _, list := range []string{"containers", "initContainers"} {
		containers := descend(template, "spec", list)
		if containers == nil {
			continue
		}
		for _, c := range containers.Content {
			mounts := child(c, "volumeMounts")
			if mounts == nil {
				continue
			}
			for _, m := range mounts.Content {
				if name := child(m, "name"); name != nil && name.Value == volume && (child(m, "subPath") != nil || child(m, "subPathExpr") != nil) {
					found = append(found, Place{file, m.Line})
				}
			}
		}
	}
	return found
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func descend(n *yaml.Node, keys ...string) *yaml.Node {
	for _, k := range keys {
		n = child(n, k)
	}
	return n
}
