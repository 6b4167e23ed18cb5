// Package jmespath selects text from JSON by a tenant's JMESPath expression
// without letting it hurt the node: it evaluates expressions itself, so that
// what an expression touches and what grows is charged to the mount's budget,
// and numbers keep the text that the secret has. The grammar and the functions
// are those of github.com/jmespath/go-jmespath, which the AWS provider links;
// what a newer grammar adds is refused. No error shows a part of a value.
package jmespath

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jmespath-community/go-jmespath/pkg/parsing"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/jsontext"
)

// Expression is an expression that parsed. It prints as its text.
type Expression struct {
	text string
	tree parsing.ASTNode
}

// String is the expression's text.
func (e *Expression) String() string { return e.text }

// Bounds of an expression's text: the parser, and the evaluation, go down its
// nesting by the stack.
const (
	maxLength = 16 << 10
	nodeBytes = 256 // of the syntax tree, a byte of text
)

// Parse checks an expression.
func Parse(b *budget.Budget, text string) (*Expression, error) {
	if len(text) > maxLength {
		return nil, fmt.Errorf("is %d bytes; the limit is %d", len(text), maxLength)
	}
	if err := b.Bytes(len(text) * nodeBytes); err != nil {
		return nil, err
	}

	tree, err := parse(text)
	if err != nil {
		return nil, err
	}
	if err := prepare(&tree); err != nil {
		return nil, err
	}

	return &Expression{text, tree}, nil
}

// parse parses; a fault of the parser is no more than an error.
func parse(text string) (tree parsing.ASTNode, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("is no JMESPath expression")
		}
	}()
	if tree, err = parsing.NewParser().Parse(text); err != nil {
		return tree, fmt.Errorf("is no JMESPath expression: %s", strings.TrimPrefix(err.Error(), "SyntaxError: "))
	}
	return tree, nil
}

// prepare refuses what the AWS provider's grammar does not have, and makes
// literals of the types that values have.
func prepare(n *parsing.ASTNode) error {
	switch n.NodeType {
	case parsing.ASTLiteral:
		n.Value = literal(n.Value)
	case parsing.ASTArithmeticExpression, parsing.ASTArithmeticUnaryExpression:
		return errors.New(`is no JMESPath expression: it calculates; a key with a hyphen is written in double quotes, as '"user-name"'`)
	case parsing.ASTRootNode, parsing.ASTLetExpression, parsing.ASTVariable, parsing.ASTBindings, parsing.ASTBinding:
		return errors.New("is no JMESPath expression: $ and let are no part of the grammar")
	}

	for i := range n.Children {
		if err := prepare(&n.Children[i]); err != nil {
			return err
		}
	}
	return nil
}

func literal(v any) any {
	switch v := v.(type) {
	case float64:
		if text, err := json.Marshal(v); err == nil {
			return json.Number(text)
		}
	case []any:
		for i := range v {
			v[i] = literal(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = literal(v[k])
		}
	}

	return v
}

// Search is the text that the expression selects from a JSON value, as
// jsontext.Parse gives it. A result that is no text is an error unless
// nonString allows it; it is then written as JSON. Errors name the kind of the
// result, never the result.
func (e *Expression) Search(b *budget.Budget, data any, nonString bool) ([]byte, error) {
	result, err := e.evaluate(b, data)
	if err != nil {
		return nil, fmt.Errorf("jmesPath %.120q %w", e.text, err)
	}

	if text, is := result.(string); is {
		return []byte(text), b.Bytes(len(text))
	}
	if result == nil {
		return nil, fmt.Errorf("jmesPath %.120q selects nothing", e.text)
	}
	if !nonString {
		return nil, fmt.Errorf("jmesPath %.120q selects %s, not text; set allowNonString: true for its JSON, or use to_string()", e.text, kind(result))
	}
	text, err := jsontext.Write(b, result)
	if err != nil {
		return nil, fmt.Errorf("jmesPath %.120q %w", e.text, err)
	}

	return text, nil
}

// errUnfit is what is said where a function got an argument that it does not
// take: the argument is a part of the value.
var errUnfit = errors.New("does not work on this value (a function got an argument of another kind than it takes)")

func (e *Expression) evaluate(b *budget.Budget, data any) (result any, err error) {
	defer func() {
		if recover() != nil {
			result, err = nil, errUnfit
		}
	}()
	return (&evaluator{budget: b}).eval(e.tree, data)
}

// kind is what a value is, for an error.
func kind(v any) string {
	switch v.(type) {
	case json.Number, float64:
		return "a number"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	default:
		return "an object"
	}
}
