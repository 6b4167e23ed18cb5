package sops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/sopstest"
)

// The tests of this file read documents that the stock sops command makes
// while they run.

func newStore(t *testing.T, s Settings, secrets ...string) store.Store {
	t.Helper()
	id := auth.Identity{Namespace: "shop", ServiceAccount: "api", Secrets: auth.Secrets{}}
	for i, text := range secrets {
		id.Secrets[fmt.Sprint("key", i)] = text
	}
	opened, err := Kind().Open(context.Background(), store.Config{Name: "git", Kind: "sops", Settings: &s}, id)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	return opened
}

func fetch(t *testing.T, s store.Store, names ...string) []store.Secret {
	t.Helper()
	secrets, err := s.Fetch(context.Background(), refs(names...))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	return secrets
}

func refs(names ...string) []store.Ref {
	all := make([]store.Ref, len(names))
	for i, n := range names {
		all[i].Name = n
	}
	return all
}

func fetchError(t *testing.T, s store.Store, names ...string) error {
	t.Helper()
	_, err := s.Fetch(context.Background(), refs(names...))
	if err == nil {
		t.Fatal("the fetch worked")
	}
	return err
}

const yamlPlain = `# head of the document

# about the database
prod/mysql:
    user: shop # who
    # the word
    password: "pässwörd ✓ #1: yes"
    port: 3306
    big: 9007199254740993
    ratio: 0.1
    huge: 1.5e+300
    whole: 3.0
    on: true
    off: false
    nothing: null
    empty: ""
    when: 2024-02-29T12:00:00Z
    day: 2024-02-29
tls.crt: |
    -----BEGIN CERTIFICATE-----
    MIIB
    -----END CERTIFICATE-----
octal: 0o17
looks_like_a_number: "0123"
yes_no: "no"
list:
    # first
    - a
    - 2 # two
    # about a mapping
    - name: x
      value: 'y'
    - - nested
      - []
    # last of the list
void: {}
a/b: literal
a:
    b: nested
    c: only here
plain_unencrypted:
    motd: hello
    n: 12
# foot of the document
`

const jsonPlain = `{"b": "two", "a": {"html": "<&>", "pass": "p\"\\\n\u00e9", "n": 12345678901234567, "f": 1.50, "big": 1e30, "t": true, "z": null, "e": "", "l": [1, {"x": []}, {}]}, "x_unencrypted": 5}`

const dotenvPlain = `# a comment
USER=shop
PASSWORD=a=b # not a comment

#
MULTI=one\ntwo
EMPTY=
QUOTED="as it is"
UNI=ü
SEEN_unencrypted=clear
`

var iniPlain = strings.ReplaceAll(`; of the default
top = 1

; of the section
[mysql]
; the user
user = shop
password = 'a;b#c'
empty =
long = """one
two"""

[a/b]
key = value ; beside
x_unencrypted = clear
`, "'", "`")

var plains = map[Format]string{
	YAML: yamlPlain, JSON: jsonPlain, Dotenv: dotenvPlain, INI: iniPlain,
	Binary: "\x00\x01binary\r\n\xc3\xa9 text\n",
}

