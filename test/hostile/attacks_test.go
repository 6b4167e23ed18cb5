package hostile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/test/node"
)

// values are what the hostile tenant's documents hold, a store each.
func values() map[string]string {
	var keys strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&keys, `"key-%d":"v",`, i)
	}
	return map[string]string{
		"many":    "{" + keys.String() + `"k":"v"}`,
		"one":     `{"key":"value"}`,
		"maps":    `{"a":[` + strings.Repeat(`{"b":{}},`, 70_000) + `1]}`,
		"deep":    strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000),
		"bomb":    bomb(),
		"wide":    "a: [" + strings.Repeat("a,", 330_000) + "a]\nb: 1\n",
		"dashes":  strings.Repeat("- ", 300_000) + "a",
		"lines":   strings.Repeat("A=b\n", 170_000),
		"quotes":  `{"a":"` + strings.Repeat(`\"`, 330_000) + `"}`,
		"base64":  strings.Repeat("YWJj", 170_000),
		"longkey": `{"` + strings.Repeat("k", 650_000) + `":"v"}`,
		"numbers": "{" + strings.Repeat(`"n":`+strings.Repeat("9", 60)+",", 8_000) + `"k":1}`,
	}
}

// bomb is YAML that expands to ten to the ninth nodes.
func bomb() string {
	text := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'j'; c++ {
		text += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ","))
	}
	return text
}

// secrets are those in AWS, whose own limit is 64 KiB.
func secrets() map[string]string {
	return map[string]string{
		"small": `{"a":"x","list":[1,2,3]}`,
		"text":  `{"a":"` + strings.Repeat("x", 60_000) + `","list":[` + strings.Repeat("1,", 1000) + `1]}`,
		"list":  `{"list":[` + strings.Repeat("1,", 30_000) + `1]}`,
	}
}

// of is a hostile pod's volume; each has a namespace of its own where apart.
func of(i int, parameters map[string]string) request.Volume {
	return node.Pod{Namespace: "hostile", Name: fmt.Sprintf("pod-%d", i)}.Volume(parameters)
}

// times is so many volumes with the same parameters.
func times(n int, parameters map[string]string) func(*world) []request.Volume {
	return func(*world) []request.Volume {
		var all []request.Volume
		for i := range n {
			all = append(all, of(i, parameters))
		}
		return all
	}
}

// objects is two mounts of a list, on a store.
func objects(store, list string) func(*world) []request.Volume {
	return times(2, map[string]string{"store": store, "objects": list})
}

// template is two mounts of one template over the small value.
func template(source string) func(*world) []request.Volume {
	return objects("one", fmt.Sprintf("- {name: ., file: f, template: %q}", source))
}

// each is a list of n objects, made of a format with the object's number.
func each(n int, format string) string {
	var list strings.Builder
	for i := range n {
		list.WriteString("- " + strings.ReplaceAll(format, "%d", fmt.Sprint(i)) + "\n")
	}
	return list.String()
}

// jmesPath is two mounts of an expression over a secret of AWS, by a hundred
// entries.
func jmesPath(secret, expression string) func(*world) []request.Volume {
	var list strings.Builder
	fmt.Fprintf(&list, "- objectName: %s\n  objectType: secretsmanager\n  jmesPath:\n", secret)
	for i := range 100 {
		fmt.Fprintf(&list, "  - {path: %q, objectAlias: f%d, allowNonString: true}\n", expression, i)
	}
	return classes(2, list.String())
}

// classes is n mounts of the AWS provider's syntax.
func classes(n int, list string) func(*world) []request.Volume {
	return func(w *world) []request.Volume {
		var all []request.Volume
		for i := range n {
			v := of(i, map[string]string{"region": "eu-west-3", "objects": list})
			v.Identity.Tokens = auth.Tokens{"sts.amazonaws.com": w.node.Token("sts.amazonaws.com", "hostile", "api")}
			all = append(all, v)
		}
		return all
	}
}

