// Package jsontext reads and writes JSON values for the rooms that select from
// secrets (jmespath, render): numbers keep their text, of a key that stands
// twice the last counts, text is written as it stands, and whatever grows is
// charged to the mount's budget before it does. It quotes nothing of a value
// in an error.
package jsontext

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/coffre-csi/coffre/provider/budget"
)

// MaxDepth is how deep values may be nested.
const MaxDepth = 64

// What a node of the tree costs in memory: an entry of a list or a map, and a
// map itself, which has room for eight.
const (
	nodeBytes = 64
	mapBytes  = 320
)

// ErrNotJSON is said of a text that is none, or is nested too deeply.
var ErrNotJSON = errors.New("is no JSON")

// Charge measures a JSON text and charges what its tree will cost, before
// anything parses it.
func Charge(b *budget.Budget, text []byte) error {
	objects, nodes, depth, deepest := 0, 1, 0, 0
	inText := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{':
			objects++
			fallthrough
		case c == '[':
			nodes++
			depth++
			deepest = max(deepest, depth)
		case c == ',':
			nodes++
		case c == '}' || c == ']':
			depth--
		}
	}

	if deepest > MaxDepth {
		return ErrNotJSON
	}

	if err := b.Work(len(text)); err != nil {
		return err
	}
	if err := b.Nodes(nodes); err != nil {
		return err
	}

	return b.Bytes(len(text) + nodes*nodeBytes + objects*mapBytes)
}

// Parse reads one JSON value: nil, bool, json.Number, string, []any or
// map[string]any.
func Parse(b *budget.Budget, text []byte) (any, error) {
	if err := Charge(b, text); err != nil {
		return nil, err
	}

	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, ErrNotJSON
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, ErrNotJSON
	}

	return v, nil
}

// Compact is a JSON text without white space, in which no key stands twice in
// an object: the last one counts, in its own place. Everything else is as it
// was written.
func Compact(b *budget.Budget, text []byte) ([]byte, error) {
	if err := Charge(b, text); err != nil {
		return nil, err
	}
	if !json.Valid(text) {
		return nil, ErrNotJSON
	}
	c := compacter{text: text, out: make([]byte, 0, len(text))}
	c.value()
	return c.out, nil
}

// compacter copies a valid JSON text.
type compacter struct {
	text []byte
	at   int
	out  []byte
}

func (c *compacter) space() {
	for c.at < len(c.text) && bytes.IndexByte([]byte(" \t\r\n"), c.text[c.at]) >= 0 {
		c.at++
	}
}

func (c *compacter) value() {
	c.space()
	switch c.text[c.at] {
	case '{':
		c.object()
	case '[':
		c.list()
	case '"':
		c.scalar(c.quoted())
	default:
		end := c.at
		for end < len(c.text) && bytes.IndexByte([]byte(" \t\r\n,]}"), c.text[end]) < 0 {
			end++
		}
		c.scalar(end)
	}

	c.space()
}

// quoted is where the string that begins here ends.
func (c *compacter) quoted() int {
	for end := c.at + 1; ; end++ {
		switch c.text[end] {
		case '\\':
			end++
		case '"':
			return end + 1
		}
	}
}

func (c *compacter) scalar(end int) {
	c.out = append(c.out, c.text[c.at:end]...)
	c.at = end
}

func (c *compacter) list() {
	c.out = append(c.out, '[')
	c.items(']', func() { c.value() })
	c.out = append(c.out, ']')
}

func (c *compacter) object() {
	type span struct{ begin, end int } // of a member in out
	var members []span
	last := map[string]int{}
	c.out = append(c.out, '{')
	began := len(c.out)
	c.items('}', func() {
		member := span{begin: len(c.out)}
		end := c.quoted()
		var key string
		_ = json.Unmarshal(c.text[c.at:end], &key) // valid
		c.scalar(end)
		c.space()
		c.at++ // the colon
		c.out = append(c.out, ':')
		c.value()
		member.end = len(c.out)
		last[key] = len(members)
		members = append(members, member)
	})

	if len(last) < len(members) { // a key stands twice
		var kept [][]byte
		for _, i := range slices.Sorted(maps.Values(last)) {
			kept = append(kept, bytes.Clone(c.out[members[i].begin:members[i].end]))
		}
		c.out = append(c.out[:began], bytes.Join(kept, []byte(","))...)
	}

	c.out = append(c.out, '}')
}

