package jmespath

import (
	"cmp"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// Numbers are json.Number, so that a large integer or 1.10 stays what it is;
// they are compared and added as integers where they are integers, else as
// float64.

func isNumber(v any) bool {
	_, is := v.(json.Number)
	return is
}

// order compares two numbers, or two texts.
func order(a, b any) int {
	if text, is := a.(string); is {
		return strings.Compare(text, b.(string))
	}
	x, y := a.(json.Number), b.(json.Number)
	i, errI := strconv.ParseInt(string(x), 10, 64)
	j, errJ := strconv.ParseInt(string(y), 10, 64)
	if errI == nil && errJ == nil {
		return cmp.Compare(i, j)
	}
	if x == y {
		return 0
	}

	return cmp.Compare(float(x), float(y))
}

// float is a number as a float64, infinite where it is too large.
func float(n json.Number) float64 {
	f, _ := strconv.ParseFloat(string(n), 64)
	return f
}

// number is f as JSON writes it.
func number(f float64) (any, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return nil, errUnfit
	}
	return json.Number(text), nil
}

// rounded keeps integers as they are written.
func rounded(n json.Number, round func(float64) float64) json.Number {
	if !strings.ContainsAny(string(n), ".eE") {
		return n
	}
	text, err := json.Marshal(round(float(n)))
	if err != nil {
		return n
	}
	return json.Number(text)
}

// total is the sum of a list of numbers, or its average: nothing for none.
func total(v any, average bool) (any, error) {
	list, is := v.([]any)
	if !is {
		return nil, errUnfit
	}
	exact, whole, sum := true, int64(0), 0.0
	for _, item := range list {
		n, is := item.(json.Number)
		if !is {
			return nil, errUnfit
		}
		i, err := strconv.ParseInt(string(n), 10, 64)
		overflows := i > 0 && whole > math.MaxInt64-i || i < 0 && whole < math.MinInt64-i
		exact = exact && err == nil && !overflows
		whole, sum = whole+i, sum+float(n)
	}

	switch {
	case average && len(list) == 0:
		return nil, nil
	case average:
		return number(sum / float64(len(list)))
	case exact:
		return json.Number(strconv.FormatInt(whole, 10)), nil
	}

	return number(sum)
}

// toNumber keeps a number's text where it is one that JSON has.
func toNumber(_ *evaluator, args []any) (any, error) {
	switch v := args[0].(type) {
	case json.Number:
		return v, nil
	case string:
		if f, err := strconv.ParseFloat(v, 64); err != nil {
			return nil, nil
		} else if json.Valid([]byte(v)) && strings.TrimSpace(v) == v {
			return json.Number(v), nil
		} else {
			return number(f)
		}
	}

	return nil, nil
}
