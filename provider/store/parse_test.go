package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/strict"
)

// toySettings are a kind's own fields.
type toySettings struct {
	Region string `yaml:"region,omitempty"`
}

func (s *toySettings) Check(inline bool) []Mistake {
	if s.Region == "nowhere" {
		return []Mistake{{"region", "is nowhere"}}
	}
	return nil
}

type toyStore struct{}

func (toyStore) Fetch(context.Context, []Ref) ([]Secret, error) { return nil, nil }

func toyKinds(opened *int) Kinds {
	return Kinds{{Name: "toy", Settings: func() Settings { return &toySettings{} },
		Open: func(context.Context, Config, auth.Identity) (Store, error) { *opened++; return toyStore{}, nil }}}
}

const good = `
stores:
  aws-paris:
    kind: toy
    region: eu-west-3
    namespaces: [shop, "team-*"]
    refresh: 5m
    maxStale: 1h
    timeout: 10s
    prefix: prod/
  shared: {kind: toy, namespaces: ["*"], identity: provider, refresh: never}
`

func TestStoresAreReadWithTheirDefaults(t *testing.T) {
	n := 0
	file, err := Catalog{Kinds: toyKinds(&n)}.Parse(good)
	configs := file.Stores
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	paris, shared := configs["aws-paris"], configs["shared"]
	if paris.Refresh != 5*time.Minute || paris.MaxStale != time.Hour || paris.Timeout != 10*time.Second || paris.Prefix != "prod/" || paris.Settings.(*toySettings).Region != "eu-west-3" || paris.ProviderIdentity {
		t.Errorf("aws-paris: %+v", paris)
	}
	if shared.Refresh != Never || shared.Timeout != DefaultTimeout || !shared.ProviderIdentity {
		t.Errorf("shared: %+v", shared)
	}
	if paris.Digest == shared.Digest {
		t.Error("two stores share cached values")
	}
}

func TestBrokenConfigurationSaysWhatIsWrongWhere(t *testing.T) {
	n := 0
	for text, want := range map[string]string{
		"stores: {a: {kind: toi, namespaces: [x]}}":                                  `stores.a.kind: "toi" is no kind of store; did you mean "toy"?`,
		"stores: {a: {namespaces: [x]}}":                                             `stores.a.kind: "" is no kind of store; known kinds: toy`,
		"stores: {a: {kind: toy}}":                                                   `stores.a.namespaces: is missing`,
		"stores: {a: {kind: toy, namespaces: [\"[\"]}}":                              `stores.a.namespaces[0]: "[" is no pattern`,
		"stores: {a: {kind: toy, namespaces: [x], regoin: y}}":                       `stores.a.regoin: unknown field; did you mean "region"?`,
		"stores: {a: {kind: toy, namespaces: [x], refresh: 10}}":                     `stores.a.refresh: "10" is no refresh time`,
		"stores: {a: {kind: toy, namespaces: [x], timeout: 10m}}":                    `stores.a.timeout: must be from 1s to 1m30s`,
		"stores: {a: {kind: toy, namespaces: [x], identity: node}}":                  `stores.a.identity: "node" is neither pod nor provider`,
		"stores: {a: {kind: toy, namespaces: [x], region: nowhere}}":                 `stores.a.region: is nowhere`,
		"stores: {A_b: {kind: toy, namespaces: [x]}}":                                `stores.A_b: is no store name`,
		"stores: {a: {kind: toy, namespaces: [x]}, a: {kind: toy, namespaces: [x]}}": `stores.a: stands here twice`,
		"stores: [a]":              `stores: must be a mapping`,
		"store: {}":                `store: unknown field; did you mean "stores"?`,
		"stores: {a: null}":        `stores.a: is empty`,
		"stores:\n  a: {kind: toy": `is not YAML`,
	} {
		_, err := Catalog{Kinds: toyKinds(&n)}.Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
		if !errors.As(err, new(strict.Errors)) {
			t.Errorf("%s: %T has no lines", text, err)
		}
	}
}

func TestInlineStoreHasNothingOfThePlatforms(t *testing.T) {
	n := 0
	if c, errs := toyKinds(&n).ParseInline("{kind: toy, region: x, refresh: 1m}", "inlineStore"); errs != nil || !c.Inline {
		t.Fatalf(`got %v %v, where errs != nil || !c.Inline must not be so`, c, errs)
	}
	for text, want := range map[string]string{
		"{kind: toy, identity: provider}": "inlineStore.identity: an inline store is always read as the pod",
		"{kind: toy, namespaces: [x]}":    "inlineStore.namespaces: cannot stand in an inline store",
		"":                                "inlineStore: is empty",
		"toy":                             `inlineStore.kind: "" is no kind`,
	} {
		if _, errs := toyKinds(&n).ParseInline(text, "inlineStore"); !strings.Contains(errs.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, errs, want)
		}
	}
}

