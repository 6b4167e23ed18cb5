package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/provider/fair"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
)

// call is one read on its way; done is closed once reading or err is set.
type call struct {
	done chan struct{}
	reading
	err error
}

// batchKey is what can be read together: one store as one identity.
type batchKey struct{ store, identity string }

// batch is what is missing of one store for one identity. It stays open for a
// moment, so that mounts that miss at nearly the same time ask together.
type batch struct {
	cache *Cache
	from  *opened
	shift float64 // see jitter
	keys  []key
	calls []*call
}

// Bounds of the way to a store.
const (
	// gather is how long a batch waits for others: long against the time
	// between pods that start together, short against a round trip.
	gather   = 2 * time.Millisecond
	maxBatch = 500
	// At most so many batches of one store are on their way at once, and so
	// many of one namespace wait.
	placesAStore   = 64
	waitingATenant = 512
	// longestQueue is how long a batch may wait for its turn.
	longestQueue = 50 * time.Second
)

// enqueue adds a read to the batch that is open for its store and identity, or
// opens one. The caller locks.
func (c *Cache) enqueue(k key, from *opened) *call {
	running := &call{done: make(chan struct{})}
	c.calls[k] = running
	at := batchKey{k.store, k.identity}
	b := c.open[at]
	if b == nil {
		b = &batch{cache: c, from: from, shift: jitter()}
		c.open[at] = b
		c.background.Go(func() {
			if c.opts.Gather > 0 {
				time.Sleep(c.opts.Gather)
			}
			c.mu.Lock()
			if c.open[at] == b {
				delete(c.open, at)
			}
			c.mu.Unlock()
			b.run()
		})
	}
	b.from = from // the newest tokens
	b.keys, b.calls = append(b.keys, k), append(b.calls, running)
	if len(b.keys) >= maxBatch {
		delete(c.open, at)
	}
	return running
}

// run waits for its turn, reads the batch, keeps what it read and wakes
// whoever waits. A store that panics fails its batch, not the node. It does
// not end with the mount that began it: others may wait for it, and what it
// reads is kept.
func (b *batch) run() {
	c, from := b.cache, b.from
	defer b.finish()
	defer func() {
		if p := recover(); p != nil {
			klog.ErrorS(nil, "store panicked", "store", from.config.Name, "kind", from.config.Kind, "stack", string(debug.Stack()))
			b.fail(store.Errorf(store.Unavailable, "the store's code failed (see the provider's log); this is a fault of Coffre"))
		}
	}()
	if err := c.admit(from); err != nil {
		b.fail(err)
		return
	}
	queue, cancel := context.WithTimeout(context.Background(), longestQueue)
	defer cancel()
	gate := c.gate(from)
	if err := gate.Enter(queue, from.id.Namespace); err != nil {
		text := fmt.Sprintf("no turn within %s: other reads of this node keep it busy", longestQueue)
		if errors.Is(err, fair.ErrFull) {
			text = fmt.Sprintf("%d reads of namespace %q wait for it on this node already", waitingATenant, from.id.Namespace)
		}
		b.fail(&store.Error{Reason: store.Throttled, Text: text, Cause: err})
		return
	}
	defer gate.Leave()
	if limit := c.pacer(from); limit != nil {
		if err := limit.Wait(queue); err != nil {
			b.fail(&store.Error{Reason: store.Throttled, Text: fmt.Sprintf("no turn within %s: its rateLimit of %d a second is used up", longestQueue, from.config.RateLimit), Cause: err})
			return
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), from.config.Timeout)
	defer cancel()
	b.read(ctx)
}

// read asks the store.
func (b *batch) read(ctx context.Context) {
	var refs []store.Ref
	var of []*call
	for i, k := range b.keys {
		if k.isFind {
			b.calls[i].found, b.calls[i].err = b.list(ctx, k.find)
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
			named.Ref.Name = refs[i].Name // as the tenant wrote it, without the store's prefix
			c.err = &named
			continue
		}
		c.secret = secrets[i]
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
		c.reading, c.err = reading{}, err
	}
}

// finish keeps what was read and ends the calls.
func (b *batch) finish() {
	c := b.cache
	c.mu.Lock()
	now := c.opts.Now()
	b.settle(now)
	var down error
	for i, k := range b.keys {
		delete(c.calls, k)
		read := b.calls[i]
		if read.err == nil {
			read.fetched = now
			b.keep(k, read.reading.clone())
			continue
		}
		if e := c.entries.items[k]; e != nil {
			e.Value.(*entry).busy = false
		}
		if store.ReasonOf(read.err).Transient() {
			down = read.err
		} else {
			// Denied and missing are never answered from memory, and neither is
			// what came before them.
			c.entries.remove(k)
			c.forgot = true
		}
	}
	entries, bytes := len(c.entries.items), c.entries.bytes
	c.mu.Unlock()
	for _, call := range b.calls {
		close(call.done)
	}
	if m := c.opts.Metrics; m != nil {
		m.Size(entries, bytes)
		m.Available(b.from.config.Name, down == nil)
	}
}

// settle tells the breaker how the batch ended. The caller locks.
func (b *batch) settle(now time.Time) {
	var err error
	for _, c := range b.calls {
		if err = c.err; err == nil || store.ReasonOf(err) != store.Unavailable {
			break // the store is there
		}
	}
	if errors.Is(err, errNotAsked) {
		return
	}
	opened, mended := b.cache.breaker(b.from).record(now, err, b.from.config.Refresh)
	switch {
	case opened:
		klog.ErrorS(nil, "store does not answer; it is asked at growing intervals", "store", b.from.config.Name, "namespace", b.from.id.Namespace, "error", err.Error())
	case mended:
		klog.InfoS("store answers again", "store", b.from.config.Name, "namespace", b.from.id.Namespace)
	}
}

// keep puts a reading into the cache, with what is known of its use.
func (b *batch) keep(k key, r reading) {
	e := &entry{key: k, reading: r, used: r.fetched, from: b.from}
	if item := b.cache.entries.items[k]; item != nil {
		old := item.Value.(*entry)
		e.used, e.refresh = old.used, old.refresh
	} else {
		e.shift = b.shift
	}
	b.cache.entries.put(e)
}

// jitter is by which part of its time the first refresh of a batch comes early.
// Nodes and pods that started together would otherwise ask together for ever
// after; one shift is enough, and costs half a read an entry's life. It is one
// for the whole batch, which so stays together.
func jitter() float64 { return rand.Float64() / 2 }
