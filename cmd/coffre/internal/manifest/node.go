package manifest

import (
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Child is the value of a key of a mapping, nil where there is none.
func Child(n *yaml.Node, key string) *yaml.Node {
	_, value := pair(n, key)
	return value
}

func pair(n *yaml.Node, key string) (name, value *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

// Descend is Child, key after key.
func Descend(n *yaml.Node, keys ...string) *yaml.Node {
	for _, k := range keys {
		n = Child(n, k)
	}
	return n
}

// Text is a scalar's text, "" for anything else and for null.
func Text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

func isTrue(n *yaml.Node) bool {
	return n != nil && n.Tag == "!!bool" && strings.EqualFold(n.Value, "true")
}

// texts are the scalars of a mapping.
func texts(n *yaml.Node) map[string]string {
	m := map[string]string{}
	if n == nil || n.Kind != yaml.MappingNode {
		return m
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if v := n.Content[i+1]; v.Kind == yaml.ScalarNode && v.Tag != "!!null" {
			m[n.Content[i].Value] = v.Value
		}
	}

	return m
}

func items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

// 1.1's booleans, which Kubernetes' reader takes for such and a reader of 1.2
// for text.
var oldBoolean = regexp.MustCompile(`^(?i:yes|no|on|off)$`)

// NotText says what a value is to the API server where it is no text; "" where
// it is one.
func NotText(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	plain := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	switch {
	case n.Tag == "!!null":
		return "nothing"
	case n.Tag == "!!bool", plain && oldBoolean.MatchString(n.Value):
		return "true or false"
	case n.Tag == "!!int", n.Tag == "!!float":
		return "a number"
	}

	return ""
}

// LineOf is the line of a field, written as "spec.objects[2].mode", below n; of
// the nearest part above it that there is. It is 0 where n is nil.
func LineOf(n *yaml.Node, field string) int {
	if n == nil {
		return 0
	}
	line := n.Line
	for field != "" {
		var next *yaml.Node
		if index, rest, ok := cutIndex(field); ok {
			list := items(n)
			if index >= len(list) {
				return line
			}
			next, field = list[index], strings.TrimPrefix(rest, ".")
			line = next.Line
		} else {
			name, value, rest := cutKey(n, field)
			if name == nil {
				return line
			}
			next, field = value, rest
			line = name.Line
		}

		n = next
	}

	return line
}

func cutIndex(field string) (index int, rest string, ok bool) {
	if !strings.HasPrefix(field, "[") {
		return 0, "", false
	}
	digits, rest, ok := strings.Cut(field[1:], "]")
	index, err := strconv.Atoi(digits)
	return index, rest, ok && err == nil
}

// cutKey takes the longest key of n that field begins with: a key may hold dots.
func cutKey(n *yaml.Node, field string) (name, value *yaml.Node, rest string) {
	if n.Kind != yaml.MappingNode {
		return nil, nil, ""
	}
	longest := -1
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		after, ok := strings.CutPrefix(field, key)
		if !ok || len(key) <= longest || after != "" && after[0] != '.' && after[0] != '[' {
			continue
		}
		longest, name, value, rest = len(key), n.Content[i], n.Content[i+1], strings.TrimPrefix(after, ".")
	}

	return name, value, rest
}

// shift moves a tree down by some lines.
func shift(n *yaml.Node, by int) {
	n.Line += by
	for _, c := range n.Content {
		shift(c, by)
	}
}

// pin sets all lines of a tree: of a text whose own lines are not the file's.
func pin(n *yaml.Node, line int) {
	n.Line = line
	for _, c := range n.Content {
		pin(c, line)
	}
}

// Embedded parses the YAML that a scalar's text holds, with the file's lines;
// nil where it is none.
func Embedded(n *yaml.Node) *yaml.Node {
	if n == nil || n.Kind != yaml.ScalarNode || len(n.Value) > maxDocument {
		return nil
	}
	root, problem := parse([]byte(n.Value))
	if problem != nil || root == nil {
		return nil
	}
	if block(n) {
		shift(root, n.Line) // the text begins below its indicator
	} else {
		pin(root, n.Line)
	}

	return root
}

func block(n *yaml.Node) bool { return n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 }
