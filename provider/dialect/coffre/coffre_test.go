package coffre

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/strict"
	"github.com/coffre-csi/coffre/test/cost"
)

type toySettings struct {
	Region string `yaml:"region"`
}

func (*toySettings) Check(bool) []store.Mistake { return nil }

var dialect = Dialect{Kinds: store.Kinds{{Name: "toy", Settings: func() store.Settings { return &toySettings{} },
	Open: func(context.Context, store.Config, auth.Identity) (store.Store, error) { return nil, nil }}}}

func read(parameters map[string]string) (plan.Plan, error) {
	return dialect.Plan(budget.New(context.Background(), nil, ""), request.Request{Class: "mysql", Parameters: parameters, Mode: 0o644, Identity: auth.Identity{Namespace: "shop", ServiceAccount: "api"}})
}

func objects(text string) map[string]string {
	return map[string]string{"store": "aws-paris", "objects": text}
}

func TestEveryFieldReachesThePlan(t *testing.T) {
	p, err := read(map[string]string{"store": "aws-paris", "refresh": "10m", "forceRefresh": "today", "objects": `
- name: prod/mysql
  key: password
  file: database-password
- name: api-key
- name: prod/app
  store: other
  version: 3
  type: key
  keys: "*"
  file: app/
  mode: 0440
  decode: base64
  rewrite: {regexp: "^APP_", with: ""}
  optional: true
  refresh: never
- name: x
  keys: [a, b]
- find: {prefix: prod/, regexp: "mysql$", tags: {team: shop, env: prod}}
  keys: {regexp: "^p"}
  file: found/
- name: x
  format: dotenv
  file: .env
- template: "{{ .db.password }}"
  secrets: {db: prod/mysql, other: {name: y, store: z, version: "7"}}
  file: url
`})
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	o := p.Objects
	q := p.Queries()
	check := func(what string, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("%s: %+v", what, p)
		}
	}
	check("queries", len(q) == 8)
	check("mysql", o[0].Output.Key == "password" && o[0].Output.File == "database-password" && o[0].Output.Mode == 0o644 && q[0].Store.Name == "aws-paris" && q[0].Ref == store.Ref{Name: "prod/mysql"})
	check("class-wide", q[0].Refresh == 10*time.Minute && q[0].Force == "mysql\x00today")
	check("default file", o[1].Output.File == "api-key")
	check("app", q[2].Store.Name == "other" && q[2].Ref == store.Ref{Name: "prod/app", Version: "3", Type: "key"} && q[2].Optional && q[2].Refresh == store.Never && o[2].Output.Keys.All && o[2].Output.Mode == 0o440 && o[2].Output.Decode == plan.Base64 && o[2].Output.Rewrite.Regexp.String() == "^APP_" && o[2].Several())
	check("named keys", strings.Join(o[3].Output.Keys.Names, ",") == "a,b" && o[3].Output.File == "x" || o[3].Output.File == "")
	check("find", *q[4].Find == store.Filter{Prefix: "prod/", Regexp: "mysql$", Tags: "env=prod,team=shop"} && o[4].Output.Keys.Regexp != nil)
	check("format", o[5].Output.Format == plan.Dotenv && !o[5].Several())
	check("template", o[6].Sources[0].Alias == "db" && q[6].Ref.Name == "prod/mysql" && q[7].Ref == store.Ref{Name: "y", Version: "7"} && q[7].Store.Name == "z")
}

func TestInlineStoreIsReadOnceForAllObjects(t *testing.T) {
	p, err := read(map[string]string{"inlineStore": "{kind: toy, region: x}", "objects": "[{name: a}, {name: b}]"})
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	q := p.Queries()
	if q[0].Store.Inline == nil || q[0].Store != q[1].Store || !q[0].Store.Inline.Inline || q[0].Store.Inline.Settings.(*toySettings).Region != "x" {
		t.Errorf("%+v", q)
	}
}

