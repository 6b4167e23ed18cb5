package coffre

import (
	"fmt"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/strict"
)

// mode is a file's permission bits, written in octal.
type mode int32

var octal = regexp.MustCompile(`^(0o)?[0-7]{3,4}$`)

// UnmarshalText reads "0440", "440" or 0o440.
func (m *mode) UnmarshalText(text []byte) error {
	if !octal.Match(text) {
		return fmt.Errorf("%.20q is no file mode; write it in octal, as \"0440\"", text)
	}
	digits := string(text)
	if len(digits) > 4 {
		digits = digits[2:]
	}
	n, err := strconv.ParseUint(digits, 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("%.20q is outside 0000 to 0777: the driver sets permission bits only", text)
	}
	*m = mode(n)

	return nil
}

// keys is "*", a list of keys, or {regexp}.
type keys plan.Keys

// UnmarshalNode implements strict.NodeUnmarshaler.
func (k *keys) UnmarshalNode(n *yaml.Node, path string, d *strict.Decoder) {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Value != "*" {
			d.Add(n, path, `must be "*", a list of keys, or {regexp: …}`)
		}
		k.All = true
	case yaml.SequenceNode:
		d.Decode(n, path, &k.Names)
		if len(k.Names) == 0 {
			d.Add(n, path, "lists no key")
		}
		seen := map[string]bool{}
		for i, name := range k.Names {
			if name == "" || seen[name] {
				d.Add(n, fmt.Sprintf("%s[%d]", path, i), "is empty or stands here twice")
			}
			seen[name] = true
		}
	default:
		var by struct {
			Regexp string `yaml:"regexp"`
		}
		d.Decode(n, path, &by)
		k.Regexp = compile(d.Budget, by.Regexp, "regexp", func(at, format string, args ...any) { d.Add(n, strict.Join(path, at), format, args...) })
	}
}

// secret is one of those that a template draws on: a name, or a mapping that
// says more.
type secret struct {
	Name    string `yaml:"name"`
	Store   string `yaml:"store"`
	Version string `yaml:"version"`
	Type    string `yaml:"type"`
}

// UnmarshalNode implements strict.NodeUnmarshaler.
func (s *secret) UnmarshalNode(n *yaml.Node, path string, d *strict.Decoder) {
	if n.Kind == yaml.ScalarNode {
		d.Decode(n, path, &s.Name)
		return
	}
	type fields secret
	d.Decode(n, path, (*fields)(s))
}