func TestWholeDocumentIsWhatTheSopsCommandDecrypts(t *testing.T) {
	key := sopstest.NewKey(t)
	many := map[Format][]string{
		YAML: {yamlPlain, "---\na: 1\n---\n# second\nb: 2\nc:\n  - x\n", "a: b\n", "key: >-\n  folded\n  text\n# one\n# two\n", "a:\n  # only a comment\n  b: {}\nl: [] # void\n",
			"a: 1 # c\nb: # of a mapping\n  c: 1\nd: # of a list\n  - 1\n", "x: \"multi\\nline\"\ny: \" lead\"\nz: \"tab\\t\"\nv: '*x'\n", "n: -0.0\ni: .inf\nj: 1e3\nk: 0x1F\nl: 1_000\nm: ~\no: +5\n"},
		JSON:   {jsonPlain, "{}", `{"a":[[],[[1]]]}`, `{"data":"x"}`},
		Dotenv: {dotenvPlain, "A=1\n", "A=\\n\nB=twice\n"},
		INI:    {iniPlain, "[s]\nk=v\n", "[s]\na=`x#y`\n[s]\nb=1\n", "; c1\n; c2\n[s]\n# k1\n# k2\nk=\" pad \"\n"},
		Binary: {plains[Binary], "plain text", "{\"json\": 1}"},
	}
	for format, texts := range many {
		for i, text := range texts {
			t.Run(fmt.Sprint(format, i), func(t *testing.T) {
				doc := sopstest.Encrypt(t, string(format), text, key.Public)
				want := sopstest.Decrypt(t, key, string(format), doc)
				s := newStore(t, Settings{Document: doc, Format: format}, "# my key\n\n"+key.Secret+"\n")
				if got := string(fetch(t, s, ".")[0].Value); got != want {
					t.Errorf("got:\n%s\nthe sops command:\n%s", got, want)
				}
			})
		}
	}
}

func TestFormatIsDetected(t *testing.T) {
	key := sopstest.NewKey(t)
	for format, text := range plains {
		doc := sopstest.Encrypt(t, string(format), text, key.Public)
		d, err := parse(doc, "")
		if err != nil || d.format != format {
			t.Errorf("%s was taken for %v (%v)", format, d, err)
		}
	}
}

func TestEveryNameGivesItsValue(t *testing.T) {
	key := sopstest.NewKey(t)
	for format, values := range map[Format]map[string]string{
		YAML: {
			"prod/mysql/password": "pässwörd ✓ #1: yes", "prod/mysql/port": "3306", "prod/mysql/big": "9007199254740993",
			"prod/mysql/ratio": "0.1", "prod/mysql/huge": "1.5e+300", "prod/mysql/on": "true", "prod/mysql/off": "false",
			"looks_like_a_number": "0123", "octal": "15", "yes_no": "no",
			"tls.crt": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
			"a/b":     "literal", "a/c": "only here", "a": `{"b":"nested","c":"only here"}`,
			"list": `["a",2,{"name":"x","value":"y"},["nested",[]]]`, "list/0": "a", "list/2/name": "x",
			"void": "{}", "plain_unencrypted/n": "12", "plain_unencrypted": `{"motd":"hello","n":12}`,
		},
		JSON: {
			"b": "two", "a/pass": "p\"\\\né", "a/n": "12345678901234567", "a/f": "1.5", "a/big": "1e+30", "a/e": "", "a/z": "null",
			"a/l": `[1,{"x":[]},{}]`, "a/html": "<&>", "x_unencrypted": "5",
			"a": `{"html":"<&>","pass":"p\"\\\né","n":12345678901234567,"f":1.5,"big":1e+30,"t":true,"z":null,"e":"","l":[1,{"x":[]},{}]}`,
		},
		Dotenv: {"USER": "shop", "PASSWORD": "a=b # not a comment", "MULTI": "one\ntwo", "EMPTY": "", "QUOTED": `"as it is"`, "UNI": "ü", "SEEN_unencrypted": "clear"},
		INI: {
			"DEFAULT/top": "1", "mysql/user": "shop", "mysql/password": "a;b#c", "mysql/long": "one\ntwo", "mysql/empty": "",
			"mysql": `{"user":"shop","password":"a;b#c","empty":"","long":"one\ntwo"}`, "a/b": `{"key":"value","x_unencrypted":"clear"}`,
		},
	} {
		doc := sopstest.Encrypt(t, string(format), plains[format], key.Public)
		s := newStore(t, Settings{Document: doc}, key.Secret)
		for name, want := range values {
			secrets, err := s.Fetch(context.Background(), refs(name))
			if err != nil {
				t.Errorf("%s %s: %v", format, name, err)
			} else if got := string(secrets[0].Value); got != want {
				t.Errorf("%s %s: %q, want %q", format, name, got, want)
			}
		}
	}
}

