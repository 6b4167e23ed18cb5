package cache

import (
	"context"
	"time"

	"k8s.io/klog/v2"

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

// Run refreshes ahead, and saves what the cache holds to the vault (nil for
// none), until ctx ends: every secret that pods use is read again
// when it is due, once, by one batch a store and identity, so that no mount
// waits for it and load follows distinct secrets, not pods. Entries that nobody
// asks for are dropped.
func (c *Cache) Run(ctx context.Context, v *Vault) {
	t := time.NewTicker(tick)
	defer t.Stop()
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	for {
		select {
		case <-ctx.Done():
			c.save(v)
			return
		case <-t.C:
			c.Turn(ctx)
			if c.forgotten() {
				c.save(v)
			}
		case <-save.C:
			c.save(v)
		}
	}
}

// forgotten says whether a value was refused or is gone since the cache was
// saved: what was saved must not bring it back.
func (c *Cache) forgotten() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.forgot
}

func (c *Cache) save(v *Vault) {
	if v == nil {
		return
	}
	if err := c.Save(v); err != nil {
		klog.ErrorS(err, "the cache is not saved")
	}
}

// Turn looks at every entry once; Run calls it.
//
//  1. Drop what nobody asked for.
//  2. Choose what is due before the next turn and was asked for since it was
//     read.
//  3. Open each of their stores anew, for the configuration may have changed
//     and the identity may have been shut out, and read.
func (c *Cache) Turn(ctx context.Context) {
	now := c.opts.Now()
	var due []*entry
	var oldest time.Duration

	c.mu.Lock()
	wentBack := now.Round(0).Before(c.lastTurn.Add(-clockSlack))
	c.lastTurn = now.Round(0)
	for _, item := range c.entries.items {
		e := item.Value.(*entry)
		switch {
		case e.abandoned(now) || wentBack:
			c.entries.remove(e.key)
		case !e.busy && e.due(now):
			e.busy = true
			due = append(due, e)
		}
		if now.Sub(e.used) < 2*time.Minute && e.refresh != store.Never {
			oldest = max(oldest, now.Sub(e.fetched))
		}
	}
	for at, b := range c.breakers {
		if now.Sub(b.used) > forgetAfter {
			delete(c.breakers, at)
		}
	}
	entries, bytes := len(c.entries.items), c.entries.bytes
	from := make(map[*opened][]key)
	for _, e := range due {
		from[e.from] = append(from[e.from], e.key)
	}
	c.mu.Unlock()

	if m := c.opts.Metrics; m != nil {
		m.Size(entries, bytes)
		m.Oldest(oldest)
	}
	for o, keys := range from {
		c.background.Go(func() { c.refresh(ctx, o, keys) })
	}
}

// Wait waits for the reads that are under way.
func (c *Cache) Wait() { c.background.Wait() }

func (c *Cache) refresh(ctx context.Context, old *opened, keys []key) {
	fresh := c.openFor(ctx, old.selector, old.id)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		switch {
		case fresh.err != nil && !fresh.err.Reason.Transient():
			c.entries.remove(k) // it may not be read any more
			c.forgot = true
		case fresh.err != nil || fresh.config.Digest != k.store || fresh.identity != k.identity:
			// Out of reach now, or another store or role by now: the next mount
			// asks for what it is then.
			if e := c.entries.items[k]; e != nil {
				e.Value.(*entry).busy = false
			}
		case c.calls[k] == nil:
			c.enqueue(k, fresh)
		}
	}
}

// due says whether an entry wants to be read before the next turn.
func (e *entry) due(now time.Time) bool {
	if e.from == nil || e.refresh == 0 || e.refresh == store.Never || !e.asked {
		return false
	}
	return now.Add(tick).Sub(e.fetched) >= e.refresh-time.Duration(e.shift*float64(e.refresh))
}

// abandoned says whether nobody will be served an entry any more.
func (e *entry) abandoned(now time.Time) bool {
	if now.Sub(e.used) < idle {
		return false
	}
	if e.from == nil {
		return now.Sub(e.fetched) > idle
	}
	if e.refresh == store.Never {
		return now.Sub(e.used) > 24*time.Hour
	}
	return now.Sub(e.fetched) > e.refresh+e.from.config.MaxStale
}
