package render

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/secrets-store-csi-driver/pkg/util/fileutil"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/template"
	"github.com/coffre-csi/coffre/test/cost"
)

// mount is the budget of one.
func mount() *budget.Budget { return budget.New(context.Background(), nil, "") }

func pattern(text string) *budget.Pattern {
	p, err := mount().Compile(text)
	if err != nil {
		panic(err)
	}
	return p
}

// one makes the plan and answer of an object with one secret.
func one(value string, out plan.Output) (plan.Plan, []plan.Answer) {
	if out.File == "" {
		out.File = "f"
	}
	if out.Mode == 0 {
		out.Mode = 0o644
	}
	o := plan.Object{Field: "objects[0]", Sources: []plan.Source{{}}, Output: out}
	if out.Keys != nil && out.File == "f" {
		o.Output.File = ""
	}
	return plan.Plan{Objects: []plan.Object{o}}, []plan.Answer{{Store: "toy", Found: []plan.Found{{Ref: store.Ref{Name: "s"}, Secret: store.Secret{Value: store.Value(value), Version: "v1"}}}}}
}

func show(files []File) string {
	var parts []string
	for _, f := range files {
		parts = append(parts, f.Path+"="+string(f.Contents))
	}
	return strings.Join(parts, "|")
}

const sample = `{"user":"app","password":"p\"w","port":5432,"tls":true,"a.b":"dotted","db":{"host":"h","list":[1,2.50,{"x":"y"}]},"none":null,"empty":""}`

func tmpl(t *testing.T, text string) *template.Template {
	t.Helper()
	parsed, err := template.Parse(nil, text)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	return parsed
}