func TestScalarsAreWhatTheSopsCommandExtracts(t *testing.T) {
	key := sopstest.NewKey(t)
	doc := sopstest.Encrypt(t, "yaml", yamlPlain, key.Public)
	s := newStore(t, Settings{Document: doc}, key.Secret)
	for _, name := range []string{"port", "big", "ratio", "huge", "whole", "on", "off", "nothing", "when", "day"} {
		want := sopstest.Sops(t, key, doc, "decrypt", "--input-type", "yaml", "--output-type", "yaml", "--filename-override", "d.yaml",
			"--extract", `["prod/mysql"]["`+name+`"]`)
		if got := string(fetch(t, s, "prod/mysql/"+name)[0].Value); got != strings.TrimSuffix(want, "\n") {
			t.Errorf("%s: %q, the sops command says %q", name, got, want)
		}
	}
}

func TestRulesForWhatIsEncryptedAreFollowed(t *testing.T) {
	key := sopstest.NewKey(t)
	const text = `# clear: this
a_secret:
    b: 1
    c_open: x # sops:enc
# sops:enc
# beside it
d:
    - e
    # sops:enc
    - f
    - g: h
z_open: true
`
	config := filepath.Join(t.TempDir(), "sops.yaml")
	for _, rule := range []string{
		"unencrypted_suffix: _open", "encrypted_suffix: _secret", "unencrypted_regex: ^z|c", "encrypted_regex: ^(d|b)$",
		"encrypted_comment_regex: sops:enc", "unencrypted_comment_regex: sops:enc",
		"mac_only_encrypted: true\n    encrypted_regex: ^d$", "mac_only_encrypted: true\n    unencrypted_comment_regex: clear", "mac_only_encrypted: true",
	} {
		t.Run(rule, func(t *testing.T) {
			if err := os.WriteFile(config, []byte("creation_rules:\n  - age: "+key.Public+"\n    "+rule+"\n"), 0o600); err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			doc := sopstest.Sops(t, key, text, "--config", config, "encrypt", "--input-type", "yaml", "--output-type", "yaml", "--filename-override", "p.yaml")
			if name, _, _ := strings.Cut(rule, ":"); !strings.Contains(doc, name) {
				t.Fatal("the sops command did not follow the rule")
			}
			s := newStore(t, Settings{Document: doc}, key.Secret)
			if got, want := string(fetch(t, s, ".")[0].Value), sopstest.Decrypt(t, key, "yaml", doc); got != want {
				t.Errorf("got:\n%s\nthe sops command:\n%s", got, want)
			}
		})
	}
}

var encrypted = regexp.MustCompile(`ENC\[[^\]]*\]`)

