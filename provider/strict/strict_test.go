package strict

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/test/cost"
)

type sample struct {
	Name string            `yaml:"name"`
	Mode string            `yaml:"mode"`
	On   bool              `yaml:"on"`
	N    int               `yaml:"n"`
	For  time.Duration     `yaml:"for"`
	List []string          `yaml:"list"`
	Map  map[string]string `yaml:"map"`
	Sub  *sample           `yaml:"sub"`
	Subs []sample          `yaml:"subs"`
}

func decode(text string) (sample, error) {
	var s sample
	n, err := Parse(text, "p")
	if err != nil || n == nil {
		return s, err
	}
	var d Decoder
	d.Decode(n, "p", &s)
	return s, d.Errors.OrNil()
}

func TestTextKeepsItsSpelling(t *testing.T) {
	s, err := decode("{name: 3, mode: 0440, on: true, n: 7, for: 5m, list: [a, 1.50], map: {k: 007}, sub: {name: x}}")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if s.Name != "3" || s.Mode != "0440" || !s.On || s.N != 7 || s.For != 5*time.Minute || s.List[1] != "1.50" || s.Map["k"] != "007" || s.Sub.Name != "x" {
		t.Errorf("got %+v", s)
	}
}

func TestEveryMistakeIsReportedWithPathAndLine(t *testing.T) {
	_, err := decode(`
nmae: x
on: "yes"
n: ten
for: soon
list: {a: b}
map: [a]
sub:
  name: [x]
  what: 1
subs:
- name: a
- name:
- name: true
  name: b
`)
	errs, _ := err.(Errors)
	want := []string{
		`2 p.nmae: unknown field; did you mean "name"?`,
		`3 p.on: must be true or false, not text`,
		`4 p.n: must be a whole number, not text`,
		`5 p.for: "soon" is no duration; write it as 30s, 5m or 1h`,
		`6 p.list: must be a list, not a mapping`,
		`7 p.map: must be a mapping, not a list`,
		`9 p.sub.name: must be text, not a list`,
		`10 p.sub.what: unknown field; known fields: for, list, map, mode, n, name, on, sub, subs`,
		`13 p.subs[1].name: is empty`,
		`14 p.subs[2].name: must be text, not true or false; put it in quotes`,
		`15 p.subs[2].name: stands here twice`,
	}
	for i, w := range want {
		if i >= len(errs) || fmt.Sprintf("%d %s", errs[i].Line, errs[i]) != w {
			t.Fatalf("mistake %d: got %v\nwant %s", i, errs, w)
		}
	}
	if len(errs) != len(want) {
		t.Errorf("more than wanted: %v", errs[len(want):])
	}
}

func TestSharedMappingKnowsTheFieldsOfAllItsTargets(t *testing.T) {
	n, err := Parse("{a: 1, b: 2, c: 3}", "")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	var one struct {
		A string `yaml:"a"`
	}
	var two struct {
		B string `yaml:"b"`
	}
	var d Decoder
	d.Decode(n, "", &one, &two)
	if one.A != "1" || two.B != "2" || len(d.Errors) != 1 || d.Errors[0].Error() != `c: unknown field; did you mean "a"?` {
		t.Errorf("%+v %+v %v", one, two, d.Errors)
	}
}

func TestHostileYAMLIsBounded(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'j'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ","))
	}
	self := "subs: &s [{subs: *s}]"
	for name, text := range map[string]string{
		"bomb":         "map: {}\nlist: []\n" + bomb,
		"own alias":    self,
		"deep":         strings.Repeat("{sub: ", 2000) + strings.Repeat("}", 2000),
		"deeper lists": "list: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"two":          "name: a\n---\nname: b",
		"huge":         "name: " + strings.Repeat("x", MaxBytes),
		"tag":          "name: !!binary aGk=",
		"odd tag":      "!!map/x {name: !foo [a]}",
		"no YAML":      "{name: [}",
		"anchor":       "name: *nowhere",
		"merge":        "sub: &x {name: a}\n<<: *x",
		"odd key":      "{[a]: b}",
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			if _, err := decode(text); err == nil {
				t.Error("accepted")
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestNearestIsASlipNotAGuess(t *testing.T) {
	known := []string{"name", "file", "format", "template", "key", "keys"}
	for key, want := range map[string]string{"nmae": "name", "files": "file", "Format": "format", "templat": "template", "kye": "key", "zzz": "", "": "", "objectName": ""} {
		if got := Nearest(key, known); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("{name: 3, subs: [{name: &a x}, {name: *a}]}")
	f.Add("a: &a [x]\nb: [*a, *a]")
	f.Add("subs: &s [{subs: *s}]")
	f.Add(strings.Repeat("- ", 30_000))
	f.Add("[" + strings.Repeat("a,", 30_000) + "]")
	f.Fuzz(func(t *testing.T, text string) {
		cost.Of(t, len(text), func() {
			b := budget.New(t.Context(), nil, "")
			if Charge(b, text) == nil {
				_, _ = decode(text)
			}
		})
	})
}
