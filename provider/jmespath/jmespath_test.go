package jmespath

import (
	"strings"
	"testing"
	"time"
)

// search parses and searches.
func search(expression string, value []byte, nonString bool) ([]byte, error) {
	e, err := Parse(expression)
	if err != nil {
		return nil, err
	}
	return e.Search(value, nonString)
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
	for expression, want := range map[string]string{"n": "3", "b": "true", "list": `["x","y"]`, "db": `{"pw":"p","user":"u"}`} {
		if got, err := search(expression, []byte(value), true); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", expression, got, err)
		}
		if _, err := search(expression, []byte(value), false); err == nil || !strings.Contains(err.Error(), "not text") {
			t.Errorf("%s: %v", expression, err)
		}
	}
	for expression, want := range map[string]string{
		"nope": "selects nothing", "nul": "selects nothing", "big": "too large to be exact", "`null`()": "does not work on this value", "abs(db.pw)": "does not work on this value",
		"join(db, db)": "does not work", "db.[": "is no JMESPath", "&db": "does not work on this value",
	} {
		_, err := search(expression, []byte(value), true)
		if expression == "&db" && err == nil {
			continue // an expression reference is written as what it is
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", expression, err, want)
		}
	}
}

func TestHostileJMESPathIsRefusedBeforeAnyValueIsRead(t *testing.T) {
	for _, expression := range []string{strings.Repeat("[@,@]|", 9) + "@", strings.Repeat("(", 2000), strings.Repeat("{a:@,b:@}|", 20) + "@", "a..b", "", "foo("} {
		if _, err := Parse(expression); err == nil {
			t.Errorf("%q is accepted", expression)
		}
	}
	if _, err := Parse("join(',,,,,,,,,,,,,', list)"); err != nil {
		t.Error(err)
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
	f.Fuzz(func(t *testing.T, expression, value string) {
		if len(value) > 64<<10 {
			return
		}
		began := time.Now()
		_, _ = search(expression, []byte(value), true)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
	})
}
