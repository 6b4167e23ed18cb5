package render

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/provider/plan"
)

// Lines that bash takes as assignments and nothing else.
var shellLines = []string{
	`A="p#1" # rotated`, `A=abc # prod`, `A=abc#prod`, `A=#prod`, `A= # nothing`, `A=`, `A="a\tb\x41"`, `A="\d+"`, `A='\d+'`, `A="a\"b\\c\$d"`, "A=\"a\\`b\"",
	`A='it'\''s'`, `A='a'b"c"`, `A=a\ b`, `A=a\\b`, `export A=x`, `export A="x y"`, "A='-----BEGIN KEY-----\nMIIB+/==\n-----END KEY-----\n'",
	"A=\"-----BEGIN KEY-----\nMIIB\n-----END KEY-----\"", "A=\"one \\\ntwo\"", "A=one\\\ntwo", `A=a=b==`, `A="a # b"`, `A='a # b' # c`, `A=ünï`, `A=""`, `A=''`,
	"A=1\nA=2", "  A=1", `A=x; # y`[:3] + " ", `A=%s`, `A=a:b@c/d?e`, `A="tab	in"`,
}

func TestDotenvIsReadAsAShellReadsIt(t *testing.T) {
	for _, lines := range shellLines {
		script := lines + "\nprintf %s \"$A\""
		out, err := exec.CommandContext(context.Background(), "bash", "--norc", "-c", script).Output()
		if err != nil {
			t.Fatalf("%q: bash does not run it: %v", lines, err)
		}
		// One assignment that gives something makes the text dotenv.
		pairs, ok := dotenv(lines + "\nOTHER=x\n")
		if !ok || pairs["A"] != string(out) || pairs["OTHER"] != "x" {
			t.Errorf("%q: got %q, %v; bash reads %q", lines, pairs["A"], ok, out)
		}
	}
}

func TestWhatAShellWouldRunIsText(t *testing.T) {
	for text, want := range map[string]string{
		"A=two words": "two words", "A=$HOME": "$HOME", "A=`id`": "`id`", "A=a&b;c|d": "a&b;c|d", "A = spaced": "spaced", "A=x\r\nB=y": "x",
	} {
		if pairs, ok := dotenv(text); !ok || pairs["A"] != want {
			t.Errorf("%q: got %q, %v; want %q", text, pairs["A"], ok, want)
		}
	}
	for _, text := range []string{"A='open", `A="open`, "no assignment", "1A=x", "A=x\nfree text", "YWJjZGVmZ2hpamts=", "YWJjZGVm==", "YWJj=\nZGVm="} {
		if pairs, ok := dotenv(text); ok {
			t.Errorf("%q is taken for dotenv: %v", text, pairs)
		}
	}
}

func TestAShellReadsWhatFormatDotenvWrites(t *testing.T) {
	for _, value := range []string{"plain", "two words", "it's", "a\nb", "it's\n\"$x\" \\ `y`", "# no comment", "trailing\n", "\ttab ", "ünï", "", "a\\nb", "!x"} {
		text, err := quoteDotenv(value)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		file := filepath.Join(t.TempDir(), "env")
		if err := os.WriteFile(file, []byte("A="+text+"\n"), 0o600); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		for _, shell := range []string{"bash", "sh"} {
			out, err := exec.CommandContext(context.Background(), shell, "-c", `. "$1"; printf %s "$A"`, shell, file).Output()
			if err != nil || string(out) != value {
				t.Errorf("%s reads %q of %s, %v; want %q", shell, out, text, err, value)
			}
		}
	}
	p, a := one(`{"hy-phen":"x"}`, plan.Output{Format: plan.Dotenv})
	if _, err := Files(mount(), p, a); err == nil || !strings.Contains(err.Error(), `key "hy-phen" cannot name a variable in a shell`) {
		t.Errorf("a name that no shell takes: got %v", err)
	}
}