func TestValuesBecomeFiles(t *testing.T) {
	for name, c := range map[string]struct {
		value string
		out   plan.Output
		want  string
	}{
		"as it is":              {"hunter2\n", plan.Output{}, "f=hunter2\n"},
		"binary":                {"\x00\xff", plan.Output{}, "f=\x00\xff"},
		"empty":                 {"", plan.Output{}, "f="},
		"key":                   {sample, plan.Output{Key: "password"}, `f=p"w`},
		"number":                {sample, plan.Output{Key: "port"}, "f=5432"},
		"boolean":               {sample, plan.Output{Key: "tls"}, "f=true"},
		"empty key":             {sample, plan.Output{Key: "empty"}, "f="},
		"object":                {sample, plan.Output{Key: "db"}, `f={"host":"h","list":[1,2.50,{"x":"y"}]}`},
		"literal before path":   {sample, plan.Output{Key: "a.b"}, "f=dotted"},
		"path":                  {sample, plan.Output{Key: "db.list.2.x"}, "f=y"},
		"number keeps its text": {sample, plan.Output{Key: "db.list.1"}, "f=2.50"},
		"key of YAML":           {"user: app\npin: 0123\nyes: on\nblock: |\n  a\n  b\n", plan.Output{Key: "pin"}, "f=0123"},
		"YAML 1.1 words":        {"user: app\nyes: on\n", plan.Output{Key: "yes"}, "f=on"},
		"YAML block":            {"block: |\n  a\n  b\n", plan.Output{Key: "block"}, "f=a\nb\n"},
		"YAML anchors":          {"a: &x {k: v}\nb: *x\n", plan.Output{Key: "b.k"}, "f=v"},
		"key of dotenv":         {"# c\nexport A=1\nB='two $x'\nC=\"a\nb\"\n", plan.Output{Key: "C"}, "f=a\nb"},
		"dotenv literal":        {"A=1\nB='two $x'\n", plan.Output{Key: "B"}, "f=two $x"},
		"all keys":              {`{"b":"2","a":"1"}`, plan.Output{Keys: &plan.Keys{All: true}, File: "k/"}, "k/a=1|k/b=2"},
		"named keys":            {`{"b":"2","a":"1","c":"3"}`, plan.Output{Keys: &plan.Keys{Names: []string{"c", "a"}}}, "a=1|c=3"},
		"matching keys":         {`{"db_u":"2","db_p":"1","c":"3"}`, plan.Output{Keys: &plan.Keys{Regexp: pattern("^db_")}}, "db_p=1|db_u=2"},
		"rewritten":             {`{"DB_USER":"2","DB_PW":"1"}`, plan.Output{Keys: &plan.Keys{All: true}, Rewrite: &plan.Rewrite{Regexp: pattern("^DB_(.*)$"), With: "db/$1"}}, "db/PW=1|db/USER=2"},
		"nested names":          {`{"conf/app.json":"1"}`, plan.Output{Keys: &plan.Keys{All: true}}, "conf/app.json=1"},
		"base64":                {"aHVudGVyMg==\n", plan.Output{Decode: plan.Base64}, "f=hunter2"},
		"base64 unpadded":       {"aHVudGVyMg", plan.Output{Decode: plan.Base64}, "f=hunter2"},
		"base64 lines":          {"aHVu\ndGVy\nMg==", plan.Output{Decode: plan.Base64}, "f=hunter2"},
		"base64url":             {"-_8", plan.Output{Decode: plan.Base64URL}, "f=\xfb\xff"},
		"hex":                   {"68756e74", plan.Output{Decode: plan.Hex}, "f=hunt"},
		"auto base64":           {"aHVudGVyMg==", plan.Output{Decode: plan.Auto}, "f=hunter2"},
		"auto leaves text":      {"hunter2!", plan.Output{Decode: plan.Auto}, "f=hunter2!"},
		"decoded key":           {`{"k":"aHVudGVyMg=="}`, plan.Output{Key: "k", Decode: plan.Base64}, "f=hunter2"},
		"decoded keys":          {`{"k":"aHVudGVyMg=="}`, plan.Output{Keys: &plan.Keys{All: true}, Decode: plan.Base64}, "k=hunter2"},
		"JSON":                  {"b: 1\na: <x>\n", plan.Output{Format: plan.JSON}, "f={\n  \"a\": \"<x>\",\n  \"b\": 1\n}\n"},
		"YAML":                  {`{"b":"yes","a":{"x":"1","y":1},"l":["p\nq"]}`, plan.Output{Format: plan.YAML}, "f=b: \"yes\"\na:\n  x: \"1\"\n  \"y\": 1\nl:\n  - |-\n    p\n    q\n"},
		"dotenv":                {`{"B":"a b","A":"plain","C":"it's\n$x","D":"it's"}`, plan.Output{Format: plan.Dotenv}, "f=A=plain\nB='a b'\nC=\"it's\n\\$x\"\nD='it's'\n"},
		"properties":            {`{"a b":"x=y","k":" é\n"}`, plan.Output{Format: plan.Properties}, "f=a\\ b=x\\=y\nk=\\ \\u00E9\\n\n"},
		"decoded format":        {`{"k":"aHVudGVyMg=="}`, plan.Output{Format: plan.Dotenv, Decode: plan.Base64}, "f=k=hunter2\n"},
		"template":              {sample, plan.Output{Template: tmpl(t, "{{ .user }}:{{ .db.host }}:{{ .port }}")}, "f=app:h:5432"},
		"template of a text":    {"a=b", plan.Output{Template: tmpl(t, "<{{ .value }}>")}, "f=<a=b>"},
	} {
		t.Run(name, func(t *testing.T) {
			p, a := one(c.value, c.out)
			files, err := Files(mount(), p, a)
			if name == "dotenv" { // a single quote cannot stand in single quotes
				c.want = strings.Replace(c.want, "D='it's'", `D="it's"`, 1)
			}
			if err != nil || show(files) != c.want {
				t.Errorf("got %q, %v\nwant %q", show(files), err, c.want)
			}
		})
	}
}

