package sops

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// parseYAML reads every document of a YAML text. Comments become entries of
// the mapping or list they stand in, in the order in which the sops command
// meets them: they are encrypted too, and may decide what else is.
func parseYAML(text string, b *budget) (branches []mapping, err error) {
	defer func() {
		if recover() != nil {
			branches, err = nil, errors.New("is not YAML")
		}
	}()

	d := yaml.NewDecoder(strings.NewReader(text))
	for {
		var doc yaml.Node
		if err := d.Decode(&doc); errors.Is(err, io.EOF) {
			return branches, nil
		} else if err != nil {
			return nil, fmt.Errorf("is not YAML: %s", clip(strings.TrimPrefix(err.Error(), "yaml: ")))
		}
		m, err := yamlDocument(&doc, b)
		if err != nil {
			return nil, err
		}
		branches = append(branches, m)
	}
}

func yamlDocument(doc *yaml.Node, b *budget) (mapping, error) {
	m := mapping{}
	m = appendComments(m, doc.HeadComment, false)
	m = appendComments(m, doc.LineComment, false)
	for _, n := range doc.Content {
		switch {
		case n.Kind == yaml.MappingNode:
			inner, err := yamlMapping(n, b, 1, true)
			if err != nil {
				return nil, err
			}
			m = append(m, inner...)
		case n.Kind == yaml.AliasNode:
			return nil, errAlias
		case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
			// An empty document; its comments are kept.
			m = appendComments(m, n.HeadComment, false)
			m = appendComments(m, n.LineComment, false)
		default:
			return nil, errors.New("is not a YAML mapping at its top")
		}
	}

	return appendComments(m, doc.FootComment, false), nil
}

var errAlias = errors.New("uses YAML aliases (*name), which encrypted documents have no use for: encrypt it anew with sops, which writes them out")

// yamlMapping reads a mapping. own says whether the comments of the node
// itself are the mapping's: in a list they are the item's.
func yamlMapping(n *yaml.Node, b *budget, depth int, own bool) (mapping, error) {
	m := mapping{}
	if own {
		m = appendComments(m, n.HeadComment, false)
		m = appendComments(m, n.LineComment, false)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		merge := k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge"
		if k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str" && !merge {
			return nil, fmt.Errorf("has a key on line %d that is not a string", k.Line)
		}
		if seen[k.Value] {
			return nil, fmt.Errorf("has the key %q twice in one mapping", clip(k.Value))
		}
		seen[k.Value] = true
		m = appendComments(m, k.HeadComment, false)
		m = appendComments(m, k.LineComment, false)
		scalar := v.Kind == yaml.ScalarNode
		if scalar {
			m = appendComments(m, v.HeadComment, false)
			m = appendComments(m, v.LineComment, true)
		}
		value, err := yamlValue(v, b, depth, true)
		if err != nil {
			return nil, err
		}
		m = append(m, entry{key: k.Value, value: value, merge: merge})
		if scalar {
			m = appendComments(m, v.FootComment, false)
		}
		m = appendComments(m, k.FootComment, false)
	}

	if own {
		m = appendComments(m, n.FootComment, false)
	}

	return m, nil
}

func yamlList(n *yaml.Node, b *budget, depth int, own bool) (list, error) {
	var m mapping // of which only the values are kept
	if own {
		m = appendComments(m, n.HeadComment, false)
		m = appendComments(m, n.LineComment, false)
	}
	for _, item := range n.Content {
		m = appendComments(m, item.HeadComment, false)
		m = appendComments(m, item.LineComment, true)
		v, err := yamlValue(item, b, depth, false)
		if err != nil {
			return nil, err
		}
		m = append(m, entry{value: v})
		m = appendComments(m, item.FootComment, false)
	}

	if own {
		m = appendComments(m, n.FootComment, false)
	}
	l := make(list, len(m))
	for i, e := range m {
		l[i] = e.value
	}

	return l, nil
}

