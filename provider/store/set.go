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

// Set is the stores that there are now. Its configuration is replaced whole;
// a Mount sees one or the other.
type Set struct {
	kinds   Kinds
	configs atomic.Pointer[map[string]*Config]
}

// NewSet makes a set of kinds with no store configured.
func NewSet(kinds Kinds) *Set {
	s := &Set{kinds: kinds}
	s.configs.Store(&map[string]*Config{})
	return s
}

// Load replaces the configuration with the one that text describes, or keeps
// it and says what is wrong.
func (s *Set) Load(text string) error {
	configs, err := s.kinds.ParseStores(text)
	if err != nil {
		return err
	}
	s.configs.Store(&configs)
	return nil
}

// LoadUsable replaces the configuration with the stores of text that can be
// used, and says what is wrong with the others: at start there is no last good
// configuration, and one team's mistake must not keep a node's other pods from
// starting.
func (s *Set) LoadUsable(text string) error {
	configs, err := s.kinds.ParseStores(text)
	maps.DeleteFunc(configs, func(_ string, c *Config) bool { return c == nil })
	s.configs.Store(&configs)
	return err
}

// Len is the number of configured stores.
func (s *Set) Len() int { return len(*s.configs.Load()) }

// Open opens a store for an identity. Whether the identity's namespace may use
// it is checked before anything else is done with it.
func (s *Set) Open(ctx context.Context, sel Selector, id auth.Identity) (Config, Store, error) {
	c := sel.Inline
	if c == nil {
		configs := *s.configs.Load()
		c = configs[sel.Name]
		if c == nil {
			return Config{Name: sel.Name}, nil, &Error{Reason: Precondition, Store: sel.Name, Text: unknownStore(sel.Name, id.Namespace, configs)}
		}
		if !c.allows(id.Namespace) {
			return *c, nil, &Error{Reason: Denied, Store: sel.Name, Text: fmt.Sprintf("namespace %q may not use this store; the platform lists who may in the store's namespaces", id.Namespace)}
		}
	}
	kind, ok := s.kinds.find(c.Kind)
	if !ok {
		return *c, nil, &Error{Reason: Invalid, Store: c.Name, Text: fmt.Sprintf("%q is no kind of store", c.Kind)}
	}
	opened, err := kind.Open(ctx, *c, id)
	return *c, opened, err
}

func (c *Config) allows(namespace string) bool {
	for _, glob := range c.Namespaces {
		if ok, _ := path.Match(glob, namespace); ok {
			return true
		}
	}
	return false
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
