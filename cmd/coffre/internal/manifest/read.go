package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"go.yaml.in/yaml/v3"
)

// Bounds. The API server takes objects of about 1.5 MiB; a list of all of a
// cluster's SecretProviderClasses is one document.
const (
	maxFile     = 32 << 20
	maxDocument = 16 << 20
	maxExpanded = 1 << 20 // nodes, once aliases are followed
)

// Read reads files, and folders with all below them that ends in .yaml, .yml or
// .json; "-" is standard input. What could not be read is in Problems.
func Read(paths []string, stdin io.Reader) Set {
	r := &reader{}
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case path == "-":
			r.stream("-", stdin, false)
		case err != nil:
			r.unreadable(path, err)
		case info.IsDir():
			r.folder(path)
		default:
			r.file(path, false)
		}
	}

	return r.set
}

type reader struct {
	set    Set
	name   string // that is being read
	walked bool   // it was found in a folder: nobody named it
	charts map[string]bool
}

func (r *reader) problem(line int, trouble Trouble, format string, args ...any) {
	r.set.Problems = append(r.set.Problems, Problem{Place: Place{r.name, line}, Trouble: trouble, Text: fmt.Sprintf(format, args...)})
}

func (r *reader) unreadable(path string, err error) {
	r.name = path
	text := err.Error()
	if e := new(fs.PathError); errors.As(err, &e) {
		text = e.Err.Error()
	}
	r.problem(0, Unreadable, "cannot be read: %s", text)
}

// folder reads what lies below a folder, but for hidden folders and for the
// templates of Helm charts, of which one problem a chart tells where they
// matter.
func (r *reader) folder(root string) {
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			r.unreadable(path, err)
			return nil
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules"):
			return filepath.SkipDir
		case d.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(path))):
			return nil
		}
		if chart := chartOf(path); chart != "" {
			r.template(chart, path)
			return nil
		}
		r.file(path, true)
		return nil
	})
}

// chartOf is the folder of the Helm chart whose template a file is, "" where it
// is none.
func chartOf(path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if filepath.Base(dir) == "templates" {
			chart := filepath.Dir(dir)
			if _, err := os.Stat(filepath.Join(chart, "Chart.yaml")); err == nil {
				return chart
			}
		}

		if parent := filepath.Dir(dir); parent == dir {
			return ""
		}
	}
}

func (r *reader) template(chart, path string) {
	text, err := os.ReadFile(path)
	if err != nil || r.charts[chart] || !bytes.Contains(text, []byte("kind: SecretProviderClass")) && !bytes.Contains(text, []byte(DriverName)) {
		return
	}
	if r.charts == nil {
		r.charts = map[string]bool{}
	}
	r.charts[chart], r.name, r.walked = true, path, true
	r.problem(0, OfChart, "is a template of a Helm chart; check what it makes: helm template %s | coffre lint -", chart)
}

// ours says whether a text may hold anything that Coffre looks at.
func ours(text []byte) bool {
	return bytes.Contains(text, []byte("SecretProviderClass")) || bytes.Contains(text, []byte("secrets-store.csi")) ||
		bytes.Contains(text, []byte("secretProviderClass"))
}

func (r *reader) file(path string, walked bool) {
	f, err := os.Open(path)
	if err != nil {
		r.unreadable(path, err)
		return
	}
	defer f.Close()
	r.stream(path, f, walked)
}

func (r *reader) stream(name string, from io.Reader, walked bool) {
	text, err := io.ReadAll(io.LimitReader(from, maxFile+1))
	if err != nil {
		r.unreadable(name, err)
		return
	}
	r.name, r.walked = name, walked
	if len(text) > maxFile {
		r.problem(0, TooLarge, "is larger than %d MiB, and was not read", maxFile>>20)
		return
	}
	line := 0
	for _, document := range split(plainText(text)) {
		r.document(document, line)
		line += bytes.Count(document, []byte("\n"))
	}
}

// plainText is UTF-8 without a byte order mark: PowerShell's > writes UTF-16.
func plainText(text []byte) []byte {
	swapped := bytes.HasPrefix(text, []byte{0xFE, 0xFF})
	if !swapped && !bytes.HasPrefix(text, []byte{0xFF, 0xFE}) {
		return bytes.TrimPrefix(text, []byte("\uFEFF"))
	}
	var units []uint16
	for i := 2; i+1 < len(text); i += 2 {
		low, high := text[i], text[i+1]
		if swapped {
			low, high = high, low
		}
		units = append(units, uint16(high)<<8|uint16(low))
	}

	return []byte(string(utf16.Decode(units)))
}

// split cuts a stream into its documents, each with the line that begins it, so
// that one that cannot be parsed hides no other. A line of three dashes ends a
// document wherever it stands: no text of YAML's can hold one.
func split(text []byte) [][]byte {
	var documents [][]byte
	start := 0
	for at := 0; at < len(text); {
		end := bytes.IndexByte(text[at:], '\n')
		if end < 0 {
			break
		}
		at += end + 1
		if rest := text[at:]; bytes.HasPrefix(rest, []byte("---")) && (len(rest) == 3 || bytes.ContainsRune([]byte(" \t\r\n"), rune(rest[3]))) {
			documents = append(documents, text[start:at])
			start = at
		}
	}

	return append(documents, text[start:])
}

