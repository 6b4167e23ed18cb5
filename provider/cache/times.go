package cache

import (
	"container/list"
	"time"
)

// times remembers when something was, for as many names as fit; the one that
// was set longest ago is forgotten first. The caller locks.
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
