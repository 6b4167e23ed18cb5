package sops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A document's tree is made of these values:
//
//	mapping, list        what has parts
//	comment              a line of comment, standing where an entry could
//	string, int, float64, bool, []byte, time.Time, nil   the leaves
type (
	mapping []entry
	entry   struct {
		key   string // "" for a comment
		value any
		merge bool // a YAML merge key, <<: the entries of value count where there is no other
	}
	list    []any
	comment struct {
		text   string // without the leading mark
		inline bool   // stood behind a value, on its line
	}
)

// What one document may cost. A tenant writes documents, and anybody can
// encrypt to a public key: plaintext is as hostile as ciphertext.
const (
	maxDocument = 1 << 20 // bytes
	maxTokens   = 100_000 // separators in the text, counted before it is parsed
	maxNodes    = 50_000
	maxDepth    = 64
	maxPath     = 4096 // bytes of one value's path: it is authenticated once a value
)

// budget counts a document's nodes while its tree is made.
type budget struct{ nodes int }

func (b *budget) spend(depth int) error {
	if b.nodes++; b.nodes > maxNodes {
		return fmt.Errorf("has more than %d values", maxNodes)
	}
	if depth > maxDepth {
		return fmt.Errorf("is nested deeper than %d levels", maxDepth)
	}
	return nil
}

// checkSize refuses a text that would be dear even to parse.
func checkSize(text string, f Format) error {
	size, tokens := maxDocument, maxTokens
	if f == INI {
		// The INI library puts multi-line values together in quadratic time.
		size, tokens = 256<<10, 8192
	}
	if len(text) > size {
		return fmt.Errorf("is larger than %d KiB", size>>10)
	}
	n := 0
	for _, sep := range []string{"\n", ",", "[", "{"} {
		if f != INI || sep == "\n" {
			n += strings.Count(text, sep)
		}
	}

	if n > tokens {
		return fmt.Errorf("has too many parts (more than %d lines, commas and brackets)", tokens)
	}

	return nil
}

// whole is the name of the whole document.
const whole = "."

var (
	errShifted   = errors.New("stands behind an empty item of its list, which nothing protects: anybody may add one, and so move it; use a key instead of its place, or the whole list")
	errNoSuchKey = errors.New("no such key")
	errAmbiguous = errors.New("stands more than once in the document")
)

// find says where name stands: the index of the branch and of every entry on
// the way down. name is a top-level key literally, or else a path of nested
// keys and list positions, parted by slashes. A key may have slashes itself:
// the longest one that leads to a value is taken.
func find(branches []mapping, name string) ([]int, error) {
	var found candidates
	for b, m := range branches {
		if err := found.add(m, name, b); err != nil {
			return nil, err
		}
	}
	visits := 2 * maxDepth
	return found.follow(name, &visits)
}

// candidates are the entries that a name may begin with.
type candidates []candidate

type candidate struct {
	key   string
	value any
	steps []int
}

// add takes the parts of v that name begins with.
func (cs *candidates) add(v any, name string, steps ...int) error {
	switch v := v.(type) {
	case mapping:
		for i, e := range v {
			n := len(e.key)
			if n > len(name) || name[:n] != e.key || n < len(name) && name[n] != '/' {
				continue
			}
			if _, is := e.value.(comment); is {
				continue
			}
			if slices.ContainsFunc(*cs, func(c candidate) bool { return c.key == e.key }) {
				return errAmbiguous
			}
			*cs = append(*cs, candidate{e.key, e.value, append(slices.Clone(steps), i)})
		}

		cs.addMerged(v, name, steps)
	case list:
		key, _, _ := strings.Cut(name, "/")
		i, err := step(v, key)
		if errors.Is(err, errShifted) {
			return err
		}
		if err == nil {
			*cs = append(*cs, candidate{key, v[i], append(slices.Clone(steps), i)})
		}
	}

	return nil
}

