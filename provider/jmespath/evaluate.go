package jmespath

import (
	"maps"
	"slices"

	"github.com/jmespath-community/go-jmespath/pkg/parsing"

	"github.com/coffre-csi/coffre/provider/budget"
)

// evaluator walks one expression over one value. The rules are those of
// https://jmespath.org/specification.html; objects are walked in the order of
// their keys, so that every node of the cluster sees the same.
type evaluator struct{ budget *budget.Budget }

// What an evaluation is charged: a step is the visit of one node of the
// expression, an item a place in a list that it makes.
const (
	stepWork  = 16
	itemBytes = 32
)

// expRef is an argument &expression, which a function evaluates itself.
type expRef struct{ node parsing.ASTNode }

func (e *evaluator) eval(n parsing.ASTNode, v any) (any, error) {
	if err := e.budget.Work(stepWork); err != nil {
		return nil, err
	}

	switch n.NodeType {
	case parsing.ASTIdentity, parsing.ASTCurrentNode:
		return v, nil
	case parsing.ASTLiteral:
		return n.Value, nil
	case parsing.ASTField:
		m, _ := v.(map[string]any)
		return m[n.Value.(string)], nil
	case parsing.ASTIndex:
		return index(v, n.Value.(int)), nil
	case parsing.ASTSubexpression, parsing.ASTIndexExpression, parsing.ASTPipe:
		return e.inTurn(n.Children, v)
	case parsing.ASTKeyValPair:
		return e.eval(n.Children[0], v)
	case parsing.ASTExpRef:
		return expRef{n.Children[0]}, nil
	case parsing.ASTFunctionExpression:
		return e.call(n, v)
	case parsing.ASTComparator:
		return e.compare(n, v)
	case parsing.ASTOrExpression, parsing.ASTAndExpression, parsing.ASTNotExpression:
		return e.logic(n, v)
	case parsing.ASTMultiSelectList, parsing.ASTMultiSelectHash:
		return e.multiSelect(n, v)
	}

	return e.project(n, v)
}