func TestWhatCannotBeRenderedSaysWhyWithoutTheValue(t *testing.T) {
	for name, c := range map[string]struct {
		value string
		out   plan.Output
		want  string
	}{
		"no keys":        {"hunter2", plan.Output{Key: "password"}, "objects[0]: toy: s: has no keys: its value is no JSON object, no YAML mapping and no dotenv text"},
		"a list":         {`["hunter2"]`, plan.Output{Key: "0"}, "has no keys"},
		"no such key":    {`{"password":"hunter2"}`, plan.Output{Key: "pasword"}, `has no key "pasword"; did you mean "password"?`},
		"null":           {`{"password":null,"x":"hunter2"}`, plan.Output{Key: "password"}, `key "password" is null`},
		"modifier":       {`{"password":"hunter2"}`, plan.Output{Key: "@this"}, `has no key "@this"`},
		"query":          {`{"l":[{"a":1}]}`, plan.Output{Key: "l.#(a==1).a"}, `has no key`},
		"no key matches": {`{"password":"hunter2"}`, plan.Output{Keys: &plan.Keys{Regexp: pattern("x")}}, "no key matches"},
		"key missing":    {`{"password":"hunter2"}`, plan.Output{Keys: &plan.Keys{Names: []string{"a"}}}, `key "a": is not in the value`},
		"base64":         {"hunter2!", plan.Output{Decode: plan.Base64}, "is not base64"},
		"hex":            {"hunter2", plan.Output{Decode: plan.Hex}, "is not hex"},
		"variable":       {`{"pass word":"hunter2"}`, plan.Output{Format: plan.Dotenv}, `key "pass word" cannot name a variable`},
		"NUL":            {`{"p":"hunter2\u0000"}`, plan.Output{Format: plan.Dotenv}, `key "p" holds a NUL byte`},
		"template":       {`{"password":"hunter2"}`, plan.Output{Template: tmpl(t, "{{ .pasword }}")}, `objects[0]: template: line 1:3 at <.pasword>: map has no entry for key "pasword"`},
		"path":           {`{"../x":"hunter2"}`, plan.Output{Keys: &plan.Keys{All: true}}, `objects[0]: "../x" leaves the volume`},
		"YAML bomb":      {"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]", plan.Output{Key: "e"}, "nodes of YAML and JSON"},
		"deep JSON":      {"{" + strings.Repeat(`"a":{`, 20000) + strings.Repeat("}", 20001), plan.Output{Key: "a"}, "has no keys"},
		"huge":           {"{" + strings.Repeat(" ", 2<<20) + "}", plan.Output{Key: "a"}, "keys are read from at most"},
	} {
		t.Run(name, func(t *testing.T) {
			p, a := one(c.value, c.out)
			files, err := Files(mount(), p, a)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %q, %v\nwant %q", show(files), err, c.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the value: %v", err)
			}
		})
	}
}

func TestPathsAreLegalExactlyWhereTheDriverTakesThem(t *testing.T) {
	for _, path := range []string{"a", ".env", "a b", "a/b/c", "a/..b", "é", "..a", "..", "../a", "a/../b", "/a", "", ".", "./a", "a//b", "a/", "a/.", "a/..", "..data/x",
		strings.Repeat("x", 255), strings.Repeat("x", 256), "a/" + strings.Repeat("x", 256), strings.Repeat("a/", 2047) + "ab", strings.Repeat("a/", 2048) + "ab", "-", "a\\b", "a:b", "…"} {
		driver := fileutil.Validate([]*pb.File{{Path: path}})
		if path != "" && strings.HasPrefix(path, "..") && driver == nil {
			driver = fmt.Errorf("..") // its own rule, checked later by the writer
		}
		if path == "." && driver == nil {
			driver = fmt.Errorf("the volume itself")
		}
		ours := plan.PathFault(path)
		for e := range strings.SplitSeq(path, "/") {
			if len(e) > 255 && driver == nil {
				driver = fmt.Errorf("the file system's rule")
			}
		}
		if (driver == nil) != (ours == "") {
			t.Errorf("%q: the driver says %v, Coffre %q", path, driver, ours)
		}
	}
	for _, path := range []string{"a\x00b", "a\xff"} {
		if plan.PathFault(path) == "" {
			t.Errorf("%q is accepted", path)
		}
	}
}

func TestFilesThatCannotStandTogetherAreRefused(t *testing.T) {
	set := func(paths ...string) error {
		var p plan.Plan
		var a []plan.Answer
		for _, path := range paths {
			q, b := one("x", plan.Output{File: path})
			p.Objects, a = append(p.Objects, q.Objects...), append(a, b...)
		}
		_, err := Files(mount(), p, a)
		return err
	}
	if err := set("a", "b/c", "b/d", "ab"); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{[]string{"a", "b", "a"}, `"a" is made by two objects`},
		{[]string{"a", "a/b"}, `"a" is a file and the folder of "a/b"`},
		{[]string{"a/b/c", "a/b"}, `"a/b" is a file and the folder of "a/b/c"`},
	} {
		if err := set(c.paths...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %s", c.paths, err, c.want)
		}
	}
	p, a := one(strings.Repeat("x", MaxBytes), plan.Output{})
	if _, err := Files(mount(), p, a); err == nil || !strings.Contains(err.Error(), "use several volumes") {
		t.Errorf("got %v, which is not what this test promises", err)
	}
}

