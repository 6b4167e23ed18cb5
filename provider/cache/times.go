package cache

import (
	"container/list"
	"crypto/sha256"
	"time"
)

// times remembers when something was, for as many names as fit; the one that
// was set longest ago is forgotten first. Names are kept as hashes: whoever
// writes them may make them long. The caller locks.
type times struct {
	items map[[16]byte]*list.Element
	order *list.List // of moment, the oldest in front
}

type moment struct {
	name [16]byte
	at   time.Time
}

const maxTimes = 4096

func newTimes() times { return times{items: map[[16]byte]*list.Element{}, order: list.New()} }

func hashed(name string) [16]byte {
	sum := sha256.Sum256([]byte(name))
	return [16]byte(sum[:16])
}

// get is when name was set.
func (t *times) get(name string) (time.Time, bool) {
	e, ok := t.items[hashed(name)]
	if !ok {
		return time.Time{}, false
	}
	return e.Value.(moment).at, true
}

func (t *times) set(name string, now time.Time) { t.put(hashed(name), now) }

func (t *times) put(name [16]byte, now time.Time) {
	if e, ok := t.items[name]; ok {
		e.Value = moment{name, now}
		t.order.MoveToBack(e)
		return
	}
	t.items[name] = t.order.PushBack(moment{name, now})
	if t.order.Len() > maxTimes {
		delete(t.items, t.order.Remove(t.order.Front()).(moment).name)
	}
}

// all are the moments, the oldest first.
func (t *times) all() []moment {
	out := make([]moment, 0, t.order.Len())
	for e := t.order.Front(); e != nil; e = e.Next() {
		out = append(out, e.Value.(moment))
	}
	return out
}
