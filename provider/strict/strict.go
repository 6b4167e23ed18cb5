// Package strict reads YAML that a person wrote into Go structs, refuses what
// it does not know, and reports every mistake at once: the path of the field,
// its line, what is wrong and the nearest field that exists.
//
// It is used for everything in Coffre's own schema: the objects of a
// SecretProviderClass, inline stores and the platform's store configuration.
// What it reads may be hostile, so size, depth and the number of nodes (after
// aliases are followed) are bounded.
package strict

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/provider/budget"
)

// Bounds of one document.
const (
	MaxBytes = 1 << 20 // of text; an etcd object is no larger than about 1.5 MiB
	maxDepth = 32
	maxNodes = 50_000
	// MaxErrors is how many mistakes are told of; what follows is not looked at.
	MaxErrors = 100
)

// What a separator costs: it can make two nodes, and their events and texts.
const separatorBytes = 512

// Error is one mistake.
type Error struct {
	Path string // "objects[2].file"
	Line int    // in the text that was parsed, from 1; 0 where there is none
	Text string
}

func (e Error) Error() string {
	if e.Path == "" {
		return e.Text
	}
	return e.Path + ": " + e.Text
}

// Errors are all mistakes of one text, in the order of the text.
type Errors []Error

func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "; ")
}

// OrNil is es as an error, nil where there is none.
func (es Errors) OrNil() error {
	if len(es) == 0 {
		return nil
	}
	return es
}

// NodeUnmarshaler lets a type with several spellings decode itself from a node.
type NodeUnmarshaler interface {
	UnmarshalNode(n *yaml.Node, path string, d *Decoder)
}

// Charge measures a YAML text and charges what parsing it will cost, before
// anything parses it.
func Charge(b *budget.Budget, text string) error {
	if err := b.Work(2 * len(text)); err != nil {
		return err
	}
	n := Separators(text)
	if err := b.Nodes(2 * n); err != nil {
		return err
	}
	return b.Bytes(len(text) + n*separatorBytes)
}

// ChargeReadTwice is Charge for a text that a parser with other rules reads next:
// for what that makes of it, and where it has aliases for what they expand to.
// What is no YAML at all is left to that parser's words.
func ChargeReadTwice(b *budget.Budget, text string) error {
	if err := Charge(b, text); err != nil {
		return err
	}
	// The text becomes values, JSON and then fields.
	if err := b.Bytes(2 * len(text)); err != nil {
		return err
	}

	root, err := Parse(text, "")
	if err == nil && root != nil {
		return ChargeExpanded(b, root)
	}
	if aliased := strings.Contains(text, "*") && strings.Contains(text, "&"); aliased {
		return err
	}
	return nil
}

// ChargeExpanded charges a tree with its aliases followed, as a reader makes
// it that writes them out.
func ChargeExpanded(b *budget.Budget, n *yaml.Node) error {
	return chargeExpanded(b, n, 0)
}

func chargeExpanded(b *budget.Budget, n *yaml.Node, depth int) error {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if depth > maxDepth {
		return fmt.Errorf("is nested deeper than %d levels", maxDepth)
	}
	if err := b.Nodes(1); err != nil {
		return err
	}
	if err := b.Bytes(len(n.Value) + separatorBytes/4); err != nil {
		return err
	}
	for _, child := range n.Content {
		if err := chargeExpanded(b, child, depth+1); err != nil {
			return err
		}
	}

	return nil
}

// literalKey is a line after which deeper lines are text, in block style.
var literalKey = regexp.MustCompile(`^ *(?:- +)*[A-Za-z0-9_.-]+: +[|>][-+0-9]{0,2} *$`)

