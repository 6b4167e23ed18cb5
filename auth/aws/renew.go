package aws

import (
	"context"
	"errors"
	"hash/fnv"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/coffre-csi/coffre/auth"
)

// How long credentials are used. From early (less some jitter) before they
// expire they are renewed while the old ones still serve; from late on nobody
// gets the old ones any more. Credentials that live shorter than a multiple of
// early are renewed in the last quarter of their life.
const (
	early = 10 * time.Minute
	late  = time.Minute
	// again is how soon a login that failed is tried again: long enough that a
	// storm of pods of one identity is one call, short enough that nobody waits.
	again = time.Second

	exchangeTimeout = 15 * time.Second
	maxEntries      = 5000
)

// entry is what is known of one identity. Its fields are guarded by Broker.mu.
type entry struct {
	credentials sdk.Credentials
	got         time.Time
	renewing    bool

	failed map[string]failure // the last login that failed, by region
	token  auth.Token         // the newest one seen
	used   time.Time
}

type failure struct {
	err error
	at  time.Time
}

func (e *entry) usable(now time.Time) bool {
	c := e.credentials
	if c.AccessKeyID == "" {
		return false
	}
	return !c.CanExpire || c.Expires.Sub(now) > min(late, c.Expires.Sub(e.got)/4)
}

// due says whether it is time to renew; key spreads identities that logged in
// at the same moment.
func (e *entry) due(key string, now time.Time) bool {
	c := e.credentials
	if !c.CanExpire {
		return false
	}
	window := min(early, c.Expires.Sub(e.got)/4)
	h := fnv.New32a()
	h.Write([]byte(key))
	jitter := time.Duration(h.Sum32()%1000) * window / 2000 // up to half of the window
	return c.Expires.Sub(now) < window-jitter
}

type login func(context.Context, auth.Token) (sdk.Credentials, error)

// credentials hands out what is kept under key, and logs in where there is
// nothing that serves any more.
func (b *Broker) credentials(ctx context.Context, key, region string, t auth.Token, in login) (sdk.Credentials, error) {
	now := b.opts.Now()
	b.mu.Lock()
	e := b.entry(key, now)
	e.token = newer(t, e.token)
	t = e.token
	if e.usable(now) {
		c := e.credentials
		renew := e.due(key, now) && !e.renewing && now.Sub(e.failed[region].at) > again
		e.renewing = e.renewing || renew
		b.mu.Unlock()
		if renew {
			go b.renew(context.WithoutCancel(ctx), key, region, t, in)
		}
		return c, nil
	}
	if f, ok := e.failed[region]; ok && now.Sub(f.at) < again {
		b.mu.Unlock()
		return sdk.Credentials{}, f.err
	}
	b.mu.Unlock()
	c, err := b.exchange(ctx, key, region, t, in)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = &Error{Reason: Unavailable, Text: "logging in was not done in time", Cause: &RegionError{Region: region, Service: "sts", Transient: true}}
	}
	return c, err
}

func (b *Broker) exchange(ctx context.Context, key, region string, t auth.Token, in login) (sdk.Credentials, error) {
	return b.flights.Do(ctx, flightKey{key, region}, exchangeTimeout, func(ctx context.Context) (sdk.Credentials, error) {
		c, err := in(ctx, t)
		b.keep(key, region, c, err)
		return c, err
	})
}

// turn waits until another login may be under way; the caller gives it back.
func (b *Broker) turn(ctx context.Context, region string) (back func(), err error) {
	select {
	case b.logins <- struct{}{}:
		return func() { <-b.logins }, nil
	case <-ctx.Done():
		return nil, fail(Unavailable, &RegionError{Region: region, Service: "sts", Transient: true}, "too many logins are under way")
	}
}

func (b *Broker) renew(ctx context.Context, key, region string, t auth.Token, in login) {
	_, _ = b.exchange(ctx, key, region, t, in)
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[key]; e != nil {
		e.renewing = false
	}
}

// keep stores the outcome of a login. One that was refused takes the old
// credentials with it: who may no longer log in shall not go on reading.
func (b *Broker) keep(key, region string, c sdk.Credentials, err error) {
	now := b.opts.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(key, now)
	if err != nil {
		if e.failed == nil {
			e.failed = map[string]failure{}
		}
		e.failed[region] = failure{err, now}
		if reasonOf(err) == Denied {
			e.credentials = sdk.Credentials{}
		}
		return
	}
	e.credentials, e.got, e.failed = c, now, nil
}

// entry of key; b.mu is held.
func (b *Broker) entry(key string, now time.Time) *entry {
	e := b.entries[key]
	if e == nil {
		if len(b.entries) >= maxEntries {
			b.evict()
		}
		e = &entry{}
		b.entries[key] = e
	}
	e.used = now
	return e
}

// evict drops the entry that was used longest ago.
func (b *Broker) evict() {
	var oldest string
	var at time.Time
	for k, e := range b.entries {
		if oldest == "" || e.used.Before(at) {
			oldest, at = k, e.used
		}
	}
	delete(b.entries, oldest)
}

func (b *Broker) forget(key string, c sdk.Credentials) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[key]; e != nil && e.credentials.AccessKeyID == c.AccessKeyID {
		e.credentials = sdk.Credentials{}
	}
}

// providers are the credentials of the node's own identity, by the SDK's
// default chain.
func (b *Broker) providers(ctx context.Context) (sdk.Credentials, error) {
	b.mu.Lock()
	own := b.own
	b.mu.Unlock()
	if own == nil {
		var err error
		if own, err = b.opts.SDK.ownIdentity(ctx); err != nil {
			return sdk.Credentials{}, err
		}
		b.mu.Lock()
		b.own = own
		b.mu.Unlock()
	}
	c, err := own.Retrieve(ctx)
	if err != nil {
		return c, errorf(Precondition, "the node's own identity has no AWS credentials: neither the environment nor the instance gives any (a pod reaches the instance's only with a hop limit of 2)")
	}
	return c, nil
}