// A secret may look like a document; what looks like its keys is a part of it.
func TestPartsOfASecretNeverBecomeNames(t *testing.T) {
	for _, secret := range []string{
		"c2VjcmV0LXZhbHVlLWluLWJhc2U2NA=", "c2VjcmV0LXZhbHVlLWluLWJhc2U2NA==", "hunter2=", "hunter2=x", "hunter2: x", "YWJjZGVm=\nc2VjcmV0=\n", "hunter2+/: x\nother: y\n", "'hunter2 and more': x\nother: y\n",
	} {
		for name, out := range map[string]plan.Output{
			"keys":           {Keys: &plan.Keys{All: true}},
			"keys, decoded":  {Keys: &plan.Keys{All: true}, Decode: plan.Base64},
			"keys by regexp": {Keys: &plan.Keys{Regexp: pattern(".")}},
			"format":         {Format: plan.JSON, Decode: plan.Hex},
			"a key":          {Key: "none"},
		} {
			p, a := one(secret, out)
			files, err := Files(mount(), p, a)
			if err == nil {
				t.Errorf("%q, %s: got %s, want an error", secret, name, show(files))
				continue
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), secret[:6]) {
				t.Errorf("%q, %s: the error shows a part of it: %v", secret, name, err)
			}
		}
	}
	p, a := one("PASSWORD=hunter2", plan.Output{Key: "PASSWORD"})
	if files, err := Files(mount(), p, a); err != nil || show(files) != "f=hunter2" {
		t.Errorf("a key that the object names: got %q, %v", show(files), err)
	}
}

func TestOneRuleForKeysThatStandTwiceAndNumbersKeepTheirText(t *testing.T) {
	const twice = `{"n":{"x":"1","x":"2"},"a":"1","a":"2","num":{"id":9007199254740993,"f":1.10,"e":1E5,"h":"a<b>&c"}}`
	for name, c := range map[string]struct {
		value string
		out   plan.Output
		want  string
	}{
		"nested key":      {twice, plan.Output{Key: "n.x"}, "f=2"},
		"top-level key":   {twice, plan.Output{Key: "a"}, "f=2"},
		"object":          {twice, plan.Output{Key: "n"}, `f={"x":"2"}`},
		"template":        {twice, plan.Output{Template: tmpl(t, "{{ .n.x }}{{ .a }}")}, "f=22"},
		"numbers":         {twice, plan.Output{Key: "num"}, `f={"id":9007199254740993,"f":1.10,"e":1E5,"h":"a<b>&c"}`},
		"as JSON":         {`{"f":1.10,"i":9007199254740993}`, plan.Output{Format: plan.JSON}, "f={\n  \"f\": 1.10,\n  \"i\": 9007199254740993\n}\n"},
		"as YAML":         {`{"f":1.10,"i":9007199254740993,"h":"<a&b>"}`, plan.Output{Format: plan.YAML}, "f=f: 1.10\ni: 9007199254740993\nh: \"<a&b>\"\n"},
		"in a template":   {`{"f":1.10,"i":9007199254740993}`, plan.Output{Template: tmpl(t, "{{ .f }} {{ .i }} {{ toRawJson . }}")}, `f=1.10 9007199254740993 {"f":1.10,"i":9007199254740993}`},
		"merged YAML":     {"base: &b {user: app, pw: x}\nprod:\n  <<: *b\n  pw: y\n", plan.Output{Key: "prod.user"}, "f=app"},
		"own over merged": {"base: &b {user: app, pw: x}\nprod:\n  <<: *b\n  pw: y\n", plan.Output{Key: "prod.pw"}, "f=y"},
		"top merged":      {"<<: {user: app, pw: x}\npw: y\n", plan.Output{Keys: &plan.Keys{All: true}}, "pw=y|user=app"},
		"merged list":     {"p:\n  <<: [{a: 1}, {a: 2, b: 3}]\n", plan.Output{Key: "p"}, `f={"b":3,"a":1}`},
	} {
		p, a := one(c.value, c.out)
		if files, err := Files(mount(), p, a); err != nil || show(files) != c.want {
			t.Errorf("%s: got %q, %v; want %q", name, show(files), err, c.want)
		}
	}
}