func TestChangedDocumentIsRefused(t *testing.T) {
	key := sopstest.NewKey(t)
	doc := sopstest.Encrypt(t, "yaml", "first: one\nsecond: two\nthird: 3\nempty: \"\"\nlist:\n  - l1\n  - l2\nopen_unencrypted: hello\n", key.Public)
	other := sopstest.Encrypt(t, "yaml", "first: one\nsecond: two\n", key.Public)
	enc := encrypted.FindAllString(doc, -1) // first, second, third, l1, l2, mac
	mac := enc[len(enc)-1]
	replace := func(old, by string) string { return strings.Replace(doc, old, by, 1) }
	swap := func(a, b string) string { return strings.NewReplacer(a, b, b, a).Replace(doc) }
	flip := func(s string) string {
		i := strings.Index(s, "data:") + 5
		c := "A"
		if s[i] == 'A' {
			c = "B"
		}
		return s[:i] + c + s[i+1:]
	}
	modified := regexp.MustCompile(`lastmodified: "?[^"\n]*"?`)
	for name, text := range map[string]string{
		"value edited":               replace(enc[0], flip(enc[0])),
		"value moved":                swap(enc[0], enc[1]),
		"value copied":               replace(enc[1], enc[0]),
		"value in the clear":         replace(enc[0], "one"),
		"value emptied":              replace(enc[0], `""`),
		"value made a number":        replace(enc[0], "7"),
		"value made null":            replace(enc[0], "null"),
		"value of another document":  replace(enc[0], encrypted.FindString(other)),
		"type changed to comment":    replace(enc[0], strings.Replace(enc[0], "type:str", "type:comment", 1)),
		"type changed to int":        replace(enc[0], strings.Replace(enc[0], "type:str", "type:int", 1)),
		"type unknown":               replace(enc[0], strings.Replace(enc[0], "type:str", "type:thing", 1)),
		"list item typed as comment": replace(enc[3], strings.Replace(enc[3], "type:str", "type:comment", 1)),
		"list turned round":          swap(enc[3], enc[4]),
		"key renamed":                replace("first:", "fist:"),
		"key moved below another":    replace("first: "+enc[0], "first:\n    first: "+enc[0]),
		"value removed":              replace("first: "+enc[0]+"\n", ""),
		"clear value changed":        replace("hello", "hullo"),
		"clear value removed":        replace("open_unencrypted: hello\n", ""),
		"clear value added":          replace("open_unencrypted: hello\n", "open_unencrypted: hello\nmore_unencrypted: x\n"),
		"order changed":              replace("first: "+enc[0]+"\nsecond: "+enc[1], "second: "+enc[1]+"\nfirst: "+enc[0]),
		"mac of another document":    replace(mac, encrypted.FindAllString(other, -1)[2]),
		"mac edited":                 replace(mac, flip(mac)),
		"mac is a value":             replace(mac, enc[0]),
		"mac empty":                  replace(mac, `""`),
		"mac in the clear":           replace(mac, strings.Repeat("0", 128)),
		"mac removed":                regexp.MustCompile(`(?m)^ *mac: .*\n`).ReplaceAllString(doc, ""),
		"lastmodified changed":       modified.ReplaceAllString(doc, `lastmodified: "2020-01-01T00:00:00Z"`),
		"lastmodified removed":       modified.ReplaceAllString(doc, `other: x`),
		"mac_only_encrypted added":   replace("    mac: ", "    mac_only_encrypted: true\n    mac: "),
		"rule changed":               replace("unencrypted_suffix: _unencrypted", "encrypted_regex: ^f"),
		"metadata removed":           doc[:strings.Index(doc, "sops:")],
	} {
		t.Run(name, func(t *testing.T) {
			if text == doc {
				t.Fatal("the document was not changed")
			}
			s := newStore(t, Settings{Document: text, Format: YAML}, key.Secret)
			secrets, err := s.Fetch(context.Background(), refs("second", "."))
			if err == nil {
				t.Fatalf("it was read")
			}
			if store.ReasonOf(err) != store.Invalid || secrets != nil {
				t.Errorf("%v, %v", store.ReasonOf(err), err)
			}
			for _, secret := range []string{"one", "two", "hello", key.Secret} {
				if strings.Contains(err.Error(), " "+secret) || strings.Contains(err.Error(), `"`+secret) {
					t.Errorf("the error tells a value: %v", err)
				}
			}
			t.Log(err)
		})
	}
	if s := newStore(t, Settings{Document: doc, Format: YAML}, key.Secret); string(fetch(t, s, "second")[0].Value) != "two" {
		t.Error("the document itself cannot be read")
	}
}

func TestWrongKeySaysWhichKeysAreWantedAndGiven(t *testing.T) {
	key, other := sopstest.NewKey(t), sopstest.NewKey(t)
	doc := sopstest.Encrypt(t, "yaml", "a: 1\n", key.Public)
	err := fetchError(t, newStore(t, Settings{Document: doc}, other.Secret), "a")
	if store.ReasonOf(err) != store.Denied || !strings.Contains(err.Error(), key.Public) || !strings.Contains(err.Error(), other.Public) {
		t.Errorf("got %v %v, which is not what this test promises", store.ReasonOf(err), err)
	}
	if strings.Contains(err.Error(), "AGE-SECRET") || strings.Contains(err.Error(), "\n") {
		t.Error("the error tells a secret key, or has several lines:", err)
	}
	// Another document's copy of the data key, under our name.
	wrapped := regexp.MustCompile(`(?s)-----BEGIN.*?END AGE ENCRYPTED FILE-----`)
	foreign := wrapped.FindString(sopstest.Encrypt(t, "yaml", "a: 1\n", other.Public))
	err = fetchError(t, newStore(t, Settings{Document: wrapped.ReplaceAllLiteralString(doc, foreign)}, key.Secret), "a")
	if store.ReasonOf(err) != store.Invalid {
		t.Errorf(`got %v %v, where store.ReasonOf(err) != store.Invalid must not be so`, store.ReasonOf(err), err)
	}
}

