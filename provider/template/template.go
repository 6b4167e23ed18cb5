// Package template runs a tenant's text/template over a secret's keys without
// letting it hurt the node: a hermetic set of functions (Sprig's, less those
// that read the world, draw random numbers or multiply their input), every
// step and every function charged to the mount's budget by what it touches and
// makes, a limit on every text and on the output, and errors that never show a
// value.
package template

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/coffre-csi/coffre/provider/budget"
)

// Limits of one template.
const (
	MaxSource = 64 << 10 // bytes of template text
	MaxText   = 1 << 20  // bytes of the output, and of any one function's result
	MaxSteps  = 10_000   // rounds of range and calls of template together
)

// What a template is charged: a byte of its text becomes nodes of its tree, and
// a node of the tree takes time whenever it is executed.
const (
	sourceBytes = 64
	nodeWork    = 160
)

// Limits that a template passed.
var (
	errSteps = fmt.Errorf("takes more than %d steps", MaxSteps)
	errText  = fmt.Errorf("makes a text of more than %d bytes", MaxText)
)

// Template is a template that parsed.
type Template struct {
	source string
	trees  map[string]*parse.Tree
}

// name is the template's own, as text/template's errors have it.
const name = "template"

// Parse checks a template's text. Its error names line and place, and quotes
// the template only.
func Parse(b *budget.Budget, source string) (*Template, error) {
	if len(source) > MaxSource {
		return nil, fmt.Errorf("is %d bytes; the limit is %d", len(source), MaxSource)
	}
	if err := b.Bytes(4<<10 + len(source)*sourceBytes); err != nil {
		return nil, err
	}

	known := map[string]any{}
	for _, n := range names() {
		known[n] = struct{}{}
	}
	trees, err := parse.Parse(name, source, "", "", known)
	if err != nil {
		return nil, errors.New(regexp.MustCompile(`^template: template:`).ReplaceAllString(err.Error(), "line "))
	}
	for _, t := range trees {
		if t.Root != nil {
			weigh(t.Root)
			t.Root.Nodes = append([]parse.Node{step(t.Root)}, t.Root.Nodes...)
		}
	}
	return &Template{source: source, trees: trees}, nil
}

// String is the template's text: equal texts are equal templates.
func (t *Template) String() string { return t.source }

// Execute runs the template over data.
func (t *Template) Execute(b *budget.Budget, data map[string]any) ([]byte, error) {
	if err := b.Work(1 << 13); err != nil { // the functions are bound anew
		return nil, err
	}
	r := &run{budget: b, left: MaxSteps}
	set := template.New(name).Option("missingkey=error").Funcs(r.functions())
	for n, tree := range t.trees {
		if _, err := set.AddParseTree(n, tree); err != nil {
			return nil, err
		}
	}

	out := &limitedBuffer{budget: b}
	if err := set.Execute(out, data); err != nil {
		return nil, withoutValues(err)
	}

	return out.Bytes(), nil
}

// step is a call that charges one execution of a list of nodes.
func step(list *parse.ListNode) parse.Node {
	text := fmt.Sprintf("{{%s %d}}", stepFunc, nodeWork*(1+strings.Count(list.String(), "{{")+countWords(list)))
	trees, err := parse.Parse(name, text, "", "", map[string]any{stepFunc: struct{}{}})
	if err != nil {
		panic("template: the step cannot be parsed: " + err.Error())
	}
	return trees[name].Root.Nodes[0]
}

// countWords is a number at least as large as that of the commands, arguments
// and fields in a list's actions.
func countWords(list *parse.ListNode) int {
	n := 0
	for _, node := range list.Nodes {
		if node.Type() != parse.NodeText {
			n += strings.Count(node.String(), " ") + strings.Count(node.String(), ".")
		}
	}
	return n
}

// weigh puts the step call at the start of every range's body: nothing else in
// a template can go round. It also weighs the arguments of the functions that
// text/template has itself.
func weigh(n parse.Node) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, c := range n.Nodes {
			weigh(c)
		}
	case *parse.ActionNode:
		weigh(n.Pipe)
	case *parse.TemplateNode:
		weigh(n.Pipe)
	case *parse.PipeNode:
		if n == nil {
			return
		}
		for _, c := range n.Cmds {
			weigh(c)
		}
	case *parse.CommandNode:
		weighCommand(n)
	case *parse.IfNode:
		weighBranch(&n.BranchNode)
	case *parse.WithNode:
		weighBranch(&n.BranchNode)
	case *parse.RangeNode:
		weighBranch(&n.BranchNode)
		n.List.Nodes = append([]parse.Node{step(n.List)}, n.List.Nodes...)
	}
}

func weighBranch(n *parse.BranchNode) {
	weigh(n.Pipe)
	weigh(n.List)
	weigh(n.ElseList)
}

// weighCommand hands every argument of a built-in function that compares texts
// through the weighing function, which gives it back as it is.
func weighCommand(n *parse.CommandNode) {
	for _, arg := range n.Args {
		weigh(arg)
	}
	function, is := n.Args[0].(*parse.IdentifierNode)
	if !is || !compares[function.Ident] {
		return
	}
	for i, arg := range n.Args[1:] {
		call := &parse.CommandNode{NodeType: parse.NodeCommand, Pos: arg.Position(), Args: []parse.Node{parse.NewIdentifier(weighFunc).SetPos(arg.Position()), arg}}
		n.Args[i+1] = &parse.PipeNode{NodeType: parse.NodePipe, Pos: arg.Position(), Cmds: []*parse.CommandNode{call}}
	}
}

type limitedBuffer struct {
	bytes.Buffer
	budget *budget.Budget
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > MaxText {
		return 0, errText
	}
	if err := b.budget.Bytes(2 * len(p)); err != nil {
		return 0, err
	}
	if err := b.budget.Work(16 + len(p)); err != nil {
		return 0, err
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
	if m := place.FindStringSubmatch(text); m != nil && !strings.Contains(m[2], stepFunc) && !strings.Contains(m[2], weighFunc) {
		where = fmt.Sprintf("line %s at <%s>", m[1], m[2])
	}

	over := new(budget.Error)
	switch {
	case errors.As(err, &over):
		return fmt.Errorf("%s: %w", where, over)
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
