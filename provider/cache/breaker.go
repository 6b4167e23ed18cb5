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
	failed   time.Time     // the last time
	wait     time.Duration // doubled at each failure
	share    float64       // of wait, by chance, that is waited: see record
	probing  time.Time     // since when a probe is under way; zero for none
	last     string
	used     time.Time
}

const (
	breakAfter  = 5
	firstWait   = time.Second
	longestWait = 30 * time.Second
	// longestProbe is after how long another probe goes out beside one that hangs.
	longestProbe = 5 * time.Second
	forgetAfter  = 10 * time.Minute
	maxLastError = 200
)

// admit says whether a request may go out now; nil where it may. patience is how
// long the one who asks may be kept from a store that is back: its refresh time.
func (b *breaker) admit(now time.Time, patience time.Duration) *store.Error {
	b.used = now
	if b.failures < breakAfter {
		return nil
	}

	wait := min(b.wait, max(patience, firstWait), longestWait)
	next := b.failed.Add(time.Duration(b.share * float64(wait))).Sub(now)
	waiting := next > 0 && next <= longestWait // more is a clock that went back
	probing := !b.probing.IsZero() && now.Sub(b.probing) < longestProbe
	if waiting || probing {
		return &store.Error{
			Reason: store.Unavailable, Text: fmt.Sprintf("is not asked, for it does not answer (last: %s)", b.last),
			Detail: fault.Detail{Tries: b.failures, Next: max(next, 0).Round(time.Second)},
		}
	}

	b.probing = now

	return nil
}

// release takes back a probe that did not go out: whether the store answers is
// as unknown as before.
func (b *breaker) release() { b.probing = time.Time{} }

// record says how a request ended. Only a store that cannot be reached counts:
// one that refuses, or asks for patience, is there.
func (b *breaker) record(now time.Time, err error) (opened, mended bool) {
	down := err != nil && store.ReasonOf(err) == store.Unavailable
	b.release()
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
	b.failed, b.wait = now, min(max(2*b.wait, firstWait), longestWait)
	// Full jitter, so that nodes do not probe in step; at least a tenth, so that
	// they do probe at intervals.
	b.share = 0.1 + 0.9*rand.Float64()

	return b.failures == breakAfter, false
}
