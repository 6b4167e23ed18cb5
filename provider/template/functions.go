package template

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/jsontext"
)

// Functions that Parse puts into a template: one is called once a round and
// charges it, the other charges what it is given and hands it on.
const (
	stepFunc  = "coffre_step"
	weighFunc = "coffre_weigh"
)

// compares are text/template's own functions whose cost is their arguments'.
var compares = map[string]bool{"eq": true, "ne": true, "lt": true, "le": true, "gt": true, "ge": true, "index": true}

// builtin are text/template's own functions that are used as they are.
const builtin = `and or not call eq ne lt le gt ge index slice len`

// own are Coffre's, and those of text/template and Sprig that it makes itself.
const own = stepFunc + " " + weighFunc + ` fromJson print println html js urlquery printf repeat indent nindent replace join
	regexMatch regexFind regexReplaceAll regexReplaceAllLiteral until uniq`

// names are those of all functions that a template may call.
func names() []string { return strings.Fields(builtin + " " + own + " " + fromSprig) }

// fromSprig are the functions taken from Sprig as they are. Each makes at most
// a small multiple of what it is given, so that checking its result is enough.
// Left out besides what is not hermetic: what multiplies (guarded below), what
// builds lists and dictionaries (nested in themselves they print without end),
// fail (its text would carry values into events), and keys and certificates
// made at random, which would differ on every node.
const fromSprig = `
	trim trimAll trimPrefix trimSuffix upper lower title untitle substr trunc nospace swapcase
	snakecase camelcase kebabcase contains hasPrefix hasSuffix quote squote cat
	splitList first last has keys values hasKey get sortAlpha
	default empty coalesce ternary toString atoi int int64 float64 kindIs kindOf
	add add1 sub mul div mod max min floor ceil
	b64enc b64dec b32enc b32dec sha1sum sha256sum sha512sum
	toJson toPrettyJson toRawJson
	regexQuoteMeta
	base dir ext clean urlParse`

// run is one execution: what it may cost still.
type run struct {
	budget *budget.Budget
	left   int // rounds
}

func (r *run) step(cost int) (string, error) {
	if r.left--; r.left < 0 {
		return "", errSteps
	}
	return "", r.budget.Work(cost)
}

// functions is the whole set, charging to the run.
func (r *run) functions() template.FuncMap {
	all := sprig.HermeticTxtFuncMap()
	funcs := template.FuncMap{
		stepFunc: r.step,
		weighFunc: func(v any) (any, error) {
			return v, r.weigh(reflect.ValueOf(v), 0)
		},
	}

	for _, name := range strings.Fields(fromSprig) {
		funcs[name] = r.checked(all[name])
	}
	funcs["fromJson"] = func(text string) (any, error) {
		return jsontext.Parse(r.budget, []byte(text)) // Sprig's hides a text that is no JSON, and rounds
	}
	// text/template's own that make text.
	funcs["print"] = r.checked(fmt.Sprint)
	funcs["println"] = r.checked(fmt.Sprintln)
	funcs["html"] = r.checked(template.HTMLEscaper)
	funcs["js"] = r.checked(template.JSEscaper)
	funcs["urlquery"] = r.checked(template.URLQueryEscaper)
	// What multiplies its input is measured before it runs.
	funcs["printf"] = r.checked(func(format string, args ...any) (string, error) {
		if err := r.checkFormat(format, args); err != nil {
			return "", err
		}
		return fmt.Sprintf(format, args...), nil
	})

	funcs["repeat"] = func(count int, s string) (string, error) {
		return r.bounded(count*len(s), func() string { return strings.Repeat(s, max(count, 0)) }, count, len(s))
	}
	funcs["indent"] = r.indent
	funcs["nindent"] = func(spaces int, s string) (string, error) {
		s, err := r.indent(spaces, s)
		return "\n" + s, err
	}
	funcs["replace"] = func(old, new, s string) (string, error) {
		if err := r.budget.Work(2 * len(s)); err != nil {
			return "", err
		}
		n := strings.Count(s, old)
		return r.bounded(len(s)+n*len(new), func() string { return strings.ReplaceAll(s, old, new) }, n, len(new))
	}

	funcs["join"] = r.join
	funcs["uniq"] = r.uniq
	r.regexps(funcs)
	funcs["until"] = func(n int) ([]int, error) {
		if n < 0 || n > MaxSteps {
			return nil, errSteps
		}
		if err := r.budget.Bytes(8 * n); err != nil {
			return nil, err
		}
		list := make([]int, n)
		for i := range list {
			list[i] = i
		}
		return list, nil
	}

	return funcs
}

