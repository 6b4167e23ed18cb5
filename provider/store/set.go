package store

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/strict"
)

// Selector names a store: one that the platform configured, or one written in
// the SecretProviderClass. Exactly one part is set.
type Selector struct {
	Name   string
	Inline *Config
}

// Set is the stores that there are now, and what the platform lets classes of
// other providers do. Its configuration is replaced whole; a Mount sees one or
// the other.
type Set struct {
	catalog Catalog
	current atomic.Pointer[Configuration]
}

// NewSet makes a set of what the catalog lists, with nothing configured.
func NewSet(catalog Catalog) *Set {
	s := &Set{catalog: catalog}
	s.current.Store(&Configuration{})
	return s
}

// Load replaces the configuration with the one that text describes, or keeps
// it and says what is wrong.
func (s *Set) Load(text string) error {
	c, err := s.catalog.Parse(text)
	if err != nil {
		return err
	}
	s.current.Store(&c)
	return nil
}

// LoadUsable replaces the configuration with the stores of text that can be
// used, and says what is wrong with the others: at start there is no last good
// configuration, and one team's mistake must not keep a node's other pods from
// starting. A policy with a mistake allows nothing.
func (s *Set) LoadUsable(text string) error {
	c, err := s.catalog.Parse(text)
	maps.DeleteFunc(c.Stores, func(_ string, c *Config) bool { return c == nil })
	s.current.Store(&c)
	return err
}

// Len is the number of configured stores.
func (s *Set) Len() int { return len(s.current.Load().Stores) }

// Open opens a store for an identity. Whether the identity's namespace may use
// it is checked before anything else is done with it. Where it fails, the
// Opened says which store that was, as far as it is known.
func (s *Set) Open(ctx context.Context, sel Selector, id auth.Identity) (*Opened, error) {
	now := s.current.Load()
	c, err := now.config(sel, id)
	if err != nil {
		return &Opened{Config: Config{Name: sel.Name}}, err
	}

	kind, ok := s.catalog.Kinds.find(c.Kind)
	if !ok {
		return &Opened{Config: c}, &Error{Reason: Invalid, Store: c.Name, Text: fmt.Sprintf("%q is no kind of store", c.Kind)}
	}
	opened, openErr := kind.Open(ctx, c, id)

	return &Opened{Config: c, Store: opened}, openErr
}

// config is the store that is meant, as the platform lets this identity use it.
func (now *Configuration) config(sel Selector, id auth.Identity) (Config, error) {
	if sel.Inline != nil {
		return now.Dialects[sel.Inline.Dialect].govern(*sel.Inline), nil
	}

	c := now.Stores[sel.Name]
	if c == nil {
		return Config{}, &Error{Reason: Precondition, Store: sel.Name, Text: unknownStore(sel.Name, id.Namespace, now.Stores)}
	}
	if !c.allows(id.Namespace) {
		return Config{}, &Error{Reason: Denied, Store: sel.Name, Text: fmt.Sprintf("namespace %q may not use this store; the platform lists who may in the store's namespaces", id.Namespace)}
	}

	return *c, nil
}

func (c *Config) allows(namespace string) bool {
	return matchesAny(c.Namespaces, namespace)
}

func matchesAny(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		ok, _ := path.Match(glob, name)
		return ok
	})
}

// unknownStore names only stores that the namespace may use: the others are
// not its business.
func unknownStore(name, namespace string, configs map[string]*Config) string {
	var usable []string
	for n, c := range configs {
		if c.allows(namespace) {
			usable = append(usable, n)
		}
	}

	const missing = "no store of this name is configured"
	if near := strict.Nearest(name, usable); near != "" {
		return fmt.Sprintf("%s; did you mean %q?", missing, near)
	}
	if len(usable) == 0 {
		return missing + fmt.Sprintf(", and none that namespace %q may use; the platform's chart value stores lists them", namespace)
	}

	return missing + "; there are: " + strings.Join(slices.Sorted(slices.Values(usable)), ", ")
}