func yamlValue(n *yaml.Node, b *budget, depth int, own bool) (any, error) {
	if err := b.spend(depth); err != nil {
		return nil, err
	}
	switch n.Kind {
	case yaml.MappingNode:
		return yamlMapping(n, b, depth+1, own)
	case yaml.SequenceNode:
		return yamlList(n, b, depth+1, own)
	case yaml.ScalarNode:
		var v any
		if err := n.Decode(&v); err != nil {
			return nil, fmt.Errorf("has a value on line %d that does not fit its YAML tag", n.Line)
		}
		switch v.(type) {
		case string, int, float64, bool, time.Time, nil:
			return v, nil
		}
		return nil, fmt.Errorf("has a number on line %d that is too large", n.Line)
	}

	return nil, errAlias
}

func appendComments(m mapping, text string, inline bool) mapping {
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" {
			m = append(m, entry{value: comment{text: line[1:], inline: inline}})
		}
	}
	return m
}

func emitYAML(branches []mapping) ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(4)
	for _, m := range branches {
		n, err := yamlNode(m)
		if err != nil {
			return nil, err
		}
		if err := e.Encode(&yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{n}}); err != nil {
			return nil, errors.New("cannot be written as YAML")
		}
	}

	if err := e.Close(); err != nil {
		return nil, errors.New("cannot be written as YAML")
	}

	return out.Bytes(), nil
}

// pending are comments that wait for the node they belong to.
type pending struct{ above, beside []string }

func (p *pending) add(c comment) {
	if c.inline {
		p.beside = append(p.beside, c.text)
	} else {
		p.above = append(p.above, c.text)
	}
}

func hashed(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return "#" + strings.Join(lines, "\n#")
}

func yamlNode(v any) (*yaml.Node, error) {
	var p pending
	switch v := v.(type) {
	case mapping:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, e := range v {
			if c, is := e.value.(comment); is {
				p.add(c)
				continue
			}
			k := &yaml.Node{}
			if err := k.Encode(e.key); err != nil {
				return nil, errors.New("cannot be written as YAML")
			}
			if e.merge {
				k = &yaml.Node{Kind: yaml.ScalarNode, Style: yaml.TaggedStyle, Tag: "!!merge", Value: e.key}
			}
			value, err := yamlNode(e.value)
			if err != nil {
				return nil, err
			}
			p.settle(n, k, value)
			n.Content = append(n.Content, k, value)
		}

		p.finish(n, 2)
		return n, nil
	case list:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v {
			if c, is := item.(comment); is {
				p.add(c)
				continue
			}
			value, err := yamlNode(item)
			if err != nil {
				return nil, err
			}
			p.settle(n, value, value)
			n.Content = append(n.Content, value)
		}

		p.finish(n, 1)
		return n, nil
	}

	n := &yaml.Node{}
	if err := n.Encode(v); err != nil {
		return nil, errors.New("cannot be written as YAML")
	}

	return n, nil
}

// settle hangs what waits above on the first node's parent, or on the node
// itself, and what waits beside on the value.
func (p *pending) settle(parent, above, beside *yaml.Node) {
	if len(p.above) > 0 {
		on := above
		if len(parent.Content) == 0 {
			on = parent
		}
		if on.HeadComment != "" {
			on.HeadComment = "\n" + on.HeadComment
		}
		on.HeadComment = hashed(p.above) + on.HeadComment
	}

	if len(p.beside) > 0 {
		if beside.LineComment != "" {
			beside.LineComment += "\n"
		}
		beside.LineComment += hashed(p.beside)
	}

	*p = pending{}
}

// finish hangs what is left below the last entry, each of which is stride
// nodes, or above an empty parent.
func (p *pending) finish(n *yaml.Node, stride int) {
	left := append(p.above, p.beside...)
	if len(left) == 0 {
		return
	}
	if len(n.Content) == 0 {
		n.HeadComment = hashed(left)
		return
	}
	last := n.Content[len(n.Content)-stride]
	if last.FootComment != "" {
		last.FootComment += "\n"
	}
	last.FootComment += hashed(left)
}

// yamlScalar is a leaf's text in a YAML document.
func yamlScalar(v any) ([]byte, error) {
	n, err := yamlNode(v)
	if err != nil {
		return nil, err
	}
	return []byte(n.Value), nil
}