// regexps are the functions that match.
func (r *run) regexps(funcs template.FuncMap) {
	matched := func(pattern, s string, f func(*budget.Pattern) (string, error)) (string, error) {
		re, err := r.budget.Compile(pattern)
		if err != nil {
			return "", err
		}
		if err := re.Match(r.budget, len(s)); err != nil {
			return "", err
		}
		return f(re)
	}

	funcs["regexMatch"] = func(pattern, s string) (bool, error) {
		is := false
		_, err := matched(pattern, s, func(re *budget.Pattern) (string, error) {
			is = re.MatchString(s)
			return "", nil
		})
		return is, err
	}

	funcs["regexFind"] = func(pattern, s string) (string, error) {
		return matched(pattern, s, func(re *budget.Pattern) (string, error) { return re.FindString(s), nil })
	}
	funcs["regexReplaceAll"] = func(pattern, s, with string) (string, error) {
		return matched(pattern, s, func(re *budget.Pattern) (string, error) {
			return replaced(re.Replace(r.budget, s, with, MaxText))
		})
	}

	funcs["regexReplaceAllLiteral"] = func(pattern, s, with string) (string, error) {
		return matched(pattern, s, func(re *budget.Pattern) (string, error) {
			return replaced(re.Replace(r.budget, s, strings.ReplaceAll(with, "$", "$$"), MaxText))
		})
	}
}

func replaced(s string, err error) (string, error) {
	if errors.Is(err, budget.ErrTooLong) {
		err = errText
	}
	return s, err
}

// checkFormat refuses formats whose verbs multiply: wide ones, and those that
// write one argument again and again (%[1]s).
func (r *run) checkFormat(format string, args []any) error {
	if wide.MatchString(format) || len(format) > 4096 {
		return errText
	}
	verbs := strings.Count(format, "%")
	if err := r.budget.Bytes(1024 * verbs); err != nil {
		return err
	}
	if !strings.Contains(format, "[") {
		return nil
	}

	longest := 0
	for _, arg := range args {
		longest = max(longest, len(fmt.Sprint(arg)))
	}
	if verbs*longest > MaxText {
		return errText
	}

	return r.made(4 * verbs * longest)
}

// wide finds widths and precisions of four digits and more, and those given as
// arguments.
var wide = regexp.MustCompile(`%[^%a-zA-Z]*(\d{4,}|\*)`)

// bounded runs make where its result, size bytes at most, and each factor of
// it (a product may overflow) are within the limit.
func (r *run) bounded(size int, make func() string, factors ...int) (string, error) {
	for _, f := range append(factors, size) {
		if f > MaxText {
			return "", errText
		}
	}

	if err := r.made(max(size, 0)); err != nil {
		return "", err
	}
	s := make()
	if len(s) > MaxText {
		return "", errText
	}

	return s, nil
}

// made charges a text of n bytes.
func (r *run) made(n int) error {
	if err := r.budget.Work(16 + n); err != nil {
		return err
	}
	return r.budget.Bytes(n)
}

func (r *run) indent(spaces int, s string) (string, error) {
	if err := r.budget.Work(len(s)); err != nil {
		return "", err
	}
	n := strings.Count(s, "\n") + 1
	return r.bounded(len(s)+n*spaces, func() string {
		pad := strings.Repeat(" ", max(spaces, 0))
		return pad + strings.ReplaceAll(s, "\n", "\n"+pad)
	}, n, spaces)
}

func (r *run) join(sep string, list any) (string, error) {
	if err := r.weigh(reflect.ValueOf(list), 0); err != nil {
		return "", err
	}
	parts := strslice(list)
	size := len(parts) * len(sep)
	for _, p := range parts {
		size += len(p)
	}
	return r.bounded(size, func() string { return strings.Join(parts, sep) }, len(parts), len(sep))
}