// items calls each at every item up to the closing bracket.
func (c *compacter) items(closing byte, each func()) {
	c.at++ // the opening bracket
	c.space()
	for first := true; c.text[c.at] != closing; first = false {
		if !first {
			c.at++ // the comma
			c.space()
			c.out = append(c.out, ',')
		}

		each()
		c.space()
	}

	c.at++
}

// Write is v as compact JSON, keys sorted. What is written is charged while it
// grows: a value may hold another one many times.
func Write(b *budget.Budget, v any) ([]byte, error) {
	w := writer{budget: b}
	if err := w.value(v, 0); err != nil {
		return nil, err
	}
	return w.out, nil
}

// quotedAtOnce is how much of a text goes through the library's encoder at
// once: it holds what it is given several times over.
const quotedAtOnce = 4 << 10

// Quote is a text as a JSON string, with no more escapes than JSON needs.
func Quote(out []byte, s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)

	out = append(out, '"')
	for len(s) > 0 {
		n := min(len(s), quotedAtOnce)
		for back := 1; back < utf8.UTFMax && n < len(s) && !utf8.RuneStart(s[n]); back++ {
			n--
		}

		b.Reset()
		if err := e.Encode(s[:n]); err != nil {
			panic("jsontext: a text cannot be written: " + err.Error())
		}
		quoted := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
		out = append(out, quoted[1:len(quoted)-1]...)
		s = s[n:]
	}

	return append(out, '"')
}

// quotedSize is what Quote makes of a valid text, in bytes, at most.
func quotedSize(s string) int {
	size := len(s) + 2
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ':
			size += len(`\u0001`) - 1
		case c == '"' || c == '\\':
			size++
		case c == 0xe2: // U+2028 and U+2029 begin so
			size += len(`\u2028`) - len("\u2028")
		}
	}

	return size
}

type writer struct {
	budget *budget.Budget
	out    []byte
}

// charge pays for n more bytes and makes room for them: twice, for the buffer
// doubles by copying.
func (w *writer) charge(n int) error {
	if err := w.budget.Work(n + 8); err != nil {
		return err
	}
	if err := w.budget.Bytes(2 * n); err != nil {
		return err
	}
	if cap(w.out)-len(w.out) < n {
		w.out = slices.Grow(w.out, max(n, len(w.out)))
	}

	return nil
}

func (w *writer) value(v any, depth int) error {
	if depth > 4*MaxDepth {
		return errors.New("is nested too deeply")
	}
	switch v := v.(type) {
	case map[string]any:
		return w.object(v, depth)
	case []any:
		return w.list(v, depth)
	case string:
		return w.text(v)
	}

	var text []byte
	switch v := v.(type) {
	case nil:
		text = []byte("null")
	case bool:
		text = strconv.AppendBool(nil, v)
	case json.Number:
		text = []byte(v)
	case float64:
		var err error
		if text, err = json.Marshal(v); err != nil {
			return errors.New("holds a number that JSON cannot say")
		}
	default:
		return errors.New("holds what cannot be written as JSON")
	}
	if err := w.charge(len(text)); err != nil {
		return err
	}
	w.out = append(w.out, text...)

	return nil
}

func (w *writer) object(v map[string]any, depth int) error {
	if err := w.charge(2 + 16*len(v)); err != nil {
		return err
	}
	w.out = append(w.out, '{')
	for i, key := range slices.Sorted(maps.Keys(v)) {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		if err := w.text(key); err != nil {
			return err
		}
		w.out = append(w.out, ':')
		if err := w.value(v[key], depth+1); err != nil {
			return err
		}
	}

	w.out = append(w.out, '}')

	return nil
}

func (w *writer) list(v []any, depth int) error {
	if err := w.charge(2 + len(v)); err != nil {
		return err
	}
	w.out = append(w.out, '[')
	for i, item := range v {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		if err := w.value(item, depth+1); err != nil {
			return err
		}
	}

	w.out = append(w.out, ']')

	return nil
}

func (w *writer) text(s string) error {
	if err := w.charge(quotedSize(s)); err != nil {
		return err
	}
	w.out = Quote(w.out, s)
	return nil
}
