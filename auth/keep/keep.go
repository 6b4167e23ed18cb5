// Package keep holds on to what sign-ins gave: one exchange for many callers,
// renewed before it expires, bounded in number, the one unused longest going
// first. Each cloud's sign-in puts its own kind of credential into a Keeper; a
// Keeper contacts nobody by itself and never logs.
package keep

import (
	"context"
	"errors"
	"hash/fnv"
	"sync"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fair"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/internal/flight"
)

// How long a credential is used. From early (less some jitter) before it
// expires it is renewed while the old one still serves; from late on nobody
// gets the old one any more. One that lives shorter than a multiple of early is
// renewed in the last quarter of its life.
const (
	early = 10 * time.Minute
	late  = time.Minute
	// again is how soon a sign-in that failed is tried again: long enough that a
	// storm of pods of one identity is one call, short enough that nobody waits.
	again = time.Second
	// elsewhere is how long an exchange of the same identity at another place may
	// be under way before a caller asks at its own: one that hangs must not hold
	// up a place that works.
	elsewhere = time.Second

	exchangeTimeout = 15 * time.Second
	maxEntries      = 5000

	// Exchanges under way. Each takes a stack and a connection, and a node that
	// starts a thousand pods needs neither a thousand times.
	exchangesAtOnce = 32
	exchangesWait   = 4096
)

// Options of a Keeper. Expires is required.
type Options[V any] struct {
	// Expires says when a credential ends; ok is false for one that does not.
	Expires func(V) (at time.Time, ok bool)
	Now     func() time.Time
}

// Keeper is safe for concurrent use.
type Keeper[V any] struct {
	opts Options[V]
	gate *fair.Gate

	flights flight.Group[target, V]

	mu      sync.Mutex
	entries map[string]*entry[V]
}

// target is an identity and the place where it signs in.
type target struct{ key, place string }

// entry is what is known of one identity.
type entry[V any] struct {
	value    V
	has      bool
	got      time.Time
	renewing bool

	underWay map[string]exchange // by place
	failed   map[string]failure  // the last exchange that failed, by place
	token    auth.Token          // the newest one seen
	used     time.Time
}

// exchange is one under way; done is closed when it has ended.
type exchange struct {
	began time.Time
	done  chan struct{}
}

type failure struct {
	err error
	at  time.Time
}

// New makes a Keeper.
func New[V any](o Options[V]) *Keeper[V] {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Keeper[V]{opts: o, gate: fair.New(exchangesAtOnce, exchangesWait), entries: map[string]*entry[V]{}}
}

// Asked is a credential that somebody wants.
type Asked[V any] struct {
	// Key is the identity: whoever may not have another's credential has
	// another key. It is for memory only.
	Key string
	// Place is where it signs in (a region, a host); one exchange serves all of
	// an identity's places.
	Place string
	// Namespace shares the exchanges at once fairly.
	Namespace string
	Token     auth.Token
	// Exchange signs in. It is given the newest token of the identity, and a
	// context that does not end with the caller's.
	Exchange func(context.Context, auth.Token) (V, error)
}

// Get hands out what is kept, and signs in where nothing serves any more. Of
// callers that ask for one identity at once, one signs in.
func (k *Keeper[V]) Get(ctx context.Context, a Asked[V]) (V, error) {
	now := k.opts.Now()
	k.mu.Lock()
	e := k.entry(a.Key, now)
	e.token = newer(a.Token, e.token)

	if k.usable(e, now) {
		v := e.value
		renew := k.due(e, a.Key, now) && !e.renewing && now.Sub(e.failed[a.Place].at) > again
		e.renewing = e.renewing || renew
		k.mu.Unlock()
		if renew {
			go k.renew(context.WithoutCancel(ctx), a)
		}
		return v, nil
	}

	var none V
	if f, ok := e.failed[a.Place]; ok && now.Sub(f.at) < again {
		k.mu.Unlock()
		return none, f.err
	}
	other, under := e.elsewhere(a.Place)
	k.mu.Unlock()

	defer fair.Pause(ctx)() // whoever waits here works on nothing
	if under && k.await(ctx, other) {
		if v, ok := k.Known(a.Key); ok {
			return v, nil
		}
	}

	v, err := k.exchange(ctx, a)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = &fault.Error{Reason: fault.Unavailable, Text: "signing in was not done in time", Cause: err}
	}

	return v, err
}

// Known is the credential that is kept for a key, where it still serves.
func (k *Keeper[V]) Known(key string) (v V, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.entries[key]; e != nil && k.usable(e, k.opts.Now()) {
		return e.value, true
	}
	return v, false
}