func attacks() []attack {
	regexps := strings.Repeat("(x{1000})", 113)
	all := []attack{
		{name: "a wide list", short: true, volumes: objects("one", "["+strings.Repeat("a,", 500_000)+"a]")},
		{name: "a wide list of maps", volumes: objects("one", "["+strings.Repeat("{a: b},", 140_000)+"a]")},
		{name: "wide lines", volumes: objects("one", strings.Repeat("- a\n", 250_000))},
		{name: "deep lists", short: true, volumes: objects("one", strings.Repeat("[", 1_000_000))},
		{name: "deep dashes", short: true, volumes: objects("one", strings.Repeat("- ", 500_000))},
		{name: "deep questions", volumes: objects("one", strings.Repeat("? ", 500_000))},
		{name: "deep maps", volumes: objects("one", strings.Repeat("{a: ", 250_000))},
		{name: "anchors", short: true, volumes: objects("one", bomb())},
		{name: "many anchors", volumes: objects("one", strings.Repeat("- &a *a\n", 120_000))},
		{name: "comments", volumes: objects("one", "- a\n"+strings.Repeat("# c\n", 250_000))},
		{name: "quoted", volumes: objects("one", "- \""+strings.Repeat(`\x41`, 250_000)+"\"")},
		{name: "unknown fields", volumes: objects("one", "- {"+unknown(20_000)+"}")},
		{name: "unknown parameters", volumes: times(2, many(20_000))},
		{name: "a wide inline store", volumes: times(2, map[string]string{"inlineStore": "[" + strings.Repeat("a,", 500_000) + "a]", "objects": "- a"})},

		{name: "counted expressions", short: true, volumes: objects("one", each(4, fmt.Sprintf("{name: ., keys: {regexp: %q}, file: d%%d/}", regexps)))},
		{name: "nested counts", volumes: objects("one", each(4, `{name: ., keys: {regexp: "((a{100}){100}){100}"}, file: d%d/}`))},
		{name: "expressions of a search", volumes: objects("one", each(100, fmt.Sprintf("{find: {regexp: %q}, file: d%%d/}", regexps)))},
		{name: "wide classes", short: true, volumes: objects("one", each(500, fmt.Sprintf("{name: ., keys: {regexp: %q}, file: d%%d/}", strings.Repeat(`\pL`, 300))))},
		{name: "slow expressions", volumes: objects("many", each(500, `{name: ., keys: {regexp: "(x*y*)*(a|b{900})$"}, file: d%d/}`))},
		{name: "a long rewrite", short: true, volumes: objects("one", fmt.Sprintf(`- {name: ., keys: "*", rewrite: {regexp: "", with: %q}}`, strings.Repeat("x", 900_000)))},
		{name: "rewritten groups", volumes: objects("longkey", fmt.Sprintf(`- {name: ., keys: "*", rewrite: {regexp: "(.*)", with: %q}}`, strings.Repeat("$1", 500)))},
		{name: "rewritten letters", volumes: objects("many", each(100, fmt.Sprintf(`{name: ., keys: "*", file: d%%d/, rewrite: {regexp: "x*", with: %q}}`, strings.Repeat("x", 1000))))},

		{name: "all keys, a hundred times", short: true, volumes: objects("many", each(100, `{name: ., keys: "*", file: d%d/}`))},
		{name: "formats", short: true, volumes: objects("many", each(500, `{name: ., format: yaml, file: f%d}`))},
		{name: "properties", volumes: objects("quotes", each(500, `{name: ., format: properties, file: f%d}`))},
		{name: "decoded", volumes: objects("base64", each(500, `{name: ., decode: base64, file: f%d}`))},
		{name: "large files", volumes: objects("base64", each(500, `{name: ., file: f%d}`))},
		{name: "paths of keys", volumes: objects("maps", each(500, `{name: ., key: a.1.b, file: f%d}`))},
		{name: "missing keys", volumes: objects("many", each(500, `{name: ., key: kez-1, file: f%d}`))},
		{name: "many sources", short: true, volumes: objects("one", "- {file: f, template: x, secrets: {"+sources(16_000)+"}}")},

		{name: "repeated texts", short: true, volumes: template(strings.Repeat(`{{ $a := repeat 1000000 "a" }}`, 150))},
		{name: "hashes in a loop", short: true, volumes: template(`{{ $x := repeat 200000 "a" }}{{ range until 9999 }}{{ $y := sha256sum $x }}{{ end }}`)},
		{name: "comparisons in a loop", volumes: template(`{{ $x := repeat 1000000 "a" }}{{ range until 9999 }}{{ if eq $x $x }}{{ end }}{{ end }}`)},
		{name: "a wide loop", volumes: template(`{{ range until 9999 }}` + strings.Repeat(`{{ $y := 1 }}`, 4000) + `{{ end }}`)},
		{name: "wide templates", volumes: template(`{{ define "x" }}` + strings.Repeat(`{{ len .key }}`, 3000) + `{{ end }}{{ range until 9999 }}{{ template "x" $ }}{{ end }}`)},
		{name: "pieces", volumes: template(`{{ range until 9999 }}{{ $y := uniq (splitList "" (repeat 100000 "a")) }}{{ end }}`)},
		{name: "JSON of JSON", volumes: template(`{{ $x := .key }}{{ range until 60 }}{{ $x = toJson $x }}{{ end }}`)},
		{name: "padded", volumes: template(strings.Repeat(`{{ $x := printf "%999d" 1 }}`, 2000))},
		{name: "many templates", volumes: objects("one", each(500, fmt.Sprintf("{name: ., file: f%%d, template: %q}", strings.Repeat("{{.}}", 380))))},

		{name: "text of text", dialect: "aws", short: true, volumes: jmesPath("small", "@"+strings.Repeat("|[@]|to_string(@)", 26))},
		{name: "lists of lists", dialect: "aws", short: true, volumes: jmesPath("small", "@"+strings.Repeat("|[@,@]", 60)+strings.Repeat("|[]", 60))},
		{name: "maps of lists", dialect: "aws", volumes: jmesPath("list", "list"+strings.Repeat("|map(&[@,@],@)|[]", 30))},
		{name: "joined", dialect: "aws", volumes: jmesPath("text", "a"+strings.Repeat("|join('',[@,@])", 40))},
		{name: "compared", dialect: "aws", volumes: jmesPath("list", "list[?contains(`"+"[1,2]"+"`, @)]"+strings.Repeat("|[@,@][]", 10)+"|sort(@)")},
		{name: "nested brackets", dialect: "aws", volumes: jmesPath("small", strings.Repeat("[", 8000)+"@"+strings.Repeat("]", 8000))},
		{name: "a wide list of AWS", dialect: "aws", short: true, volumes: classes(2, "["+strings.Repeat("a,", 500_000)+"a]")},
		{name: "anchors of AWS", dialect: "aws", short: true, volumes: classes(2, bomb())},
		{name: "anchored objects of AWS", dialect: "aws", volumes: classes(2, "- &a {objectName: x, objectType: secretsmanager}\n"+strings.Repeat("- *a\n", 100_000))},
	}
	for _, store := range slices.Sorted(maps.Keys(values())) {
		for _, shape := range []string{`key: a`, `keys: "*"`, `format: json`, `decode: auto`} {
			short := shape == `keys: "*"`
			folder := ""
			if short {
				folder = "/"
			}
			all = append(all, attack{name: store + ", " + shape, short: short, volumes: objects(store, fmt.Sprintf("- {name: ., file: f%s, %s}", folder, shape))})
		}
	}
	for name, text := range documents() {
		all = append(all, attack{name: "a document, " + name, short: name == "wide" || name == "lines", volumes: document(text)})
	}
	return append(all, attack{name: "all at once", short: true, volumes: storm})
}

