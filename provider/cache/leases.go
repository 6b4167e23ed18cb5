package cache

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/provider/store"
)

// lease is what is known of a value that was issued for a time.
//
// Leases outrank freshness: such a value is served until its lease must be
// renewed. At two thirds of its time it is renewed; where it can be prolonged no
// further it is issued anew, so long before its end that pods have the new one
// before the old is over.
type lease struct {
	since   time.Time     // when it was issued, or renewed last
	full    time.Duration // the longest that it was given at once
	final   bool          // it cannot be prolonged any further
	tried   time.Time     // the last renewal that gave no answer
	retired []string      // leases of the same secret that came before, not ended yet
}

// ended is a lease that nobody uses any more.
type ended struct {
	from   *reader
	leases []string
}

const (
	// retryLease is how soon a renewal is tried again that gave no answer.
	retryLease = 5 * time.Second
	// revokeTime bounds a revocation.
	revokeTime = 10 * time.Second
	maxRetired = 8
	// handover is how long pods may take to have what was issued anew: the
	// driver's usual rotationPollInterval of two minutes, kubelet's republish after
	// it, and the issuing itself. A lease gives no more than half of itself for it.
	handover = 4 * time.Minute
)

func (e *entry) leased() bool { return !e.secret.Until.IsZero() }

// margin is how long before its end a value is not given out any more: whoever
// gets it wants to use it.
func (e *entry) margin() time.Duration {
	return min(10*time.Second, e.secret.Until.Sub(e.lease.since)/10)
}

// leaseDue says whether a value wants to be renewed, or issued anew.
func (e *entry) leaseDue(now time.Time) bool {
	if now.Sub(e.lease.tried) < retryLease {
		return false
	}
	return e.secret.Until.Sub(now) <= e.ahead()
}

// ahead is how long before its end a value is renewed, or issued anew.
func (e *entry) ahead() time.Duration {
	third := e.secret.Until.Sub(e.lease.since) / 3
	if e.renewable() {
		return third
	}
	return max(third, min(handover, e.lease.full/2))
}

func (e *entry) renewable() bool { return e.secret.Lease != "" && !e.lease.final }

// prolong sets a new end. Noticeably less than what it was given before is a
// lease that nears its greatest age.
func (e *entry) prolong(now, until time.Time) {
	e.secret.Until, e.lease.since = until, now
	given := until.Sub(now)
	e.lease.final = given < e.lease.full*9/10
	e.lease.full = max(e.lease.full, given)
}

// issue takes note of what a new entry was issued for, and of the lease that it
// takes the place of. The caller locks.
func (c *Cache) issue(e, old *entry, from *reader) {
	if !e.leased() {
		return
	}
	e.lease.since, e.lease.full = e.fetched, e.secret.Until.Sub(e.fetched)
	leaser, can := from.Store.(store.Leaser)
	e.lease.final = !can || e.secret.Lease == "" || !leaser.Renewable(e.secret.Lease)
	c.opts.Metrics.Leased(from.Config.Name, "issued")
	if old == nil {
		return
	}

	e.lease.retired = old.lease.retired
	old.lease.retired = nil
	if old.secret.Lease != "" && old.secret.Lease != e.secret.Lease {
		// Pods use it until their next republish: it ends by itself, or with the
		// last of them.
		e.lease.retired = append(e.lease.retired, old.secret.Lease)
		old.secret.Lease = ""
	}

	if n := len(e.lease.retired); n > maxRetired {
		e.lease.retired = e.lease.retired[n-maxRetired:]
	}
}

// goneFrom notes the leases of an entry that leaves. The caller locks.
func (c *Cache) goneFrom(e *entry) {
	leases := e.lease.retired
	if e.secret.Lease != "" {
		leases = append(leases, e.secret.Lease)
	}
	if e.from != nil && leases != nil {
		c.ended = append(c.ended, ended{e.from.latest, leases})
		if record := c.opts.Journal.remove(e.key, e.fetched); record != nil {
			c.background.Go(func() { noted(record()) })
		}
	}

	c.letGo(e)
}

// revokeEnded ends in the background what nobody uses any more.
func (c *Cache) revokeEnded() {
	c.mu.Lock()
	all := c.ended
	c.ended = nil
	c.mu.Unlock()
	for _, l := range all {
		c.background.Go(func() { c.revoke(l) })
	}
}

// revoke ends leases, where the store can and its policy lets it.
func (c *Cache) revoke(l ended) {
	leaser, ok := l.from.Store.(store.Leaser)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), revokeTime)
	defer cancel()

	if err := leaser.Revoke(ctx, l.leases); err != nil {
		klog.InfoS("leases are not revoked, and end by themselves", "store", l.from.Config.Name, "namespace", l.from.id.Namespace, "leases", len(l.leases), "error", err.Error())
		return
	}
	for range l.leases {
		c.opts.Metrics.Leased(l.from.Config.Name, "revoked")
	}
}

// renew prolongs the lease of an entry that is marked busy.
func (c *Cache) renew(ctx context.Context, k key, from *reader, id string) {
	ctx, cancel := context.WithTimeout(ctx, from.Config.Timeout)
	defer cancel()
	until, err := from.Store.(store.Leaser).Renew(ctx, id)

	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.opts.Now()
	e := c.entries.items[k]
	if e == nil || e.secret.Lease != id {
		return
	}
	e.busy = false

	switch {
	case err == nil && until.After(e.secret.Until):
		e.prolong(now, until)
		c.opts.Metrics.Leased(from.Config.Name, "renewed")
	case err == nil:
		e.lease.final = true
	case store.ReasonOf(err).Transient():
		e.lease.tried = now
		return
	default:
		klog.InfoS("a lease is lost; it is issued anew", "store", from.Config.Name, "namespace", from.id.Namespace, "secret", k.ref.String(), "error", err.Error())
		c.opts.Metrics.Leased(from.Config.Name, "lost")
		e.lease.final = true
		e.secret.Until = now // what is lost serves nobody any more
		e.secret.Lease = ""
	}

	if e.leaseDue(now) && c.calls[k] == nil {
		e.busy = true
		c.enqueue(k, from, e.refresh)
	}
}

// leaseEnds tells of values whose lease is over with nothing in their place.
// The caller locks.
func (c *Cache) leaseEnds(e *entry, now time.Time) {
	if e.from == nil || now.Before(e.secret.Until) {
		return
	}
	from := e.from.latest
	c.opts.Metrics.Leased(from.Config.Name, "lost")
	klog.ErrorS(nil, "a lease ended, and nothing could be issued in its place", "store", from.Config.Name, "namespace", from.id.Namespace, "secret", e.key.ref.String())
	if c.opts.LeaseLost != nil {
		c.opts.LeaseLost(from.id, from.Config.Name, e.key.ref.String())
	}
	c.entries.remove(e.key)
}

// Close ends what the cache keeps up: with a journal leases go on, for the next
// process has them; without one they are revoked. Nothing is asked after it.
func (c *Cache) Close() {
	c.mu.Lock()
	if c.opts.Journal == nil {
		for k := range c.entries.items {
			c.entries.remove(k)
		}
	}
	c.mu.Unlock()
	c.revokeEnded()
	c.background.Wait()
}