// helmBraces are what Helm's templates are full of, and the templates of
// Coffre's own objects never hold.
var helmBraces = regexp.MustCompile(`\{\{-?\s*(\.Values|\.Release|\.Chart|\.Capabilities|\.Files|include\b|tpl\b|toYaml\b|template\b|define\b|range\b|if\b|with\b|end\b|else\b|/\*)`)

func (r *reader) document(text []byte, line int) {
	if onlyComments(text) {
		return
	}
	if len(text) > maxDocument {
		r.problem(line+1, TooLarge, "a document of more than %d MiB was not read", maxDocument>>20)
		return
	}
	root, problem := parse(text)
	if template := helmBraces.FindIndex(text); template != nil && (problem != nil || braced(root)) {
		if !r.walked || ours(text) {
			r.problem(line+1+bytes.Count(text[:template[0]], []byte("\n")), Unrendered, "is a Helm template; check what it makes: helm template CHART | coffre lint -")
		}
		return
	}

	if problem != nil {
		if !r.walked || ours(text) {
			r.problem(line+max(problem.line, 1), problem.trouble, "%s", problem.text)
		}
		return
	}

	if root == nil || root.Kind != yaml.MappingNode {
		return
	}
	shift(root, line)
	r.object(root)
}

// braced says whether a document parsed although a template stands in it
// without quotes: as mappings whose keys are mappings; or with Helm's braces
// where a name should be.
func braced(n *yaml.Node) bool {
	if n == nil {
		return false
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			if n.Content[i].Kind == yaml.MappingNode {
				return true
			}
		}
	}

	return slices.ContainsFunc(n.Content, braced)
}

func onlyComments(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && line[0] != '%' && !bytes.Equal(line, []byte("---")) && !bytes.Equal(line, []byte("...")) {
			return false
		}
	}
	return true
}

type fault struct {
	trouble Trouble
	line    int
	text    string
}

// parse reads one document, with aliases and merge keys resolved.
func parse(text []byte) (*yaml.Node, *fault) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, syntax(err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	root := doc.Content[0]
	if !aliased(root) {
		return root, nil
	}
	sizes := map[*yaml.Node]int{}
	if expanded(root, sizes) > maxExpanded {
		return nil, &fault{TooLarge, root.Line, "grows without bounds as its aliases are followed"}
	}

	return resolve(root), nil
}

// syntax keeps the parser's line apart from its text.
func syntax(err error) *fault {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, message, ok := strings.Cut(rest, ": "); ok {
			line, _ = strconv.Atoi(number)
			text = message
		}
	}
	if strings.HasPrefix(text, "did not find expected") {
		line++ // the library counts from 0 here, and from 1 elsewhere
	}
	hint := ""
	if strings.Contains(text, "found character that cannot start any token") {
		hint = " (a tab in the indentation, or a text that begins with @ or ` and wants quotes)"
	}
	return &fault{NoYAML, line, "is no YAML: " + text + hint}
}

func aliased(n *yaml.Node) bool {
	return n.Kind == yaml.AliasNode || n.Tag == "!!merge" || slices.ContainsFunc(n.Content, aliased)
}

// expanded counts nodes with aliases followed, each anchor once; a tree that
// holds itself is over every bound.
func expanded(n *yaml.Node, sizes map[*yaml.Node]int) int {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if size, ok := sizes[n]; ok {
		return size
	}
	sizes[n] = maxExpanded + 1 // while it is being counted
	size := 1
	for _, c := range n.Content {
		if size += expanded(c, sizes); size > maxExpanded {
			return maxExpanded + 1
		}
	}

	sizes[n] = size

	return size
}

// resolve copies a tree with its aliases followed and its merge keys merged.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return resolve(n.Alias)
	}
	c := *n
	c.Content = nil
	if n.Kind != yaml.MappingNode {
		for _, item := range n.Content {
			c.Content = append(c.Content, resolve(item))
		}
		return &c
	}

	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag == "!!merge" {
			merged = append(merged, sources(resolve(n.Content[i+1]))...)
			continue
		}
		c.Content = append(c.Content, resolve(n.Content[i]), resolve(n.Content[i+1]))
	}

	for _, from := range merged { // what stands here, and what came first, wins
		for i := 0; i+1 < len(from.Content); i += 2 {
			if Child(&c, from.Content[i].Value) == nil {
				c.Content = append(c.Content, from.Content[i], from.Content[i+1])
			}
		}
	}

	return &c
}

func sources(n *yaml.Node) []*yaml.Node {
	if n.Kind == yaml.MappingNode {
		return []*yaml.Node{n}
	}
	return items(n)
}