// addMerged takes the parts of what is merged into v, but for those that are
// there: a mapping's own entries count first, then the first one merged.
func (cs *candidates) addMerged(v mapping, name string, steps []int) {
	for i, e := range v {
		if !e.merge {
			continue
		}
		sources, isList := e.value.(list)
		if !isList {
			sources = list{e.value}
		}
		for j, source := range sources {
			m, is := source.(mapping)
			if !is {
				continue
			}
			at := append(slices.Clone(steps), i)
			if isList {
				at = append(at, j)
			}
			var merged candidates
			if merged.add(m, name, at...) != nil {
				continue
			}
			for _, c := range merged {
				if !slices.ContainsFunc(*cs, func(o candidate) bool { return o.key == c.key }) {
					*cs = append(*cs, c)
				}
			}
		}
	}
}

// unmerged are a mapping's entries with what is merged into it, comments left
// out.
func (m mapping) unmerged() mapping {
	var out, merged mapping
	for _, e := range m {
		if _, is := e.value.(comment); is {
			continue
		}
		if !e.merge {
			out = append(out, e)
			continue
		}
		sources, isList := e.value.(list)
		if !isList {
			sources = list{e.value}
		}
		for _, source := range sources {
			if inner, is := source.(mapping); is {
				merged = append(merged, inner.unmerged()...)
			}
		}
	}

	have := make(map[string]bool, len(out))
	for _, e := range out {
		have[e.key] = true
	}
	for _, e := range merged {
		if !have[e.key] {
			have[e.key] = true
			out = append(out, e)
		}
	}

	return out
}

// checkUnique refuses keys that stand twice in one mapping: one of them may be
// empty, which the MAC does not see, and the last one counts to most readers.
// INI has sections of one name, at its top.
func checkUnique(v any, sections bool) error {
	switch v := v.(type) {
	case mapping:
		seen := make(map[string]bool, len(v))
		for _, e := range v {
			if _, is := e.value.(comment); is {
				continue
			}
			if seen[e.key] && !sections {
				return fmt.Errorf("has the key %q twice in one mapping", clip(e.key))
			}
			seen[e.key] = true
			if err := checkUnique(e.value, false); err != nil {
				return err
			}
		}
	case list:
		for _, item := range v {
			if err := checkUnique(item, false); err != nil {
				return err
			}
		}
	}

	return nil
}

// follow gives the steps of the candidate that all of name leads to. visits
// bounds the ways that are tried.
func (cs candidates) follow(name string, visits *int) ([]int, error) {
	slices.SortFunc(cs, func(a, b candidate) int { return len(b.key) - len(a.key) })
	for _, c := range cs {
		if len(c.key) == len(name) {
			return c.steps, nil
		}
		if *visits--; *visits < 0 {
			break
		}
		rest := name[len(c.key)+1:]
		var below candidates
		if err := below.add(c.value, rest); err != nil {
			return nil, err
		}
		steps, err := below.follow(rest, visits)
		if !errors.Is(err, errNoSuchKey) {
			return append(c.steps, steps...), err
		}
	}

	return nil, errNoSuchKey
}

// step is the index of the part of v that is called name.
func step(v any, name string) (int, error) {
	switch v := v.(type) {
	case mapping:
		found := -1
		for i, e := range v {
			if _, is := e.value.(comment); is || e.key != name {
				continue
			}
			if found >= 0 {
				return 0, errAmbiguous
			}
			found = i
		}

		if found >= 0 {
			return found, nil
		}
	case list:
		want, err := strconv.Atoi(name)
		if err != nil || want < 0 || strconv.Itoa(want) != name {
			return 0, errNoSuchKey
		}
		for i, item := range v {
			if _, is := item.(comment); is {
				continue
			}
			if want == 0 {
				return i, nil
			}
			if isEmpty(item) {
				return 0, errShifted
			}
			want--
		}
	}

	return 0, errNoSuchKey
}

// isEmpty says whether a value adds nothing to a document's MAC.
func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case mapping:
		return !slices.ContainsFunc(v, func(e entry) bool { return !isEmpty(e.value) })
	case list:
		return !slices.ContainsFunc(v, func(item any) bool { return !isEmpty(item) })
	case comment:
		return true
	}

	return false
}