// Forget drops a credential that its peer no longer takes; same says whether it
// is that one, for a newer one may have come meanwhile.
func (k *Keeper[V]) Forget(key string, same func(V) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.entries[key]; e != nil && e.has && same(e.value) {
		e.drop()
	}
}

// All are the credentials that are kept: what a clean stop may have to revoke.
func (k *Keeper[V]) All() []V {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []V
	for _, e := range k.entries {
		if e.has {
			all = append(all, e.value)
		}
	}
	return all
}

// Oldest is how long the exchange that began first is under way.
func (k *Keeper[V]) Oldest() time.Duration { return k.gate.Oldest() }

func (k *Keeper[V]) usable(e *entry[V], now time.Time) bool {
	if !e.has {
		return false
	}
	at, ends := k.opts.Expires(e.value)
	return !ends || at.Sub(now) > min(late, at.Sub(e.got)/4)
}

// due says whether it is time to renew; key spreads identities that signed in
// at the same moment.
func (k *Keeper[V]) due(e *entry[V], key string, now time.Time) bool {
	at, ends := k.opts.Expires(e.value)
	if !ends {
		return false
	}

	window := min(early, at.Sub(e.got)/4)
	h := fnv.New32a()
	h.Write([]byte(key))
	jitter := time.Duration(h.Sum32()%1000) * window / 2000 // up to half of the window

	return at.Sub(now) < window-jitter
}

// await says whether another place's exchange ended in good time.
func (k *Keeper[V]) await(ctx context.Context, x exchange) bool {
	t := time.NewTimer(max(0, elsewhere-k.opts.Now().Sub(x.began)))
	defer t.Stop()
	select {
	case <-x.done:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

func (k *Keeper[V]) exchange(ctx context.Context, a Asked[V]) (V, error) {
	return k.flights.Do(ctx, target{a.Key, a.Place}, exchangeTimeout, func(ctx context.Context) (v V, err error) {
		done := make(chan struct{})
		token := k.begin(a, done)
		defer close(done)
		// Also where the exchange panics: nothing is under way then.
		err = errors.New("the exchange did not end")
		defer func() { k.keep(a, v, err) }()

		place, turnErr := k.gate.Enter(ctx, a.Namespace)
		if turnErr != nil {
			err = &fault.Error{Reason: fault.Throttled, Text: "too many sign-ins are under way on this node", Cause: turnErr}
			return v, err
		}
		defer place.Leave()
		v, err = a.Exchange(fair.With(ctx, place), token)
		return v, err
	})
}

func (k *Keeper[V]) begin(a Asked[V], done chan struct{}) auth.Token {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.entry(a.Key, k.opts.Now())
	if e.underWay == nil {
		e.underWay = map[string]exchange{}
	}
	e.underWay[a.Place] = exchange{k.opts.Now(), done}
	return e.token
}

func (k *Keeper[V]) renew(ctx context.Context, a Asked[V]) {
	_, _ = k.exchange(ctx, a)
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.entries[a.Key]; e != nil {
		e.renewing = false
	}
}

// keep stores the outcome of an exchange. One that was refused takes the old
// credential with it: who may no longer sign in shall not go on reading.
func (k *Keeper[V]) keep(a Asked[V], v V, err error) {
	now := k.opts.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.entry(a.Key, now)
	delete(e.underWay, a.Place)

	if err == nil {
		e.value, e.has, e.got, e.failed = v, true, now, nil
		return
	}
	if e.failed == nil {
		e.failed = map[string]failure{}
	}
	e.failed[a.Place] = failure{err, now}
	if fault.ReasonOf(err) == fault.Denied {
		e.drop()
	}
}

func (e *entry[V]) drop() {
	var none V
	e.value, e.has = none, false
}

// elsewhere is an exchange of the same identity at another place, if there is
// one.
func (e *entry[V]) elsewhere(place string) (x exchange, ok bool) {
	if _, here := e.underWay[place]; here {
		return x, false
	}
	for _, x := range e.underWay {
		return x, true
	}
	return x, false
}

// entry of a key. The caller locks.
func (k *Keeper[V]) entry(key string, now time.Time) *entry[V] {
	e := k.entries[key]
	if e == nil {
		if len(k.entries) >= maxEntries {
			k.evict()
		}
		e = &entry[V]{}
		k.entries[key] = e
	}

	e.used = now
	return e
}

// evict drops the entry that was used longest ago.
func (k *Keeper[V]) evict() {
	var oldest string
	var at time.Time
	for key, e := range k.entries {
		if oldest == "" || e.used.Before(at) {
			oldest, at = key, e.used
		}
	}
	delete(k.entries, oldest)
}

// newer is the token that expires later.
func newer(a, b auth.Token) auth.Token {
	if b.Reveal() != "" && b.Expires.After(a.Expires) {
		return b
	}
	return a
}
