package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
)

// batch is what one round misses of one store.
type batch struct {
	cache *Cache
	from  *opened
	keys  []key
	calls []*call
}

func (b *batch) add(k key, c *call) {
	b.keys = append(b.keys, k)
	b.calls = append(b.calls, c)
}

// run reads the batch, keeps what it read and wakes whoever waits. A store that
// panics fails its batch, not the node.
func (b *batch) run(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, b.from.config.Timeout)
	defer cancel()
	defer b.finish()
	defer func() {
		if p := recover(); p != nil {
			klog.ErrorS(nil, "store panicked", "store", b.from.config.Name, "kind", b.from.config.Kind, "stack", string(debug.Stack()))
			b.fail(store.Errorf(store.Unavailable, "the store's code failed (see the provider's log); this is a fault of Coffre"))
		}
	}()

	var refs []store.Ref
	var of []*call
	for i, k := range b.keys {
		if k.isFind {
			b.calls[i].entry.found, b.calls[i].err = b.list(ctx, k.find)
			continue
		}
		refs, of = append(refs, k.ref), append(of, b.calls[i])
	}
	if refs == nil {
		return
	}
	secrets, err := b.from.store.Fetch(ctx, b.prefixed(refs))
	if err == nil && len(secrets) != len(refs) {
		err = fmt.Errorf("the store answered %d secrets for %d", len(secrets), len(refs))
	}
	failed := store.Errors{}
	if err != nil && !errors.As(err, &failed) {
		for _, c := range of {
			c.err = b.timedOut(ctx, err)
		}
		return
	}
	for i, c := range of {
		if e := failed[i]; e != nil {
			named := *e
			if named.Ref == (store.Ref{}) {
				named.Ref = refs[i]
			}
			c.err = &named
			continue
		}
		c.entry.secret = secrets[i]
	}
}

// list finds secrets; their names are given back without the store's prefix.
func (b *batch) list(ctx context.Context, f store.Filter) ([]store.Ref, error) {
	lister, ok := b.from.store.(store.Lister)
	if !ok {
		return nil, store.Errorf(store.Invalid, "a store of kind %s cannot find secrets; name them", b.from.config.Kind)
	}
	prefix := b.from.config.Prefix
	f.Prefix = prefix + f.Prefix
	refs, err := lister.List(ctx, f, plan.MaxFound)
	if errors.Is(err, store.ErrTooMany) {
		return nil, store.Errorf(store.Invalid, "find matches more than %d secrets; narrow it", plan.MaxFound)
	}
	if err != nil {
		return nil, b.timedOut(ctx, err)
	}
	for i := range refs {
		refs[i].Name = refs[i].Name[len(prefix):]
	}
	return refs, nil
}

func (b *batch) prefixed(refs []store.Ref) []store.Ref {
	if b.from.config.Prefix == "" {
		return refs
	}
	out := make([]store.Ref, len(refs))
	for i, r := range refs {
		r.Name = b.from.config.Prefix + r.Name
		out[i] = r
	}
	return out
}

// timedOut says how long was waited where that is what happened.
func (b *batch) timedOut(ctx context.Context, err error) error {
	if ctx.Err() != nil && store.ReasonOf(err) == store.Unavailable {
		return &store.Error{Reason: store.Unavailable, Text: fmt.Sprintf("no answer within %s; is the store reachable from this node?", b.from.config.Timeout), Cause: err}
	}
	return err
}

func (b *batch) fail(err error) {
	for _, c := range b.calls {
		c.entry, c.err = entry{}, err
	}
}

// finish keeps what was read and ends the calls.
func (b *batch) finish() {
	c := b.cache
	now := c.opts.Now()
	c.mu.Lock()
	for i, k := range b.keys {
		delete(c.calls, k)
		if b.calls[i].err != nil {
			// Denied and missing are never answered from memory, and neither is
			// what came before them.
			if !store.ReasonOf(b.calls[i].err).Transient() {
				c.entries.remove(k)
			}
		} else {
			b.calls[i].entry.fetched = now
			c.entries.put(k, b.calls[i].entry)
		}
	}
	entries, bytes := len(c.entries.items), c.entries.bytes
	c.mu.Unlock()
	for _, call := range b.calls {
		close(call.done)
	}
	if m := c.opts.Metrics; m != nil {
		m.Size(entries, bytes)
	}
}
