// Package ask is how a store asks its service: a turn, an attempt, what became
// of it, another attempt; and, where a store has several places (regions,
// replicas, a second vault), one place after the other, each for what the ones
// before it could not give. The words of errors are each store's own.
package ask

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/provider/pace"
	"github.com/coffre-csi/coffre/provider/store"
)

// Attempts at one request. Refusals for asking too much do not come at once
// again: the pacer spaces them out.
const (
	attempts         = 3 // where nothing, or a failure, is answered
	attemptsThenNext = 2 // the same, where another place can be asked
	throttles        = 10
	throttlesNext    = 3
	attemptTime      = 6 * time.Second // a place that hangs costs three of them
	firstBackoff     = 50 * time.Millisecond
	maxBackoff       = time.Second
	maxRetryAfter    = 30 * time.Second
)

// Verdict is what a store reads from what its service answered.
type Verdict struct {
	Throttled bool
	Transient bool // not answered, or failed on the service's side
	// Expired says that the service no longer takes the credential: a new one
	// is made, once.
	Expired    bool
	Code       string        // for the metric; "" where nothing was answered
	RetryAfter time.Duration // what the service asked for; 0 for nothing
}

// ErrNoTurn is inside what Do returns where no attempt was made: the turn did
// not come in time.
var ErrNoTurn = errors.New("the turn did not come")

// Caller makes requests to one place as one identity. All but Renew and Count
// are required.
type Caller struct {
	Pacer  *pace.Pacer
	Tenant string // who waits in turn
	Last   bool   // there is no place after this one

	Judge func(error) Verdict
	Renew func(context.Context) error    // signs in anew
	Count func(operation, answer string) // "ok", the service's code, or "none"
}

// Do makes one request until it is answered, and returns what the last attempt
// did. throttled says that it was refused, or got no turn, for asking too much.
func (c Caller) Do(ctx context.Context, operation string, fn func(context.Context) error) (throttled bool, err error) {
	limitFailures, limitRefusals := attempts, throttles
	if !c.Last {
		limitFailures, limitRefusals = attemptsThenNext, throttlesNext
	}

	failures, refusals, renewed := 0, 0, false
	for {
		v, err := c.attempt(ctx, operation, fn)
		if err == nil {
			return false, nil
		}
		switch {
		case v.Expired && !renewed && c.Renew != nil:
			renewed = true
			if c.Renew(ctx) != nil {
				return false, err
			}
			continue
		case v.Throttled:
			if refusals++; refusals < limitRefusals && ctx.Err() == nil {
				continue
			}
		case v.Transient:
			if failures++; failures < limitFailures && Sleep(ctx, rand.N(min(firstBackoff<<failures, maxBackoff))) {
				continue
			}
		}

		return v.Throttled, err
	}
}

func (c Caller) attempt(ctx context.Context, operation string, fn func(context.Context) error) (Verdict, error) {
	asked := time.Now()
	grant, err := c.Pacer.Acquire(ctx, c.Tenant)
	if err != nil {
		// Waiting for a turn, and not getting it in time, is being throttled.
		busy := errors.Is(err, pace.ErrFull) || c.Pacer.Rate() > 0
		return Verdict{Throttled: busy, Transient: true}, errors.Join(ErrNoTurn, err)
	}

	outcome, after := pace.Failed, time.Duration(0)
	defer func() { grant.Release(outcome, after) }()

	sent := time.Now()
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	if err = fn(ctx); err == nil {
		outcome = pace.Answered
		c.count(operation, "ok")
		c.tell(operation, "ok", asked, sent)
		return Verdict{}, nil
	}

	v := c.Judge(err)
	switch {
	case v.Throttled:
		outcome, after = pace.Throttled, min(v.RetryAfter, maxRetryAfter)
	case !v.Transient:
		outcome = pace.Answered
	}
	answer := v.Code
	if answer == "" {
		answer = "none"
	}
	c.count(operation, answer)
	c.tell(operation, answer, asked, sent)

	return v, err
}

// verbose is the log level at which each call is told.
const verbose = 5

// tell is a line for one call: what was asked of a service for whom, how long
// the turn and the answer took, and the answer's code; nothing of what was
// asked for or answered.
func (c Caller) tell(operation, answer string, asked, sent time.Time) {
	if v := klog.V(verbose); v.Enabled() {
		v.InfoS("store: call", "operation", operation, "namespace", c.Tenant, "code", answer,
			"waited", sent.Sub(asked).String(), "took", time.Since(sent).String())
	}
}

func (c Caller) count(operation, answer string) {
	if c.Count != nil {
		c.Count(operation, answer)
	}
}

// Sleep says whether ctx lasted.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Result is one ref's answer: a secret, or why there is none.
type Result struct {
	Secret store.Secret
	Err    *store.Error
}