func TestACertificatesPasswordsAreSourcesOfTheirOwn(t *testing.T) {
	p, err := read(objects(`[{name: a, key: pfx, format: pfx, encryption: legacy, file: f, sourcePassword: b, password: {name: c, store: other, version: 2, key: d}}]`))
	if err != nil {
		t.Fatalf("got the error %v, want a plan", err)
	}
	o := p.Objects[0]
	if out := o.Output; out.Key != "pfx" || out.Format != plan.PFX || out.Encryption != "legacy" || len(o.Sources) != 3 {
		t.Fatalf("got %+v with %d sources, want the fields and three sources", o.Output, len(o.Sources))
	}
	opens, locks := o.Sources[1], o.Sources[2]
	if opens.Password != plan.OpensSource || opens.Query.Ref.Name != "b" || opens.Query.Field != "objects[0].sourcePassword" {
		t.Errorf("got %+v, want the password of the source", opens)
	}
	want := store.Ref{Name: "c", Version: "2"}
	if locks.Password != plan.LocksFile || locks.Query.Ref != want || locks.Query.Store.Name != "other" || locks.Key != "d" {
		t.Errorf("got %+v, want the password of the file", locks)
	}
}

func TestMistakesNameTheFieldAndTheRemedy(t *testing.T) {
	for _, c := range []struct{ objects, want string }{
		{`- {nmae: a, name: a}`, `objects[0].nmae: unknown field; did you mean "name"?`},
		{`- {objectName: a, name: b}`, `objects[0].objectName: unknown field; known fields: decode, encryption,`},
		{`- {name: a}` + "\n" + `- {name: b, mode: rw}`, `objects[1].mode: "rw" is no file mode; write it in octal, as "0440"`},
		{`- {name: a, mode: "1777"}`, `objects[0].mode: "1777" is outside 0000 to 0777`},
		{`- {name: a, mode: "0o99"}`, `objects[0].mode: "0o99" is no file mode`},
		{`- {name: a, find: {prefix: b}, file: x/}`, `objects[0].find: cannot stand beside name`},
		{`- {file: a}`, `objects[0].name: is missing: an object needs a name, or find`},
		{`- {find: {}}`, `objects[0].find: is empty`},
		{`- {find: {regexp: "("}}`, `objects[0].find.regexp: error parsing regexp`},
		{`- {find: {prefix: a}, version: 1}`, `objects[0].version: cannot stand beside find`},
		{`- {name: a/b}`, `objects[0].file: is missing, and "a/b" cannot be the file's name`},
		{`- {name: a, file: ../x}`, `objects[0].file: "../x" leaves the volume`},
		{`- {name: a, file: /etc/x}`, `objects[0].file: "/etc/x" is absolute`},
		{`- {name: a, file: x/}`, `objects[0].file: "x/" is a folder, and this object makes one file`},
		{`- {name: a, keys: "*", file: x}`, `objects[0].file: "x" must end in /`},
		{`- {name: a, keys: "*", file: ../}`, `objects[0].file: "../" leaves the volume`},
		{`- {name: a, keys: all}`, `objects[0].keys: must be "*", a list of keys, or {regexp: …}`},
		{`- {name: a, keys: []}`, `objects[0].keys: lists no key`},
		{`- {name: a, keys: [x, x]}`, `objects[0].keys[1]: is empty or stands here twice`},
		{`- {name: a, keys: {regex: x}}`, `objects[0].keys.regex: unknown field; did you mean "regexp"?`},
		{`- {name: a, key: x, format: json}`, `objects[0].format: cannot stand beside key`},
		{`- {name: a, decode: rot13}`, `objects[0].decode: "rot13" is not base64, base64url, hex or auto`},
		{`- {name: a, format: xml}`, `objects[0].format: "xml" is not json, yaml, dotenv or properties`},
		{`- {name: a, format: jks}`, `objects[0].password: is missing: a Java keystore has one`},
		{`- {name: a, format: pem, password: b}`, `objects[0].password: locks the file of the formats pfx and jks`},
		{`- {name: a, sourcePassword: b}`, `objects[0].sourcePassword: opens a certificate whose keys or format are asked for`},
		{`- {name: a, format: jks, password: b, encryption: legacy}`, `objects[0].encryption: is that of the format pfx`},
		{`- {name: a, format: pfx, encryption: rc4}`, `objects[0].encryption: "rc4" is neither modern nor legacy`},
		{`- {name: a, format: pfx, decode: base64}`, `objects[0].decode: cannot stand beside format pfx`},
		{`- {name: a, format: pfx, password: {key: x}}`, `objects[0].password: is empty`},
		{`- {name: a, format: pfx, password: {name: x, kye: x}}`, `objects[0].password.kye: unknown field; did you mean "key"?`},
		{`- {name: a, keys: "*", format: pem}`, `objects[0].format: cannot stand beside keys`},
		{`- {name: a, template: "{{ .x "}`, `objects[0].template: line 1: unclosed action`},
		{`- {name: a, template: "{{ env \"HOME\" }}"}`, `objects[0].template: line 1: function "env" not defined`},
		{`- {name: a, secrets: {b: c}}`, `objects[0].secrets: are for a template to draw on`},
		{`- {template: x, secrets: {"b-c": c}, file: f}`, `objects[0].secrets: "b-c" cannot be written in a template`},
		{`- {template: x, secrets: {b: {nam: c}}, file: f}`, `objects[0].secrets.b.nam: unknown field; did you mean "name"?`},
		{`- {find: {prefix: a}, template: x}`, `objects[0].template: cannot stand beside find`},
		{`- {name: a, rewrite: {regexp: a, with: b}}`, `objects[0].rewrite: changes the names that keys and find make`},
		{`- {name: a, keys: "*", rewrite: {regexp: "[", with: b}}`, `objects[0].rewrite.regexp: error parsing`},
		{`- {name: a, refresh: soon}`, `objects[0].refresh: "soon" is no refresh time`},
		{`- {name: a, optional: "yes"}`, `objects[0].optional: must be true or false`},
		{"- {name: \"a\\u0000b\", file: x}", `objects[0].name: holds a character that no store has in a name`},
		{`- {name: a}` + "\n" + `- {name: b, file: a}`, `objects[1].file: "a" is the file of objects[0] too`},
		{`- a`, `objects[0]: must be a mapping, not text`},
		{`-`, `objects[0]: is empty`},
		{`name: a`, `objects: must be a list; begin each object with a dash`},
		{``, `objects: is empty; list at least one object`},
		{`[]`, `objects: is empty`},
		{`null`, `objects: is empty`},
		{`- {name: a`, `objects: is not YAML:`},
		{`[` + strings.Repeat("{name: a},", 501) + `]`, `objects: lists 501 objects; the limit is 500`},
	} {
		_, err := read(objects(c.objects))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80s\n got %v\nwant %s", c.objects, err, c.want)
		}
	}
}

