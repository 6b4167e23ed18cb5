package sops

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/cost"
)

// The tests of this file need no sops command.

func TestInlineStoresNameNoFilesOfTheNode(t *testing.T) {
	const doc = "a: ENC[AES256_GCM,data:x]\n"
	for name, c := range map[string]struct {
		settings Settings
		inline   bool
		want     []string // beginnings of the errors
	}{
		"a document":               {Settings{Document: doc}, true, nil},
		"a document and format":    {Settings{Document: doc, Format: YAML}, true, nil},
		"the platform's file":      {Settings{File: "/d.yaml", AgeKeyFile: "/k"}, false, nil},
		"the platform's folder":    {Settings{Directory: "/d"}, false, nil},
		"inline file":              {Settings{File: "/d.yaml"}, true, []string{"file: ", "document: "}},
		"inline folder":            {Settings{Document: doc, Directory: "/d"}, true, []string{"directory: "}},
		"inline key file":          {Settings{Document: doc, AgeKeyFile: "/k"}, true, []string{"ageKeyFile: "}},
		"nothing":                  {Settings{}, false, []string{"document: exactly one"}},
		"two":                      {Settings{File: "/f", Directory: "/d"}, false, []string{"document: exactly one"}},
		"not encrypted":            {Settings{Document: "a: b\n"}, true, []string{"document: holds nothing that sops encrypted"}},
		"too large":                {Settings{Document: strings.Repeat("x", maxDocument+1)}, true, []string{"document: is larger than 1024 KiB"}},
		"a format nobody knows":    {Settings{Document: doc, Format: "toml"}, true, []string{`format: "toml"`}},
		"an alias of a format":     {Settings{Document: doc, Format: "yml"}, true, []string{`format: "yml"`}},
		"everything at once wrong": {Settings{Format: "x", AgeKeyFile: "k"}, true, []string{"ageKeyFile: ", "document: ", "format: "}},
	} {
		errs := c.settings.Check(c.inline)
		if len(errs) != len(c.want) {
			t.Errorf("%s: %v", name, errs)
			continue
		}
		for i, err := range errs {
			if !strings.HasPrefix(err.Error(), c.want[i]) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestKindDecodesIntoSettingsThatCheckThemselves(t *testing.T) {
	k := Kind()
	if k.Name != "sops" {
		t.Errorf("got %v, want %v", k.Name, "sops")
	}
	var _ store.Settings = k.Settings().(*Settings)
}

func TestTenantsWithDifferentKeysAreDifferentPrincipals(t *testing.T) {
	a := newStore(t, Settings{Document: "x"}, "AGE-SECRET-KEY-1A").(store.Principal).Principal()
	b := newStore(t, Settings{Document: "x"}, "AGE-SECRET-KEY-1B").(store.Principal).Principal()
	if a == b || a == "" {
		t.Errorf(`got %v %v, where a == b || a == "" must not be so`, a, b)
	}
}

func TestWithoutAnAgeKeyTheErrorSaysWhereToPutOne(t *testing.T) {
	s := newSealer(t)
	doc := s.yaml(t, s.document(t, YAML, mapping{{key: "a", value: "b"}}), "")
	for _, secrets := range [][]string{nil, {"username", "# AGE-SECRET-KEY-1COMMENT"}} {
		err := fetchError(t, newStore(t, Settings{Document: doc}, secrets...), "a")
		if store.ReasonOf(err) != store.Precondition || !strings.Contains(err.Error(), "nodePublishSecretRef") || !strings.Contains(err.Error(), "ageKeyFile") {
			t.Errorf("got %v, which is not what this test promises", err)
		}
	}
	err := fetchError(t, newStore(t, Settings{Document: doc}, s.id.String()[:40]), "a")
	if store.ReasonOf(err) != store.Precondition || strings.Contains(err.Error(), s.id.String()[:30]) {
		t.Error("a broken key:", err)
	}
	if got := string(fetch(t, newStore(t, Settings{Document: doc}, s.id.String()), "a")[0].Value); got != "b" {
		t.Errorf("got %v, want %v", got, "b")
	}
}

// kmsOnly is a fixture: metadata written by hand, for keys that do not exist.
const kmsOnly = `a: ENC[AES256_GCM,data:AAAA,iv:AAAA,tag:AAAA,type:str]
sops:
    %s
    lastmodified: "2026-11-23T12:00:00Z"
    mac: ENC[AES256_GCM,data:AAAA,iv:AAAA,tag:AAAA,type:str]
    version: 3.13.3
`

func TestDocumentWithoutAgeRecipientsSaysWhichKeyItNeeds(t *testing.T) {
	s := newSealer(t)
	for keys, want := range map[string]string{
		"kms: [{arn: 'arn:aws:kms:eu-west-3:123456789012:key/4d2f', enc: AAAA}]":                             "AWS KMS key arn:aws:kms:eu-west-3:123456789012:key/4d2f",
		"gcp_kms: [{resource_id: projects/p/locations/l/keyRings/r/cryptoKeys/k, enc: AAAA}]":                "Google Cloud KMS key projects/p/locations/l/keyRings/r/cryptoKeys/k",
		"azure_kv: [{vault_url: 'https://v.vault.azure.net', name: sops, version: '12', enc: AAAA}]":         "Azure Key Vault key https://v.vault.azure.net/keys/sops/12",
		"hc_vault: [{vault_address: 'https://vault:8200', engine_path: transit, key_name: sops, enc: AAAA}]": "Vault transit key https://vault:8200/v1/transit/keys/sops",
		"pgp: [{fp: 85D77543B3D624B63CEA9E6DBC17301B491B3F21, enc: AAAA}]":                                   "PGP key 85D77543B3D624B63CEA9E6DBC17301B491B3F21",
		"key_groups: [{pgp: [{fp: AB, enc: A}]}, {kms: [{arn: CD, enc: A}]}]":                                "PGP key AB, AWS KMS key CD",
	} {
		err := fetchError(t, newStore(t, Settings{Document: fmt.Sprintf(kmsOnly, keys)}, s.id.String()), "a")
		if store.ReasonOf(err) != store.Precondition || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", keys, err)
		}
	}
}

func TestHostileDocumentsAreRefusedSoonAndInOneLine(t *testing.T) {
	s := newSealer(t)
	meta := fmt.Sprintf(kmsOnly, "age: [{recipient: "+s.id.Recipient().String()+", enc: AAAA}]")
	meta = meta[strings.Index(meta, "sops:"):]
	for name, c := range map[string]struct {
		format Format
		text   string
	}{
		"nothing":                    {"", ""},
		"no metadata":                {"", "a: b\n"},
		"sops is a word":             {YAML, "sops: yes\n"},
		"sops is a list":             {YAML, "sops: []\n"},
		"a list":                     {YAML, "- a\n" + meta},
		"a scalar":                   {YAML, "a\n"},
		"an alias":                   {YAML, "a: &x [1]\nb: *x\n" + meta},
		"an alias bomb":              {YAML, "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\n" + meta},
		"an alias to itself":         {YAML, "a: &x\n  b: *x\n" + meta},
		"a merge key":                {YAML, "a: {<<: {b: c}}\n" + meta},
		"a number as key":            {YAML, "1: a\n" + meta},
		"a mapping as key":           {YAML, "? {a: b}\n: c\n" + meta},
		"a key twice":                {YAML, "a: b\na: c\n" + meta},
		"a number too large":         {YAML, "a_unencrypted: 18446744073709551615\n" + meta},
		"deep":                       {YAML, "a: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "\n" + meta},
		"deeper":                     {YAML, "a: " + strings.Repeat("[", 400_000)},
		"deep by indentation":        {YAML, strings.Repeat("- ", 9000) + "x\n"},
		"wide":                       {YAML, "a: [" + strings.Repeat("a,", 60_000) + "]\n" + meta},
		"wider":                      {YAML, strings.Repeat("a,", 500_000)},
		"comments":                   {YAML, strings.Repeat("#\n", 90_000) + meta},
		"comments in a list":         {YAML, "l:\n" + strings.Repeat("  # c\n  - a\n", 40_000) + meta},
		"blank lines":                {YAML, strings.Repeat("\n", 90_000) + meta},
		"documents":                  {YAML, strings.Repeat("---\n", 90_000) + meta},
		"anchors":                    {YAML, "a: [" + strings.Repeat("&a x,", 40_000) + "]\n" + meta},
		"quotes":                     {YAML, "a: \"" + strings.Repeat("\\n", 400_000)},
		"too large":                  {YAML, strings.Repeat("x", maxDocument+1)},
		"long keys":                  {YAML, strings.Repeat("k", 5000) + ": ENC[x]\n" + meta},
		"JSON that ends":             {JSON, `{"a": [1, 2`},
		"JSON and more":              {JSON, `{"a": 1} {"b": 2}`},
		"a JSON list":                {JSON, `[1]`},
		"deep JSON":                  {JSON, `{"a":` + strings.Repeat("[", 90_000)},
		"deep JSON objects":          {JSON, strings.Repeat(`{"a":`, 90_000)},
		"JSON with a huge number":    {JSON, `{"a": 1e999}`},
		"dotenv without =":           {Dotenv, "A\n"},
		"INI with an open section":   {INI, "[a\n"},
		"INI with an open quote":     {INI, "[a]\nb=\"\"\"" + strings.Repeat("x\n", 8000)},
		"INI that goes on and on":    {INI, "[a]\nb=\\\n" + strings.Repeat("x\\\n", 8000)},
		"INI with too many lines":    {INI, strings.Repeat("a\n", 9000)},
		"a regexp too many":          {YAML, meta + "    encrypted_regex: ^a\n    unencrypted_regex: ^b\n"},
		"no regexp":                  {YAML, meta + "    encrypted_regex: '('\n"},
		"a regexp too long":          {YAML, meta + "    encrypted_regex: '" + strings.Repeat("a?", 3000) + "'\n"},
		"a threshold of none":        {YAML, fmt.Sprintf(kmsOnly, "key_groups: [{pgp: [{fp: A, enc: A}]}]\n    shamir_threshold: 2")},
		"no keys":                    {YAML, fmt.Sprintf(kmsOnly, "age: []")},
		"very many keys":             {YAML, fmt.Sprintf(kmsOnly, "pgp: ["+strings.Repeat("{fp: A, enc: A},", 100)+"]")},
		"many empty groups":          {YAML, fmt.Sprintf(kmsOnly, "key_groups: ["+strings.Repeat("{},", 100)+"]")},
		"an endless data key":        {YAML, fmt.Sprintf(kmsOnly, "age: [{recipient: "+s.id.Recipient().String()+", enc: "+strings.Repeat("A", 9000)+"}]")},
		"a recipient of many lines":  {YAML, fmt.Sprintf(kmsOnly, `age: [{recipient: "a\nb\x1b[31m", enc: AAAA}]`)},
		"the wrong format":           {JSON, "a: b\n" + meta},
		"dotenv metadata twice":      {Dotenv, "sops_mac=a\nsops_mac=b\n"},
		"dotenv metadata that clash": {Dotenv, "sops_mac=a\nsops_mac__map_x=b\n"},
		"damaged data key":           {YAML, meta},
		"INI metadata outside":       {INI, "sops=x\n"},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			err := fetchError(t, newStore(t, Settings{Document: c.text, Format: c.format}, s.id.String()), ".")
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
			if text := err.Error(); strings.ContainsAny(text, "\n\x1b") || len(text) > 600 || store.ReasonOf(err).Transient() {
				t.Errorf("%v: %q", store.ReasonOf(err), text)
			}
			t.Log(err)
		})
	}
}

func TestEveryTypeOfValueIsRead(t *testing.T) {
	s := newSealer(t)
	when := time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)
	d := s.document(t, YAML, mapping{{key: "s", value: "x"}, {key: "i", value: -5}, {key: "f", value: 1.25}, {key: "b", value: true}, {key: "t", value: when}, {key: "none", value: nil}, {key: "e", value: ""},
		{key: "m", value: mapping{{key: "l", value: list{comment{text: " c"}, 1, "two"}}}}, {key: "", value: comment{text: " end"}}})
	doc := s.yaml(t, d, "")
	for name, want := range map[string]string{"s": "x", "i": "-5", "f": "1.25", "b": "true", "t": "2026-11-23T01:02:03Z", "none": "null", "e": "", "m/l": `[1,"two"]`, "m/l/1": "two"} {
		if got := string(fetch(t, newStore(t, Settings{Document: doc}, s.id.String()), name)[0].Value); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := string(fetch(t, newStore(t, Settings{Document: doc}, s.id.String()), ".")[0].Value); !strings.Contains(got, "# c\n") || !strings.Contains(got, "# end") {
		t.Errorf("got %v, which is not what this test promises", got)
	}
}

func TestPlaintextThatFitsNoFormatIsRefused(t *testing.T) {
	s := newSealer(t)
	for name, d := range map[string]*document{
		"INI comment with a blank line": s.document(t, INI, mapping{{key: "s", value: mapping{{key: "", value: comment{text: "a\n\nb"}}, {key: "k", value: "v"}, {key: "", value: comment{text: "\n"}}}}}),
		"INI without section":           s.document(t, INI, mapping{{key: "s", value: "v"}}),
		"INI section without name":      s.document(t, INI, mapping{{key: "", value: mapping{{key: "k", value: "v"}}}}),
		"INI key without name":          s.document(t, INI, mapping{{key: "s", value: mapping{{key: "", value: "v"}}}}),
		"INI value with parts":          s.document(t, INI, mapping{{key: "s", value: mapping{{key: "k", value: list{}}}}}),
		"dotenv value with parts":       s.document(t, Dotenv, mapping{{key: "k", value: mapping{}}}),
		"binary with a number":          s.document(t, Binary, mapping{{key: "data", value: 5}}),
		"binary without data":           s.document(t, Binary, mapping{{key: "dato", value: "x"}}),
		"JSON with what is no number":   s.document(t, JSON, mapping{{key: "k", value: mustFloat("NaN")}}),
	} {
		plain, err := d.decrypt(s.identities())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if text, err := emit(plain, d.format); err == nil {
			t.Errorf("%s: %q", name, text)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mustFloat(s string) float64 {
	v, err := typed([]byte(s), "float")
	if err != nil {
		panic(err)
	}
	return v.(float64)
}

func TestNameThatStandsTwiceIsAmbiguous(t *testing.T) {
	s := newSealer(t)
	d := s.document(t, Dotenv, mapping{{key: "A", value: "1"}, {key: "A", value: "2"}, {key: "B", value: "3"}})
	plain, err := d.decrypt(s.identities())
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	o := &opened{document: d, plain: plain}
	if _, err := o.secret(store.Ref{Name: "A"}, "A"); err == nil || err.Reason != store.Invalid {
		t.Errorf(`got %v, where err == nil || err.Reason != store.Invalid must not be so`, err)
	}
	if got, err := o.secret(store.Ref{Name: "B"}, "B"); err != nil || string(got.Value) != "3" {
		t.Errorf(`got %v, where err != nil || string(got.Value) != "3" must not be so`, err)
	}
}

func TestSharesCombineToTheSecret(t *testing.T) {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	// A line through the secret, a point a byte: y = secret + slope·x.
	slope := make([]byte, 32)
	_, _ = rand.Read(slope)
	share := func(x byte) []byte {
		out := make([]byte, 33)
		for i := range secret {
			out[i] = secret[i] ^ mul(slope[i], x)
		}
		out[32] = x
		return out
	}
	for _, shares := range [][][]byte{{share(1), share(2)}, {share(255), share(7)}, {share(1), share(2), share(3)}} {
		got, err := combine(shares)
		if err != nil || string(got) != string(secret) {
			t.Errorf(`got %v, where err != nil || string(got) != string(secret) must not be so`, err)
		}
	}
	for _, shares := range [][][]byte{{share(1), share(1)}, {share(0), share(1)}, {share(1), share(2)[1:]}, {{1}, {2}}, {{}, {}}} {
		if _, err := combine(shares); err == nil {
			t.Error("made a secret of", len(shares), "bad shares")
		}
	}
	for a := range 256 {
		if a != 0 && mul(byte(a), inverse(byte(a))) != 1 {
			t.Fatal("no inverse of", a)
		}
	}
}

func FuzzDocument(f *testing.F) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	s := newSealer(f)
	f.Add(s.yaml(f, s.document(f, YAML, mapping{{key: "a", value: "b"}, {key: "", value: comment{text: "c"}}, {key: "l", value: list{1, "x"}}}), ""), "yaml")
	f.Add(`{"data": "ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]", "sops": {"mac": "x", "lastmodified": "2026-01-01T00:00:00Z", "age": [{"recipient": "r", "enc": "e"}]}}`, "")
	f.Add("A=ENC[AES256_GCM,data:AA==]\n# c\nsops_mac=x\nsops_age__list_0__map_enc=e\nsops_lastmodified=2026-01-01T00:00:00Z\n", "dotenv")
	f.Add("; c\n[s]\nk = v\n[sops]\nmac = x\nage__list_0__map_enc = e\\n\nlastmodified = 2026-01-01T00:00:00Z\n", "ini")
	f.Add("a: [b, {c: d}] # e\n---\n# f\ng: |\n  h\n", "yaml")
	secrets := auth.Secrets{"key": s.id.String() + "\n" + id.String()}
	f.Fuzz(func(t *testing.T, text, format string) {
		r := &reader{settings: Settings{Document: text, Format: Format(format)}, secrets: secrets}
		one := &single{reader: r}
		cost.Of(t, len(text), func() {
			_, _ = one.Fetch(t.Context(), []store.Ref{{Name: "."}, {Name: "a"}, {Name: "a/b/0"}})
			_, _ = one.List(t.Context(), store.Filter{}, 10)
		})
		// What a tenant encrypts is as hostile: read the text as plaintext,
		// seal it and take it apart again.
		branches, err := parseText(text, Format(format))
		if err != nil || len(branches) == 0 {
			return
		}
		for _, as := range []Format{YAML, JSON, Dotenv, INI, Binary} {
			d := s.document(t, as, branches...)
			plain, err := d.decrypt(s.identities())
			if err != nil {
				t.Fatalf("what was sealed does not open: %v", err)
			}
			_, _ = emit(plain, as)
			o := &opened{document: d, plain: plain}
			for _, k := range append(d.keys(), "a/b") {
				_, _ = o.secret(store.Ref{Name: k}, k)
			}
		}
	})
}

func TestKeyMayHaveSlashesAtAnyLevel(t *testing.T) {
	tree := []mapping{{{key: "a/b", value: mapping{{key: "c", value: 1}, {key: "d/e", value: mapping{{key: "f", value: 2}}}}}, {key: "a", value: mapping{{key: "b", value: mapping{{key: "x", value: 3}}}}}, {key: "/", value: 4}}}
	for name, want := range map[string]any{"a/b/c": 1, "a/b/d/e/f": 2, "a/b/x": 3, "/": 4} {
		steps, err := find(tree, name)
		if err != nil || at(tree, steps) != want {
			t.Errorf("%s: %v %v", name, steps, err)
		}
	}
	for _, name := range []string{"", "a/b/", "/a", "a//b", "a/b/c/1", strings.Repeat("a/", 5000)} {
		if _, err := find(tree, name); err == nil {
			t.Errorf("%.20q was found", name)
		}
	}
}

func TestOverlappingNamesAreBoundedTogether(t *testing.T) {
	s := newSealer(t)
	var v any = strings.Repeat("x", 400_000)
	for range 30 {
		v = mapping{{key: "a", value: v}}
	}
	doc := s.yaml(t, s.document(t, YAML, v.(mapping)), "")
	var names []string
	for i := range 30 {
		names = append(names, strings.TrimSuffix(strings.Repeat("a/", i+1), "/"))
	}
	if err := fetchError(t, newStore(t, Settings{Document: doc}, s.id.String()), names...); store.ReasonOf(err) != store.Invalid {
		t.Errorf(`got %v, where store.ReasonOf(err) != store.Invalid must not be so`, err)
	}
	fetch(t, newStore(t, Settings{Document: doc}, s.id.String()), names[:10]...)
}

func BenchmarkFetchOfTenKeys(b *testing.B) {
	s := newSealer(b)
	m, want := mapping{}, []store.Ref{}
	for i := range 10 {
		m = append(m, entry{key: fmt.Sprint("key", i), value: "some password or other"})
		want = append(want, store.Ref{Name: fmt.Sprint("key", i)})
	}
	r := &reader{settings: Settings{Document: s.yaml(b, s.document(b, YAML, m), "")}, secrets: auth.Secrets{"k": s.id.String()}}
	for b.Loop() {
		if _, err := (&single{r}).Fetch(b.Context(), want); err != nil {
			b.Fatal(err)
		}
	}
}
