// Package store is the contract between the cache, which asks for secrets, and
// the secret managers, which hold them; and the configuration that says which
// stores there are and who may use them.
//
// A secret manager is one folder below this one. It reads secrets as one
// identity and does nothing else: freshness, coalescing and retries over time
// belong to the cache, what a pod sees belongs to render. README.md states
// what a new store must satisfy.
package store

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/coffre-csi/coffre/auth"
)

// A Store reads secrets as one identity. It is safe for concurrent use.
type Store interface {
	// Fetch returns one Secret per Ref, in order. Where some refs fail it
	// returns Errors naming each of them and why; the Secrets of the others
	// are valid still. Any other error means that nothing was read.
	Fetch(ctx context.Context, refs []Ref) ([]Secret, error)
}

// A Lister can also find secrets by prefix, pattern or tag.
type Lister interface {
	// List returns the refs that match, sorted by name, or ErrTooMany where
	// there are more than limit.
	List(ctx context.Context, f Filter, limit int) ([]Ref, error)
}

// A Principal names who the store sees: a role, a client id, a key's
// fingerprint. Cached values are never shared between principals. A store
// that tells identities apart by namespace and service account alone does not
// need it.
type Principal interface {
	Principal() string
}

// PodScoped is implemented by a store whose policies can tell one pod of a
// service account from another; its cached values are kept a pod.
type PodScoped interface {
	PodScoped() bool
}

// A Pinner knows versions whose value never changes, such as a number that the
// store counts up: one is read once, whatever its refresh time.
type Pinner interface {
	Pinned(Ref) bool
}

// Ref names one secret in a store. Refs are comparable: equal refs are one
// secret.
type Ref struct {
	Name    string // what the store calls it
	Version string // the store's own notion: id, number, alias; "" is the current one
	Label   string // a stage or label, where the store has them beside versions
	Type    string // where the store has several kinds of object under one name

	// Failover is what the other regions of a store call it, where that
	// differs; zero where it does not.
	Failover Alternate
}

// Alternate is another name of a secret.
type Alternate struct{ Name, Version, Label string }

// String is the ref as an error names it: NAME, or NAME@VERSION.
func (r Ref) String() string {
	s := r.Name
	if r.Type != "" {
		s = r.Type + "/" + s
	}
	if r.Version != "" {
		s += "@" + r.Version
	}
	if r.Label != "" {
		s += "@" + r.Label
	}
	return s
}

// Filter finds secrets. All of its parts must match; an empty Filter matches
// every secret that the identity can see.
type Filter struct {
	Prefix string // names that start with it
	Regexp string // RE2, unanchored, on the name
	Tags   string // "k=v" pairs in order, joined by commas: comparable
}

// Secret is one value as the store holds it.
type Secret struct {
	Value Value
	// Version is what the store calls this value. It is the same on every
	// node, changes when the value does, and says nothing about the value: it
	// is shown in pod status objects.
	Version string
}

// Value is a secret's bytes. It prints redacted.
type Value []byte

// Format keeps a value out of every fmt verb.
func (v Value) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "[redacted: %d bytes]", len(v)) }

// LogValue keeps a value out of structured logs.
func (v Value) LogValue() slog.Value { return slog.StringValue(auth.Redacted) }

// MarshalJSON keeps a value out of JSON.
func (v Value) MarshalJSON() ([]byte, error) { return []byte(`"` + auth.Redacted + `"`), nil }
