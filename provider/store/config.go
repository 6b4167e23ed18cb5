package store

import (
	"context"
	"fmt"
	"time"

	"github.com/coffre-csi/coffre/auth"
)

// Defaults of a store's common fields (DESIGN §1).
const (
	DefaultRefresh = 2 * time.Minute
	DefaultTimeout = 20 * time.Second
)

// Never as a refresh time pins the first value that was read.
const Never = time.Duration(1<<63 - 1)

// Config is one store as the platform configured it, or as a
// SecretProviderClass wrote it inline. It is checked when it is made and never
// changed afterwards.
type Config struct {
	Name   string // as errors, metrics and audit lines show it
	Kind   string
	Inline bool // written by the pod's author: nothing in it is the platform's word
	// Dialect is whose classes an inline store was written in; "" for the
	// platform's stores.
	Dialect string

	Namespaces []string // globs; who may use it. Inline stores have none: their pod may
	// ProviderIdentity: the store is read as the node's provider, not as the
	// pod. Never true for an inline store.
	ProviderIdentity bool

	Prefix   string        // stands before every name that is asked for
	Refresh  time.Duration // how old a value may get
	MaxStale time.Duration // how long the last good value may stand in; 0 = never
	Timeout  time.Duration // of one Fetch
	// RateLimit is how many Fetches and Lists a second this node may make, with
	// a burst of a second's worth; 0 for as many as the store takes.
	RateLimit int

	// Paced says that the platform chose Refresh for all classes of a dialect:
	// then a republish does not ask the store anew by itself.
	Paced bool

	// Settings are the kind's own fields: what its Kind.Settings made, decoded
	// and checked.
	Settings Settings
	// Policy is the platform's word on it: the dialect's for an inline store,
	// the store's own otherwise. Nil is none.
	Policy *Policy

	// Digest tells configurations apart, in memory only: stores of one name
	// before and after an edit share no cached value.
	Digest string
	// Bytes is what the configuration keeps in memory.
	Bytes int64
}

// Settings are the fields that only one kind of store has. The type is a
// pointer to a struct whose fields carry yaml tags.
type Settings interface {
	// Check says what is wrong with the fields together. inline is true for a
	// store that a SecretProviderClass wrote: it may not name the node's files,
	// nor the provider's identity.
	Check(inline bool) []Mistake
}

// Mistake is what is wrong with one field of a store.
type Mistake struct {
	Field string // below the store: "region", "failoverRegions[1]"
	Text  string // of a sentence whose subject is the field
}

// Error is the mistake as one line.
func (m Mistake) Error() string { return m.Field + ": " + m.Text }

// Mistakes gathers them.
type Mistakes []Mistake

// Add notes one.
func (ms *Mistakes) Add(field, format string, args ...any) {
	*ms = append(*ms, Mistake{field, fmt.Sprintf(format, args...)})
}

// Patient settings have a default timeout of their own, where the kind's
// reads may have to wait for their turn.
type Patient interface {
	DefaultTimeout() time.Duration
}

func defaultTimeout(s Settings) time.Duration {
	if p, ok := s.(Patient); ok {
		return p.DefaultTimeout()
	}
	return DefaultTimeout
}

// A Kind of store: what a configuration of it may say and how it is opened.
type Kind struct {
	Name string
	// Settings makes an empty settings struct to decode into.
	Settings func() Settings
	// Open makes a Store that reads as id. It does no I/O beyond what finding
	// out the principal needs; the cache calls it on every Mount.
	Open func(ctx context.Context, c Config, id auth.Identity) (Store, error)
	// Close lets go of the connections that the kind keeps; nil where it keeps
	// none. Nothing is opened after it.
	Close func()
}
