package cache

import (
	"bytes"
	"container/list"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/provider/store"
)

// batchKey is what can be read together: one store's configuration, by its
// digest, as one identity.
type batchKey struct{ store, identity string }

// namespace whose memory an entry takes; the provider's own for what is read as
// the provider.
func (k batchKey) namespace() string {
	name, _, _ := strings.Cut(k.identity, "\x00")
	return name
}

// key is one secret, or one search, as one identity sees it: values are never
// shared across identities, nor across an edit of the store's configuration.
type key struct {
	batchKey
	ref    store.Ref
	find   store.Filter // of a search; zero for a secret
	isFind bool
	// history is how many versions of ref are listed; 0 for a secret.
	history int
}

// size of a key and its bookkeeping, beside the value.
func (k key) size() int64 {
	const overhead = 768 // the entry, its places in the map and the lists
	return overhead + k.ref.Size() + int64(len(k.store)+len(k.identity)+len(k.find.Prefix)+len(k.find.Regexp)+len(k.find.Tags))
}

// reading is what was read, and when the request began that read it.
type reading struct {
	secret  store.Secret
	found   []store.Ref // of a search
	fetched time.Time
}

// clone keeps a reader's copy whole when the cache's own is wiped.
func (r reading) clone() reading {
	r.secret.Value = bytes.Clone(r.secret.Value)
	return r
}

// within says whether a reading is younger than age. One from the future is
// not: the clock went back, and how old it is nobody knows.
func (r reading) within(age time.Duration, now time.Time) bool {
	old := now.Sub(r.fetched)
	return old >= 0 && (old < age || age < 0) // never and maxStale overflow
}

func (r reading) size() int64 {
	n := int64(len(r.secret.Value) + len(r.secret.Version) + len(r.secret.Media) + len(r.secret.Lease))
	for _, ref := range r.found {
		n += ref.Size() + 128
	}
	return n
}

// handle is a store opened for one identity, shared by all entries that were
// read by it: what it keeps alive (an inline document, the tenant's keys,
// tokens) is there once, and counted once.
type handle struct {
	at      batchKey
	latest  *reader // with the newest tokens
	entries int
	bytes   int64
}

func (r *reader) size() int64 {
	const overhead = 1024
	n := overhead + r.Config.Bytes
	for k, v := range r.id.Secrets {
		n += int64(len(k) + len(v))
	}
	for k, t := range r.id.Tokens {
		n += int64(len(k) + len(t.Reveal()))
	}
	return n
}

// entry is a reading in the cache, with what its refresh needs.
type entry struct {
	key key
	reading
	used     time.Time     // when a mount last asked for it
	asked    bool          // a mount asked for it since it was read
	refresh  time.Duration // the shortest that was asked for
	shift    float64       // by which part of refresh its first refresh comes early: see jitter
	from     *handle       // as whom it was last asked for; nil after a restart
	busy     bool          // a refresh is on its way
	standsIn time.Time     // when it was last served for a store out of reach
	lease    lease

	recent *list.Element // in its namespace's order
	bytes  int64         // as counted
}

// share is what one namespace holds.
type share struct {
	bytes int64
	order *list.List // of *entry, the most recently used in front
}

// entries are bounded in number and bytes. Where they are over, the namespace
// that holds most gives way: the one unused longest goes first, a last good
// value that stands in for a store out of reach last. The cache locks.
type entries struct {
	maxEntries int
	maxBytes   int64
	bytes      int64 // of entries and handles
	items      map[key]*entry
	shares     map[string]*share
	// gone is told of every entry that leaves.
	gone func(*entry)
}

func newEntries(maxEntries int, maxBytes int64) entries {
	return entries{maxEntries: maxEntries, maxBytes: maxBytes, items: map[key]*entry{}, shares: map[string]*share{}}
}

// get is the entry, now the most recently used; nil where there is none.
func (es *entries) get(k key) *entry {
	e := es.items[k]
	if e != nil {
		es.shares[k.namespace()].order.MoveToFront(e.recent)
	}
	return e
}

// put keeps an entry, and makes room for it. One that alone is over the bound
// is not kept.
func (es *entries) put(e *entry) {
	es.remove(e.key)
	if e.bytes = e.key.size() + e.reading.size(); e.bytes > es.maxBytes {
		return
	}

	name := e.key.namespace()
	s := es.shares[name]
	if s == nil {
		s = &share{order: list.New()}
		es.shares[name] = s
	}
	e.recent = s.order.PushFront(e)
	es.items[e.key] = e
	es.count(e.key, e.bytes)
}

// count adds bytes to what a namespace holds.
func (es *entries) count(k key, bytes int64) {
	es.bytes += bytes
	if s := es.shares[k.namespace()]; s != nil {
		s.bytes += bytes
	}
}

// trim makes the entries fit their bounds.
func (es *entries) trim() {
	for len(es.items) > es.maxEntries || es.bytes > es.maxBytes {
		e := es.least()
		if e == nil {
			return
		}
		es.remove(e.key)
	}
}

// looks is how many of the entries unused longest are looked at for one that is
// no last good value.
const looks = 64

// least is the entry that can best be spared.
func (es *entries) least() *entry {
	var most *share
	for _, s := range es.shares {
		if most == nil || s.bytes > most.bytes {
			most = s
		}
	}

	if most == nil {
		return nil
	}

	at := most.order.Back()
	for range looks {
		if at == nil {
			break
		}
		if e := at.Value.(*entry); e.standsIn.IsZero() {
			return e
		}
		at = at.Prev()
	}

	return most.order.Back().Value.(*entry)
}

// remove forgets an entry and wipes its value. Copies that gRPC and the garbage
// collector made are beyond reach; this one is the one that lives long.
func (es *entries) remove(k key) {
	e := es.items[k]
	if e == nil {
		return
	}
	delete(es.items, k)
	es.count(k, -e.bytes)

	s := es.shares[k.namespace()]
	s.order.Remove(e.recent)
	if s.order.Len() == 0 {
		delete(es.shares, k.namespace())
	}
	clear(e.secret.Value)
	if es.gone != nil {
		es.gone(e)
	}
}

// lastUsed are the keys of all entries, what was used last first.
func (es *entries) lastUsed() []key {
	keys := slices.Collect(maps.Keys(es.items))
	slices.SortFunc(keys, func(a, b key) int { return es.items[b].used.Compare(es.items[a].used) })
	return keys
}

// hold makes an entry one that was read as a reader, whose newest tokens the
// others of the same store and identity use too. The caller locks.
func (c *Cache) hold(e *entry, r *reader) {
	h := c.handles[r.key()]
	if h == nil {
		h = &handle{at: r.key()}
		c.handles[h.at] = h
	}
	if size := r.size(); h.latest != r {
		c.entries.count(e.key, size-h.bytes)
		h.latest, h.bytes = r, size
	}
	if e.from == h {
		return
	}
	c.letGo(e)
	e.from = h
	h.entries++
}

// letGo takes an entry from its handle, which goes with its last entry.
func (c *Cache) letGo(e *entry) {
	h := e.from
	if h == nil {
		return
	}
	e.from = nil
	if h.entries--; h.entries == 0 {
		delete(c.handles, h.at)
		c.entries.count(e.key, -h.bytes)
	}
}
