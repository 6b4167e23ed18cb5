package jmespath

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/jsontext"
	"github.com/coffre-csi/coffre/test/cost"
)

// search parses and searches.
func search(expression string, value []byte, nonString bool) ([]byte, error) {
	b := budget.New(context.Background(), nil, "")
	e, err := Parse(b, expression)
	if err != nil {
		return nil, err
	}
	data, err := jsontext.Parse(b, value)
	if err != nil {
		return nil, err
	}
	return e.Search(b, data, nonString)
}

func TestJMESPathSelectsText(t *testing.T) {
	const value = `{"db":{"user":"u","pw":"p"},"n":3,"big":12345678901234567890,"b":true,"list":["x","y"],"nul":null,"api-key":"k","empty":""}`
	for expression, want := range map[string]string{
		"db.user": "u", `"api-key"`: "k", "to_string(n)": "3", "join(',', list)": "x,y", "empty": "", "list[0]": "x", "db.[user,pw]|[1]": "p",
	} {
		if got, err := search(expression, []byte(value), false); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", expression, got, err)
		}
	}
	for expression, want := range map[string]string{"n": "3", "big": "12345678901234567890", "b": "true", "list": `["x","y"]`, "db": `{"pw":"p","user":"u"}`} {
		if got, err := search(expression, []byte(value), true); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", expression, got, err)
		}
		if _, err := search(expression, []byte(value), false); err == nil || !strings.Contains(err.Error(), "not text") {
			t.Errorf("%s: %v", expression, err)
		}
	}
	for expression, want := range map[string]string{
		"nope": "selects nothing", "nul": "selects nothing", "`null`()": "is no JMESPath", "abs(db.pw)": "does not work on this value",
		"join(db, db)": "does not work", "db.[": "is no JMESPath", "&db": "cannot be written", "[&db]": "cannot be written",
	} {
		_, err := search(expression, []byte(value), true)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", expression, err, want)
		}
	}
}

func TestNumbersKeepTheirTextAndTextStandsAsItIs(t *testing.T) {
	const value = `{"nest":{"id":9007199254740993,"f":1.10,"h":"a<b>&c"},"list":[3,1.0,9007199254740993,9007199254740992],"exp":1e2}`
	for expression, want := range map[string]string{
		"nest": `{"f":1.10,"h":"a<b>&c","id":9007199254740993}`, "to_string(nest.id)": "9007199254740993", "to_string(nest)": `{"f":1.10,"h":"a<b>&c","id":9007199254740993}`,
		"sort(list)": "[1.0,3,9007199254740992,9007199254740993]", "max(list)": "9007199254740993", "sum(list[2:])": "18014398509481985", "abs(nest.f)": "1.10",
		"to_number('007')": "7", "to_number('1.10')": "1.10", "ceil(nest.f)": "2", "floor(nest.id)": "9007199254740993", "exp": "1e2", "exp == `100`": "true",
		"list[?@ == `9007199254740993`]": "[9007199254740992]", // a literal is a float64
		"list[?@ > `2.5`] | length(@)":   "3",
	} {
		if got, err := search(expression, []byte(value), true); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v; want %s", expression, got, err, want)
		}
	}
	if got, err := search("x.y", []byte(`{"x":{"y":"1","y":"2"},"x":{"y":"3","y":"4"}}`), false); err != nil || string(got) != "4" {
		t.Errorf("a doubled key: got %q, %v; want the last", got, err)
	}
}

func TestAnExpressionMayBeLongAndHaveManyCommas(t *testing.T) {
	const value = `{"username":"u","password":"p","host":"h","port":5432,"dbname":"d"}`
	const url = `join('', ['postgresql://', username, ':', password, '@', host, ':', to_string(port), '/', dbname])`
	if got, err := search(url, []byte(value), false); err != nil || string(got) != "postgresql://u:p@h:5432/d" {
		t.Errorf("got %q, %v", got, err)
	}
	long := "join(',', [" + strings.Repeat("username, ", 1000) + "username])"
	if got, err := search(long, []byte(value), false); err != nil || len(got) != 2001 {
		t.Errorf("got %d bytes, %v; want 2001", len(got), err)
	}
}

