package render

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf16"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/strict"
)

// decode undoes an encoding of the text. White space around and within it is
// no part of it. Auto leaves alone what is neither base64 nor base64url.
func decode(b *budget.Budget, d plan.Decoding, text []byte) ([]byte, error) {
	if d == "" {
		return text, nil
	}
	if err := b.Bytes(3 * len(text)); err != nil {
		return nil, err
	}
	if err := b.Work(8 * len(text)); err != nil {
		return nil, err
	}

	compact := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, string(text))
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

// Bytes of memory that a format takes a byte of the value, and a key: the tree
// in between, its indented form, escapes of six bytes a character.
const (
	formatBytes = 12
	keyBytes    = 512
)

// write makes one file of all keys, sorted.
func write(b *budget.Budget, f plan.Format, doc *document, d plan.Decoding) ([]byte, error) {
	if !doc.named {
		return nil, errNoKeys
	}
	if err := b.Bytes(formatBytes*len(doc.json) + keyBytes*len(doc.keys)); err != nil {
		return nil, err
	}
	if err := b.Work(formatBytes * len(doc.json)); err != nil {
		return nil, err
	}

	if d != "" {
		decoded := make(map[string]string, len(doc.keys))
		for _, k := range doc.keys {
			text, err := doc.value(b, k)
			if err == nil {
				text, err = decode(b, d, text)
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
		if doc, err = parse(b, raw, ""); err != nil {
			return nil, err
		}
	}

	switch f {
	case plan.JSON:
		data, err := doc.data(b)
		if err != nil {
			return nil, err
		}
		var out bytes.Buffer
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		err = enc.Encode(data)
		return out.Bytes(), err
	case plan.YAML:
		return writeYAML(b, doc)
	case plan.Dotenv:
		return writeLines(b, doc, variable, quoteDotenv, "=")
	case plan.Properties:
		return writeLines(b, doc, nil, func(s string) (string, error) { return escapeProperty(s, false), nil }, "=")
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

// emittedBytes is what the library keeps of an entry until all are written.
const emittedBytes = 2048

// writeYAML writes block style, every string quoted where YAML would read it
// as something else.
func writeYAML(b *budget.Budget, doc *document) ([]byte, error) {
	if err := strict.Charge(b, string(doc.json)); err != nil {
		return nil, err
	}
	if err := b.Bytes(emittedBytes * strict.Separators(string(doc.json))); err != nil {
		return nil, err
	}

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
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&root); err != nil {
		return nil, errNoKeys
	}

	return out.Bytes(), enc.Close()
}

func writeLines(b *budget.Budget, doc *document, legal *regexp.Regexp, quote func(string) (string, error), sep string) ([]byte, error) {
	var out bytes.Buffer
	for _, k := range doc.keys {
		value, err := doc.value(b, k)
		if err != nil {
			return nil, fmt.Errorf("key %q %w", shorten(k), err)
		}
		name := k
		if legal == nil {
			name = escapeProperty(k, true)
		} else if !legal.MatchString(k) {
			return nil, fmt.Errorf("key %q cannot name a variable in a shell; store it under another key, or use another format", shorten(k))
		}
		text, err := quote(string(value))
		if err != nil {
			return nil, fmt.Errorf("key %q %w", shorten(k), err)
		}
		out.WriteString(name + sep + text + "\n")
	}

	return out.Bytes(), nil
}

var (
	variable    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	dotenvPlain = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]*$`)
)

// quoteDotenv writes a value so that a shell reads it back: plain, in single
// quotes where it can be, else in double quotes. A line break stands as it is:
// no shell has an escape for it.
func quoteDotenv(s string) (string, error) {
	switch {
	case strings.ContainsRune(s, 0):
		return "", errors.New("holds a NUL byte, which no variable can")
	case dotenvPlain.MatchString(s):
		return s, nil
	case !strings.Contains(s, "'"):
		return "'" + s + "'", nil
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s) + `"`, nil
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
