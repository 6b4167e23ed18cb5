package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/store"
)

// local is a store in this process. It marks every value with whom it was read
// for.
type local struct {
	mu      sync.Mutex
	mode    mode
	values  map[string]string
	allowed map[string]bool
	turn    int
}

func TestNoStepBreaksAPromise(t *testing.T) {
	run(t, &local{values: map[string]string{}, allowed: map[string]bool{}}, *steps)
}

type noSettings struct{}

func (*noSettings) Check(bool) []store.Mistake { return nil }

func (l *local) kinds() store.Kinds {
	return store.Kinds{{Name: "local", Settings: func() store.Settings { return &noSettings{} },
		Open: func(_ context.Context, _ store.Config, id auth.Identity) (store.Store, error) {
			return &localAs{l, id}, nil
		}}}
}

func (l *local) stores() string {
	return fmt.Sprintf("stores: {chaos: {kind: local, namespaces: [shop], refresh: %s, maxStale: %s, timeout: 4s}}", refresh, maxStale)
}

func (l *local) modes() []mode { return []mode{down, throttled, rubbish, slow} }

func (l *local) set(name, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.values[name] = value
}

func (l *local) grant(sa string, yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.allowed[sa] = yes
}

func (l *local) enter(m mode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mode = m
}

func (l *local) expire()                   {}
func (l *local) tokens(string) auth.Tokens { return nil }

func (l *local) whose(value string) string {
	_, who, _ := strings.Cut(value, "@")
	return who
}

type localAs struct {
	*local
	id auth.Identity
}

func (l *localAs) Fetch(ctx context.Context, refs []store.Ref) ([]store.Secret, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.mode {
	case down:
		return nil, store.Errorf(store.Unavailable, "connection refused")
	case throttled:
		return nil, store.Errorf(store.Throttled, "slow down")
	case slow:
		l.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
		}
		l.mu.Lock()
		return nil, ctx.Err()
	case rubbish: // answers that keep no contract
		switch l.turn++; l.turn % 4 {
		case 0:
			return nil, errors.New("<html>")
		case 1:
			return make([]store.Secret, len(refs)+1), nil
		case 2:
			return nil, nil
		default:
			panic("rubbish")
		}
	}
	out, failed := make([]store.Secret, len(refs)), store.Errors{}
	for i, r := range refs {
		switch v := l.values[r.Name]; {
		case !l.allowed[l.id.ServiceAccount]:
			failed[i] = store.Errorf(store.Denied, "access denied")
		case v == "":
			failed[i] = store.Errorf(store.NotFound, "not found")
		default:
			out[i] = store.Secret{Value: store.Value(v + "@" + l.id.ServiceAccount), Version: v}
		}
	}
	return out, failed.OrNil()
}

func (l *local) object(name string) string { return "{name: " + name + "}" }
