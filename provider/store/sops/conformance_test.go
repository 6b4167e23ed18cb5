package sops

import (
	"slices"
	"testing"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/storetest"
)

func TestTheKindConforms(t *testing.T) {
	s := newSealer(t)
	var held mapping
	text := ""
	mine := auth.Identity{Namespace: "shop", ServiceAccount: "api", Secrets: auth.Secrets{"age.txt": s.id.String()}}
	others := mine
	others.Secrets = auth.Secrets{"age.txt": newSealer(t).id.String()}
	storetest.Run(t, storetest.Harness{
		Identity: mine, Principals: []auth.Identity{mine, others}, Lists: true,
		Put: func(_ testing.TB, name, value string) {
			held = slices.DeleteFunc(held, func(e entry) bool { return e.key == name })
			held = append(held, entry{key: name, value: value})
			text = ""
		},
		Open: func(t testing.TB, id auth.Identity) *store.Opened {
			t.Helper()
			if text == "" {
				text = s.yaml(t, s.document(t, YAML, slices.Clone(held)), "")
			}
			c, mistakes := store.NewInline("sops", "x", &Settings{Document: text}, store.InlineOptions{Dialect: store.OwnDialect})
			if mistakes != nil {
				t.Fatalf("the store has mistakes: %v", mistakes)
			}
			set := store.NewSet(store.Catalog{Kinds: store.Kinds{Kind()}})
			o, err := set.Open(t.Context(), store.Selector{Inline: c}, id)
			if err != nil {
				t.Fatalf("the store does not open: %v", err)
			}
			return o
		},
	})
}
