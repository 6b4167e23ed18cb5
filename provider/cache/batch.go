package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/auth/fair"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
)

// call is one read on its way; done is closed once reading or err is set. The
// cache locks around began.
type call struct {
	batch *batch
	began time.Time // zero until the store is asked
	ended bool

	done chan struct{}
	reading
	err error
}

// batch is what is missing of one store for one identity. It stays open for a
// moment, so that mounts that miss at nearly the same time ask together.
type batch struct {
	cache *Cache
	from  *reader
	shift float64 // see jitter
	keys  []key
	calls []*call
	// namespaces are whose mounts wait for it: several, where the store is read
	// as the provider.
	namespaces []string
	patience   time.Duration // the shortest refresh time of those who wait
	began      time.Time
	admitted   string // the namespace whose breaker let it out; "" for none
	ended      int    // calls
	settled    bool   // with the breaker
}

// Bounds of the way to a store.
const (
	// gather is how long a batch waits for others: long against the time
	// between pods that start together, short against a round trip.
	gather   = 2 * time.Millisecond
	maxBatch = 150
	// So many secrets are on their way at once, each of which may have 64 KiB
	// and more, and so many mounts of one namespace wait for them.
	secretsUnderWay = 300
	mountsWaiting   = 2048
	// At most so many batches of one store are on their way at once, and so
	// many of one namespace wait.
	placesAStore   = 64
	waitingATenant = 512
	// longestQueue is how long a batch may wait for its turn.
	longestQueue = 50 * time.Second
)

// verbose is the log level at which each step of a read is told.
const verbose = 4

// enqueue adds a read to the batch that is open for its store and identity, or
// opens one; patience is how long it may be kept from a store that is back. The caller locks.
func (c *Cache) enqueue(k key, from *reader, patience time.Duration) *call {
	b := c.open[k.batchKey]
	if b == nil {
		b = &batch{cache: c, from: from, shift: jitter(), patience: longestWait}
		c.open[k.batchKey] = b
		c.background.Go(func() { b.gatherThenRun() })
	}

	running := &call{batch: b, done: make(chan struct{})}
	c.calls[k] = running
	b.from = from // the newest tokens
	b.keys, b.calls = append(b.keys, k), append(b.calls, running)
	b.wants(from.id.Namespace, patience)
	if len(b.keys) >= maxBatch {
		delete(c.open, k.batchKey)
	}

	return running
}

// wants notes that a namespace waits for the batch, and how fresh it must have
// it. The cache locks.
func (b *batch) wants(namespace string, patience time.Duration) {
	b.patience = min(b.patience, patience)
	for _, n := range b.namespaces {
		if n == namespace {
			return
		}
	}
	b.namespaces = append(b.namespaces, namespace)
}

func (b *batch) gatherThenRun() {
	c := b.cache
	if c.opts.Gather > 0 {
		time.Sleep(c.opts.Gather)
	}
	c.mu.Lock()
	if at := b.from.key(); c.open[at] == b {
		delete(c.open, at)
	}
	c.mu.Unlock()
	b.run()
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
			klog.ErrorS(nil, "store panicked", "store", from.Config.Name, "kind", from.Config.Kind, "panic", fmt.Sprintf("a %T", p), "stack", string(debug.Stack()))
			b.fail(store.Errorf(store.Unavailable, "the store's code failed (see the provider's log); this is a fault of Coffre"))
		}
	}()

	if err := c.admit(b); err != nil {
		b.fail(err)
		return
	}
	leave, err := b.turn()
	if err != nil {
		b.fail(err)
		return
	}
	defer leave()

	c.mu.Lock()
	b.began = c.opts.Now()
	for _, call := range b.calls {
		call.began = b.began
	}
	c.mu.Unlock()

	took := time.Now()
	b.read()
	klog.V(verbose).InfoS("store read", "store", from.Config.Name, "namespace", from.id.Namespace, "secrets", len(b.keys), "took", time.Since(took).String())
}

// turn waits until the store may be asked.
func (b *batch) turn() (leave func(), _ *store.Error) {
	c, from := b.cache, b.from
	queue, cancel := context.WithTimeout(context.Background(), longestQueue)
	defer cancel()
	began := time.Now()

	place, err := c.gate(from).Enter(queue, from.id.Namespace)
	if err != nil {
		text := fmt.Sprintf("no turn within %s: other reads of this node keep it busy", longestQueue)
		if errors.Is(err, fair.ErrFull) {
			text = fmt.Sprintf("%d reads of namespace %q wait for it on this node already", waitingATenant, from.id.Namespace)
		}
		return nil, &store.Error{Reason: store.Throttled, Text: text, Cause: errNotAsked}
	}

	if limit := c.pacer(from); limit != nil {
		if limit.Wait(queue) != nil {
			place.Leave()
			return nil, &store.Error{Reason: store.Throttled, Text: fmt.Sprintf("no turn within %s: its rateLimit of %d a second is used up", longestQueue, from.Config.RateLimit), Cause: errNotAsked}
		}
	}

	if waited := time.Since(began); waited > 10*time.Millisecond {
		klog.V(verbose).InfoS("store read waited for its turn", "store", from.Config.Name, "namespace", from.id.Namespace, "waited", waited.String())
	}

	return place.Leave, nil
}

