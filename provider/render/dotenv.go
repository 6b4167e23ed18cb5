package render

import (
	"regexp"
	"strings"
)

// Dotenv text is read as a shell reads it: NAME=value, after export or not,
// comments, single and double quotes over several lines, joined pieces
// (a'b'"c"), a backslash's escapes. Where a shell would do something, this
// reads text: $name and `command` stay as they are written, and so do
// operators and the words after an unquoted blank. The libraries of this
// format each have rules of their own (\n and \t in double quotes are line
// breaks and tabs to most); the tests hold this one against bash.

// dotenvName are the names that files of this format have; a shell's own are
// fewer.
var dotenvName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// dotenv reads the text; ok is false where any line is no assignment, or none
// of them gives a value: one line of base64 ends in = as well.
func dotenv(text string) (pairs map[string]string, ok bool) {
	pairs = map[string]string{}
	some := false
	text = strings.ReplaceAll(text, "\r\n", "\n")
	for text != "" {
		text = strings.TrimLeft(text, " \t\n")
		if text == "" || text[0] == '#' {
			_, text, _ = strings.Cut(text, "\n")
			continue
		}
		if rest, is := strings.CutPrefix(text, "export "); is {
			text = strings.TrimLeft(rest, " \t")
		}
		line, _, _ := strings.Cut(text, "\n")
		name, _, found := strings.Cut(line, "=")
		after := len(name) + 1
		if name = strings.TrimRight(name, " \t"); !found || !dotenvName.MatchString(name) {
			return nil, false
		}
		value, rest, closed := shellWord(text[after:])
		if !closed {
			return nil, false
		}
		pairs[name] = value
		some = some || strings.Trim(value, "=") != ""
		text = rest
	}

	return pairs, some
}

// shellWord reads a value up to the end of its line, and gives what follows.
// closed is false where a quote stays open.
func shellWord(text string) (value, rest string, closed bool) {
	var out strings.Builder
	kept := 0 // of out; unquoted blanks beyond it are dropped at the end
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n':
			return out.String()[:kept], text[i+1:], true
		case c == ' ' || c == '\t':
			if next := strings.TrimLeft(text[i:], " \t"); strings.HasPrefix(next, "#") {
				_, rest, _ = strings.Cut(next, "\n")
				return out.String()[:kept], rest, true
			}
			if kept > 0 {
				out.WriteByte(c)
			}
			continue
		case c == '\'':
			end := strings.IndexByte(text[i+1:], '\'')
			if end < 0 {
				return "", "", false
			}
			out.WriteString(text[i+1 : i+1+end])
			i += end + 1
		case c == '"':
			size, ok := doubleQuoted(text[i+1:], &out)
			if !ok {
				return "", "", false
			}
			i += size
		case c == '\\' && i+1 < len(text):
			i++
			if text[i] != '\n' { // a line goes on
				out.WriteByte(text[i])
			}
		default:
			out.WriteByte(c)
		}
		kept = out.Len()
	}

	return out.String()[:kept], "", true
}

// doubleQuoted reads up to the closing quote, and gives the bytes read. A
// backslash is one, but for what a shell escapes there.
func doubleQuoted(text string, out *strings.Builder) (size int, ok bool) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return i + 1, true
		case c == '\\' && i+1 < len(text) && strings.IndexByte("$`\"\\\n", text[i+1]) >= 0:
			i++
			if text[i] != '\n' {
				out.WriteByte(text[i])
			}
		default:
			out.WriteByte(c)
		}
	}
	return 0, false
}