func TestMistakesOfParameters(t *testing.T) {
	for want, parameters := range map[string]map[string]string{
		`object: unknown parameter; did you mean "objects"?`:              {"object": "x", "store": "s", "objects": "[{name: a}]"},
		`region: unknown parameter; known parameters: forceRefresh,`:      {"region": "x", "store": "s", "objects": "[{name: a}]"},
		`refresh: "x" is no refresh time`:                                 {"refresh": "x", "store": "s", "objects": "[{name: a}]"},
		`inlineStore: cannot stand beside store`:                          {"store": "s", "inlineStore": "{kind: toy}", "objects": "[{name: a}]"},
		`inlineStore.kind: "toi" is no kind of store; did you mean`:       {"inlineStore": "{kind: toi}", "objects": "[{name: a}]"},
		`inlineStore.regoin: unknown field; did you mean "region"?`:       {"inlineStore": "{kind: toy, regoin: x}", "objects": "[{name: a}]"},
		`objects[0].store: is missing, and the SecretProviderClass names`: {"objects": "[{name: a}]"},
	} {
		if _, err := read(parameters); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

func TestAllMistakesComeAtOnce(t *testing.T) {
	_, err := read(map[string]string{"storr": "x", "store": "s", "refresh": "x", "objects": "- {name: a, mode: x, fil: y}\n- {name: a/b}\n- {}\n"})
	errs, ok := err.(strict.Errors)
	if !ok || len(errs) != 6 {
		t.Fatalf("%d: %v", len(errs), err)
	}
	if last := errs[5]; last.Path != "objects[2].name" || last.Line != 3 {
		t.Errorf("%+v", last)
	}
}

// Whatever a tenant writes is a plan or a clear error, never a panic, and soon.
func TestHostileParametersAreAnErrorOrAPlan(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'j'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ","))
	}
	for name, text := range map[string]string{
		"bomb in an object": "- name: a\n  secrets:\n    " + strings.ReplaceAll(bomb, "\n", "\n    "),
		"bomb for objects":  bomb,
		"aliased objects":   "- &a {name: x}\n- *a\n- [*a]",
		"objects in itself": "&a [*a]",
		"deep":              strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000),
		"deeper":            strings.Repeat("[", 100_000),
		"deep mapping":      strings.Repeat("{a: ", 9_000),
		"nulls":             "[null, ~, , {}]",
		"null fields":       "- {name: null, find: ~, keys: , mode: null, template: null, secrets: null, rewrite: ~, refresh: , optional: }",
		"numbers":           "- {name: 1e999, file: 0x7fffffffffffffff, mode: -1, refresh: 99999999999999999999h}",
		"long":              "- {name: a, file: " + strings.Repeat("x", 900_000) + "}",
		"over the limit":    strings.Repeat("x", strict.MaxBytes+1),
		"regexp bomb":       `- {find: {regexp: "((((((a{1,100}){1,100}){1,100}){1,100}){1,100}){1,100})"}}`,
		"template bomb":     "- {name: a, template: '" + strings.Repeat("{{if .x}}", 3_000) + "'}",
		"deep template":     "- {name: a, template: '{{" + strings.Repeat("(", 20_000) + "}}'}",
		"tags":              "- !!python/object:os.system {name: a}",
		"binary":            "- {name: !!binary aGk=}",
		"not UTF-8":         "- {name: \"\xff\xfe\"}",
		"BOM":               "\ufeff- {name: a}",
		"control":           "- {name: \"a\\x01\"}",
		"bidi":              "- {name: \"a\u202eb\"}",
		"directives":        "%YAML 9.9\n---\n- {name: a}",
		"many keys":         "- {" + strings.Repeat("a: b, ", 40_000) + "}",
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			p, err := read(objects(text))
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
			if err == nil && len(p.Objects) == 0 {
				t.Error("no objects and no error")
			}
		})
	}
}

