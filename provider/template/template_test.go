package template

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/test/cost"
)

// mount is the budget of one.
func mount() *budget.Budget { return budget.New(context.Background(), nil, "") }

func TestTemplateSeesKeys(t *testing.T) {
	for name, c := range map[string]struct {
		source string
		want   string
	}{
		"key":           {`user={{ .user }}`, "user=app"},
		"nested":        {`{{ .db.password | quote }}`, `"s3cr3t"`},
		"range":         {`{{ range $k, $v := .db }}{{ $k }}={{ $v }};{{ end }}`, "password=s3cr3t;port=5432;"},
		"functions":     {`{{ .user | upper | b64enc }} {{ replace "p" "P" .user }} {{ join "," (splitList "p" .user) }}`, "QVBQ aPP a,,"},
		"printf":        {`{{ printf "%s:%5s" .user "x" }}`, "app:    x"},
		"indent":        {"{{ indent 2 \"a\\nb\" }}{{ nindent 1 \"c\" }}", "  a\n  b\n c"},
		"regex":         {`{{ regexReplaceAll "a(p)" .user "$1-" }}`, "p-p"},
		"until":         {`{{ range until 3 }}{{ . }}{{ end }}`, "012"},
		"default":       {`{{ default "x" "" }}{{ repeat 2 "ab" }}`, "xabab"},
		"own templates": {`{{ define "x" }}<{{ . }}>{{ end }}{{ template "x" .user }}`, "<app>"},
	} {
		t.Run(name, func(t *testing.T) {
			tmpl, err := Parse(mount(), c.source)
			if err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			for range 2 { // a second run counts its own steps
				got, err := tmpl.Execute(mount(), map[string]any{"user": "app", "db": map[string]any{"password": "s3cr3t", "port": 5432}})
				if err != nil || string(got) != c.want {
					t.Fatalf("got %q, %v; want %q", got, err, c.want)
				}
			}
		})
	}
}

func TestHostileTemplateIsStopped(t *testing.T) {
	for name, c := range map[string]struct{ source, want string }{
		"endless loop":      {`{{ range 1000000000 }}{{ end }}`, "steps"},
		"nested loops":      {`{{ range until 1000 }}{{ range until 1000 }}{{ end }}{{ end }}`, "steps"},
		"loop in else":      {`{{ if .no }}{{ else }}{{ range 100000 }}{{ end }}{{ end }}`, "steps"},
		"loop in with":      {`{{ with .user }}{{ range 100000 }}{{ end }}{{ end }}`, "steps"},
		"recursion":         {`{{ define "x" }}{{ template "x" . }}{{ end }}{{ template "x" . }}`, "steps"},
		"doubling":          {`{{ $x := "aaaaaaaaaaaaaaaa" }}{{ range until 60 }}{{ $x = print $x $x }}{{ end }}`, "bytes"},
		"doubling by cat":   {`{{ $x := "aaaaaaaaaaaaaaaa" }}{{ range until 60 }}{{ $x = cat $x $x }}{{ end }}`, "bytes"},
		"quoting quotes":    {`{{ $x := "\"\"" }}{{ range until 60 }}{{ $x = quote $x }}{{ end }}`, "bytes"},
		"wide printf":       {`{{ printf "%1000000d" 1 }}`, "bytes"},
		"starred printf":    {`{{ printf "%*d" 1000000 1 }}`, "bytes"},
		"long output":       {`{{ range until 9000 }}` + strings.Repeat("x", 1000) + `{{ end }}`, "bytes"},
		"repeat":            {`{{ repeat 1000000000 "aaaaaaaaaaaaaaaaaa" }}`, "bytes"},
		"repeat overflow":   {`{{ repeat 9223372036854775807 "aaaa" }}`, "bytes"},
		"indent":            {`{{ indent 1000000000 "a" }}`, "bytes"},
		"replace blow-up":   {`{{ $x := repeat 100000 "a" }}{{ replace "a" $x $x }}`, "bytes"},
		"join blow-up":      {`{{ $x := repeat 100000 "a" }}{{ join $x (splitList "" $x) }}`, "bytes"},
		"regex blow-up":     {`{{ $x := repeat 100000 "a" }}{{ regexReplaceAll "" $x $x }}`, "bytes"},
		"literal regex":     {`{{ $x := repeat 1000 "a" }}{{ $y := repeat 60000 "a" }}{{ regexReplaceAllLiteral "" $y $x }}`, "bytes"},
		"until":             {`{{ until 1000000000 }}`, "steps"},
		"negative substr":   {`{{ substr 5 1 .user }}`, "does not work"},
		"150 repeats":       {strings.Repeat(`{{ $a := repeat 1000000 "a" }}`, 150), "bytes of memory"},
		"hashing":           {`{{ $x := repeat 200000 "a" }}{{ range until 9999 }}{{ $y := sha256sum $x }}{{ end }}`, "limit of one mount"},
		"comparing":         {`{{ $x := repeat 1000000 "a" }}{{ range until 9999 }}{{ if eq $x $x }}{{ end }}{{ end }}`, "bytes of work"},
		"piped comparing":   {`{{ $x := repeat 1000000 "a" }}{{ range until 9999 }}{{ if $x | eq $x }}{{ end }}{{ end }}`, "bytes of work"},
		"wide body":         {`{{ range until 9999 }}` + strings.Repeat(`{{ $y := 1 }}`, 4000) + `{{ end }}`, "bytes of work"},
		"wide condition":    {`{{ range until 9999 }}{{ if or ` + strings.Repeat(`$.no `, 10000) + `}}{{ end }}{{ end }}`, "bytes of work"},
		"wide templates":    {`{{ define "x" }}` + strings.Repeat(`{{ len .user }}`, 3000) + `{{ end }}{{ range until 9999 }}{{ template "x" $ }}{{ end }}`, "bytes"},
		"uniq":              {`{{ uniq (splitList "" (repeat 1000000 "a")) }}`, "bytes of memory"},
		"counted regex":     {`{{ regexMatch "((a{100}){100}){100}" .user }}`, "does not work"},
		"slow regex":        {`{{ $x := repeat 200000 "a" }}{{ regexMatch "(a*)*(b|c{900})" $x }}`, "bytes of work"},
		"printf indexes":    {`{{ $x := repeat 100000 "a" }}{{ printf "` + strings.Repeat("%[1]s", 800) + `" $x }}`, "bytes"},
		"JSON of JSON":      {`{{ $x := .user }}{{ range until 60 }}{{ $x = toJson $x }}{{ end }}`, "bytes"},
		"html of html":      {`{{ $x := "<" }}{{ range until 60 }}{{ $x = html $x $x }}{{ end }}`, "bytes"},
		"sorted":            {`{{ $x := splitList "" (repeat 100000 "a") }}{{ range until 999 }}{{ $y := sortAlpha $x }}{{ end }}`, "bytes"},
		"method of a value": {`{{ .user.Foo }}`, "can't evaluate field"},
	} {
		t.Run(name, func(t *testing.T) {
			tmpl, err := Parse(mount(), c.source)
			if err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			began := time.Now()
			out, err := tmpl.Execute(mount(), map[string]any{"user": "app", "no": false})
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %s, want under 10 s", took)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %d bytes, %v; want an error with %q", len(out), err, c.want)
			}
		})
	}
}

