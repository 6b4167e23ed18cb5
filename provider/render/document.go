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

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/certificate"
	"github.com/coffre-csi/coffre/provider/jsontext"
	"github.com/coffre-csi/coffre/provider/strict"
)

// document is a value that has keys: a JSON object, or a YAML mapping or
// dotenv text turned into one. Of a key that stands twice the last counts.
type document struct {
	json []byte
	keys []string // top-level, sorted
	top  map[string]json.RawMessage
	// named says that the keys are names beyond doubt, and may become those of
	// files and stand in errors: text that only looks like YAML or dotenv may
	// be a secret, and what looks like its keys a part of one.
	named bool
	tree  map[string]any // for templates; nil until one asks
}

var errNoKeys = errors.New("has no keys: its value is no JSON object, no YAML mapping and no dotenv text (one line of text that is no JSON is a secret, not its keys)")

// maxDocument is the most bytes that keys are read from.
const maxDocument = 1 << 20

// topBytes is what a key of the top level keeps in memory.
const topBytes = 256

// plainKey are keys that nobody takes for a secret or a part of one.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9_.][A-Za-z0-9_./-]{0,127}$`)

// parse reads a value's keys; password opens a certificate.
func parse(b *budget.Budget, value []byte, password string) (*document, error) {
	if len(value) > maxDocument {
		return nil, fmt.Errorf("is %d bytes; keys are read from at most %d", len(value), maxDocument)
	}
	text := bytes.TrimSpace(value)
	compact, err := []byte(nil), jsontext.ErrNotJSON
	if bytes.HasPrefix(text, []byte("{")) {
		compact, err = jsontext.Compact(b, text)
	}
	isJSON := err == nil
	if errors.Is(err, jsontext.ErrNotJSON) {
		compact, err = fromText(b, value, password)
	}
	if b.Err() != nil {
		return nil, b.Err()
	}
	if unreadable := new(certificate.Error); errors.As(err, &unreadable) {
		return nil, unreadable
	}
	if err != nil {
		return nil, errNoKeys
	}

	// The top level is kept by name, beside its text.
	if err := b.Bytes(topBytes * (1 + bytes.Count(compact, []byte(`":`)))); err != nil {
		return nil, err
	}
	doc := &document{json: compact, named: isJSON || bytes.ContainsRune(text, '\n') || certificate.Holds(value)}
	if err := json.Unmarshal(compact, &doc.top); err != nil || doc.top == nil {
		return nil, errNoKeys
	}
	for k := range doc.top {
		doc.keys = append(doc.keys, k)
		doc.named = doc.named && (isJSON || plainKey.MatchString(k))
	}
	slices.Sort(doc.keys)
	return doc, nil
}

// fromText turns dotenv text, a certificate or a YAML mapping into JSON.
func fromText(b *budget.Budget, value []byte, password string) ([]byte, error) {
	if err := b.Bytes(4 * len(value)); err != nil {
		return nil, err
	}
	if pairs, ok := dotenv(string(value)); ok {
		if err := b.Bytes(len(pairs) * 256); err != nil {
			return nil, err
		}
		text, err := json.Marshal(pairs)
		if err != nil {
			return nil, errNoKeys
		}
		return text, nil
	}

	if certificate.Holds(value) {
		return certificateKeys(b, value, password)
	}

	text, err := yamlToJSON(b, value) // its last line break may be a block's own
	if err != nil {
		return nil, err
	}

	return jsontext.Compact(b, text)
}

// path is the text at a key: the literal top-level key, else a gjson path.
func (d *document) path(b *budget.Budget, key string) ([]byte, error) {
	if _, ok := d.top[key]; ok {
		text, err := d.value(b, key)
		if err != nil {
			return nil, fmt.Errorf("key %q %w", shorten(key), err)
		}
		return text, nil
	}

	// Modifiers and queries work on the whole value and may multiply it; a
	// path only ever selects.
	if !strings.ContainsAny(key, "@|!{[*?#") {
		if err := b.Work(len(d.json) + len(key)); err != nil {
			return nil, err
		}
		if r := gjson.GetBytes(d.json, key); r.Exists() {
			text, err := scalarText(b, json.RawMessage(r.Raw))
			if err != nil {
				return nil, fmt.Errorf("key %q %w", shorten(key), err)
			}
			return text, nil
		}
	}

	return nil, fmt.Errorf("has no key %q%s", shorten(key), d.nearest(b, key))
}

