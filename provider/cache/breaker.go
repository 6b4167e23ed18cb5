package cache

import (
	"math/rand/v2"
	"time"

	"github.com/coffre-csi/coffre/provider/store"
)

// A breaker stops asking a store that does not answer: after some failures in
// a row only one probe goes out at a time, at growing intervals. Everybody else
// is told at once, or gets the last good value.
//
// There is one a store and namespace: what one tenant's requests run into says
// nothing about another's. The cache locks around it.
type breaker struct {
	failures int
	closed   time.Time // no request before it
	wait     time.Duration
	probing  bool
	last     string
	used     time.Time
}

const (
	breakAfter   = 5
	firstWait    = time.Second
	longestWait  = 30 * time.Second
	forgetAfter  = 10 * time.Minute
	maxLastError = 200
)

// admit says whether a request may go out now; nil where it may.
func (b *breaker) admit(now time.Time) *store.Error {
	b.used = now
	if b.failures < breakAfter {
		return nil
	}
	if now.Before(b.closed) || b.probing {
		next := max(b.closed.Sub(now), 0).Round(time.Second)
		return store.Errorf(store.Unavailable, "is not asked: it did not answer %d times in a row (last: %s); a probe goes out in %s", b.failures, b.last, next)
	}
	b.probing = true
	return nil
}

// record says how a request ended. Only a store that cannot be reached counts:
// one that refuses, or asks for patience, is there.
func (b *breaker) record(now time.Time, err error) (opened, mended bool) {
	down := err != nil && store.ReasonOf(err) == store.Unavailable
	b.probing = false
	if !down {
		mended = b.failures >= breakAfter
		*b = breaker{used: now}
		return false, mended
	}
	b.failures++
	if b.last = err.Error(); len(b.last) > maxLastError {
		b.last = b.last[:maxLastError] + "…"
	}
	if b.failures < breakAfter {
		return false, false
	}
	b.wait = min(max(2*b.wait, firstWait), longestWait)
	// Full jitter, so that nodes do not probe in step; at least a tenth, so that
	// they do probe at intervals.
	b.closed = now.Add(b.wait/10 + rand.N(b.wait-b.wait/10))
	return b.failures == breakAfter, false
}