// documents are texts that a SOPS store parses, or refuses to.
func documents() map[string]string {
	return map[string]string{
		"wide":      "a: [" + strings.Repeat("a,", 450_000) + "a]\nsops: {mac: 'ENC[AES256_GCM,'}\n",
		"medium":    "a: [" + strings.Repeat("a,", 45_000) + "a]\nsops: {mac: 'ENC[AES256_GCM,'}\n",
		"maps":      "a: [" + strings.Repeat("{a},", 24_000) + "a]\nsops: {mac: 'ENC[AES256_GCM,'}\n",
		"dashes":    "a:\n" + strings.Repeat("- ", 400_000) + "a\nsops: {mac: 'ENC[AES256_GCM,'}\n",
		"questions": strings.Repeat("? ", 400_000) + "a\nsops: {mac: 'ENC[AES256_GCM,'}\n",
		"colons":    "[" + strings.Repeat("a: b, ", 45_000) + "a]\nsops: {mac: 'ENC[AES256_GCM,'}\n",
		"lines":     strings.Repeat("a: b\n", 49_000) + "sops: {mac: 'ENC[AES256_GCM,'}\n",
		"comments":  "a: b\n" + strings.Repeat("# c\n", 90_000) + "sops: {mac: 'ENC[AES256_GCM,'}\n",
		"anchors":   bomb() + "sops: {mac: 'ENC[AES256_GCM,'}\n",
		"many":      strings.Repeat("---\na: b\n", 30_000) + "sops: {mac: 'ENC[AES256_GCM,'}\n",
		"JSON":      `{"a":[` + strings.Repeat(`{"b":{}},`, 49_000) + `1],"sops":{"mac":"ENC[AES256_GCM,"}}`,
		"deep JSON": strings.Repeat(`{"a":`, 90_000) + `"ENC[AES256_GCM,"` + strings.Repeat("}", 90_000),
		"INI":       "[sops]\nmac=ENC[AES256_GCM,\n" + strings.Repeat("[a]\na=b\n", 4_000),
		"dotenv":    "sops_mac=ENC[AES256_GCM,\n" + strings.Repeat("A=b\n", 90_000),
	}
}

