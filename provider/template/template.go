// Package template runs a tenant's text/template over a secret's keys without
// letting it hurt the node: a hermetic set of functions (Sprig's, less those
// that read the world, draw random numbers or multiply their input), a limit
// on steps, on every text that a function makes and on the output, and errors
// that never show a value.
package template

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"text/template"
	"text/template/parse"
)

// Limits of one template.
const (
	MaxSource = 64 << 10 // bytes of template text
	MaxText   = 1 << 20  // bytes of the output, and of any one function's result
	MaxSteps  = 10_000   // rounds of range and calls of template together
)

// Limits that a template passed.
var (
	errSteps = fmt.Errorf("takes more than %d steps", MaxSteps)
	errText  = fmt.Errorf("makes a text of more than %d bytes", MaxText)
)

// Template is a template that parsed.
type Template struct {
	source string
	parsed *template.Template
}

// Parse checks a template's text. Its error names line and place, and quotes
// the template only.
func Parse(source string) (*Template, error) {
	if len(source) > MaxSource {
		return nil, fmt.Errorf("is %d bytes; the limit is %d", len(source), MaxSource)
	}
	parsed, err := template.New("template").Option("missingkey=error").Funcs(functions(nil)).Parse(source)
	if err != nil {
		return nil, errors.New(regexp.MustCompile(`^template: template:`).ReplaceAllString(err.Error(), "line "))
	}
	step := template.Must(template.New("step").Funcs(functions(nil)).Parse(`{{` + stepFunc + `}}`)).Root.Nodes[0]
	for _, t := range parsed.Templates() {
		if t.Tree == nil || t.Root == nil {
			continue
		}
		countSteps(t.Root, step)
		t.Root.Nodes = append([]parse.Node{step.Copy()}, t.Root.Nodes...)
	}
	return &Template{source: source, parsed: parsed}, nil
}

// String is the template's text: equal texts are equal templates.
func (t *Template) String() string { return t.source }

// Execute runs the template over data.
func (t *Template) Execute(data map[string]any) ([]byte, error) {
	run, err := t.parsed.Clone()
	if err != nil {
		return nil, err
	}
	left := MaxSteps
	run.Funcs(functions(&left))
	out := &limitedBuffer{}
	if err := run.Execute(out, data); err != nil {
		return nil, withoutValues(err)
	}
	return out.Bytes(), nil
}

// countSteps puts the step call at the start of every range's body: nothing
// else in a template can go round.
func countSteps(n parse.Node, step parse.Node) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, c := range n.Nodes {
			countSteps(c, step)
		}
	case *parse.IfNode:
		countSteps(n.List, step)
		countSteps(n.ElseList, step)
	case *parse.WithNode:
		countSteps(n.List, step)
		countSteps(n.ElseList, step)
	case *parse.RangeNode:
		countSteps(n.List, step)
		countSteps(n.ElseList, step)
		n.List.Nodes = append([]parse.Node{step.Copy()}, n.List.Nodes...)
	}
}

type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > MaxText {
		return 0, errText
	}
	return b.Buffer.Write(p)
}

// Reasons of text/template that name keys, fields and types but no value.
var (
	place       = regexp.MustCompile(`^template: template:(\d+:\d+): executing "[^"]*" at <(.*?)>: `)
	safeReasons = regexp.MustCompile(`map has no entry for key "[^"]*"$|can't evaluate field \S+ in type .+$|nil pointer evaluating \S+$|wrong number of args for \S+: want .*$`)
)

// withoutValues says where a template failed and why, as far as the reason
// cannot hold a part of a secret.
func withoutValues(err error) error {
	text := err.Error()
	where := "template"
	if m := place.FindStringSubmatch(text); m != nil {
		where = fmt.Sprintf("line %s at <%s>", m[1], m[2])
	}
	switch {
	case errors.Is(err, errSteps):
		return fmt.Errorf("%s: %w", where, errSteps)
	case errors.Is(err, errText):
		return fmt.Errorf("%s: %w", where, errText)
	}
	if reason := safeReasons.FindString(text); reason != "" {
		return fmt.Errorf("%s: %s", where, reason)
	}
	return fmt.Errorf("%s: does not work on this value (its type or form is another than the template expects)", where)
}
