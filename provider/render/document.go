package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/provider/strict"
)

// document is a value that has keys: a JSON object, or a YAML mapping or
// dotenv text turned into one.
type document struct {
	json []byte
	keys []string // top-level, sorted
	top  map[string]json.RawMessage
}

var errNoKeys = errors.New("has no keys: its value is no JSON object, no YAML mapping and no dotenv text")

// Bounds of a value that is read for its keys.
const (
	maxDocument = 1 << 20
	maxNodes    = 50_000
	maxDepth    = 64
)

// parse reads a value's keys.
func parse(value []byte) (*document, error) {
	if len(value) > maxDocument {
		return nil, fmt.Errorf("is %d bytes; keys are read from at most %d", len(value), maxDocument)
	}
	trimmed := bytes.TrimSpace(value)
	text, err := trimmed, error(nil)
	if len(trimmed) == 0 || trimmed[0] != '{' || !json.Valid(trimmed) {
		if pairs, ok := dotenv(trimmed); ok {
			text, err = json.Marshal(pairs)
		} else {
			text, err = yamlToJSON(value) // its last line break may be a block's own
		}
		if err != nil {
			return nil, errNoKeys
		}
	}
	doc := &document{json: text}
	if err := json.Unmarshal(text, &doc.top); err != nil || doc.top == nil {
		return nil, errNoKeys
	}
	for k := range doc.top {
		doc.keys = append(doc.keys, k)
	}
	slices.Sort(doc.keys)
	return doc, nil
}

// path is the text at a key: the literal top-level key, else a gjson path.
func (d *document) path(key string) ([]byte, error) {
	if _, ok := d.top[key]; ok {
		text, err := d.value(key)
		if err != nil {
			return nil, fmt.Errorf("key %q %w", shorten(key), err)
		}
		return text, nil
	}
	// Modifiers and queries work on the whole value and may multiply it; a
	// path only ever selects.
	if !strings.ContainsAny(key, "@|!{[*?#") {
		if r := gjson.GetBytes(d.json, key); r.Exists() {
			text, err := scalarText(json.RawMessage(r.Raw))
			if err != nil {
				return nil, fmt.Errorf("key %q %w", shorten(key), err)
			}
			return text, nil
		}
	}
	hint := ""
	if near := strict.Nearest(key, d.keys); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	return nil, fmt.Errorf("has no key %q%s", shorten(key), hint)
}

func (d *document) value(key string) ([]byte, error) {
	raw, ok := d.top[key]
	if !ok {
		return nil, fmt.Errorf("is not in the value")
	}
	return scalarText(raw)
}

// scalarText is a JSON value as a file holds it: a string's own text, numbers
// and booleans as they are written, objects and lists as compact JSON.
func scalarText(raw json.RawMessage) ([]byte, error) {
	raw = bytes.TrimSpace(raw)
	switch {
	case bytes.Equal(raw, []byte("null")):
		return nil, errors.New("is null")
	case raw[0] == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, errors.New("is no JSON string")
		}
		return []byte(s), nil
	case raw[0] == '{' || raw[0] == '[':
		var b bytes.Buffer
		if err := json.Compact(&b, raw); err != nil {
			return nil, errors.New("is no JSON")
		}
		return b.Bytes(), nil
	}
	return raw, nil
}

// data is the document as a template sees it; numbers keep their text.
func (d *document) data() (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(d.json))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		return nil, errNoKeys
	}
	return m, nil
}

// yamlToJSON keeps every scalar's text: 0123 is no octal number, and yes is no
// boolean, where a secret is meant.
func yamlToJSON(text []byte) ([]byte, error) {
	root, err := strict.Parse(string(text), "")
	if err != nil || root == nil || root.Kind != yaml.MappingNode {
		return nil, errNoKeys
	}
	c := yamlConverter{}
	c.node(root, 0)
	return c.out.Bytes(), c.err
}

type yamlConverter struct {
	out   bytes.Buffer
	nodes int
	err   error
}

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

func (c *yamlConverter) node(n *yaml.Node, depth int) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if c.nodes++; c.nodes > maxNodes || depth > maxDepth || c.err != nil {
		c.err = errNoKeys
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		c.out.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				c.out.WriteByte(',')
			}
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode {
				c.err = errNoKeys
				return
			}
			c.text(key.Value)
			c.out.WriteByte(':')
			c.node(n.Content[i+1], depth+1)
		}
		c.out.WriteByte('}')
	case yaml.SequenceNode:
		c.out.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				c.out.WriteByte(',')
			}
			c.node(item, depth+1)
		}
		c.out.WriteByte(']')
	default:
		c.scalar(n)
	}
}

func (c *yamlConverter) scalar(n *yaml.Node) {
	switch {
	case n.Tag == "!!null":
		c.out.WriteString("null")
	case n.Tag == "!!bool" && (n.Value == "true" || n.Value == "false"):
		c.out.WriteString(n.Value)
	case (n.Tag == "!!int" || n.Tag == "!!float") && jsonNumber.MatchString(n.Value):
		c.out.WriteString(n.Value)
	default:
		c.text(n.Value)
	}
}

func (c *yamlConverter) text(s string) {
	b, err := json.Marshal(s)
	if err != nil {
		c.err = err
	}
	c.out.Write(b)
}