func TestAnyOfSeveralKeysOpensADocument(t *testing.T) {
	a, b, pq := sopstest.NewKey(t), sopstest.NewKey(t), sopstest.NewPostQuantumKey(t)
	doc := sopstest.Encrypt(t, "json", `{"k": "v"}`, a.Public, b.Public)
	for _, secret := range []string{a.Secret, b.Secret, "# created: today\r\n  " + b.Secret + "\r\n", "noise\n" + pq.Secret + "\n" + a.Secret} {
		if got := string(fetch(t, newStore(t, Settings{Document: doc}, "other: credentials", secret), "k")[0].Value); got != "v" {
			t.Errorf("got %v, want %v", got, "v")
		}
	}
	doc = sopstest.Encrypt(t, "json", `{"k": "pq"}`, pq.Public)
	if got := string(fetch(t, newStore(t, Settings{Document: doc}, a.Secret, pq.Secret), "k")[0].Value); got != "pq" {
		t.Errorf("got %v, want %v", got, "pq")
	}
	err := fetchError(t, newStore(t, Settings{Document: doc}, a.Secret), "k")
	if len(err.Error()) > 700 {
		t.Error("a post-quantum recipient fills the error:", err)
	}
}

func TestKeyGroupsNeedAsManySharesAsTheThreshold(t *testing.T) {
	keys := []sopstest.Key{sopstest.NewKey(t), sopstest.NewKey(t), sopstest.NewKey(t), sopstest.NewKey(t)}
	config := filepath.Join(t.TempDir(), "sops.yaml")
	for _, format := range []Format{YAML, JSON, Dotenv, INI, Binary} {
		rules := fmt.Sprintf("creation_rules:\n  - shamir_threshold: 2\n    key_groups:\n      - age: [%s]\n      - age: [%s, %s]\n      - age: [%s]\n",
			keys[0].Public, keys[1].Public, keys[2].Public, keys[3].Public)
		if err := os.WriteFile(config, []byte(rules), 0o600); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		doc := sopstest.Sops(t, keys[0], plains[format], "--config", config, "encrypt", "--input-type", string(format), "--output-type", string(format), "--filename-override", "x")
		for _, have := range [][]int{{0, 1}, {0, 3}, {2, 3}, {0, 1, 2, 3}} {
			var secrets []string
			for _, i := range have {
				secrets = append(secrets, keys[i].Secret)
			}
			fetch(t, newStore(t, Settings{Document: doc}, secrets...), ".")
		}
		for _, have := range [][]int{{0}, {1, 2}} {
			var secrets []string
			for _, i := range have {
				secrets = append(secrets, keys[i].Secret)
			}
			err := fetchError(t, newStore(t, Settings{Document: doc}, secrets...), ".")
			if store.ReasonOf(err) != store.Denied || !strings.Contains(err.Error(), "2 of its 3 key groups, of which 1") {
				t.Errorf("got %v, which is not what this test promises", err)
			}
		}
	}
}

// edit runs sops on a file and returns what became of it.
func edit(t *testing.T, key sopstest.Key, doc string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "doc.yaml")
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	for i, a := range args {
		if a == "FILE" {
			args[i] = file
		}
	}
	sopstest.Sops(t, key, "", args...)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	return string(text)
}

