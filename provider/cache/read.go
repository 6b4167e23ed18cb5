package cache

import (
	"sync"
	"time"

	"github.com/coffre-csi/coffre/auth/fair"
	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
)

// pending is a want whose call is under way.
type pending struct {
	want *want
	call *call
}

// readAll fills in the reading or the error of every want: fresh from memory,
// from a call that is on its way already, or from a batch a store; and, where
// the store is out of reach, the last good reading for as long as the store's
// maxStale allows. What the round asks for twice is read once.
func (r *round) readAll(groups [][]*want) {
	var twice []*want
	var waits []pending

	c := r.cache
	if err := r.weigh(groups); err != nil {
		for _, group := range groups {
			for _, w := range group {
				w.err = err
			}
		}

		return
	}

	c.mu.Lock()
	now := c.opts.Now() // not when the mount began: others may have read since
	for _, group := range groups {
		for _, w := range group {
			if r.read[w.key].covers(w) {
				twice = append(twice, w)
				continue
			}
			r.read[w.key] = w
			if p, wait := c.look(w, now); wait {
				waits = append(waits, p)
			}
		}
	}

	c.mu.Unlock()

	if waits != nil {
		r.await(waits)
	}
	r.charge(groups)
	for _, w := range twice {
		first := r.read[w.key]
		w.reading, w.origin, w.err = first.reading, first.origin, first.err
	}
}

// weigh waits until the secrets that the round has to ask for fit beside those
// of others. They are held until the mount has ended, for until then they are in
// memory; a round that asks a second time, for what its searches found, lets go
// of the first.
func (r *round) weigh(groups [][]*want) error {
	c := r.cache
	misses := 0
	c.mu.Lock()
	now := c.opts.Now()
	for _, group := range groups {
		for _, w := range group {
			if c.misses(w, now) {
				misses++
			}
		}
	}

	c.mu.Unlock()
	if misses == 0 {
		return nil
	}

	defer fair.Pause(r.ctx)()
	defer budget.From(r.ctx).Pause()()
	if r.weight != nil {
		r.weight()
	}
	place, err := c.underWay.EnterWith(r.ctx, r.id.Namespace, misses)
	if err != nil {
		return &store.Error{Reason: store.Throttled, Text: "no turn within the mount's time: this node reads as many other secrets as it has memory for", Cause: errNotAsked}
	}
	r.weight = sync.OnceFunc(place.Leave)
	budget.From(r.ctx).AtEnd(r.weight)

	return nil
}

// misses says whether a want needs a call that nobody makes yet. The caller
// locks.
func (c *Cache) misses(w *want, now time.Time) bool {
	if e := c.entries.items[w.key]; e != nil && e.serves(w, now) {
		return false
	}
	running := c.calls[w.key]
	return running == nil || !running.joinable(w, now)
}

// charge counts what the round holds now into the mount's budget.
func (r *round) charge(groups [][]*want) {
	cost := budget.From(r.ctx)
	for _, group := range groups {
		for _, w := range group {
			if r.read[w.key] != w || w.err != nil {
				continue
			}
			if err := cost.Bytes(int(w.reading.size())); err != nil {
				w.reading, w.err = reading{}, store.Errorf(store.Invalid, "%s", err)
			}
		}
	}
}

// covers says whether what answers a want answers another of the same key.
func (w *want) covers(other *want) bool {
	return w != nil && w.refresh <= other.refresh && !w.since.Before(other.since) && !w.forced.Before(other.forced)
}

// look answers a want from memory, or says which call will. The caller locks.
func (c *Cache) look(w *want, now time.Time) (p pending, wait bool) {
	if e := c.entries.get(w.key); e != nil {
		c.use(e, w, now)
		if e.serves(w, now) {
			w.reading, w.origin = e.clone(), plan.Hit
			return p, false
		}
	}

	running := c.calls[w.key]
	if running == nil || !running.joinable(w, now) {
		running = c.enqueue(w.key, w.from, w.patience)
	}
	running.batch.wants(w.from.id.Namespace, w.patience)

	return pending{w, running}, true
}

// serves says whether memory may answer a want.
//
// A value's age counts from the start of the request that read it: what changed
// while it was on its way is not in it. What was issued for a time is served
// while it lasts, whatever refresh or a republish say; only a new forceRefresh
// text issues anew.
func (e *entry) serves(w *want, now time.Time) bool {
	if e.leased() {
		return now.Before(e.secret.Until.Add(-e.margin())) && !e.fetched.Before(w.forced)
	}
	return e.within(w.refresh, now) && !e.fetched.Before(w.since)
}

// joinable says whether a call that is under way answers a want: one that has
// not begun does; one that has, where what it will bring is fresh enough.
func (c *call) joinable(w *want, now time.Time) bool {
	if c.began.IsZero() {
		return true
	}
	r := reading{fetched: c.began}
	return r.within(w.refresh, now) && !c.began.Before(w.since)
}

// await waits for calls, and gives this mount's place to others meanwhile.
func (r *round) await(waits []pending) {
	c := r.cache
	defer fair.Pause(r.ctx)()
	defer budget.From(r.ctx).Pause()()

	for _, p := range waits {
		select {
		case <-p.call.done:
			p.want.reading, p.want.err, p.want.origin = p.call.reading, p.call.err, plan.Fetched
		case <-r.ctx.Done():
			p.want.err = &store.Error{Reason: store.Unavailable, Text: "no answer within the mount's deadline; see the store's timeout", Cause: r.ctx.Err()}
		}
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.opts.Now()
	for _, p := range waits {
		w := p.want
		e := c.entries.get(w.key)
		switch {
		case w.err != nil:
			c.lastGood(w, e, now)
		case e != nil:
			c.use(e, w, now)
			if e.fetched.After(w.fetched) { // no volume gets an older value than another has
				w.reading = e.reading
			}
		}

		w.reading = w.reading.clone()
	}
}

// use notes that an entry is in use, by whom and how fresh it must be. The
// caller locks.
func (c *Cache) use(e *entry, w *want, now time.Time) {
	c.hold(e, w.from)
	e.used, e.asked = now, true
	if e.refresh == 0 || w.refresh < e.refresh {
		e.refresh = w.refresh
	}
}

// lastGood answers a want whose store is out of reach with what was last read,
// within maxStale, and with nothing else: never for a denied or a missing
// secret, never across identities (the key sees to that), never what was issued
// for a time that is over. The caller locks.
func (c *Cache) lastGood(w *want, e *entry, now time.Time) {
	limit := w.from.Config.MaxStale
	if e == nil || !store.ReasonOf(w.err).Transient() {
		return
	}
	if e.leased() {
		if now.Before(e.secret.Until) {
			w.reading, w.origin, w.err = e.reading, plan.Hit, nil
		}
		return
	}

	if limit == 0 || !e.within(w.refresh+limit, now) {
		return
	}

	e.standsIn = now
	w.reading, w.origin, w.err = e.reading, plan.Stale, nil
}
