// Package toystore is a store in memory with versions, tags, leases and write:
// what a new kind has to write, and a store for tests that need no fake.
package toystore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/store"
)

// Kind is the name of the kind.
const Kind = "toy"

// Settings are the fields of a store of the kind.
type Settings struct {
	// Role is whom it reads as; default the service account.
	Role string `yaml:"role,omitempty"`
}

// Check says what is wrong.
func (*Settings) Check(bool) []store.Mistake { return nil }

// Server holds what all stores of the kind read. A name that begins with
// "issued/" is a credential that is made for every read, for Life, and can be
// renewed up to MaxLife.
type Server struct {
	Now           func() time.Time
	Life, MaxLife time.Duration

	mu     sync.Mutex
	values map[string][]store.Value // by name, all versions
	tags   map[string]map[string]string
	leases map[string]time.Time // by id: when it was issued
	Issued int                  // leases ever
}

// New makes an empty server.
func New(now func() time.Time) *Server {
	return &Server{Now: now, Life: time.Hour, MaxLife: 24 * time.Hour, values: map[string][]store.Value{}, tags: map[string]map[string]string{}, leases: map[string]time.Time{}}
}

// Kinds is the kind, over the server.
func (s *Server) Kinds() store.Kinds {
	return store.Kinds{{Name: Kind, Settings: func() store.Settings { return &Settings{} },
		Open: func(_ context.Context, c store.Config, id auth.Identity) (store.Store, error) {
			return &toy{s, c.Settings.(*Settings).Role + id.Secrets.Digest()}, nil
		}}}
}

// Leases are those that have not ended.
func (s *Server) Leases() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.leases)
}

type toy struct {
	*Server
	role string
}

func (t *toy) Principal() string       { return t.role }
func (t *toy) Endpoint() string        { return "memory" }
func (t *toy) Pinned(r store.Ref) bool { return r.Version != "" }

func (t *toy) Fetch(ctx context.Context, refs []store.Ref) ([]store.Secret, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out, failed := make([]store.Secret, len(refs)), store.Errors{}
	for i, r := range refs {
		if ctx.Err() != nil {
			return nil, store.Errorf(store.Unavailable, "given up")
		}
		var err *store.Error
		if out[i], err = t.one(r); err != nil {
			failed[i] = err
		}
	}
	return out, failed.OrNil()
}

func (t *toy) one(r store.Ref) (store.Secret, *store.Error) {
	if len(r.Name) > 7 && r.Name[:7] == "issued/" {
		t.Issued++
		id := "lease-" + strconv.Itoa(t.Issued)
		t.leases[id] = t.Now()
		return store.Secret{Value: store.Value("user-" + id), Version: id, Lease: id, Until: t.Now().Add(t.Life)}, nil
	}
	all, n := t.values[r.Name], len(t.values[r.Name])
	if r.Version != "" {
		var err error
		if n, err = strconv.Atoi(r.Version); err != nil {
			return store.Secret{}, store.RefErrorf(store.Invalid, r, "version %.40q is no number", r.Version)
		}
	}
	if n < 1 || n > len(all) {
		return store.Secret{}, store.RefErrorf(store.NotFound, r, "there is no such secret, or version of it")
	}
	return store.Secret{Value: slices.Clone(all[n-1]), Version: strconv.Itoa(n)}, nil
}

func (t *toy) List(_ context.Context, f store.Filter, limit int) ([]store.Ref, error) {
	found, err := store.NewFinder(f, limit)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.values {
		if !found.Take(name, t.tags[name]) {
			break
		}
	}
	return found.Refs()
}

// History gives the versions of a secret from the ref's own on.
func (t *toy) History(_ context.Context, r store.Ref, limit int) ([]store.Ref, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var refs []store.Ref
	for n := len(t.values[r.Name]); n > 0 && len(refs) < limit; n-- {
		if version := strconv.Itoa(n); r.Version == "" || r.Version == version || refs != nil {
			refs = append(refs, store.Ref{Name: r.Name, Version: version})
		}
	}
	if refs == nil {
		return nil, store.RefErrorf(store.NotFound, r, "there is no such secret, or version of it")
	}
	return refs, nil
}

func (t *toy) Renew(_ context.Context, lease string) (time.Time, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	issued, ok := t.leases[lease]
	if !ok {
		return time.Time{}, store.Errorf(store.NotFound, "no such lease")
	}
	return slices.MinFunc([]time.Time{t.Now().Add(t.Life), issued.Add(t.MaxLife)}, time.Time.Compare), nil
}

// Renewable implements store.Leaser: up to its greatest age, each is.
func (t *toy) Renewable(string) bool { return true }

func (t *toy) Revoke(_ context.Context, leases []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range leases {
		delete(t.leases, l)
	}
	return nil
}

func (t *toy) Write(_ context.Context, r store.Ref, v store.Value) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.values[r.Name] = append(t.values[r.Name], slices.Clone(v))
	return fmt.Sprint(len(t.values[r.Name])), nil
}