// Separators counts what begins a node in a YAML text: lines, commas, opening
// brackets, and the marks of entries within a line. The lines of a block
// scalar are text, and counted as one, as long as nothing in the document is
// in flow style: there they could be anything.
func Separators(text string) int {
	n, inText, flow := 1, -1, false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		indent := len(line) - len(strings.TrimLeft(line, " "))
		if inText >= 0 && !flow && (indent > inText || indent == len(line)) {
			continue
		}

		inText = -1
		n++
		for i := 0; i < len(line); i++ {
			switch c := line[i]; c {
			case ',', '[', '{':
				n++
				flow = flow || c != ','
			case '-', '?', ':':
				if i+1 < len(line) && (line[i+1] == ' ' || line[i+1] == '\t') {
					n++
				}
			}
		}

		if !flow && literalKey.MatchString(line) {
			inText = indent
		}
	}

	return n + strings.Count(text, "\r") - strings.Count(text, "\r\n") + strings.Count(text, "\u0085") + strings.Count(text, "\u2028") + strings.Count(text, "\u2029")
}

// Parse reads one YAML document. The node is nil for an empty text.
func Parse(text, path string) (*yaml.Node, error) {
	if len(text) > MaxBytes {
		return nil, Error{Path: path, Text: fmt.Sprintf("is %d bytes; the limit is %d", len(text), MaxBytes)}
	}
	if n := Separators(text); n > maxNodes {
		return nil, Error{Path: path, Text: fmt.Sprintf("has %d lines, commas and brackets; the limit is %d", n, maxNodes)}
	}

	dec := yaml.NewDecoder(strings.NewReader(text))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, syntaxError(path, err)
	}

	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, Error{Path: path, Text: "holds more than one YAML document"}
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}

	return doc.Content[0], nil
}

// syntaxError keeps the parser's line, and of its text only the part that
// quotes nothing from the document.
func syntaxError(path string, err error) Error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if num, msg, ok := strings.Cut(rest, ": "); ok {
			line, _ = strconv.Atoi(num)
			text = msg
		}
	}

	where := ""
	if line > 0 {
		where = fmt.Sprintf(" (line %d)", line)
	}

	return Error{Path: path, Line: line, Text: "is not YAML: " + text + where}
}

// Decoder decodes nodes and gathers mistakes.
type Decoder struct {
	Errors Errors
	// Budget is what regular expressions and the like are charged to; nil where
	// the platform wrote the document.
	Budget *budget.Budget
	nodes  int
}

// Add reports a mistake at a node.
func (d *Decoder) Add(n *yaml.Node, path, format string, args ...any) {
	line := 0
	if n != nil {
		line = n.Line
	}
	d.Errors = append(d.Errors, Error{Path: path, Line: line, Text: fmt.Sprintf(format, args...)})
}

// Decode reads n into the value that into points to. Several targets are
// structs that share one mapping, each field belonging to one of them.
func (d *Decoder) Decode(n *yaml.Node, path string, into ...any) {
	targets := make([]reflect.Value, len(into))
	for i, t := range into {
		targets[i] = reflect.ValueOf(t).Elem()
	}
	if len(targets) > 1 {
		d.mapping(n, path, targets, 0)
		return
	}
	d.value(n, path, targets[0], 0)
}

// enter follows an alias and counts; false means that a bound was passed.
func (d *Decoder) enter(n *yaml.Node, path string, depth int) (*yaml.Node, bool) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	d.nodes++
	if d.nodes > maxNodes || depth > maxDepth {
		if d.nodes <= maxNodes+1 {
			d.Add(n, path, "is nested too deeply or expands to too much")
			d.nodes = maxNodes + 1
		}
		return n, false
	}

	return n, true
}