// read asks the store.
func (b *batch) read() {
	ctx := context.Background()
	var refs []store.Ref
	var of []int
	for i, k := range b.keys {
		if k.isFind {
			found, err := b.from.List(ctx, k.find, plan.MaxFound)
			b.end(i, reading{found: found}, err)
			continue
		}
		if k.history > 0 {
			found, err := b.from.History(ctx, k.ref, k.history)
			b.end(i, reading{found: found}, err)
			continue
		}

		refs, of = append(refs, k.ref), append(of, i)
	}

	if refs == nil {
		return
	}

	secrets, err := b.from.Fetch(ctx, refs, func(n int, s store.Secret) { b.end(of[n], reading{secret: s}, nil) })
	failed := store.Errors{}
	if err != nil && !errors.As(err, &failed) {
		for _, i := range of {
			b.end(i, reading{}, err)
		}
		return
	}

	for n, i := range of {
		if e := failed[n]; e != nil {
			b.end(i, reading{}, e)
			continue
		}
		b.end(i, reading{secret: secrets[n]}, nil)
	}
}

// fail ends all that is not answered yet.
func (b *batch) fail(err error) {
	for i := range b.calls {
		b.end(i, reading{}, err)
	}
}

// end keeps what one read gave and wakes who waits for it; the first answer
// counts.
func (b *batch) end(i int, r reading, err error) {
	c, k, call := b.cache, b.keys[i], b.calls[i]
	c.mu.Lock()
	if call.ended {
		c.mu.Unlock()
		return
	}
	call.ended = true
	if c.calls[k] == call {
		delete(c.calls, k)
	}

	r.fetched = b.began
	var told func() error
	if err == nil {
		told = b.keep(k, r)
	} else {
		told = b.failed(k, err)
	}
	call.reading, call.err = r, err
	b.ended++
	there := err == nil || store.ReasonOf(err) != store.Unavailable
	if there || b.ended == len(b.calls) {
		b.settle(err)
	}
	c.mu.Unlock()

	// Before anybody has it: a value that a volume was given must not be
	// forgotten by a crash.
	if told != nil {
		noted(told())
	}
	close(call.done)
	c.revokeEnded()
}

// keep puts a reading into the cache, with what is known of its use, unless a
// later read has said something else. The caller locks.
func (b *batch) keep(k key, r reading) (record func() error) {
	c := b.cache
	if at, ok := c.refused.get(k.text()); ok && !r.fetched.After(at) {
		return nil
	}
	e := &entry{key: k, reading: r.clone(), used: r.fetched, shift: b.shift}
	old := c.entries.items[k]
	if old != nil {
		if old.fetched.After(r.fetched) {
			return nil
		}
		e.used, e.refresh, e.shift = old.used, old.refresh, 0
	}

	c.issue(e, old, b.from)
	c.entries.put(e)
	if c.entries.items[k] == e {
		c.hold(e, b.from)
	}
	c.entries.trim()

	return c.opts.Journal.put(e, r)
}

// failed takes note of a read that gave nothing. Denied and missing are never
// answered from memory, and neither is what came before them. The caller locks.
func (b *batch) failed(k key, err error) (record func() error) {
	c := b.cache
	e := c.entries.items[k]
	if e != nil {
		e.busy = false
	}
	if store.ReasonOf(err).Transient() {
		return nil
	}
	began := b.began
	if began.IsZero() {
		began = c.opts.Now()
	}
	if e != nil && e.fetched.After(began) {
		return nil // a later read was let in
	}

	c.refused.set(k.text(), began)
	c.entries.remove(k)

	return c.opts.Journal.remove(k, began)
}

// text names a key among the refused.
func (k key) text() string {
	return fmt.Sprintf("%q %q %q %q %v %d", k.store, k.identity, k.ref, k.find, k.isFind, k.history)
}

// finish sees to it that nobody waits for ever, and tells the metrics.
func (b *batch) finish() {
	b.fail(store.Errorf(store.Unavailable, "the store gave no answer; this is a fault of Coffre"))

	c := b.cache
	c.mu.Lock()
	size, bytes := len(c.entries.items), c.entries.bytes
	c.mu.Unlock()
	c.opts.Metrics.Size(size, bytes)
}

// settle tells the breakers of all who wait what the batch shows: the first read
// that was answered that the store is there, the last one that it is not. It is
// told before anybody is woken, so that whoever asks next finds it so. The
// caller locks.
func (b *batch) settle(err error) {
	if b.settled {
		return
	}
	b.settled = true
	now, asked, endpoint := b.cache.opts.Now(), !errors.Is(err, errNotAsked), b.from.Endpoint()
	down := err != nil && store.ReasonOf(err) == store.Unavailable

	for _, namespace := range b.namespaces {
		breaker := b.cache.breaker(endpoint, namespace)
		if !asked {
			if b.admitted == namespace {
				breaker.release()
			}
			continue
		}
		opened, mended := breaker.record(now, err)
		switch {
		case opened:
			klog.ErrorS(nil, "store does not answer; it is asked at growing intervals", "store", b.from.Config.Name, "endpoint", endpoint, "namespace", namespace, "error", err.Error())
		case mended:
			klog.InfoS("store answers again", "store", b.from.Config.Name, "endpoint", endpoint, "namespace", namespace)
		}
	}

	if asked {
		b.cache.opts.Metrics.Available(endpoint, !down)
	}
}

// jitter is by which part of its time the first refresh of a batch comes early.
// Nodes and pods that started together would otherwise ask together for ever
// after; one shift is enough, and costs half a read an entry's life. It is one
// for the whole batch, which so stays together.
func jitter() float64 { return rand.Float64() / 2 }
