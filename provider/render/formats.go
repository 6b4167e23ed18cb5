package render

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/provider/plan"
)

// decode undoes an encoding of the text. White space around and within it is
// no part of it. Auto leaves alone what is neither base64 nor base64url.
func decode(d plan.Decoding, text []byte) ([]byte, error) {
	if d == "" {
		return text, nil
	}
	compact := string(bytes.Join(bytes.Fields(text), nil))
	fromBase64 := func(e *base64.Encoding) ([]byte, error) {
		out, err := e.Strict().DecodeString(strings.TrimRight(compact, "="))
		if err != nil {
			return nil, fmt.Errorf("is not %s", d)
		}
		return out, nil
	}
	switch d {
	case plan.Base64:
		return fromBase64(base64.RawStdEncoding)
	case plan.Base64URL:
		return fromBase64(base64.RawURLEncoding)
	case plan.Hex:
		out, err := hex.DecodeString(compact)
		if err != nil {
			return nil, errors.New("is not hex")
		}
		return out, nil
	default:
		if out, err := base64.StdEncoding.Strict().DecodeString(compact); err == nil && compact != "" {
			return out, nil
		}
		if out, err := base64.URLEncoding.Strict().DecodeString(compact); err == nil && compact != "" {
			return out, nil
		}
		return text, nil
	}
}

// write makes one file of all keys, sorted.
func write(f plan.Format, doc *document, d plan.Decoding) ([]byte, error) {
	if d != "" {
		decoded := make(map[string]string, len(doc.keys))
		for _, k := range doc.keys {
			text, err := doc.value(k)
			if err == nil {
				text, err = decode(d, text)
			}
			if err != nil {
				return nil, fmt.Errorf("key %q: %w", shorten(k), err)
			}
			decoded[k] = string(text)
		}
		raw, err := json.Marshal(decoded)
		if err != nil {
			return nil, err
		}
		if doc, err = parse(raw); err != nil {
			return nil, err
		}
	}
	switch f {
	case plan.JSON:
		data, err := doc.data()
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		err = enc.Encode(data)
		return b.Bytes(), err
	case plan.YAML:
		return writeYAML(doc)
	case plan.Dotenv:
		return writeLines(doc, dotenvKey, quoteDotenv, "=")
	case plan.Properties:
		return writeLines(doc, nil, func(s string) (string, error) { return escapeProperty(s, false), nil }, "=")
	default:
		return nil, fmt.Errorf("format %q is not known here", f)
	}
}

// Text that no reader of YAML 1.1 or 1.2 takes for anything else, but for the
// words that are booleans or nothing to one of them.
var (
	yamlPlain = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./-]*$`)
	yamlWords = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|true|false|null)$`)
)

// writeYAML writes block style, every string quoted where YAML would read it
// as something else.
func writeYAML(doc *document) ([]byte, error) {
	var root yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(doc.json)) // JSON is YAML; nodes keep numbers' text
	if err := dec.Decode(&root); err != nil {
		return nil, errNoKeys
	}
	var blocks func(n *yaml.Node)
	blocks = func(n *yaml.Node) {
		n.Style &^= yaml.FlowStyle
		if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
			switch {
			case strings.Contains(n.Value, "\n"):
				n.Style = yaml.LiteralStyle
			case yamlPlain.MatchString(n.Value) && !yamlWords.MatchString(n.Value):
				n.Style = 0
			default:
				n.Style = yaml.DoubleQuotedStyle
			}
		}
		for _, c := range n.Content {
			blocks(c)
		}
	}
	blocks(&root)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&root); err != nil {
		return nil, errNoKeys
	}
	return b.Bytes(), enc.Close()
}

func writeLines(doc *document, legal *regexp.Regexp, quote func(string) (string, error), sep string) ([]byte, error) {
	var b bytes.Buffer
	for _, k := range doc.keys {
		value, err := doc.value(k)
		if err != nil {
			return nil, fmt.Errorf("key %q %w", shorten(k), err)
		}
		name := k
		if legal == nil {
			name = escapeProperty(k, true)
		} else if !legal.MatchString(k) {
			return nil, fmt.Errorf("key %q cannot name a variable; choose keys, or another format", shorten(k))
		}
		text, err := quote(string(value))
		if err != nil {
			return nil, fmt.Errorf("key %q %w", shorten(k), err)
		}
		b.WriteString(name + sep + text + "\n")
	}
	return b.Bytes(), nil
}

var (
	dotenvKey   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
	dotenvPlain = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]*$`)
)

// quoteDotenv writes a value so that shells and the common dotenv readers read
// the same: plain, in single quotes where it can be, else in double quotes
// with escapes.
func quoteDotenv(s string) (string, error) {
	switch {
	case strings.ContainsRune(s, 0):
		return "", errors.New("holds a NUL byte, which no variable can")
	case dotenvPlain.MatchString(s):
		return s, nil
	case !strings.ContainsAny(s, "'\n\r"):
		return "'" + s + "'", nil
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`", "\n", `\n`, "\r", `\r`).Replace(s) + `"`, nil
}

// escapeProperty follows java.util.Properties (store): the escapes that its
// load undoes.
func escapeProperty(s string, key bool) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == ' ' && (key || i == 0):
			b.WriteString(`\ `)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\f':
			b.WriteString(`\f`)
		case strings.ContainsRune(`=:#!\`, r):
			b.WriteString(`\` + string(r))
		case r < 0x20 || r > 0x7e:
			for _, u := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04X`, u)
			}
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// dotenv reads KEY=VALUE lines; ok is false where any line is none. Values in
// single quotes are literal, in double quotes with escapes; nothing is
// expanded.
func dotenv(text []byte) (pairs map[string]string, ok bool) {
	pairs = map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, found := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		key = strings.TrimSpace(key)
		if !found || !dotenvKey.MatchString(key) {
			return nil, false
		}
		value = strings.TrimSpace(value)
		switch {
		case len(value) >= 2 && value[0] == '\'' && value[len(value)-1] == '\'':
			value = value[1 : len(value)-1]
		case len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"':
			unquoted, err := strconv.Unquote(strings.NewReplacer(`\$`, "$", "\\`", "`").Replace(value))
			if err != nil {
				return nil, false
			}
			value = unquoted
		}
		pairs[key] = value
	}
	return pairs, len(pairs) > 0
}