func TestVersionChangesWithItsValueOnly(t *testing.T) {
	key, second := sopstest.NewKey(t), sopstest.NewKey(t)
	doc := sopstest.Encrypt(t, "yaml", "a: one\nb: two\nc:\n  d: 1\n  e: 2\n", key.Public)
	names := []string{"a", "b", "c", "c/d", "c/e", "."}
	versions := func(doc string) map[string]string {
		out := map[string]string{}
		for i, s := range fetch(t, newStore(t, Settings{Document: doc}, key.Secret), names...) {
			if len(s.Version) != 22 {
				t.Errorf("version %q", s.Version)
			}
			out[names[i]] = s.Version
		}
		return out
	}
	before := versions(doc)
	if again := versions(doc); fmt.Sprint(again) != fmt.Sprint(before) {
		t.Error("the versions of one document differ")
	}
	after := versions(edit(t, key, doc, "set", "FILE", `["c"]["e"]`, `"three"`))
	for name, changed := range map[string]bool{"a": false, "b": false, "c": true, "c/d": false, "c/e": true, ".": true} {
		if (before[name] != after[name]) != changed {
			t.Errorf("after sops set of c/e the version of %s: %s, then %s", name, before[name], after[name])
		}
	}
	rotated := edit(t, key, doc, "rotate", "--in-place", "--add-age", second.Public, "FILE")
	for name, v := range versions(rotated) {
		if v == before[name] {
			t.Errorf("a new data key left %s its version", name)
		}
	}
	if got := string(fetch(t, newStore(t, Settings{Document: rotated}, second.Secret), "a")[0].Value); got != "one" {
		t.Error("the added key does not open the rotated document:", got)
	}
	seen := map[string]string{}
	for name, v := range before {
		if seen[v] != "" {
			t.Errorf("%s and %s share a version", name, seen[v])
		}
		seen[v] = name
	}
}