func TestFunctionsThatReachOutAreAbsent(t *testing.T) {
	for _, f := range []string{"env", "expandenv", "now", "getHostByName", "randAlphaNum", "uuidv4", "genCA", "bcrypt", "fail", "list", "dict", "set", "append", "call"} {
		if _, err := Parse(nil, `{{ `+f+` "x" }}`); f != "call" && err == nil {
			t.Errorf("%s is there", f)
		}
	}
}

func TestErrorsOfTemplatesShowNoValue(t *testing.T) {
	for _, source := range []string{
		`{{ range .password }}x{{ end }}`,
		`{{ index .password "x" }}`,
		`{{ fromJson .password | keys }}`,
		`{{ add .password 1 | lt "x" }}`,
		`{{ .password.field }}`,
		`{{ .pasword }}`,
		`{{ template "nope" .password }}`,
		`{{ slice .password 90 }}`,
		`{{ call .password }}`,
	} {
		tmpl, err := Parse(mount(), source)
		if err == nil {
			_, err = tmpl.Execute(mount(), map[string]any{"password": "hunter2"})
		}
		if err == nil {
			t.Errorf("%s: no error", source)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the value: %v", source, err)
		}
	}
}

func TestATemplateStopsWhenTheTimeIsOver(t *testing.T) {
	tmpl, err := Parse(nil, `{{ range until 9999 }}{{ $x := sha256sum $.user }}{{ end }}`)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := tmpl.Execute(budget.New(over, nil, ""), map[string]any{"user": "app"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add(`{{ range $k, $v := .db }}{{ $k | upper }}={{ $v | quote }}{{ end }}`, "v")
	f.Add(`{{ define "x" }}{{ template "x" . }}{{ end }}{{ template "x" . }}`, "v")
	f.Add(`{{ $x := .value }}{{ range until 9 }}{{ $x = print $x $x }}{{ end }}{{ $x | b64enc }}`, "v")
	f.Add(`{{ printf "%-20s|%v" .value .db | indent 3 | replace "a" "b" }}`, "v")
	f.Add(`{{ range until 9999 }}{{ $x := sha256sum (repeat 60000 "a") }}{{ end }}`, "v")
	f.Add(`{{ range until 9999 }}`+strings.Repeat(`{{ $y := 1 }}`, 4000)+`{{ end }}`, "v")
	f.Fuzz(func(t *testing.T, source, value string) {
		cost.Of(t, len(source)+len(value), func() {
			b := mount()
			tmpl, err := Parse(b, source)
			if err != nil {
				return
			}
			out, err := tmpl.Execute(b, map[string]any{"value": value, "db": map[string]any{"k": value, "n": 1}})
			if err == nil && len(out) > MaxText {
				t.Errorf("got %d bytes, want at most %d", len(out), MaxText)
			}
		})
	})
}
