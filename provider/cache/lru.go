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

// times remembers when something was, for as many names as fit; the oldest is
// forgotten first. The caller locks.
type times struct {
	at    map[string]time.Time
	order *list.List // of names, the oldest in front
	place map[string]*list.Element
}

const maxTimes = 4096

func newTimes() times {
	return times{at: map[string]time.Time{}, order: list.New(), place: map[string]*list.Element{}}
}

// first is when name was set; now, where it was not.
func (t *times) first(name string, now time.Time) time.Time {
	if at, ok := t.at[name]; ok {
		return at
	}
	t.set(name, now)
	return now
}

func (t *times) set(name string, now time.Time) {
	if e, ok := t.place[name]; ok {
		t.order.MoveToBack(e)
	} else {
		t.place[name] = t.order.PushBack(name)
	}
	t.at[name] = now
	if t.order.Len() > maxTimes {
		oldest := t.order.Remove(t.order.Front()).(string)
		delete(t.at, oldest)
		delete(t.place, oldest)
	}
}