// document is four mounts of a document and three like it, so that each is
// parsed.
func document(text string) func(*world) []request.Volume {
	return func(w *world) []request.Volume {
		var all []request.Volume
		for i := range 4 {
			inline := fmt.Sprintf("{kind: sops, document: %q}", text+fmt.Sprintf("# %d\n", i))
			v := of(i, map[string]string{"inlineStore": inline, "objects": "- {name: a, file: f}"})
			v.Identity.Secrets = auth.Secrets{"age": w.key.Secret}
			all = append(all, v)
		}
		return all
	}
}

// storm is a mix of the others, from several namespaces at once.
func storm(*world) []request.Volume {
	var all []request.Volume
	for i := range 60 {
		store := []string{"many", "wide", "maps", "quotes", "bomb"}[i%5]
		shape := []string{`key: a`, `format: yaml`, fmt.Sprintf("template: %q", `{{ range until 9999 }}{{ $x := sha256sum (repeat 100000 "a") }}{{ end }}`)}[i%3]
		all = append(all, node.Pod{Namespace: fmt.Sprintf("hostile-%d", i%7), Name: fmt.Sprintf("pod-%d", i)}.Volume(map[string]string{
			"store": store, "objects": each(50, "{name: ., file: f%d, "+shape+"}"),
		}))
	}
	return all
}

func unknown(n int) string {
	var fields strings.Builder
	for i := range n {
		fmt.Fprintf(&fields, "f%d: x, ", i)
	}
	return fields.String()
}

func many(n int) map[string]string {
	parameters := map[string]string{}
	for i := range n {
		parameters[fmt.Sprintf("stor%d", i)] = "x"
	}
	return parameters
}

func sources(n int) string {
	var names strings.Builder
	for i := range n {
		fmt.Fprintf(&names, "s%d: ., ", i)
	}
	return names.String()
}