func TestUpdatedKeysOpenTheSameDocument(t *testing.T) {
	key, added := sopstest.NewKey(t), sopstest.NewKey(t)
	doc := sopstest.Encrypt(t, "yaml", "a: one\n", key.Public)
	config := filepath.Join(t.TempDir(), "sops.yaml")
	if err := os.WriteFile(config, []byte("creation_rules:\n  - age: "+key.Public+","+added.Public+"\n"), 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	fetchError(t, newStore(t, Settings{Document: doc}, added.Secret), "a")
	doc = edit(t, key, doc, "--config", config, "updatekeys", "--yes", "FILE")
	if got := string(fetch(t, newStore(t, Settings{Document: doc}, added.Secret), "a")[0].Value); got != "one" {
		t.Errorf("got %v, want %v", got, "one")
	}
}

func TestFolderOfDocuments(t *testing.T) {
	key := sopstest.NewKey(t)
	outside := filepath.Join(t.TempDir(), "outside.yaml")
	dir := t.TempDir()
	doc := sopstest.Encrypt(t, "yaml", "prod/mysql:\n  password: s3cret\nnum: 1\n", key.Public)
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
	}
	write(outside, doc)
	write(filepath.Join(dir, "team/app.yaml"), doc)
	write(filepath.Join(dir, "team/app.env"), sopstest.Encrypt(t, "dotenv", "A=b\n", key.Public))
	write(filepath.Join(dir, "cert"), sopstest.Encrypt(t, "binary", "\x00\x01", key.Public))
	write(filepath.Join(dir, "README.md"), "not encrypted")
	write(filepath.Join(dir, ".git/hidden.yaml"), doc)
	// As a ConfigMap volume is laid out.
	write(filepath.Join(dir, "..2026_11_23/mapped.yaml"), doc)
	for link, to := range map[string]string{"..data": "..2026_11_23", "mapped.yaml": "..data/mapped.yaml", "escape.yaml": outside} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
	}
	s := newStore(t, Settings{Directory: dir}, key.Secret)
	got := fetch(t, s, "team/app.yaml#prod/mysql", "team/app.yaml#prod/mysql/password", "team/app.env", "cert", "mapped.yaml#num", "team/app.yaml")
	for i, want := range []string{`{"password":"s3cret"}`, "s3cret", "A=b\n", "\x00\x01", "1", "prod/mysql:\n    password: s3cret\nnum: 1\n"} {
		if string(got[i].Value) != want {
			t.Errorf("%d: %q, want %q", i, got[i].Value, want)
		}
	}
	for name, want := range map[string]store.Reason{
		"../x": store.Invalid, "/etc/passwd": store.Invalid, "team/../cert": store.Invalid, "team//app.yaml": store.Invalid, "": store.Invalid, ".": store.Invalid,
		"escape.yaml": store.Invalid, "README.md": store.Invalid, "team": store.Invalid,
		"team/ap.yaml": store.NotFound, "team/app.yaml#passwort": store.NotFound, "cert#data": store.NotFound,
	} {
		secrets, err := s.Fetch(context.Background(), refs("cert", name))
		var es store.Errors
		if !errors.As(err, &es) || es[1] == nil || es[0] != nil || es[1].Reason != want {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if string(secrets[0].Value) != "\x00\x01" {
			t.Errorf("%q: the other secret was not read", name)
		}
		t.Log(err)
	}
	if err := fetchError(t, s, "team/ap.yaml"); !strings.Contains(err.Error(), "team/app.yaml?") {
		t.Errorf(`got %v, where !strings.Contains(err.Error(), "team/app.yaml?") must not be so`, err)
	}
	listed, err := s.(store.Lister).List(context.Background(), store.Filter{}, 10)
	if want := refs("cert", "mapped.yaml", "team/app.env", "team/app.yaml"); err != nil || fmt.Sprint(listed) != fmt.Sprint(want) {
		t.Errorf(`got %v %v, where err != nil || fmt.Sprint(listed) != fmt.Sprint(want) must not be so`, listed, err)
	}
	listed, err = s.(store.Lister).List(context.Background(), store.Filter{Prefix: "team/", Regexp: `\.env$`}, 10)
	if err != nil || len(listed) != 1 {
		t.Errorf(`got %v %v, where err != nil || len(listed) != 1 must not be so`, listed, err)
	}
	err = fetchError(t, newStore(t, Settings{Directory: filepath.Join(dir, "gone")}, key.Secret), "x")
	if store.ReasonOf(err) != store.Unavailable || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, which is not what this test promises", err)
	}
}

func TestAgeKeyFileIsReadOnEveryFetch(t *testing.T) {
	old, young := sopstest.NewKey(t), sopstest.NewKey(t)
	dir := t.TempDir()
	file, keys := filepath.Join(dir, "doc.yaml"), filepath.Join(dir, "keys.txt")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
	}
	write(file, sopstest.Encrypt(t, "yaml", "a: old\n", old.Public))
	s := newStore(t, Settings{File: file, AgeKeyFile: keys}, young.Secret)
	if p := s.(store.Principal).Principal(); p != "platform" {
		t.Errorf("got %v, want %v", p, "platform")
	}
	if err := fetchError(t, s, "a"); store.ReasonOf(err) != store.Unavailable || !strings.Contains(err.Error(), keys) {
		t.Errorf("got %v, which is not what this test promises", err)
	}
	write(keys, "# none yet\n")
	if err := fetchError(t, s, "a"); store.ReasonOf(err) != store.Precondition {
		t.Errorf(`got %v, where store.ReasonOf(err) != store.Precondition must not be so`, err)
	}
	write(keys, "# created: 2026\n"+old.Secret+"\n")
	if got := string(fetch(t, s, "a")[0].Value); got != "old" {
		t.Errorf("got %v, want %v", got, "old")
	}
	write(file, sopstest.Encrypt(t, "yaml", "a: young\n", young.Public))
	if err := fetchError(t, s, "a"); store.ReasonOf(err) != store.Denied {
		t.Error("the tenant's own key was used where the platform's is set:", err)
	}
	write(keys, young.Secret)
	if got := string(fetch(t, s, "a")[0].Value); got != "young" {
		t.Errorf("got %v, want %v", got, "young")
	}
	if err := os.Remove(file); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if err := fetchError(t, s, "a"); store.ReasonOf(err) != store.Unavailable || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, which is not what this test promises", err)
	}
}

