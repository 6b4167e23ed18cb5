package jmespath

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jmespath-community/go-jmespath/pkg/parsing"

	"github.com/coffre-csi/coffre/provider/jsontext"
)

// A function gets its arguments evaluated.
type function struct {
	arguments int // exactly; -1: one or more
	call      func(e *evaluator, args []any) (any, error)
}

// builtin are the functions of JMESPath's specification.
func builtin(name string) (function, bool) {
	switch name {
	case "abs":
		return function{1, onNumber(func(n json.Number) json.Number { return json.Number(strings.TrimPrefix(string(n), "-")) })}, true
	case "ceil":
		return function{1, onNumber(func(n json.Number) json.Number { return rounded(n, math.Ceil) })}, true
	case "floor":
		return function{1, onNumber(func(n json.Number) json.Number { return rounded(n, math.Floor) })}, true
	case "avg", "sum":
		return function{1, func(_ *evaluator, args []any) (any, error) { return total(args[0], name == "avg") }}, true
	case "contains":
		return function{2, (*evaluator).contains}, true
	case "starts_with":
		return function{2, onTexts(strings.HasPrefix)}, true
	case "ends_with":
		return function{2, onTexts(strings.HasSuffix)}, true
	case "join":
		return function{2, (*evaluator).join}, true
	case "keys":
		return function{1, (*evaluator).keys}, true
	case "values":
		return function{1, func(e *evaluator, args []any) (any, error) {
			m, is := args[0].(map[string]any)
			return orUnfit(is, func() ([]any, error) { return e.values(m) })
		}}, true
	case "length":
		return function{1, length}, true
	case "map":
		return function{2, (*evaluator).mapped}, true
	case "max", "min":
		return function{1, func(_ *evaluator, args []any) (any, error) { return extreme(args[0], args[0], name == "max") }}, true
	case "max_by", "min_by":
		return function{2, func(e *evaluator, args []any) (any, error) {
			keys, err := e.by(args)
			if err != nil {
				return nil, err
			}
			return extreme(args[0], keys, name == "max_by")
		}}, true
	case "sort":
		return function{1, func(e *evaluator, args []any) (any, error) { return e.sorted(args[0], args[0]) }}, true
	case "sort_by":
		return function{2, func(e *evaluator, args []any) (any, error) {
			keys, err := e.by(args)
			if err != nil {
				return nil, err
			}
			return e.sorted(args[0], keys)
		}}, true
	case "merge":
		return function{-1, (*evaluator).merge}, true
	case "not_null":
		return function{-1, func(_ *evaluator, args []any) (any, error) {
			i := slices.IndexFunc(args, func(v any) bool { return v != nil })
			if i < 0 {
				return nil, nil
			}
			return args[i], nil
		}}, true
	case "reverse":
		return function{1, (*evaluator).reverse}, true
	case "to_array":
		return function{1, func(_ *evaluator, args []any) (any, error) {
			if list, is := args[0].([]any); is {
				return list, nil
			}
			return args[:1:1], nil
		}}, true
	case "to_number":
		return function{1, toNumber}, true
	case "to_string":
		return function{1, func(e *evaluator, args []any) (any, error) {
			if s, is := args[0].(string); is {
				return s, nil
			}
			text, err := jsontext.Write(e.budget, args[0])
			if err != nil {
				return nil, err
			}

			return string(text), e.budget.Bytes(len(text))
		}}, true
	case "type":
		return function{1, typeName}, true
	}

	return function{}, false
}

func (e *evaluator) call(n parsing.ASTNode, v any) (any, error) {
	f, known := builtin(n.Value.(string))
	fits := f.arguments == len(n.Children) || f.arguments < 0 && len(n.Children) > 0
	if !known || !fits {
		return nil, errUnfit
	}
	if err := e.budget.Bytes(itemBytes * len(n.Children)); err != nil {
		return nil, err
	}

	args := make([]any, len(n.Children))
	for i, child := range n.Children {
		arg, err := e.eval(child, v)
		if err != nil {
			return nil, err
		}
		// An expression is an argument of the functions that evaluate it only.
		if _, is := arg.(expRef); is && !(i == 0 && n.Value == "map" || i == 1 && strings.HasSuffix(n.Value.(string), "_by")) {
			return nil, errUnfit
		}
		args[i] = arg
	}

	return f.call(e, args)
}

func orUnfit[T any](fits bool, make func() (T, error)) (any, error) {
	if !fits {
		return nil, errUnfit
	}
	return make()
}

func onNumber(f func(json.Number) json.Number) func(*evaluator, []any) (any, error) {
	return func(_ *evaluator, args []any) (any, error) {
		n, is := args[0].(json.Number)
		return orUnfit(is, func() (json.Number, error) { return f(n), nil })
	}
}

func onTexts(f func(string, string) bool) func(*evaluator, []any) (any, error) {
	return func(_ *evaluator, args []any) (any, error) {
		a, isA := args[0].(string)
		b, isB := args[1].(string)
		return orUnfit(isA && isB, func() (bool, error) { return f(a, b), nil })
	}
}