// nearest is a hint at the key that was meant.
func (d *document) nearest(b *budget.Budget, key string) string {
	candidates := d.keys[:min(len(d.keys), 500)]
	if !d.named || b.Work(32*len(key)*len(candidates)) != nil {
		return ""
	}
	if near := strict.Nearest(key, candidates); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

func (d *document) value(b *budget.Budget, key string) ([]byte, error) {
	raw, ok := d.top[key]
	if !ok {
		return nil, fmt.Errorf("is not in the value")
	}
	return scalarText(b, raw)
}

// scalarText is a JSON value as a file holds it: a string's own text, numbers
// and booleans as they are written, objects and lists as compact JSON.
func scalarText(b *budget.Budget, raw json.RawMessage) ([]byte, error) {
	if err := b.Bytes(2 * len(raw)); err != nil {
		return nil, err
	}
	switch {
	case bytes.Equal(raw, []byte("null")):
		return nil, errors.New("is null")
	case raw[0] == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, errors.New("is no JSON string")
		}
		return []byte(s), nil
	}

	return raw, nil
}

// data is the document as a template sees it; numbers keep their text. It is
// shared by all templates of a mount, which only read it.
func (d *document) data(b *budget.Budget) (map[string]any, error) {
	if d.tree != nil {
		return d.tree, nil
	}
	v, err := jsontext.Parse(b, d.json)
	if err != nil {
		return nil, err
	}
	d.tree, _ = v.(map[string]any)
	return d.tree, nil
}

// yamlToJSON keeps every scalar's text: 0123 is no octal number, and yes is no
// boolean, where a secret is meant. Merge keys (<<) are merged.
func yamlToJSON(b *budget.Budget, text []byte) ([]byte, error) {
	if err := strict.Charge(b, string(text)); err != nil {
		return nil, err
	}
	root, err := strict.Parse(string(text), "")
	if err != nil || root == nil || root.Kind != yaml.MappingNode {
		return nil, errNoKeys
	}
	c := yamlConverter{budget: b}
	c.node(root, 0)
	return c.out, c.err
}

type yamlConverter struct {
	budget *budget.Budget
	out    []byte
	err    error
}

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

// node writes a node; false, and an error kept, where a bound was passed.
func (c *yamlConverter) node(n *yaml.Node, depth int) bool {
	n, ok := c.enter(n, depth)
	if !ok {
		return false
	}
	switch n.Kind {
	case yaml.MappingNode:
		return c.mapping(n, depth)
	case yaml.SequenceNode:
		c.out = append(c.out, '[')
		for i, item := range n.Content {
			if i > 0 {
				c.out = append(c.out, ',')
			}
			if !c.node(item, depth+1) {
				return false
			}
		}

		c.out = append(c.out, ']')
	default:
		c.scalar(n)
	}

	return true
}

// enter follows an alias and charges.
func (c *yamlConverter) enter(n *yaml.Node, depth int) (*yaml.Node, bool) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if err := c.budget.Nodes(1); err != nil {
		c.err = err
		return n, false
	}
	if err := c.budget.Bytes(16 + 3*len(n.Value)); err != nil {
		c.err = err
		return n, false
	}
	if depth > jsontext.MaxDepth {
		c.err = errNoKeys
		return n, false
	}

	return n, true
}

func (c *yamlConverter) mapping(n *yaml.Node, depth int) bool {
	c.out = append(c.out, '{')
	began := len(c.out)
	ok := c.members(n, depth, func(key string, value *yaml.Node) bool {
		if len(c.out) > began {
			c.out = append(c.out, ',')
		}
		c.out = append(jsontext.Quote(c.out, key), ':')
		return c.node(value, depth+1)
	})

	c.out = append(c.out, '}')
	return ok
}

// members gives the entries of a mapping, those that count more after those
// that count less: merged ones (https://yaml.org/type/merge.html), of several
// the first one last, and then its own.
func (c *yamlConverter) members(n *yaml.Node, depth int, each func(string, *yaml.Node) bool) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag == "!!merge" && !c.merged(n.Content[i+1], depth+1, each) {
			return false
		}
	}

	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Tag == "!!merge" {
			continue
		}
		if key.Kind != yaml.ScalarNode {
			c.err = errNoKeys
			return false
		}
		if !each(key.Value, value) {
			return false
		}
	}

	return true
}

func (c *yamlConverter) merged(n *yaml.Node, depth int, each func(string, *yaml.Node) bool) bool {
	n, ok := c.enter(n, depth)
	if !ok {
		return false
	}
	switch n.Kind {
	case yaml.MappingNode:
		return c.members(n, depth, each)
	case yaml.SequenceNode:
		for _, item := range slices.Backward(n.Content) {
			if !c.merged(item, depth+1, each) {
				return false
			}
		}

		return true
	}

	c.err = errNoKeys

	return false
}

func (c *yamlConverter) scalar(n *yaml.Node) {
	switch {
	case n.Tag == "!!null":
		c.out = append(c.out, "null"...)
	case n.Tag == "!!bool" && (n.Value == "true" || n.Value == "false"):
		c.out = append(c.out, n.Value...)
	case (n.Tag == "!!int" || n.Tag == "!!float") && jsonNumber.MatchString(n.Value):
		c.out = append(c.out, n.Value...)
	default:
		c.out = jsontext.Quote(c.out, n.Value)
	}
}
