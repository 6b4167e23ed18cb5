package cache

import (
	"errors"
	"time"

	"golang.org/x/time/rate"

	"github.com/coffre-csi/coffre/auth/fair"
	"github.com/coffre-csi/coffre/provider/store"
)

// errNotAsked is the Cause of a read for which nobody was asked: the breaker or
// this node's own queue held it back.
var errNotAsked = errors.New("not asked")

// account names what shares turns and limits: a store of the platform; the
// stores that one namespace writes inline, by kind, however many it makes up.
func (r *reader) account() string {
	if r.Config.Inline {
		return "inline/" + r.Config.Kind + "/" + r.id.Namespace
	}
	return "store/" + r.Config.Name
}

// gate shares a store's places between namespaces.
func (c *Cache) gate(r *reader) *fair.Gate {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.gates[r.account()]
	if g == nil {
		g = fair.New(placesAStore, waitingATenant)
		c.gates[r.account()] = g
	}
	return g
}

// Oldest is how long the read that began first holds its place.
func (c *Cache) Oldest() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var oldest time.Duration
	for _, g := range c.gates {
		oldest = max(oldest, g.Oldest())
	}
	return oldest
}

// pacer holds to a store's rateLimit; nil where it has none.
func (c *Cache) pacer(r *reader) *rate.Limiter {
	n := r.Config.RateLimit
	if n == 0 {
		return nil
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.limits[r.account()]
	if l == nil || l.Burst() != n { // new, or edited
		l = rate.NewLimiter(rate.Limit(n), n)
		c.limits[r.account()] = l
	}

	return l
}

// breakerKey is an endpoint as one namespace reaches it: what one tenant's
// requests run into says nothing about another's, and one that is dead nothing
// about the others.
type breakerKey struct{ endpoint, namespace string }

// breaker of an endpoint, for one namespace. The caller locks.
func (c *Cache) breaker(endpoint, namespace string) *breaker {
	at := breakerKey{endpoint, namespace}
	b := c.breakers[at]
	if b == nil {
		b = &breaker{}
		c.breakers[at] = b
	}
	return b
}

// admit asks the breakers whether the store may be asked: where any of the
// namespaces that wait may, it is asked for all.
func (c *Cache) admit(b *batch) *store.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	endpoint := b.from.Endpoint()
	var refused *store.Error
	for _, namespace := range b.namespaces {
		if refused = c.breaker(endpoint, namespace).admit(c.opts.Now(), b.patience); refused == nil {
			b.admitted = namespace
			return nil
		}
	}

	refused.Cause = errNotAsked
	return refused
}

// forgetIdle drops breakers that nobody needed for long, and tells of endpoints
// that nobody asks any more. The caller locks.
func (c *Cache) forgetIdle(now time.Time) (unknown []string) {
	left := map[string]bool{}
	var dropped []string
	for at, b := range c.breakers {
		if now.Sub(b.used) > forgetAfter {
			delete(c.breakers, at)
			dropped = append(dropped, at.endpoint)
			continue
		}

		left[at.endpoint] = true
	}

	for _, endpoint := range dropped {
		if !left[endpoint] {
			unknown = append(unknown, endpoint)
		}
	}

	return unknown
}
