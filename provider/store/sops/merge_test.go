package sops

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/sopstest"
)

const merging = `base: &base
    user: app
    password: from base
    nested:
        deep: down
other: &other
    password: from other
    extra: more
prod:
    !!merge <<: *base
    host: db
test:
    !!merge <<: [*base, *other]
    user: tester
`

func TestMergeKeysOfYAMLAreMerged(t *testing.T) {
	key := sopstest.NewKey(t)
	doc := sopstest.Encrypt(t, "yaml", merging, key.Public)
	s := newStore(t, Settings{Document: doc, Format: YAML}, key.Secret)

	if got, want := string(fetch(t, s, ".")[0].Value), sopstest.Decrypt(t, key, "yaml", doc); got != want {
		t.Errorf("the whole document: got\n%s\nwant what sops decrypts\n%s", got, want)
	}
	for name, want := range map[string]string{
		"prod/password": "from base", "prod/host": "db", "prod/nested/deep": "down", "test/user": "tester", "test/password": "from base", "test/extra": "more",
		"prod": `{"host":"db","user":"app","password":"from base","nested":{"deep":"down"}}`,
	} {
		if got := string(fetch(t, s, name)[0].Value); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if err := fetchError(t, s, "prod/extra"); store.ReasonOf(err) != store.NotFound {
		t.Errorf("a key of what is not merged: got %v, want not found", err)
	}
}

func TestKeysThatBeginLikeTheMetadataAreNotTakenForIt(t *testing.T) {
	key := sopstest.NewKey(t)
	doc := sopstest.Encrypt(t, "yaml", "sops_token: abc=def\nsops_mac: x\n", key.Public)
	s := newStore(t, Settings{Document: doc}, key.Secret)
	if got := string(fetch(t, s, "sops_token")[0].Value); got != "abc=def" {
		t.Errorf("got %q, want abc=def", got)
	}
}

func TestSeveralAgeKeysMayStandOnOneLine(t *testing.T) {
	one, two := sopstest.NewKey(t), sopstest.NewKey(t)
	for _, key := range []sopstest.Key{one, two} {
		doc := sopstest.Encrypt(t, "yaml", "a: b\n", key.Public)
		for _, between := range []string{" ", ",", ", ", "\t"} {
			s := newStore(t, Settings{Document: doc}, one.Secret+between+two.Secret)
			if got := string(fetch(t, s, "a")[0].Value); got != "b" {
				t.Errorf("parted by %q: got %q, want b", between, got)
			}
		}
	}
}

func TestWhatTheMACDoesNotSeeIsRefused(t *testing.T) {
	key := sopstest.NewKey(t)
	yaml := sopstest.Encrypt(t, "yaml", "hosts: [\"one\", \"two\"]\nflag: \"True\"\nraw: text\n", key.Public)
	json := sopstest.Encrypt(t, "json", `{"a":"secret"}`, key.Public)
	for name, c := range map[string]struct{ doc, read, want string }{
		"bytes for a text":     {strings.Replace(yaml, "type:str]", "type:bytes]", 1), ".", "typed as bytes"},
		"an empty item before": {strings.Replace(yaml, "hosts:\n", "hosts:\n    - \"\"\n", 1), "hosts/1", "stands behind an empty item"},
		"a null before":        {strings.Replace(yaml, "hosts:\n", "hosts:\n    - null\n", 1), "hosts/1", "stands behind an empty item"},
		"a doubled variable":   {sopstest.Encrypt(t, "dotenv", "A=1\nA=2\n", key.Public), ".", `has the key "A" twice`},
		"an emptied key":       {strings.Replace(json, "{", `{"a":"",`, 1), ".", `has the key "a" twice`},
		"a key emptied after":  {strings.Replace(json, `"sops":`, `"a":"","sops":`, 1), "a", `has the key "a" twice`},
	} {
		if c.doc == yaml || c.doc == json {
			t.Fatalf("%s: the document was not changed", name)
		}
		s := newStore(t, Settings{Document: c.doc}, key.Secret)
		if err := fetchError(t, s, c.read); !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	s := newStore(t, Settings{Document: yaml}, key.Secret)
	if got := string(fetch(t, s, "hosts/1")[0].Value); got != "two" {
		t.Errorf("a whole list: got %q, want two", got)
	}
}

func TestAFolderStoreIsRootedAtItsPrefix(t *testing.T) {
	key := sopstest.NewKey(t)
	dir := t.TempDir()
	doc := sopstest.Encrypt(t, "yaml", "a: b\n", key.Public)
	for _, name := range []string{"mine/app.yaml", "theirs/secret.yaml"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(doc), 0o600); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
	}
	if err := os.Symlink("../theirs/secret.yaml", filepath.Join(dir, "mine/link.yaml")); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}

	keys := filepath.Join(dir, "keys")
	if err := os.WriteFile(keys, []byte(key.Secret), 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	s, err := open(t.Context(), store.Config{Prefix: "mine/", Settings: &Settings{Directory: dir, AgeKeyFile: keys}}, auth.Identity{})
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if got := string(fetch(t, s, "mine/app.yaml#a")[0].Value); got != "b" {
		t.Errorf("got %q, want b", got)
	}
	for name, want := range map[string]string{
		"mine/link.yaml": "leads out", "theirs/secret.yaml": "below the store's prefix", "mine/../theirs/secret.yaml": "no clean path", "mine/secret.yaml": "no such file",
	} {
		err := fetchError(t, s, name)
		if !strings.Contains(err.Error(), want) || strings.Contains(strings.ReplaceAll(err.Error(), name, ""), "theirs") {
			t.Errorf("%s: got %v, want %q and no word of the neighbour", name, err, want)
		}
	}
	found, err := s.(store.Lister).List(t.Context(), store.Filter{Prefix: "mine/"}, 10)
	if err != nil || len(found) != 1 || found[0].Name != "mine/app.yaml" {
		t.Errorf("a search: got %v, %v; want mine/app.yaml", found, err)
	}
}