func TestVersionsAreTheStoresUntilTheObjectShapesTheFile(t *testing.T) {
	version := func(value, storeVersion string, out plan.Output) string {
		p, a := one(value, out)
		a[0].Found[0].Secret.Version = storeVersion
		files, err := Files(mount(), p, a)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		return files[0].Version
	}
	if v := version("x", "v1", plan.Output{}); v != "v1" {
		t.Errorf("as it is: %q", v)
	}
	seen := map[string]string{}
	for name, v := range map[string]string{
		"key":              version(sample, "v1", plan.Output{Key: "user"}),
		"another key":      version(sample, "v1", plan.Output{Key: "password"}),
		"another version":  version(sample, "v2", plan.Output{Key: "user"}),
		"template":         version(sample, "v1", plan.Output{Template: tmpl(t, "{{ .user }}")}),
		"another template": version(sample, "v1", plan.Output{Template: tmpl(t, "{{ .user }} ")}),
		"format":           version(sample[:len(sample)-len(`,"none":null,"empty":""}`)]+"}", "v1", plan.Output{Format: plan.YAML}),
	} {
		if other, ok := seen[v]; ok {
			t.Errorf("%s and %s have one version", name, other)
		}
		seen[v] = name
	}
	if a, b := version(sample, "v1", plan.Output{Key: "user"}), version(strings.Replace(sample, "app", "other", 1), "v1", plan.Output{Key: "user"}); a != b {
		t.Error("a version is made of the secret itself")
	}
	if a, b := version(sample, "v1", plan.Output{Key: "user"}), version(sample, "v1", plan.Output{Key: "user"}); a != b {
		t.Error("a version differs from run to run")
	}
}

func TestTemplateDrawsOnSeveralSecretsAndIsLeftOutWithAnOptionalOne(t *testing.T) {
	o := plan.Object{Field: "objects[0]", Sources: []plan.Source{{}, {Alias: "db"}, {Alias: "token"}}, Output: plan.Output{File: "url", Mode: 0o400, Template: tmpl(t, "{{ .user }}@{{ .db.host }}/{{ .token }}")}}
	found := func(v string) plan.Answer {
		return plan.Answer{Found: []plan.Found{{Secret: store.Secret{Value: store.Value(v), Version: "1"}}}}
	}
	files, err := Files(mount(), plan.Plan{Objects: []plan.Object{o}}, []plan.Answer{found(`{"user":"u"}`), found(`{"host":"h"}`), found("t: x")})
	if err != nil || show(files) != "url=u@h/t: x" || files[0].Mode != 0o400 {
		t.Errorf("got %v %v, which is not what this test promises", show(files), err)
	}
	files, err = Files(mount(), plan.Plan{Objects: []plan.Object{o}}, []plan.Answer{found(`{"user":"u"}`), {}, found("t")})
	if err != nil || len(files) != 0 {
		t.Errorf(`got %v %v, where err != nil || len(files) != 0 must not be so`, show(files), err)
	}
}

func TestEverySearchedSecretBecomesAFileOfItsName(t *testing.T) {
	found := func(name, v string) plan.Found {
		return plan.Found{Ref: store.Ref{Name: name}, Secret: store.Secret{Value: store.Value(v), Version: "1"}}
	}
	o := plan.Object{Field: "objects[0]", Sources: []plan.Source{{Query: plan.Query{Find: &store.Filter{}}}}, Output: plan.Output{File: "all/", Mode: 0o644}}
	answers := []plan.Answer{{Found: []plan.Found{found("prod/a", `{"k":"1"}`), found("b", `{"k":"2"}`)}}}
	for want, change := range map[string]func(*plan.Output){
		`all/b={"k":"2"}|all/prod/a={"k":"1"}`: func(*plan.Output) {},
		"all/b=2|all/prod/a=1":                 func(o *plan.Output) { o.Key = "k" },
		"all/b/k=2|all/prod/a/k=1":             func(o *plan.Output) { o.Keys = &plan.Keys{All: true} },
		"all/b=k=2\n|all/prod/a=k=1\n":         func(o *plan.Output) { o.Format = plan.Dotenv },
		"all/a=1|all/b=2": func(o *plan.Output) {
			o.Key, o.Rewrite = "k", &plan.Rewrite{Regexp: pattern("^prod/"), With: ""}
		},
	} {
		changed := o
		change(&changed.Output)
		files, err := Files(mount(), plan.Plan{Objects: []plan.Object{changed}}, answers)
		if err != nil || show(files) != want {
			t.Errorf("got %q, %v; want %q", show(files), err, want)
		}
	}
}