// Each runs fn for 0 to n-1 at once and waits. How many requests go out at once
// is the pacer's business. A panic comes out where the caller can see it.
func Each(n int, fn func(int)) {
	if n == 1 {
		fn(0)
		return
	}

	done := make(chan any, n)
	for i := range n {
		go func() {
			defer func() { done <- recover() }()
			fn(i)
		}()
	}

	var first any
	for range n {
		if p := <-done; p != nil && first == nil {
			first = p
		}
	}

	if first != nil {
		panic(fmt.Sprintf("a read failed: %T", first))
	}
}

// Times of one place. Where there is another to go to, waiting is short.
const (
	minPlaceTime = 3 * time.Second
	maxPlaceTime = 5 * time.Second
)

// PlaceTime bounds what the nth of several places may take of a timeout.
func PlaceTime(ctx context.Context, timeout time.Duration, n, places int) (context.Context, context.CancelFunc) {
	if n < places-1 {
		timeout = min(max(timeout/time.Duration(places), minPlaceTime), maxPlaceTime)
	}
	return context.WithTimeout(ctx, timeout)
}

// Places are those of one store, the first asked first.
type Places struct {
	Names   []string
	Noun    string // "regions", for an error
	Timeout time.Duration
	// In asks the nth place for some refs, and answers in their order; whole is
	// why it could not be asked at all. told may be called with the index of a
	// ref whose secret is there already.
	In func(ctx context.Context, n int, refs []store.Ref, told func(i int, s store.Secret)) (results []Result, whole *store.Error)
}

// Fetch asks place by place: each only for what the ones before it could not
// give because they did not answer, or were asked too much.
func (p Places) Fetch(ctx context.Context, refs []store.Ref, answered func(i int, s store.Secret)) ([]store.Secret, error) {
	secrets := make([]store.Secret, len(refs))
	causes := make([][]*store.Error, len(refs))
	failed := store.Errors{}
	pending := make([]int, len(refs))
	for i := range pending {
		pending[i] = i
	}
	var locked []*store.Error // of places that could not be entered

	for n := range p.Names {
		asked := make([]store.Ref, len(pending))
		for k, i := range pending {
			asked[k] = refs[i]
		}
		results, whole := p.in(ctx, n, asked, func(k int, s store.Secret) { answered(pending[k], s) })
		if whole != nil {
			locked = append(locked, whole)
			if !whole.Reason.Transient() && len(pending) == len(refs) {
				return nil, p.Together(locked)
			}
			results = slices.Repeat([]Result{{Err: whole}}, len(asked))
		}

		var later []int
		for k, res := range results {
			i := pending[k]
			switch {
			case res.Err == nil:
				secrets[i] = res.Secret
			case res.Err.Reason.Transient():
				causes[i] = append(causes[i], res.Err)
				later = append(later, i)
			default:
				failed[i] = p.Together(append(causes[i], res.Err))
			}
		}

		if pending = later; len(pending) == 0 || ctx.Err() != nil {
			break
		}
	}

	if len(locked) == len(p.Names) {
		return nil, p.Together(locked)
	}
	for _, i := range pending {
		failed[i] = p.Together(causes[i])
	}
	for i, e := range failed {
		named := *e
		named.Object = refs[i].String()
		failed[i] = &named
	}

	return secrets, failed.OrNil()
}

func (p Places) in(ctx context.Context, n int, refs []store.Ref, told func(int, store.Secret)) ([]Result, *store.Error) {
	ctx, cancel := PlaceTime(ctx, p.Timeout, n, len(p.Names))
	defer cancel()
	return p.In(ctx, n, refs, told)
}

// First asks place by place until one answers.
func (p Places) First(ctx context.Context, in func(ctx context.Context, n int) *store.Error) *store.Error {
	var causes []*store.Error
	for n := range p.Names {
		placeCtx, cancel := PlaceTime(ctx, p.Timeout, n, len(p.Names))
		err := in(placeCtx, n)
		cancel()
		if err == nil || !err.Reason.Transient() {
			return err
		}
		if causes = append(causes, err); ctx.Err() != nil {
			break
		}
	}

	return p.Together(causes)
}

// Together is one error of those that every place gave.
//
// The first place did not answer, or no other would have been asked: what
// another says is missing there may well be in the first. But an identity is
// the same in every place, and one that is denied in any must not get the last
// good value.
func (p Places) Together(errs []*store.Error) *store.Error {
	if len(errs) == 0 {
		return store.Errorf(store.Unavailable, "none of its %s was asked in time", p.Noun)
	}
	if len(errs) == 1 {
		return errs[0]
	}

	texts := make([]string, len(errs))
	causes := make([]error, len(errs))
	together := &store.Error{Reason: store.Throttled, Object: errs[0].Object, Detail: errs[0].Detail}
	for i, e := range errs {
		texts[i], causes[i] = e.Text, e
		switch {
		case e.Reason == store.Denied:
			together.Reason = store.Denied
		case e.Reason != store.Throttled && together.Reason != store.Denied:
			together.Reason = store.Unavailable
		}
	}

	together.Text = fmt.Sprintf("none of %d %s gave it: %s", len(errs), p.Noun, strings.Join(texts, "; "))
	together.Cause = errors.Join(causes...)

	return together
}