func open(t *testing.T, s *Set, name, namespace string) error {
	t.Helper()
	_, err := s.Open(context.Background(), Selector{Name: name}, auth.Identity{Namespace: namespace, ServiceAccount: "api"})
	return err
}

func TestNamespaceIsCheckedBeforeAStoreIsOpened(t *testing.T) {
	n := 0
	s := NewSet(Catalog{Kinds: toyKinds(&n)})
	if err := s.Load(good); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	for _, namespace := range []string{"shop", "team-a"} {
		if err := open(t, s, "aws-paris", namespace); err != nil {
			t.Errorf("got the error %v, want none", err)
		}
	}
	n = 0
	for _, namespace := range []string{"bank", "shop2", "team", ""} {
		err := open(t, s, "aws-paris", namespace)
		if ReasonOf(err) != Denied || err.Error() != fmt.Sprintf("aws-paris: namespace %q may not use this store; the platform lists who may in the store's namespaces", namespace) {
			t.Errorf("%s: %v", namespace, err)
		}
	}
	if n != 0 {
		t.Error("a refused namespace opened the store")
	}
}

func TestUnknownStoreNamesOnlyWhatTheNamespaceMayUse(t *testing.T) {
	n := 0
	s := NewSet(Catalog{Kinds: toyKinds(&n)})
	if err := s.Load(good); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	for _, c := range []struct{ name, namespace, want string }{
		{"aws-pari", "shop", `aws-pari: no store of this name is configured; did you mean "aws-paris"?`},
		{"aws-pari", "bank", `aws-pari: no store of this name is configured; there are: shared`},
	} {
		if err := open(t, s, c.name, c.namespace); err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

// A ConfigMap volume swaps a symlink two levels above the file.
func TestConfigurationIsReloadedThroughASymlinkSwapAndABrokenEditKeepsTheLastGood(t *testing.T) {
	dir := t.TempDir()
	publish := func(version, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o755); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		if err := os.WriteFile(filepath.Join(dir, version, "stores.yaml"), []byte(text), 0o644); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		if err := errors.Join(os.Symlink(version, filepath.Join(dir, "..tmp")), os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data"))); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
	}
	publish("..1", good)
	if err := os.Symlink("..data/stores.yaml", filepath.Join(dir, "stores.yaml")); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	n := 0
	s := NewSet(Catalog{Kinds: toyKinds(&n)})
	reports := make(chan error)
	go func() {
		if err := s.Watch(t.Context(), filepath.Join(dir, "stores.yaml"), time.Millisecond, func(err error) { reports <- err }); err != nil {
			t.Errorf("got the error %v, want none", err)
		}
	}()
	if err := <-reports; err != nil || s.Len() != 2 {
		t.Fatalf(`got %v %v, where err != nil || s.Len() != 2 must not be so`, err, s.Len())
	}
	publish("..2", "stores: {one: {kind: toi, namespaces: [x]}}")
	if err := <-reports; err == nil || s.Len() != 2 {
		t.Fatal("a broken edit changed the stores in force", err, s.Len())
	}
	publish("..3", "stores: {one: {kind: toy, namespaces: [x]}}")
	if err := <-reports; err != nil || s.Len() != 1 {
		t.Fatalf(`got %v %v, where err != nil || s.Len() != 1 must not be so`, err, s.Len())
	}
	if err := os.Remove(filepath.Join(dir, "..data")); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if err := <-reports; err == nil || s.Len() != 1 {
		t.Fatal("a missing file changed the stores in force", err, s.Len())
	}
	publish("..4", good)
	if err := <-reports; err != nil || s.Len() != 2 {
		t.Fatalf(`got %v %v, where err != nil || s.Len() != 2 must not be so`, err, s.Len())
	}
}

func TestOneBrokenStoreAtStartLeavesTheOthersUsable(t *testing.T) {
	n := 0
	s := NewSet(Catalog{Kinds: toyKinds(&n)})
	if err := s.LoadUsable(good + "  broken: {kind: toy}\n"); err == nil {
		t.Error("the mistake is not reported")
	}
	if err := open(t, s, "aws-paris", "shop"); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
	if err := open(t, s, "broken", "shop"); ReasonOf(err) != Precondition {
		t.Errorf(`got %v, where ReasonOf(err) != Precondition must not be so`, err)
	}
}

func TestValueNeverPrints(t *testing.T) {
	s := Secret{Value: Value("hunter2"), Version: "1"}
	text := fmt.Sprintf("%v %+v %#v %s %x %q", s, s, s, s.Value, s.Value, &s)
	if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
		t.Errorf("got %v, which is not what this test promises", text)
	}
}