func TestWhatAMountMakesIsStoppedWhileItGrows(t *testing.T) {
	var keys strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&keys, `"key-%d":"v",`, i)
	}
	many := "{" + keys.String() + `"k":"v"}`
	long := fmt.Sprintf(`{%q:"v"}`, strings.Repeat("k", 500_000))

	for name, c := range map[string]struct {
		value   string
		objects int
		out     plan.Output
		want    string
	}{
		"many keys":          {many, 100, plan.Output{Keys: &plan.Keys{All: true}}, "2000 files"},
		"long with":          {`{"aaaaaaaaaaaaaaaaaaaaaaaa":"v"}`, 1, plan.Output{Keys: &plan.Keys{All: true}, Rewrite: &plan.Rewrite{Regexp: pattern(""), With: strings.Repeat("x", 1024)}}, "rewrite: makes a name of more than 4096 bytes"},
		"with of groups":     {fmt.Sprintf(`{%q:"v"}`, strings.Repeat("k", 4000)), 1, plan.Output{Keys: &plan.Keys{All: true}, Rewrite: &plan.Rewrite{Regexp: pattern("(.*)"), With: strings.Repeat("$1", 512)}}, "rewrite: makes a name"},
		"long key":           {long, 1, plan.Output{Keys: &plan.Keys{All: true}, Rewrite: &plan.Rewrite{Regexp: pattern(""), With: "x"}}, "is longer than 4096 bytes"},
		"keys by regexp":     {many, 400, plan.Output{Keys: &plan.Keys{Regexp: pattern("(x{99}|y*)*$z")}}, "limit of one mount"},
		"formats":            {many, 400, plan.Output{Format: plan.YAML}, "limit of one mount"},
		"JSON again":         {many, 400, plan.Output{Format: plan.JSON}, "limit of one mount"},
		"decoded":            {strings.Repeat("YWJj", 200_000), 400, plan.Output{Decode: plan.Base64}, "limit of one mount"},
		"a big file often":   {strings.Repeat("x", 1<<20), 4, plan.Output{}, "use several volumes"},
		"wide YAML":          {"a: [" + strings.Repeat("a,", 500_000) + "a]\nb: 1\n", 1, plan.Output{Key: "b"}, "nodes of YAML"},
		"maps of maps":       {`{"a":[` + strings.Repeat(`{"b":{}},`, 90_000) + `1]}`, 1, plan.Output{Key: "b"}, "limit of one mount"},
		"dotenv lines":       {strings.Repeat("A=b\n", 250_000), 10, plan.Output{Key: "x"}, "limit of one mount"},
		"nested key of many": {many, 500, plan.Output{Key: "a.b.c"}, "limit of one mount"},
	} {
		t.Run(name, func(t *testing.T) {
			var p plan.Plan
			var answers []plan.Answer
			for i := range c.objects {
				if c.out.Keys == nil {
					c.out.File = fmt.Sprintf("f%d", i)
				} else {
					c.out.File = fmt.Sprintf("d%d/", i)
				}
				one, answer := one(c.value, c.out)
				p.Objects, answers = append(p.Objects, one.Objects...), append(answers, answer...)
			}
			began := time.Now()
			files, err := Files(mount(), p, answers)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %d files, %.300v; want %s", len(files), err, c.want)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %s, want under 10 s", took)
			}
		})
	}
}

