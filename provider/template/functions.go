package template

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
)

// stepFunc is called once a round; see countSteps.
const stepFunc = "coffre_step"

// fromSprig are the functions taken from Sprig as they are. Each makes at most
// a small multiple of what it is given, so that checking its result is enough.
// Left out besides what is not hermetic: what multiplies (guarded below), what
// builds lists and dictionaries (nested in themselves they print without end),
// fail (its text would carry values into events), and keys and certificates
// made at random, which would differ on every node.
const fromSprig = `
	trim trimAll trimPrefix trimSuffix upper lower title untitle substr trunc nospace swapcase
	snakecase camelcase kebabcase contains hasPrefix hasSuffix quote squote cat
	splitList first last has keys values hasKey get sortAlpha uniq
	default empty coalesce ternary toString atoi int int64 float64 kindIs kindOf
	add add1 sub mul div mod max min floor ceil
	b64enc b64dec b32enc b32dec sha1sum sha256sum sha512sum
	toJson toPrettyJson toRawJson
	regexMatch regexFind regexQuoteMeta
	base dir ext clean urlParse`

// functions is the whole set. left counts the steps down; nil is for parsing.
func functions(left *int) template.FuncMap {
	all := sprig.HermeticTxtFuncMap()
	funcs := template.FuncMap{
		stepFunc: func() (string, error) {
			if *left--; *left < 0 {
				return "", errSteps
			}
			return "", nil
		},
	}
	for _, name := range strings.Fields(fromSprig) {
		funcs[name] = checked(all[name])
	}
	funcs["fromJson"] = all["mustFromJson"] // Sprig's fromJson hides a text that is no JSON
	// text/template's own that make text.
	funcs["print"] = checked(fmt.Sprint)
	funcs["println"] = checked(fmt.Sprintln)
	funcs["html"] = checked(template.HTMLEscaper)
	funcs["js"] = checked(template.JSEscaper)
	funcs["urlquery"] = checked(template.URLQueryEscaper)
	// What multiplies its input is measured before it runs.
	funcs["printf"] = checked(func(format string, args ...any) (string, error) {
		if wide.MatchString(format) || len(format) > 4096 {
			return "", errText
		}
		return fmt.Sprintf(format, args...), nil
	})
	funcs["repeat"] = func(count int, s string) (string, error) {
		return bounded(count*len(s), func() string { return strings.Repeat(s, max(count, 0)) }, count, len(s))
	}
	funcs["indent"] = indent
	funcs["nindent"] = func(spaces int, s string) (string, error) {
		s, err := indent(spaces, s)
		return "\n" + s, err
	}
	funcs["replace"] = func(old, new, s string) (string, error) {
		n := strings.Count(s, old)
		return bounded(len(s)+n*len(new), func() string { return strings.ReplaceAll(s, old, new) }, n, len(new))
	}
	funcs["join"] = func(sep string, list any) (string, error) {
		parts := strslice(list)
		return bounded(len(parts)*len(sep), func() string { return strings.Join(parts, sep) }, len(parts), len(sep))
	}
	funcs["regexReplaceAll"] = func(pattern, s, with string) (string, error) {
		if len(s) > 64<<10 || len(with) > 256 {
			return "", errText
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			return "", err
		}
		return bounded(0, func() string { return re.ReplaceAllString(s, with) })
	}
	funcs["regexReplaceAllLiteral"] = func(pattern, s, with string) (string, error) {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return "", err
		}
		return bounded((len(s)+1)*len(with), func() string { return re.ReplaceAllLiteralString(s, with) }, len(s), len(with))
	}
	funcs["until"] = func(n int) ([]int, error) {
		if n < 0 || n > MaxSteps {
			return nil, errSteps
		}
		list := make([]int, n)
		for i := range list {
			list[i] = i
		}
		return list, nil
	}
	return funcs
}

// wide finds widths and precisions of four digits and more, and those given as
// arguments.
var wide = regexp.MustCompile(`%[^%a-zA-Z]*(\d{4,}|\*)`)

// bounded runs make where its result, size bytes at most, and each factor of
// it (a product may overflow) are within the limit.
func bounded(size int, make func() string, factors ...int) (string, error) {
	for _, f := range factors {
		if f > MaxText {
			return "", errText
		}
	}
	if size > MaxText {
		return "", errText
	}
	s := make()
	if len(s) > MaxText {
		return "", errText
	}
	return s, nil
}

func indent(spaces int, s string) (string, error) {
	n := strings.Count(s, "\n") + 1
	return bounded(len(s)+n*spaces, func() string {
		pad := strings.Repeat(" ", max(spaces, 0))
		return pad + strings.ReplaceAll(s, "\n", "\n"+pad)
	}, n, spaces)
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

// checked wraps a function so that a text over the limit is an error.
func checked(fn any) any {
	f := reflect.ValueOf(fn)
	t := f.Type()
	in := make([]reflect.Type, t.NumIn())
	for i := range in {
		in[i] = t.In(i)
	}
	errType := reflect.TypeFor[error]()
	wrapped := reflect.FuncOf(in, []reflect.Type{t.Out(0), errType}, t.IsVariadic())
	return reflect.MakeFunc(wrapped, func(args []reflect.Value) []reflect.Value {
		var out []reflect.Value
		if t.IsVariadic() {
			out = f.CallSlice(args)
		} else {
			out = f.Call(args)
		}
		err := reflect.Zero(errType)
		if len(out) == 2 {
			err = out[1]
		}
		if s, ok := out[0].Interface().(string); ok && len(s) > MaxText {
			err = reflect.ValueOf(&errText).Elem()
		}
		return []reflect.Value{out[0], err}
	}).Interface()
}
