package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/jsontext"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/strict"
)

// extract is a top-level key whose value is a text, as the Google provider
// takes it out, with its sentences: no path, no number, the first document.
func extract(b *budget.Budget, x plan.Extract, value []byte) ([]byte, error) {
	if len(value) > maxDocument {
		return nil, fmt.Errorf("is %d bytes; keys are read from at most %d", len(value), maxDocument)
	}
	find := jsonKey
	if x.Format == plan.ExtractYAML {
		find = yamlKey
	}
	text, err := find(b, x.Key, value)
	switch {
	case err == nil || b.Err() != nil:
		return text, err
	case errors.Is(err, errNoKey):
		return nil, fmt.Errorf("key '%s' not found in %s", shorten(x.Key), x.Format)
	case errors.Is(err, errNoText):
		return nil, fmt.Errorf("unsupported value type for key '%s'", shorten(x.Key))
	}
	return nil, fmt.Errorf("failed to unmarshal %s: %s. Invalid %s format for key extraction", x.Format, unquoted(err), x.Format)
}

var (
	errNoKey  = errors.New("no such key")
	errNoText = errors.New("no text")
)

// quoted is what a parser quotes of a document that may be a secret and nothing
// else. encoding/json quotes one character at most.
var quoted = regexp.MustCompile("`[^`]*`|'[^']{2,}'|\"[^\"]*\"")

// unquoted is a parser's error without what it quotes, but for the name of a key
// that stands twice where it is one beyond doubt.
func unquoted(err error) string {
	return quoted.ReplaceAllStringFunc(err.Error(), func(q string) string {
		if plainKey.MatchString(strings.Trim(q, `"`)) && strings.Contains(err.Error(), "mapping key "+q+" already defined") {
			return q
		}
		return "[redacted]"
	})
}

func jsonKey(b *budget.Budget, key string, value []byte) ([]byte, error) {
	// Checked whole, and then the top level only is made.
	if err := b.Work(4 * len(value)); err != nil {
		return nil, err
	}
	if err := b.Bytes(2*len(value) + topBytes*(1+bytes.Count(value, []byte(`":`)))); err != nil {
		return nil, err
	}

	var top map[string]json.RawMessage
	if err := json.Unmarshal(value, &top); err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), "map[string]json.RawMessage", "map[string]interface {}"))
	}
	raw, ok := top[key]
	if !ok {
		return nil, errNoKey
	}
	if !bytes.HasPrefix(raw, []byte(`"`)) {
		return nil, errNoText
	}
	var text string
	err := json.Unmarshal(raw, &text)
	return []byte(text), err
}

func yamlKey(b *budget.Budget, key string, value []byte) ([]byte, error) {
	if err := strict.Charge(b, string(value)); err != nil {
		return nil, err
	}
	var doc yaml.Node
	err := yaml.NewDecoder(bytes.NewReader(value)).Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, errNoKey
	}
	if err != nil {
		return nil, err
	}

	root := followed(doc.Content[0])
	switch {
	case root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null":
		return nil, errNoKey
	case root.Kind != yaml.MappingNode:
		return nil, fmt.Errorf("yaml: unmarshal errors:\n  line %d: cannot unmarshal %s into map[string]interface {}", root.Line, root.ShortTag())
	}
	if err := twice(root); err != nil {
		return nil, err
	}
	found := member(b, root, key, 0)
	switch {
	case b.Err() != nil:
		return nil, b.Err()
	case found == nil:
		return nil, errNoKey
	case found.Kind != yaml.ScalarNode || found.ShortTag() != "!!str":
		return nil, errNoText
	}
	return []byte(found.Value), nil
}

// twice says which key of a mapping stands there twice.
func twice(n *yaml.Node) error {
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" {
			continue
		}
		if at := lines[k.Value]; at > 0 {
			return fmt.Errorf("yaml: unmarshal errors:\n  line %d: mapping key %q already defined at line %d", k.Line, k.Value, at)
		}
		lines[k.Value] = k.Line
	}
	return nil
}

// member is the value at a key: the mapping's own, or else a merged one.
func member(b *budget.Budget, n *yaml.Node, key string, depth int) *yaml.Node {
	if n = followed(n); depth > jsontext.MaxDepth || b.Nodes(1+len(n.Content)) != nil {
		return nil
	}
	var merged *yaml.Node
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		k, v := followed(n.Content[i]), n.Content[i+1]
		if n.Content[i].Tag == "!!merge" {
			merged = v
		} else if k.Kind == yaml.ScalarNode && k.Value == key {
			return followed(v)
		}
	}
	if merged == nil {
		return nil
	}
	if merged = followed(merged); merged.Kind == yaml.MappingNode {
		return member(b, merged, key, depth+1)
	}
	for _, one := range merged.Content {
		if v := member(b, one, key, depth+1); v != nil {
			return v
		}
	}
	return nil
}

func followed(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}
