package cache

import (
	"errors"

	"golang.org/x/time/rate"

	"github.com/coffre-csi/coffre/provider/fair"
	"github.com/coffre-csi/coffre/provider/store"
)

// errNotAsked marks a read that the breaker held back.
var errNotAsked = errors.New("not asked")

// place names what shares limits: a store of the platform; the stores that one
// namespace writes inline, by kind, however many it makes up.
func place(o *opened) string {
	if o.config.Inline {
		return "inline/" + o.config.Kind + "/" + o.id.Namespace
	}
	return "store/" + o.config.Name
}

// gate shares a store's places between namespaces.
func (c *Cache) gate(o *opened) *fair.Gate {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.gates[place(o)]
	if g == nil {
		g = fair.New(placesAStore, waitingATenant)
		c.gates[place(o)] = g
	}
	return g
}

// pacer holds to a store's rateLimit; nil where it has none.
func (c *Cache) pacer(o *opened) *rate.Limiter {
	n := o.config.RateLimit
	if n == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.limits[place(o)]
	if l == nil || l.Burst() != n { // new, or edited
		l = rate.NewLimiter(rate.Limit(n), n)
		c.limits[place(o)] = l
	}
	return l
}

// breaker of a store, for one namespace. The caller locks.
func (c *Cache) breaker(o *opened) *breaker {
	at := place(o) + "\x00" + o.id.Namespace
	b := c.breakers[at]
	if b == nil {
		b = &breaker{}
		c.breakers[at] = b
	}
	return b
}

// admit asks the breaker whether the store may be asked.
func (c *Cache) admit(o *opened) *store.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.breaker(o).admit(c.opts.Now())
	if err != nil {
		err.Cause = errNotAsked
	}
	return err
}