func (d *Decoder) value(n *yaml.Node, path string, v reflect.Value, depth int) {
	n, ok := d.enter(n, path, depth)
	if !ok {
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		d.Add(n, path, "is empty")
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch target := v.Addr().Interface().(type) {
	case NodeUnmarshaler:
		target.UnmarshalNode(n, path, d)
		return
	case encoding.TextUnmarshaler:
		if text, ok := d.text(n, path); ok {
			if err := target.UnmarshalText([]byte(text)); err != nil {
				d.Add(n, path, "%s", err)
			}
		}

		return
	case *time.Duration:
		if text, ok := d.text(n, path); ok {
			dur, err := time.ParseDuration(text)
			if err != nil || dur < 0 {
				d.Add(n, path, "%.40q is no duration; write it as 30s, 5m or 1h", text)
			}
			*target = dur
		}

		return
	}

	switch v.Kind() {
	case reflect.String:
		if text, ok := d.text(n, path); ok {
			v.SetString(text)
		}
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || err != nil {
			d.Add(n, path, "must be true or false, not %s", kindName(n))
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil {
			d.Add(n, path, "must be a whole number, not %s", kindName(n))
			return
		}
		v.SetInt(i)
	case reflect.Slice:
		d.sequence(n, path, v, depth)
	case reflect.Map:
		d.stringMap(n, path, v, depth)
	case reflect.Struct:
		d.mapping(n, path, []reflect.Value{v}, depth)
	default:
		panic("strict: no rule for " + v.Type().String())
	}
}

// text accepts what reads as one piece of text: numbers too, as they are
// written (a version 3, a mode 0440), but no booleans and no structures.
func (d *Decoder) text(n *yaml.Node, path string) (string, bool) {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!bool" && n.Tag != "!!binary" {
		return n.Value, true
	}
	hint := ""
	if n.Tag == "!!bool" {
		hint = "; put it in quotes"
	}
	d.Add(n, path, "must be text, not %s%s", kindName(n), hint)
	return "", false
}

func (d *Decoder) sequence(n *yaml.Node, path string, v reflect.Value, depth int) {
	if n.Kind != yaml.SequenceNode {
		d.Add(n, path, "must be a list, not %s", kindName(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		if len(d.Errors) >= MaxErrors {
			return
		}
		d.value(item, fmt.Sprintf("%s[%d]", path, i), out.Index(i), depth+1)
	}

	v.Set(out)
}

func (d *Decoder) stringMap(n *yaml.Node, path string, v reflect.Value, depth int) {
	if n.Kind != yaml.MappingNode {
		d.Add(n, path, "must be a mapping, not %s", kindName(n))
		return
	}
	out := reflect.MakeMap(v.Type())
	d.pairs(n, path, depth, func(key string, _, value *yaml.Node) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(value, Join(path, key), item, depth+1)
		out.SetMapIndex(reflect.ValueOf(key), item)
	})

	v.Set(out)
}

func (d *Decoder) mapping(n *yaml.Node, path string, targets []reflect.Value, depth int) {
	n, ok := d.enter(n, path, depth)
	if !ok {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.Add(n, path, "must be a mapping, not %s", kindName(n))
		return
	}
	fields := map[string]reflect.Value{}
	for _, t := range targets {
		for i := range t.NumField() {
			if name, _, _ := strings.Cut(t.Type().Field(i).Tag.Get("yaml"), ","); name != "" && name != "-" {
				fields[name] = t.Field(i)
			}
		}
	}

	d.pairs(n, path, depth, func(key string, keyNode, value *yaml.Node) {
		field, ok := fields[key]
		if !ok {
			d.Add(keyNode, Join(path, key), "unknown field%s", suggest(key, fields))
			return
		}
		d.value(value, Join(path, key), field, depth+1)
	})
}

// pairs calls each for every key of a mapping, once a key.
func (d *Decoder) pairs(n *yaml.Node, path string, depth int, each func(key string, keyNode, value *yaml.Node)) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content) && len(d.Errors) < MaxErrors; i += 2 {
		k, ok := d.enter(n.Content[i], path, depth+1)
		if !ok {
			return
		}
		if k.Kind != yaml.ScalarNode {
			d.Add(k, path, "has a key that is no text")
			continue
		}
		if seen[k.Value] {
			d.Add(k, Join(path, k.Value), "stands here twice")
			continue
		}
		seen[k.Value] = true
		each(k.Value, k, n.Content[i+1])
	}
}

// Join is the path of a field below another.
func Join(path, key string) string {
	if len(key) > 80 {
		key = key[:80] + "…"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!bool":
		return "true or false"
	case "!!int", "!!float":
		return "a number"
	case "!!null":
		return "nothing"
	case "!!binary":
		return "binary data"
	}

	return "text"
}

func suggest(key string, fields map[string]reflect.Value) string {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	if near := Nearest(key, names); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return "; known fields: " + strings.Join(names, ", ")
}