func TestWhatAnExpressionCostsAndGrowsToIsBoundedWhileItRuns(t *testing.T) {
	value := []byte(`{"a":"` + strings.Repeat("x", 1000) + `","list":[` + strings.Repeat("1,", 5000) + `1]}`)
	for name, expression := range map[string]string{
		"doubling text":     "@" + strings.Repeat("|[@]|to_string(@)", 40),
		"doubling lists":    "@" + strings.Repeat("|[@,@]", 60) + strings.Repeat("|[]", 60),
		"doubling by key":   "@" + strings.Repeat("|{a:@,b:@}", 40) + "|to_string(@)",
		"doubling by map":   "list" + strings.Repeat("|map(&[@,@],@)|[]", 30),
		"doubling by join":  "a" + strings.Repeat("|join('',[@,@])", 40),
		"square":            "list[?contains(`[1,2]`,@)].[@]|[?length(@)==`1`]|map(&to_string(@),@)|" + strings.Repeat("[join('',@),join('',@)]|", 40) + "@",
		"quadratic":         "{l:list,m:list}|map(&contains('x',to_string(@)),l)|" + strings.Repeat("[@,@][]|", 40) + "@",
		"nested projection": "[@][*]" + strings.Repeat(".[@,@][]", 60),
		"merged":            "[@]" + strings.Repeat("|[@[0],@[0]]|[merge(@[0],{z:@})]", 60) + "|to_string(@)",
		"deep":              strings.Repeat("[", 8000) + "@" + strings.Repeat("]", 8000),
		"equal":             "@" + strings.Repeat("|[@,@]", 60) + "|@==@",
	} {
		began := time.Now()
		got, err := search(expression, value, true)
		if err == nil {
			t.Errorf("%s: got %d bytes, want an error", name, len(got))
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: took %s, want under 10 s", name, took)
		}
	}
}

func TestAFaultyExpressionIsRefusedBeforeAnyValueIsRead(t *testing.T) {
	for expression, want := range map[string]string{
		strings.Repeat("(", 2000): "no JMESPath expression", "a..b": "no JMESPath expression", "": "no JMESPath expression", "foo(": "no JMESPath expression",
		"user-name": `'"user-name"'`, "$.a": "$", "let $x = a in $x": "let", strings.Repeat("a", 17<<10): "the limit is 16384",
	} {
		if _, err := Parse(nil, expression); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %q", expression, err, want)
		}
	}
}

func TestJMESPathErrorsShowNoValue(t *testing.T) {
	for _, expression := range []string{"abs(pw)", "avg(pw)", "join(pw, pw)", "length(n)", "sort_by(list, &@)", "to_number(list)", "max(list)"} {
		_, err := search(expression, []byte(`{"pw":"hunter2","n":31337,"list":["hunter2",1]}`), false)
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "31337")) {
			t.Errorf("%s: %v", expression, err)
		}
	}
}

func FuzzSearch(f *testing.F) {
	for _, e := range []string{"db.user", "`null`()", "join(',', list)", "[@,@]|[@,@]", "sort_by(list,&@)[0]", "list[?@=='x']|[0]", "a.*.b[].{c:d}"} {
		f.Add(e, `{"db":{"user":"u"},"list":["x",1,null,{"a":[[]]}]}`)
	}
	f.Add("@"+strings.Repeat("|[@]|to_string(@)", 40), `"x"`)
	f.Add("@"+strings.Repeat("|[@,@]", 60)+strings.Repeat("|[]", 60), `"x"`)
	f.Fuzz(func(t *testing.T, expression, value string) {
		cost.Of(t, len(expression)+len(value), func() { _, _ = search(expression, []byte(value), true) })
	})
}