// uniq is Sprig's, which compares every item with every one kept: here by
// their JSON, in one pass.
func (r *run) uniq(list any) ([]any, error) {
	v := reflect.ValueOf(list)
	if v.Kind() != reflect.Slice {
		return nil, fmt.Errorf("is no list")
	}
	if err := r.weigh(v, 0); err != nil {
		return nil, err
	}
	seen, out := map[string]bool{}, []any{}
	for i := range v.Len() {
		item := v.Index(i).Interface()
		key := fmt.Sprintf("%T %v", item, item)
		if err := r.made(64 + 2*len(key)); err != nil {
			return nil, err
		}
		if !seen[key] {
			seen[key] = true
			out = append(out, item)
		}
	}

	return out, nil
}

func strslice(list any) []string {
	v := reflect.ValueOf(list)
	if v.Kind() != reflect.Slice {
		return []string{fmt.Sprint(list)}
	}
	parts := make([]string, v.Len())
	for i := range parts {
		parts[i] = fmt.Sprint(v.Index(i).Interface())
	}
	return parts
}

// weigh charges what a function reads of an argument: its text and its items.
func (r *run) weigh(v reflect.Value, depth int) error {
	for v.IsValid() && v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() || depth > jsontext.MaxDepth {
		return r.budget.Work(1)
	}
	switch v.Kind() {
	case reflect.String:
		return r.budget.Work(4 + 2*v.Len())
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if err := r.weigh(v.Index(i), depth+1); err != nil {
				return err
			}
		}
	case reflect.Map:
		for items := v.MapRange(); items.Next(); {
			if err := r.weigh(items.Key(), depth+1); err != nil {
				return err
			}
			if err := r.weigh(items.Value(), depth+1); err != nil {
				return err
			}
		}
	}

	return r.budget.Work(8)
}

// resultFactor is by how much the functions taken from Sprig use memory over
// what they are given: copies, lists of parts, and escapes.
const resultFactor = 4

// checked wraps a function so that what it reads and makes is charged, and a
// text over the limit is an error.
func (r *run) checked(fn any) any {
	f := reflect.ValueOf(fn)
	t := f.Type()
	in := make([]reflect.Type, t.NumIn())
	for i := range in {
		in[i] = t.In(i)
	}
	errType := reflect.TypeFor[error]()
	wrapped := reflect.FuncOf(in, []reflect.Type{t.Out(0), errType}, t.IsVariadic())
	failed := func(err error) []reflect.Value {
		return []reflect.Value{reflect.Zero(t.Out(0)), reflect.ValueOf(&err).Elem()}
	}
	return reflect.MakeFunc(wrapped, func(args []reflect.Value) []reflect.Value {
		size := 0
		for _, arg := range args {
			if err := r.weigh(arg, 0); err != nil {
				return failed(err)
			}
			size += length(arg)
		}

		if err := r.budget.Bytes(64 + resultFactor*size); err != nil {
			return failed(err)
		}

		var out []reflect.Value
		if t.IsVariadic() {
			out = f.CallSlice(args)
		} else {
			out = f.Call(args)
		}
		if len(out) == 2 && !out[1].IsNil() {
			return failed(out[1].Interface().(error))
		}
		if s, ok := out[0].Interface().(string); ok && len(s) > MaxText {
			return failed(errText)
		}
		if err := r.made(length(out[0])); err != nil {
			return failed(err)
		}
		return []reflect.Value{out[0], reflect.Zero(errType)}
	}).Interface()
}

// length is what a value itself holds: the bytes of a text, the places of a
// list.
func length(v reflect.Value) int {
	for v.IsValid() && v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		return 0
	}
	switch v.Kind() {
	case reflect.String:
		return v.Len()
	case reflect.Slice:
		n := 16 * v.Len()
		for i := range min(v.Len(), 100_000) {
			if e := v.Index(i); e.Kind() == reflect.String || e.Kind() == reflect.Interface {
				n += length(e)
			}
		}

		return n
	case reflect.Map:
		return 64 * v.Len()
	}

	return 0
}