func (e *evaluator) contains(args []any) (any, error) {
	if text, is := args[0].(string); is {
		part, is := args[1].(string)
		return is && strings.Contains(text, part), e.budget.Work(len(text) + len(part))
	}
	list, is := args[0].([]any)
	if !is {
		return nil, errUnfit
	}
	for _, item := range list {
		if same, err := e.equal(item, args[1]); same || err != nil {
			return same, err
		}
	}

	return false, nil
}

func (e *evaluator) join(args []any) (any, error) {
	sep, isText := args[0].(string)
	list, isList := args[1].([]any)
	if !isText || !isList {
		return nil, errUnfit
	}
	parts, size := make([]string, len(list)), 0
	for i, item := range list {
		part, is := item.(string)
		if !is {
			return nil, errUnfit
		}
		parts[i] = part
		if size += len(part) + len(sep); size > maxText {
			return nil, errText
		}
	}

	if err := e.budget.Bytes(size + itemBytes*len(list)); err != nil {
		return nil, err
	}

	return strings.Join(parts, sep), nil
}

// maxText is the most that join makes: no file of a volume holds more.
const maxText = 4 << 20

var errText = errors.New("makes a text of more than 4 MiB")

func (e *evaluator) keys(args []any) (any, error) {
	m, is := args[0].(map[string]any)
	if !is {
		return nil, errUnfit
	}
	if err := e.budget.Bytes(2 * itemBytes * len(m)); err != nil {
		return nil, err
	}
	out := make([]any, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })

	return out, nil
}

func length(e *evaluator, args []any) (any, error) {
	n := 0
	switch v := args[0].(type) {
	case string:
		n = utf8.RuneCountInString(v)
		if err := e.budget.Work(len(v)); err != nil {
			return nil, err
		}
	case []any:
		n = len(v)
	case map[string]any:
		n = len(v)
	default:
		return nil, errUnfit
	}

	return json.Number(strconv.Itoa(n)), nil
}

func (e *evaluator) mapped(args []any) (any, error) {
	ref, isRef := args[0].(expRef)
	list, isList := args[1].([]any)
	if !isRef || !isList {
		return nil, errUnfit
	}
	if err := e.budget.Bytes(itemBytes * len(list)); err != nil {
		return nil, err
	}
	out := make([]any, len(list))
	for i, item := range list {
		var err error
		if out[i], err = e.eval(ref.node, item); err != nil {
			return nil, err
		}
	}

	return out, nil
}

// by are the values that max_by, min_by and sort_by compare.
func (e *evaluator) by(args []any) (any, error) {
	_, isRef := args[1].(expRef)
	if !isRef {
		return nil, errUnfit
	}
	return e.mapped([]any{args[1], args[0]})
}

// comparable says whether all items are numbers, or all texts.
func comparable(items []any) bool {
	numbers := slices.IndexFunc(items, func(v any) bool { return !isNumber(v) }) < 0
	texts := slices.IndexFunc(items, func(v any) bool { _, is := v.(string); return !is }) < 0
	return numbers || texts
}

// extreme is the item whose key is the largest, or the smallest.
func extreme(items, keys any, largest bool) (any, error) {
	list, isList := items.([]any)
	by, _ := keys.([]any)
	if !isList || !comparable(by) {
		return nil, errUnfit
	}
	if len(list) == 0 {
		return nil, nil
	}
	best := 0
	for i := range by {
		if o := order(by[i], by[best]); largest && o > 0 || !largest && o < 0 {
			best = i
		}
	}

	return list[best], nil
}

func (e *evaluator) sorted(items, keys any) (any, error) {
	list, isList := items.([]any)
	by, _ := keys.([]any)
	if !isList || !comparable(by) {
		return nil, errUnfit
	}
	if err := e.budget.Bytes(2 * itemBytes * len(list)); err != nil {
		return nil, err
	}
	if err := e.budget.Work(20 * stepWork * len(list)); err != nil {
		return nil, err
	}

	at := make([]int, len(list))
	for i := range at {
		at[i] = i
	}
	slices.SortStableFunc(at, func(a, b int) int { return order(by[a], by[b]) })
	out := make([]any, len(list))
	for i, from := range at {
		out[i] = list[from]
	}

	return out, nil
}

func (e *evaluator) merge(args []any) (any, error) {
	out := map[string]any{}
	for _, arg := range args {
		m, is := arg.(map[string]any)
		if !is {
			return nil, errUnfit
		}
		if err := e.budget.Bytes(3 * itemBytes * len(m)); err != nil {
			return nil, err
		}
		for k, v := range m {
			out[k] = v
		}
	}

	return out, nil
}

func (e *evaluator) reverse(args []any) (any, error) {
	if text, is := args[0].(string); is {
		if err := e.budget.Bytes(5 * len(text)); err != nil {
			return nil, err
		}
		runes := []rune(text)
		slices.Reverse(runes)
		return string(runes), nil
	}

	list, is := args[0].([]any)
	if !is {
		return nil, errUnfit
	}
	if err := e.budget.Bytes(itemBytes * len(list)); err != nil {
		return nil, err
	}
	out := slices.Clone(list)
	slices.Reverse(out)

	return out, nil
}

func typeName(_ *evaluator, args []any) (any, error) {
	switch args[0].(type) {
	case nil:
		return "null", nil
	case bool:
		return "boolean", nil
	case string:
		return "string", nil
	case []any:
		return "array", nil
	case map[string]any:
		return "object", nil
	}

	return "number", nil
}