func TestSeveralObjectsReadOneSecretOnce(t *testing.T) {
	p, answers := one(sample, plan.Output{Key: "user"})
	for i := range 499 {
		o := p.Objects[0]
		o.Output.File = fmt.Sprintf("f%d", i)
		p.Objects, answers = append(p.Objects, o), append(answers, answers[0])
	}
	b := mount()
	files, err := Files(b, p, answers)
	if err != nil || len(files) != 500 {
		t.Fatalf("got %d files, %v; want 500", len(files), err)
	}
	if err := b.Nodes(200_000 - 1000); err != nil {
		t.Errorf("one secret was parsed again for each of 500 objects: %v", err)
	}
}

// What a format writes, its own readers read back.
func FuzzFormats(f *testing.F) {
	f.Add("key", "value")
	f.Add("K_2", "it's\n\"$x\" \\ `y`")
	f.Add("a b", " lead: # é\t")
	f.Fuzz(func(t *testing.T, key, value string) {
		raw, err := json.Marshal(map[string]string{key: value})
		if err != nil {
			return
		}
		var want map[string]string
		if json.Unmarshal(raw, &want) != nil {
			return
		}
		doc, err := parse(nil, raw, "")
		if err != nil {
			return
		}
		for _, format := range []plan.Format{plan.JSON, plan.YAML, plan.Dotenv} {
			text, err := write(nil, format, doc, "")
			if err != nil {
				continue
			}
			got := map[string]string{}
			switch format {
			case plan.JSON:
				err = json.Unmarshal(text, &got)
			case plan.YAML:
				err = yaml.Unmarshal(text, &got)
			case plan.Dotenv:
				var ok bool
				if got, ok = dotenv(string(text)); !ok {
					err = fmt.Errorf("not read back")
				}
			}
			if err != nil || len(got) != len(want) {
				t.Errorf("%s: %q → %q: %v %v", format, raw, text, got, err)
			}
			for k, v := range want {
				if got[k] != v {
					t.Errorf("%s: %q → %q: %q", format, raw, text, got[k])
				}
			}
		}
	})
}

func FuzzFiles(f *testing.F) {
	f.Add(sample, "db.host", "{{ .user }}", 0)
	f.Add("a: &a [1]\nb: *a", "b.0", "{{ range .a }}{{ . }}{{ end }}", 1)
	f.Add("A=1\nB='x'", "A", "{{ .A | b64enc }}", 2)
	f.Fuzz(func(t *testing.T, value, key, text string, format int) {
		outs := []plan.Output{{Key: key}, {Keys: &plan.Keys{All: true}}, {Format: []plan.Format{plan.JSON, plan.YAML, plan.Dotenv, plan.Properties}[uint(format)%4]},
			{Decode: []plan.Decoding{plan.Base64, plan.Base64URL, plan.Hex, plan.Auto}[uint(format)%4]}}
		if parsed, err := template.Parse(nil, text); err == nil {
			outs = append(outs, plan.Output{Template: parsed})
		}
		for _, out := range outs {
			p, a := one(value, out)
			var files []File
			var err error
			cost.Of(t, len(value)+len(key)+len(text), func() { files, err = Files(mount(), p, a) })
			if err != nil {
				continue
			}
			again, _ := Files(mount(), p, a)
			if !slices.EqualFunc(files, again, func(a, b File) bool {
				return a.Path == b.Path && string(a.Contents) == string(b.Contents) && a.Version == b.Version
			}) {
				t.Error("two runs differ")
			}
			for _, f := range files {
				if plan.PathFault(f.Path) != "" {
					t.Errorf("path %q", f.Path)
				}
			}
		}
	})
}

func TestVersionsOfOneSecretAreNamedByTheirPlace(t *testing.T) {
	p, a := one("new", plan.Output{File: "dir/", ID: "secret/s", StoreVersion: true})
	p.Objects[0].Sources[0].Query.History = 3
	a[0].Found = append(a[0].Found, plan.Found{Ref: store.Ref{Name: "s"}, Secret: store.Secret{Value: store.Value("old"), Version: "v0"}})
	files, err := Files(mount(), p, a)
	if err != nil || show(files) != "dir/0=new|dir/1=old" {
		t.Fatalf("got %s and the error %v, want both versions", show(files), err)
	}
	if files[1].ID != "secret/s/1" || files[1].Version != "v0" {
		t.Errorf("got %s %s, want secret/s/1 v0", files[1].ID, files[1].Version)
	}
}
