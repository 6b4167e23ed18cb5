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
	"time"

	"github.com/coffre-csi/coffre/auth"
)

// A Store reads secrets as one identity. It is safe for concurrent use.
//
// Everything else that a store may be able to do is one of the small
// interfaces below, found by type assertion.
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

// A Leaser can prolong and end what it issued for a time. A store whose secrets
// have an end but no lease (a certificate) is none.
type Leaser interface {
	// Renew prolongs the lease of a Secret and says when it ends now. The end
	// may be the one that it had: then it can be prolonged no further, and a
	// new secret is issued in time. NotFound and Denied mean that the lease is
	// lost.
	Renew(ctx context.Context, lease string) (until time.Time, err error)
	// Renewable says whether a lease, as it was issued, can be prolonged at all.
	// It contacts nobody.
	Renewable(lease string) bool
	// Revoke ends leases before their time.
	Revoke(ctx context.Context, leases []string) error
}

// A Historian knows the versions before the current one.
type Historian interface {
	// History returns refs of at most limit versions of a secret that can be
	// read, the newest first; from the ref's own version on where it names one.
	History(ctx context.Context, ref Ref, limit int) ([]Ref, error)
}

// A Writer can change what the store holds. No Mount ever asks for it.
type Writer interface {
	// Write makes or replaces one secret and returns its new version.
	Write(ctx context.Context, ref Ref, v Value) (version string, err error)
}

// A Streamer can tell each answer of a Fetch as it comes, so that one secret
// that takes long holds up no other.
type Streamer interface {
	// FetchEach is Fetch, and calls answered with the place of each ref that is
	// done, from one goroutine at a time, before it returns. A ref whose answer
	// is not final yet is not told.
	FetchEach(ctx context.Context, refs []Ref, answered func(i int, s Secret)) ([]Secret, error)
}

// A Principal names who the store sees: a role, a client id, a key's
// fingerprint. Cached values are never shared between principals. A store
// that tells identities apart by namespace and service account alone does not
// need it.
type Principal interface {
	Principal() string
}

// An Endpoint names the host, region or vault that the store asks: what stops
// answering as one, whoever asks. A store without one is its own.
type Endpoint interface {
	Endpoint() string
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

// Typed is implemented by a store that has several types of object under one
// name; in every other a ref with a type is refused.
type Typed interface {
	Types() []string
}

// Ref names one secret in a store. Refs are comparable: equal refs are one
// secret.
type Ref struct {
	Name    string // what the store calls it
	Version string // the store's own notion: id, stage, number, alias; "" is the current one
	Type    string // where the store has several types of object under one name
	// Extra is the kind's own canonical text for what only it knows: another
	// region's name, a method and its arguments.
	Extra string
}

// String is the ref as an error names it: NAME, or NAME@VERSION.
func (r Ref) String() string {
	s := r.Name
	if r.Type != "" {
		s = r.Type + "/" + s
	}
	if r.Version != "" {
		s += "@" + r.Version
	}
	return s
}

// Size is what a ref keeps alive, in bytes.
func (r Ref) Size() int64 { return int64(len(r.Name) + len(r.Version) + len(r.Type) + len(r.Extra)) }

// Secret is one value as the store holds it.
type Secret struct {
	Value Value
	// Version is what the store calls this value. It is the same on every
	// node, changes when the value does, and says nothing about the value: it
	// is shown in pod status objects.
	Version string
	// Media is the value's media type where the store knows it, such as a
	// certificate's.
	Media string
	// Until is when the value ends, where it was issued for a time, and Lease
	// what the store calls that.
	Lease string
	Until time.Time
}

// Value is a secret's bytes. It prints redacted.
type Value []byte

// Format keeps a value out of every fmt verb.
func (v Value) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "[redacted: %d bytes]", len(v)) }

// LogValue keeps a value out of structured logs.
func (v Value) LogValue() slog.Value { return slog.StringValue(auth.Redacted) }

// MarshalJSON keeps a value out of JSON.
func (v Value) MarshalJSON() ([]byte, error) { return []byte(`"` + auth.Redacted + `"`), nil }
