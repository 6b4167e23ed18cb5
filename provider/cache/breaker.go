package cache

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/provider/store"
)

// A breaker stops asking a store that does not answer: after some failures in
// a row only one probe goes out at a time, at growing intervals. Everybody else
// is told at once, or gets the last good value.
//
// There is one an endpoint and namespace. The cache locks around it.
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

	next := b.closed.Sub(now)
	waiting := next > 0 && next <= longestWait // more is a clock that went back
	if waiting || b.probing {
		return &store.Error{
			Reason: store.Unavailable, Text: fmt.Sprintf("is not asked, for it does not answer (last: %s)", b.last),
			Detail: fault.Detail{Tries: b.failures, Next: max(next, 0).Round(time.Second)},
		}
	}
	b.probing = true
	return nil
}

// release takes back a probe that did not go out: whether the store answers is
// as unknown as before.
func (b *breaker) release() { b.probing = false }

// record says how a request ended; longest bounds the time between probes: a
// store that is back must be found within its refresh time. Only a store that
// cannot be reached counts: one that refuses, or asks for patience, is there.
func (b *breaker) record(now time.Time, err error, longest time.Duration) (opened, mended bool) {
	down := err != nil && store.ReasonOf(err) == store.Unavailable
	b.probing = false
	if !down {
		mended = b.failures >= breakAfter
		*b = breaker{used: now}
		return false, mended
	}
	b.failures++
	if b.last = fault.Same(err); len(b.last) > maxLastError {
		b.last = b.last[:maxLastError] + "…"
	}
	if b.failures < breakAfter {
		return false, false
	}
	b.wait = min(max(2*b.wait, firstWait), max(longest, firstWait), longestWait)
	// Full jitter, so that nodes do not probe in step; at least a tenth, so that
	// they do probe at intervals.
	b.closed = now.Add(b.wait/10 + rand.N(b.wait-b.wait/10))
	return b.failures == breakAfter, false
}
