package cache

import (
	"container/list"
	"time"
)

// lru holds entries, bounded in number and bytes; the one unused longest goes
// first. The caller locks.
type lru struct {
	maxEntries int
	maxBytes   int64
	bytes      int64
	items      map[key]*list.Element
	order      *list.List // of *item, the most recently used in front
}

type item struct {
	key   key
	entry entry
}

func (i *item) size() int64 { return i.key.size() + i.entry.size() }

func newLRU(maxEntries int, maxBytes int64) lru {
	return lru{maxEntries: maxEntries, maxBytes: maxBytes, items: map[key]*list.Element{}, order: list.New()}
}

func (l *lru) get(k key) (entry, bool) {
	e, ok := l.items[k]
	if !ok {
		return entry{}, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*item).entry, true
}

func (l *lru) put(k key, v entry) {
	l.remove(k)
	it := &item{k, v}
	if it.size() > l.maxBytes {
		return
	}
	l.items[k] = l.order.PushFront(it)
	l.bytes += it.size()
	for len(l.items) > l.maxEntries || l.bytes > l.maxBytes {
		l.remove(l.order.Back().Value.(*item).key)
	}
}

func (l *lru) remove(k key) {
	e, ok := l.items[k]
	if !ok {
		return
	}
	l.bytes -= e.Value.(*item).size()
	l.order.Remove(e)
	delete(l.items, k)
}

// forced remembers when each forceRefresh text was first seen, for as many
// texts as fit: one that was forgotten forces once more.
type forced struct {
	seen  map[string]time.Time
	order []string
}

const maxForced = 4096

func newForced() forced { return forced{seen: map[string]time.Time{}} }

func (f *forced) firstSeen(text string, now time.Time) time.Time {
	if at, ok := f.seen[text]; ok {
		return at
	}
	if len(f.order) >= maxForced {
		delete(f.seen, f.order[0])
		f.order = f.order[1:]
	}
	f.seen[text] = now
	f.order = append(f.order, text)
	return now
}
