package cache

import (
	"bytes"
	"container/list"
	"time"

	"github.com/coffre-csi/coffre/provider/store"
)

// key is one secret, or one search, as one identity sees it: values are never
// shared across identities, nor across an edit of the store's configuration.
type key struct {
	store    string // the configuration's digest
	identity string
	ref      store.Ref
	find     store.Filter // of a search; zero for a secret
	isFind   bool
}

// size of a key and its bookkeeping, beside the value.
func (k key) size() int64 {
	const overhead = 512
	return int64(overhead + len(k.store) + len(k.identity) + len(k.ref.Name) + len(k.ref.Version) + len(k.ref.Label) + len(k.find.Prefix) + len(k.find.Regexp) + len(k.find.Tags))
}

// reading is what was read, and when.
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

func (r reading) size() int64 {
	n := int64(len(r.secret.Value) + len(r.secret.Version))
	for _, ref := range r.found {
		n += int64(len(ref.Name) + 128)
	}
	return n
}

// wipe overwrites the value. Copies that gRPC and the garbage collector made
// are beyond reach; this one is the one that lives long.
func (r reading) wipe() { clear(r.secret.Value) }

// entry is a reading in the cache, with what its refresh needs.
type entry struct {
	key key
	reading
	used    time.Time     // when a mount last asked for it
	asked   bool          // a mount asked for it since it was read
	refresh time.Duration // the shortest that was asked for
	shift   float64       // by which part of refresh its first refresh comes early: see jitter
	from    *opened       // as whom it was last asked for; nil after a restart
	busy    bool          // a refresh is on its way
}

func (e *entry) size() int64 { return e.key.size() + e.reading.size() }

// lru holds entries, bounded in number and bytes; the one unused longest goes
// first. The caller locks.
type lru struct {
	maxEntries int
	maxBytes   int64
	bytes      int64
	items      map[key]*list.Element
	order      *list.List // of *entry, the most recently used in front
}

func newLRU(maxEntries int, maxBytes int64) lru {
	return lru{maxEntries: maxEntries, maxBytes: maxBytes, items: map[key]*list.Element{}, order: list.New()}
}

// get is the entry, now the most recently used; nil where there is none.
func (l *lru) get(k key) *entry {
	e, ok := l.items[k]
	if !ok {
		return nil
	}
	l.order.MoveToFront(e)
	return e.Value.(*entry)
}

// put keeps an entry, and makes room for it. One that alone is over the bound
// is not kept.
func (l *lru) put(e *entry) {
	l.remove(e.key)
	if e.size() > l.maxBytes {
		return
	}
	l.items[e.key] = l.order.PushFront(e)
	l.bytes += e.size()
	for len(l.items) > l.maxEntries || l.bytes > l.maxBytes {
		l.remove(l.order.Back().Value.(*entry).key)
	}
}

// remove forgets an entry and wipes its value.
func (l *lru) remove(k key) {
	item, ok := l.items[k]
	if !ok {
		return
	}
	e := l.order.Remove(item).(*entry)
	delete(l.items, k)
	l.bytes -= e.size()
	e.wipe()
}