func child(v any, i int) any {
	switch v := v.(type) {
	case mapping:
		return v[i].value
	case list:
		return v[i]
	}
	return nil
}

// at is the value that find's steps lead to. The encrypted and the decrypted
// tree have the same shape, so that steps found in one hold in the other.
func at(branches []mapping, steps []int) any {
	var v any = branches[steps[0]]
	for _, i := range steps[1:] {
		v = child(v, i)
	}
	return v
}

// topKeys are the names of a document's keys, in order, each once.
func topKeys(branches []mapping) []string {
	var keys []string
	seen := map[string]bool{}
	for _, m := range branches {
		for _, e := range m.unmerged() {
			if seen[e.key] || e.key == "" {
				continue
			}
			seen[e.key] = true
			keys = append(keys, e.key)
		}
	}

	return keys
}

// scalarText is a leaf's text as `sops decrypt` would print it. ok is false
// for a mapping or a list.
func scalarText(v any, f Format) (text []byte, ok bool, err error) {
	switch v := v.(type) {
	case mapping, list:
		return nil, false, nil
	case string:
		return []byte(v), true, nil
	case []byte:
		return slices.Clone(v), true, nil
	case nil:
		return []byte("null"), true, nil
	}
	switch f {
	case YAML:
		text, err = yamlScalar(v)
	case JSON, Binary:
		if t, is := v.(time.Time); is {
			return []byte(t.Format(time.RFC3339Nano)), true, nil
		}
		text, err = json.Marshal(v)
	default:
		text = []byte(plainText(v))
	}

	return text, true, err
}

// plainText is a leaf as dotenv and INI write it. Both know only strings; the
// other types come from values whose type tag says so.
func plainText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case float64:
		s := strconv.FormatFloat(v, 'G', -1, 64)
		if !strings.ContainsAny(s, ".E") {
			s = strconv.FormatFloat(v, 'f', 1, 64)
		}
		return s
	case time.Time:
		return v.Format(time.RFC3339)
	default:
		return fmt.Sprint(v)
	}
}

// compactJSON is v on one line, keys in document order, comments left out.
func compactJSON(v any) ([]byte, error) {
	w := jsonWriter{unique: true}
	err := w.write(v)
	return w.buf.Bytes(), err
}

// jsonWriter writes a tree as JSON.
type jsonWriter struct {
	buf        bytes.Buffer
	escapeHTML bool // as encoding/json does unless it is told not to
	unique     bool // refuse a key that stands twice
}

func (w *jsonWriter) write(v any) error {
	switch v := v.(type) {
	case mapping:
		w.buf.WriteByte('{')
		first, seen := true, map[string]bool{}
		for _, e := range v.unmerged() {
			if w.unique && seen[e.key] {
				return fmt.Errorf("key %q %w", clip(e.key), errAmbiguous)
			}
			seen[e.key] = true
			w.comma(&first)
			if err := w.leaf(e.key); err != nil {
				return err
			}
			w.buf.WriteByte(':')
			if err := w.write(e.value); err != nil {
				return err
			}
		}

		w.buf.WriteByte('}')
	case list:
		w.buf.WriteByte('[')
		first := true
		for _, item := range v {
			if _, is := item.(comment); is {
				continue
			}
			w.comma(&first)
			if err := w.write(item); err != nil {
				return err
			}
		}

		w.buf.WriteByte(']')
	default:
		return w.leaf(v)
	}

	return nil
}

func (w *jsonWriter) comma(first *bool) {
	if !*first {
		w.buf.WriteByte(',')
	}
	*first = false
}

func (w *jsonWriter) leaf(v any) error {
	e := json.NewEncoder(&w.buf)
	e.SetEscapeHTML(w.escapeHTML)
	if err := e.Encode(v); err != nil {
		return errors.New("holds a number that JSON cannot say")
	}
	w.buf.Truncate(w.buf.Len() - 1) // the encoder's line break
	return nil
}

// clip makes a text of the document fit to stand in an error: printable, on
// one line, short.
func clip(s string) string {
	const most = 96
	s = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most/2], "") + "…" + strings.ToValidUTF8(s[len(s)-12:], "")
	}
	return s
}
