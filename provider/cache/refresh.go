package cache

import (
	"context"
	"time"

	"github.com/coffre-csi/coffre/provider/store"
)

// tick is how often entries are looked at: a refresh comes at most so much
// before it is due.
const tick = 500 * time.Millisecond

// idle is how long after its last use an entry is kept, beyond the time for
// which it may be served: kubelet asks for every mounted volume about every 75
// seconds.
const idle = 5 * time.Minute

// clockSlack is by how much the wall clock may be set back without more. A
// running process counts ages by a clock that nobody sets; but what was
// restored has the wall clock's time, and after it went back by more nobody
// knows how old that is: everything is read anew.
const clockSlack = 5 * time.Second

// Run refreshes ahead until ctx ends: every secret that pods use is read again
// when it is due, once, by one batch a store and identity, so that no mount
// waits for it and load follows distinct secrets, not pods. Entries that nobody
// asks for are dropped.
func (c *Cache) Run(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			c.Turn(ctx)
		}
	}
}

// due is what one Turn has found to do.
type due struct {
	reads  map[*handle][]key
	renews []renewal
	oldest time.Duration
	leases int
}

type renewal struct {
	key   key
	from  *reader
	lease string
}

// Turn looks at every entry once; Run calls it.
//
//  1. Drop what nobody asked for.
//  2. Choose what is due before the next turn and was asked for since it was
//     read.
//  3. Open each of their stores anew, for the configuration may have changed
//     and the identity may have been shut out, and read; or renew.
func (c *Cache) Turn(ctx context.Context) {
	now := c.opts.Now()
	c.mu.Lock()
	wentBack := now.Round(0).Before(c.lastTurn.Add(-clockSlack))
	c.lastTurn = now.Round(0)
	d := due{reads: map[*handle][]key{}}
	for _, e := range c.entries.items {
		if e.abandoned(now, c.opts.LeaseIdle) || wentBack {
			c.entries.remove(e.key)
			continue
		}
		c.choose(&d, e, now)
	}

	unknown := c.forgetIdle(now)
	entries, bytes := len(c.entries.items), c.entries.bytes
	c.mu.Unlock()

	m := c.opts.Metrics
	m.Size(entries, bytes)
	m.Oldest(d.oldest)
	m.Leases(d.leases)
	for _, endpoint := range unknown {
		m.Unknown(endpoint)
	}
	c.revokeEnded()
	if wentBack && c.opts.Journal != nil {
		noted(c.rewrite(true))
	}
	for h, keys := range d.reads {
		c.background.Go(func() { c.refresh(ctx, h, keys) })
	}
	for _, r := range d.renews {
		c.background.Go(func() { c.renew(ctx, r.key, r.from, r.lease) })
	}
}

// choose notes what is to be done about an entry. The caller locks.
func (c *Cache) choose(d *due, e *entry, now time.Time) {
	inUse := now.Sub(e.used) < 2*time.Minute
	if e.leased() {
		d.leases++
		c.chooseLeased(d, e, now)
		return
	}

	if inUse && e.refresh != store.Never {
		d.oldest = max(d.oldest, now.Sub(e.fetched))
	}
	if !e.busy && e.due(now) {
		e.busy = true
		d.reads[e.from] = append(d.reads[e.from], e.key)
	}
}

func (c *Cache) chooseLeased(d *due, e *entry, now time.Time) {
	if !now.Before(e.secret.Until) && !e.busy {
		c.leaseEnds(e, now)
		return
	}
	if e.busy || e.from == nil || !e.leaseDue(now) {
		return
	}

	e.busy = true
	from := e.from.latest
	if _, can := from.Store.(store.Leaser); can && e.renewable() {
		d.renews = append(d.renews, renewal{e.key, from, e.secret.Lease})
		return
	}
	e.lease.tried = now // and again after a while, should it fail
	d.reads[e.from] = append(d.reads[e.from], e.key)
}

// Wait waits for the reads that are under way.
func (c *Cache) Wait() { c.background.Wait() }

func (c *Cache) refresh(ctx context.Context, h *handle, keys []key) {
	c.mu.Lock()
	old := h.latest
	c.mu.Unlock()
	fresh := c.openFor(ctx, old.selector, old.id)

	var records []func() error
	c.mu.Lock()
	for _, k := range keys {
		e := c.entries.items[k]
		switch {
		case fresh.err != nil && !fresh.err.Reason.Transient():
			// It may not be read any more.
			c.entries.remove(k)
			records = append(records, c.opts.Journal.remove(k, c.opts.Now()))
		case fresh.err != nil || fresh.key() != k.batchKey:
			// Out of reach now, or another store or role by now: the next mount
			// asks for what it is then.
			if e != nil {
				e.busy = false
			}
		case e != nil && c.calls[k] == nil:
			c.enqueue(k, fresh, e.refresh)
		}
	}

	c.mu.Unlock()

	for _, record := range records {
		if record == nil {
			continue
		}
		noted(record())
	}

	c.revokeEnded()
}

// due says whether an entry wants to be read before the next turn.
func (e *entry) due(now time.Time) bool {
	never := e.refresh == 0 || e.refresh == store.Never
	if e.from == nil || never || !e.asked {
		return false
	}
	return now.Add(tick).Sub(e.fetched) >= e.refresh-time.Duration(e.shift*float64(e.refresh))
}

// abandoned says whether nobody will be served an entry any more.
func (e *entry) abandoned(now time.Time, leaseIdle time.Duration) bool {
	if e.leased() {
		return now.Sub(e.used) >= leaseIdle // the last pod is gone
	}
	if now.Sub(e.used) < idle {
		return false
	}
	switch {
	case e.from == nil:
		return now.Sub(e.fetched) > idle
	case e.refresh == store.Never:
		return now.Sub(e.used) > 24*time.Hour
	}

	return now.Sub(e.fetched) > e.refresh+e.from.latest.Config.MaxStale
}