func TestMissingKeysAreNamedAllWithTheNearest(t *testing.T) {
	key := sopstest.NewKey(t)
	doc := sopstest.Encrypt(t, "yaml", "database-password: x\nother: y\nmap:\n  k: v\n", key.Public)
	s := newStore(t, Settings{Document: doc}, key.Secret)
	secrets, err := s.Fetch(context.Background(), []store.Ref{{Name: "database-pasword"}, {Name: "other"}, {Name: "zzz"}, {Name: "other", Version: "2"}, {Name: "map/k/x"}, {Name: "other", Type: "key"}})
	var es store.Errors
	if !errors.As(err, &es) || len(es) != 5 || string(secrets[1].Value) != "y" {
		t.Fatalf("got %v, which is not what this test promises", err)
	}
	if es[0].Reason != store.NotFound || !strings.Contains(es[0].Text, "database-password") {
		t.Errorf("got %v, which is not what this test promises", es[0])
	}
	if es[2].Reason != store.NotFound || strings.Contains(es[2].Text, "is it") {
		t.Errorf("got %v, which is not what this test promises", es[2])
	}
	if es[3].Reason != store.Invalid || !strings.Contains(es[3].Text, "no versions") || es[5].Reason != store.Invalid {
		t.Errorf("got %v %v, which is not what this test promises", es[3], es[5])
	}
}

func TestListGivesTheTopLevelKeys(t *testing.T) {
	key := sopstest.NewKey(t)
	for format, want := range map[Format][]string{
		YAML:   {"a", "a/b", "list", "looks_like_a_number", "octal", "plain_unencrypted", "prod/mysql", "tls.crt", "void", "yes_no"},
		INI:    {"DEFAULT", "a/b", "mysql"},
		Binary: {"."},
	} {
		doc := sopstest.Encrypt(t, string(format), plains[format], key.Public)
		got, err := newStore(t, Settings{Document: doc}).(store.Lister).List(context.Background(), store.Filter{}, 100)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(refs(want...)) {
			t.Errorf("got %v %v %v, which is not what this test promises", format, got, err)
		}
	}
	s := newStore(t, Settings{Document: sopstest.Encrypt(t, "yaml", yamlPlain, key.Public)}, key.Secret).(store.Lister)
	if _, err := s.List(context.Background(), store.Filter{}, 3); !errors.Is(err, store.ErrTooMany) {
		t.Errorf(`got %v, where !errors.Is(err, store.ErrTooMany) must not be so`, err)
	}
	if _, err := s.List(context.Background(), store.Filter{Tags: "a=b"}, 3); store.ReasonOf(err) != store.Invalid {
		t.Errorf(`got %v, where store.ReasonOf(err) != store.Invalid must not be so`, err)
	}
	if _, err := s.List(context.Background(), store.Filter{Regexp: "("}, 3); store.ReasonOf(err) != store.Invalid {
		t.Errorf(`got %v, where store.ReasonOf(err) != store.Invalid must not be so`, err)
	}
}

func TestKeysOfSeveralYAMLDocumentsAreFound(t *testing.T) {
	key := sopstest.NewKey(t)
	s := newStore(t, Settings{Document: sopstest.Encrypt(t, "yaml", "a: 1\nboth: x\n---\nb:\n  c: 2\nboth: y\n", key.Public)}, key.Secret)
	for name, want := range map[string]string{"a": "1", "b/c": "2"} {
		if got := string(fetch(t, s, name)[0].Value); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	var es store.Errors
	if err := fetchError(t, s, "both"); !errors.As(err, &es) || es[0].Reason != store.Invalid {
		t.Errorf(`got %v, where !errors.As(err, &es) || es[0].Reason != store.Invalid must not be so`, err)
	}
}
