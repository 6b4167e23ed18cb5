// Package jmespath selects text from JSON by a tenant's JMESPath expression
// without letting it hurt the node: expressions are bounded before any value is
// read, the library's panics are errors, and no error shows a part of a value.
package jmespath

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jmespath/go-jmespath"
)

// Expression is an expression that is within the bounds. It prints as its text.
type Expression struct {
	text     string
	compiled *jmespath.JMESPath
}

// String is the expression's text.
func (e *Expression) String() string { return e.text }

// Bounds of a JMESPath expression. Each comma of a multi-select may double
// what comes after it ([@,@]), so that their number bounds the growth.
const (
	maxLength = 1024
	maxCommas = 8
)

// Parse checks an expression.
func Parse(text string) (*Expression, error) {
	if len(text) > maxLength {
		return nil, fmt.Errorf("is %d bytes; the limit is %d", len(text), maxLength)
	}
	if n := commasOutsideQuotes(text); n > maxCommas {
		return nil, fmt.Errorf("has %d commas; the limit is %d", n, maxCommas)
	}
	compiled, err := compile(text)
	if err != nil {
		return nil, err
	}
	return &Expression{text, compiled}, nil
}

func commasOutsideQuotes(s string) int {
	commas := 0
	quote := byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"' || c == '`':
			quote = c
		case c == ',':
			commas++
		}
	}
	return commas
}

// compile compiles; the library panics on some expressions.
func compile(text string) (compiled *jmespath.JMESPath, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("is no JMESPath expression")
		}
	}()
	compiled, err = jmespath.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("is no JMESPath expression: %s", strings.TrimPrefix(err.Error(), "SyntaxError: "))
	}
	return compiled, nil
}

// Search is the text that the expression selects from a JSON value. A result
// that is no text is an error unless nonString allows it; it is then written as
// JSON. Errors name the kind of the result, never the result.
func (e *Expression) Search(value []byte, nonString bool) ([]byte, error) {
	var data any
	if err := json.Unmarshal(value, &data); err != nil {
		return nil, errors.New("is no JSON, which jmesPath reads")
	}
	result, err := evaluate(e.compiled, data)
	switch r := result.(type) {
	case nil:
		if err == nil {
			err = errors.New("selects nothing")
		}
		return nil, fmt.Errorf("jmesPath %.120q %w", e.text, err)
	case string:
		return []byte(r), nil
	case float64:
		// A number that a float cannot hold would be written wrong, and
		// nobody would know.
		if const53 := float64(1 << 53); r >= const53 || r <= -const53 {
			return nil, fmt.Errorf("jmesPath %.120q selects a number too large to be exact; store it as text", e.text)
		}
	}
	if !nonString {
		return nil, fmt.Errorf("jmesPath %.120q selects %s, not text; set allowNonString: true for its JSON, or use to_string()", e.text, jsonKind(result))
	}
	return json.Marshal(result)
}

func evaluate(compiled *jmespath.JMESPath, data any) (result any, err error) {
	defer func() {
		if recover() != nil {
			result, err = nil, errors.New("does not work on this value")
		}
	}()
	if result, err = compiled.Search(data); err != nil {
		// The library's text may quote an argument, which is a part of the value.
		return nil, errors.New("does not work on this value (a function got an argument of another kind than it takes)")
	}
	return result, nil
}

func jsonKind(v any) string {
	switch v.(type) {
	case float64:
		return "a number"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	default:
		return "an object"
	}
}
