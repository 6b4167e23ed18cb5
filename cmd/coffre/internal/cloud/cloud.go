// Package cloud wires the secret managers into the program: a file a cloud says
// which flags and environment variables it has, which kinds of store and which
// dialect, which audiences its tokens must have, and what must be closed. The
// commands are built from what New makes, so that one more cloud changes none
// of them. Nothing is contacted by it.
package cloud

import (
	"maps"
	"slices"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/kubernetes"
	"github.com/coffre-csi/coffre/provider"
	"github.com/coffre-csi/coffre/provider/dialect/coffre"
	"github.com/coffre-csi/coffre/provider/store"
)

// Metrics are told what stores and sign-ins do.
type Metrics interface {
	// Requested counts requests by kind of store, operation and the answer's
	// code: "ok", "none" where nothing was answered, or the service's own.
	Requested(kind, operation, code string)
	// Exchanged counts sign-ins by kind and result.
	Exchanged(kind, result string)
}

// Process is what the clouds need of the process that they run in. The zero
// Process is outside of any cluster and cloud.
type Process struct {
	Version    string              // of Coffre, for user agents
	Getenv     func(string) string // nil for an empty environment
	Kubernetes kubernetes.Options
	Metrics    Metrics // nil for none
	// Warn puts a warning on a pod: of what was delivered and is not as it should
	// be. Nil for nobody.
	Warn func(id auth.Identity, message string)
	// Unconfigured says that the platform wrote no file of stores and dialects:
	// what whoever started the process gave it is all there is to go by.
	Unconfigured bool
}

// Flags is the part of a flag set that clouds use.
type Flags interface {
	StringVar(p *string, name, value, usage string)
	BoolVar(p *bool, name string, value bool, usage string)
	DurationVar(p *time.Duration, name string, value time.Duration, usage string)
}

// A Cloud is one secret manager, or all of one vendor.
type Cloud interface {
	// Flags adds the flags of coffre serve that it has.
	Flags(Flags)
	// Wire says what it is made of, with the flags parsed.
	Wire(Process, *kubernetes.Client) Parts
}

// Parts are what a cloud adds.
type Parts struct {
	Kinds    []store.Kind
	Dialects map[string]provider.Dialect
	Policies []store.DialectPolicy
	// Audiences are what tokenRequests of the CSIDriver object must list, by
	// kind of store and by dialect, where nothing else is configured.
	Audiences map[string][]string
	Close     func() // nil where there is nothing to close
}

// All lists the clouds. A new one is a file beside this one, and a line here.
func All() []Cloud {
	return []Cloud{&sopsCloud{}, &awsCloud{}, &gcpCloud{}, &azureCloud{}, &vaultCloud{}}
}

// Wiring is what all clouds make together.
type Wiring struct {
	Catalog   store.Catalog
	Dialects  map[string]provider.Dialect
	Audiences map[string][]string
	Cluster   *kubernetes.Client

	closers []func()
}

// New wires clouds.
func New(p Process, clouds []Cloud) *Wiring {
	if p.Getenv == nil {
		p.Getenv = func(string) string { return "" }
	}
	p.Kubernetes.UserAgent = "coffre/" + p.Version
	w := &Wiring{Dialects: map[string]provider.Dialect{}, Audiences: map[string][]string{}, Cluster: kubernetes.New(p.Kubernetes)}

	for _, c := range clouds {
		parts := c.Wire(p, w.Cluster)
		w.Catalog.Kinds = append(w.Catalog.Kinds, parts.Kinds...)
		w.Catalog.Dialects = append(w.Catalog.Dialects, parts.Policies...)
		maps.Copy(w.Dialects, parts.Dialects)
		maps.Copy(w.Audiences, parts.Audiences)
		if parts.Close != nil {
			w.closers = append(w.closers, parts.Close)
		}
	}

	w.Catalog.Dialects = append(w.Catalog.Dialects, store.DialectPolicy{Name: store.OwnDialect})
	w.Dialects[coffre.Name] = coffre.Dialect{Kinds: w.Catalog.Kinds}

	return w
}

// Offline wires everything for a command that looks at files only.
func Offline() *Wiring { return New(Process{}, All()) }

// Names are the dialects, sorted.
func (w *Wiring) Names() []string { return slices.Sorted(maps.Keys(w.Dialects)) }

// Close lets go of what the clouds keep: connections, and sign-ins that can be
// ended.
func (w *Wiring) Close() {
	w.Catalog.Kinds.Close()
	for _, c := range w.closers {
		c()
	}
}