// inTurn hands each result to the next.
func (e *evaluator) inTurn(nodes []parsing.ASTNode, v any) (any, error) {
	var err error
	for _, n := range nodes {
		if v, err = e.eval(n, v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (e *evaluator) logic(n parsing.ASTNode, v any) (any, error) {
	left, err := e.eval(n.Children[0], v)
	if err != nil {
		return nil, err
	}
	switch {
	case n.NodeType == parsing.ASTNotExpression:
		return isFalse(left), nil
	case n.NodeType == parsing.ASTOrExpression && !isFalse(left), n.NodeType == parsing.ASTAndExpression && isFalse(left):
		return left, nil
	}
	return e.eval(n.Children[1], v)
}

func (e *evaluator) multiSelect(n parsing.ASTNode, v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	if err := e.budget.Bytes(3 * itemBytes * len(n.Children)); err != nil {
		return nil, err
	}

	list, object := make([]any, 0, len(n.Children)), map[string]any{}
	for _, child := range n.Children {
		item, err := e.eval(child, v)
		if err != nil {
			return nil, err
		}
		if key, is := child.Value.(string); is && child.NodeType == parsing.ASTKeyValPair {
			object[key] = item
		}
		list = append(list, item)
	}

	if n.NodeType == parsing.ASTMultiSelectHash {
		return object, nil
	}

	return list, nil
}

// project evaluates what makes a list of a list: projections, filters,
// flattening and slices.
func (e *evaluator) project(n parsing.ASTNode, v any) (any, error) {
	if n.NodeType == parsing.ASTSlice {
		return e.slice(v, n.Value.([]*int))
	}
	left, err := e.eval(n.Children[0], v)
	if err != nil {
		return nil, err
	}

	items, isList := left.([]any)
	if m, is := left.(map[string]any); is && n.NodeType == parsing.ASTValueProjection {
		if items, err = e.values(m); err != nil {
			return nil, err
		}
	} else if !isList || n.NodeType == parsing.ASTValueProjection {
		return nil, nil
	}
	if n.NodeType == parsing.ASTFlatten {
		return e.flatten(items)
	}

	if err := e.budget.Bytes(itemBytes * len(items)); err != nil {
		return nil, err
	}
	out := make([]any, 0, len(items))
	for _, item := range items {
		if n.NodeType == parsing.ASTFilterProjection {
			if match, err := e.eval(n.Children[2], item); err != nil {
				return nil, err
			} else if isFalse(match) {
				continue
			}
		}

		item, err := e.eval(n.Children[1], item)
		if err != nil {
			return nil, err
		}
		if item != nil {
			out = append(out, item)
		}
	}

	return out, nil
}

func (e *evaluator) flatten(items []any) (any, error) {
	size := 0
	for _, item := range items {
		size++
		if inner, isList := item.([]any); isList {
			size += len(inner) - 1
		}
	}

	if err := e.budget.Bytes(itemBytes * size); err != nil {
		return nil, err
	}

	out := make([]any, 0, size)
	for _, item := range items {
		if inner, isList := item.([]any); isList {
			out = append(out, inner...)
		} else {
			out = append(out, item)
		}
	}

	return out, nil
}

func (e *evaluator) values(m map[string]any) ([]any, error) {
	if err := e.budget.Bytes(2 * itemBytes * len(m)); err != nil {
		return nil, err
	}
	out := make([]any, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out, nil
}

func (e *evaluator) compare(n parsing.ASTNode, v any) (any, error) {
	left, err := e.eval(n.Children[0], v)
	if err != nil {
		return nil, err
	}
	right, err := e.eval(n.Children[1], v)
	if err != nil {
		return nil, err
	}

	op := n.Value.(parsing.TokType)
	if op == parsing.TOKEQ || op == parsing.TOKNE {
		same, err := e.equal(left, right)
		return same == (op == parsing.TOKEQ), err
	}
	if !isNumber(left) || !isNumber(right) {
		return nil, nil
	}
	order := order(left, right)
	switch op {
	case parsing.TOKLT:
		return order < 0, nil
	case parsing.TOKLTE:
		return order <= 0, nil
	case parsing.TOKGT:
		return order > 0, nil
	default:
		return order >= 0, nil
	}
}

// equal says whether two values are one, numbers by what they come to.
func (e *evaluator) equal(a, b any) (bool, error) {
	if err := e.budget.Work(stepWork); err != nil {
		return false, err
	}
	if isNumber(a) && isNumber(b) {
		return order(a, b) == 0, nil
	}

	switch a := a.(type) {
	case string:
		b, is := b.(string)
		return is && a == b, e.budget.Work(len(a))
	case []any:
		b, is := b.([]any)
		if !is || len(a) != len(b) {
			return false, nil
		}
		for i := range a {
			if same, err := e.equal(a[i], b[i]); !same || err != nil {
				return false, err
			}
		}

		return true, nil
	case map[string]any:
		b, is := b.(map[string]any)
		if !is || len(a) != len(b) {
			return false, nil
		}
		for k := range a {
			other, has := b[k]
			if same, err := e.equal(a[k], other); !has || !same || err != nil {
				return false, err
			}
		}

		return true, nil
	case bool, nil:
		return a == b, nil
	}

	return false, nil
}

func index(v any, i int) any {
	list, _ := v.([]any)
	if i < 0 {
		i += len(list)
	}
	if i < 0 || i >= len(list) {
		return nil
	}
	return list[i]
}

// slice is list[start:stop:step].
func (e *evaluator) slice(v any, parts []*int) (any, error) {
	list, is := v.([]any)
	if !is {
		return nil, nil
	}
	step := 1
	if parts[2] != nil {
		step = *parts[2]
	}
	if step == 0 {
		return nil, errUnfit
	}

	// Ends are held to the list, and to the place before it going down.
	low, high := 0, len(list)
	if step < 0 {
		low, high = -1, len(list)-1
	}
	end := func(part *int, otherwise int) int {
		if part == nil {
			return otherwise
		}
		at := *part
		if at < 0 {
			at += len(list)
		}
		return min(max(at, low), high)
	}

	start, stop := end(parts[0], low), end(parts[1], high)
	if step < 0 {
		start, stop = end(parts[0], high), end(parts[1], low)
	}
	// A step past the list is one past it, and overflows nothing.
	step = min(max(step, -len(list)-1), len(list)+1)

	if err := e.budget.Bytes(itemBytes * len(list)); err != nil {
		return nil, err
	}
	out := []any{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		out = append(out, list[i])
	}

	return out, nil
}

func isFalse(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}

	return false
}