func FuzzPlan(f *testing.F) {
	f.Add("s", "", "- {name: a, key: b}", "5m", "x")
	f.Add("", "{kind: toy, region: a}", "- {find: {prefix: a, tags: {a: b}}, keys: {regexp: a}, rewrite: {regexp: a, with: $1}}", "never", "")
	f.Add("s", "", "- {template: '{{ range .a }}{{ . }}{{ end }}', secrets: {a: {name: b}}, file: x, mode: 0440}", "", "")
	f.Add("s", "", "- &a {name: a, file: &b x}\n- {<<: *a, file: *b}", "", "")
	f.Fuzz(func(t *testing.T, name, inline, objects, refresh, force string) {
		parameters := map[string]string{"objects": objects}
		for k, v := range map[string]string{"store": name, "inlineStore": inline, "refresh": refresh, "forceRefresh": force} {
			if v != "" {
				parameters[k] = v
			}
		}
		var p plan.Plan
		var err error
		size := len(name) + len(inline) + len(objects) + len(refresh) + len(force)
		cost.Of(t, size, func() { p, err = read(parameters) })
		if err == nil && (len(p.Objects) == 0 || len(p.Queries()) == 0) {
			raw, _ := json.Marshal(parameters)
			t.Errorf("nothing is asked for, and nothing is wrong: %s", raw)
		}
	})
}
