// Package cache answers queries from memory while values are fresh, and asks
// the stores for what is missing: concurrent misses of one secret are one
// fetch, what one Mount misses of one store is one batch. It knows nothing of
// files and nothing of clouds. README.md states its promises.
package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/fair"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
)

// Stores opens the store that a query names, for an identity that may use it.
type Stores interface {
	Open(ctx context.Context, s store.Selector, id auth.Identity) (store.Config, store.Store, error)
}

// Metrics are told what the cache does.
type Metrics interface {
	// Fetched counts answers by store and result: hit, miss, stale or error.
	Fetched(store, result string)
	// Size reports what the cache holds.
	Size(entries int, bytes int64)
	// Available says whether a store answered when it was last asked.
	Available(store string, yes bool)
	// Oldest reports the age of the oldest value that is being served.
	Oldest(age time.Duration)
}

// Options bound a cache.
type Options struct {
	MaxEntries int           // secrets; default 10,000
	MaxBytes   int64         // of values and keys; default 32 MiB
	Gather     time.Duration // how long a batch waits for others; default 2 ms, negative for not at all
	Now        func() time.Time
	Metrics    Metrics
}

// Cache is safe for concurrent use.
type Cache struct {
	stores Stores
	opts   Options

	background sync.WaitGroup // batches and refreshes on their way

	mu       sync.Mutex
	entries  lru
	calls    map[key]*call
	open     map[batchKey]*batch // that others may still join
	gates    map[string]*fair.Gate
	limits   map[string]*rate.Limiter
	breakers map[string]*breaker
	forced   times     // when each forceRefresh text was first seen
	forgot   bool      // something was forgotten since the cache was last saved
	lastTurn time.Time // on the wall clock
	mounted  times     // when each volume of queries that have one was last answered
}

// New makes a cache over stores. Run refreshes ahead.
func New(stores Stores, opts Options) *Cache {
	if opts.MaxEntries <= 0 {
		opts.MaxEntries = 10_000
	}
	if opts.MaxBytes <= 0 {
		opts.MaxBytes = 32 << 20
	}
	if opts.Gather == 0 {
		opts.Gather = gather
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Cache{stores: stores, opts: opts, entries: newLRU(opts.MaxEntries, opts.MaxBytes),
		calls: map[key]*call{}, open: map[batchKey]*batch{}, gates: map[string]*fair.Gate{}, limits: map[string]*rate.Limiter{}, breakers: map[string]*breaker{},
		forced: newTimes(), mounted: newTimes()}
}

// Errors are the queries of one Get that failed, each a *store.Error inside a
// *plan.QueryError, in the order of the queries.
type Errors []error

func (es Errors) Error() string { return joinLines(es) }

// Unwrap gives the single errors.
func (es Errors) Unwrap() []error { return es }

// Get answers all queries, or says of every one that failed why. An optional
// query for a missing secret is answered with nothing found.
func (c *Cache) Get(ctx context.Context, id auth.Identity, queries []plan.Query) ([]plan.Answer, error) {
	r := &round{cache: c, ctx: ctx, id: id, opened: map[store.Selector]*opened{}}
	wants, errs := r.expand(queries)
	r.read(wants)

	answers := make([]plan.Answer, len(queries))
	for i, q := range queries {
		if errs[i] != nil {
			continue
		}
		answers[i], errs[i] = r.answer(q, wants[i])
	}
	var failed Errors
	for _, err := range errs {
		if err != nil {
			failed = append(failed, err)
		}
	}
	if failed != nil {
		return nil, dedupe(failed)
	}
	c.answered(r, queries)
	return answers, nil
}

// answered remembers when the volumes of the queries were answered.
func (c *Cache) answered(r *round, queries []plan.Query) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, q := range queries {
		if q.Volume != "" && (i == 0 || queries[i-1].Volume != q.Volume) {
			c.mounted.set(r.volume(q), c.opts.Now())
		}
	}
}

// round is one Get.
type round struct {
	cache  *Cache
	ctx    context.Context
	id     auth.Identity
	opened map[store.Selector]*opened
}

// opened is a store as an identity uses it.
type opened struct {
	selector store.Selector
	id       auth.Identity
	config   store.Config
	store    store.Store
	identity string
	err      *store.Error
}

// want is one secret, or one search, that a query needs.
type want struct {
	key     key
	from    *opened
	refresh time.Duration
	since   time.Time // what was read before this is too old, whatever its age

	reading
	origin plan.Origin
	err    error
}

// expand turns queries into wants: itself for a Ref, the secrets that a search
// lists for a Find.
func (r *round) expand(queries []plan.Query) ([][]*want, []error) {
	wants := make([][]*want, len(queries))
	errs := make([]error, len(queries))
	var searches []*want
	for i, q := range queries {
		from := r.open(q.Store)
		if from.err != nil {
			errs[i] = r.queryError(q, from, from.err)
			continue
		}
		w := r.want(q, from, q.Ref, q.Find)
		wants[i] = []*want{w}
		if q.Find != nil {
			searches = append(searches, w)
		}
	}
	if searches == nil {
		return wants, errs
	}
	r.read([][]*want{searches})
	for i, q := range queries {
		if q.Find == nil || errs[i] != nil {
			continue
		}
		search := wants[i][0]
		if search.err != nil {
			errs[i] = r.queryError(q, search.from, search.err)
			continue
		}
		wants[i] = nil
		for _, ref := range search.found {
			wants[i] = append(wants[i], r.want(q, search.from, ref, nil))
		}
	}
	return wants, errs
}

func (r *round) want(q plan.Query, from *opened, ref store.Ref, find *store.Filter) *want {
	w := &want{from: from, refresh: q.Refresh, key: key{store: from.config.Digest, identity: from.identity, ref: ref}}
	if find != nil {
		w.key.find, w.key.isFind = *find, true
	}
	if w.refresh == 0 {
		w.refresh = from.config.Refresh
	}
	if p, ok := from.store.(store.Pinner); ok && find == nil && p.Pinned(ref) {
		w.refresh = store.Never
	}
	r.cache.mu.Lock()
	defer r.cache.mu.Unlock()
	if q.Force != "" {
		w.since = r.cache.forced.first(r.id.Namespace+"/"+q.Force, r.cache.opts.Now())
	}
	// A pinned version never changes, whoever asks again.
	if q.Volume != "" && w.refresh != store.Never {
		if last, ok := r.cache.mounted.at[r.volume(q)]; ok && last.After(w.since) {
			w.since = last.Add(1) // read after it
		}
	}
	return w
}

// volume names a mount of this round.
func (r *round) volume(q plan.Query) string { return r.id.Pod.UID + "\x00" + q.Volume }

// open opens each store of the round once.
func (r *round) open(s store.Selector) *opened {
	if o, ok := r.opened[s]; ok {
		return o
	}
	o := r.cache.openFor(r.ctx, s, r.id)
	r.opened[s] = o
	return o
}

func (c *Cache) openFor(ctx context.Context, s store.Selector, id auth.Identity) *opened {
	o := &opened{selector: s, id: id}
	var err error
	if o.config, o.store, err = c.stores.Open(ctx, s, id); err != nil {
		o.err = asStoreError(err)
	} else {
		o.identity = identityKey(o.config, o.store, id)
	}
	return o
}

// role is whom the store is read as, where it knows.
func (o *opened) role() string {
	if r, ok := o.store.(store.RoleHolder); ok {
		return r.Role()
	}
	return ""
}

// identityKey is who a store sees. A store that is read as the provider sees
// one identity whoever asks; its namespaces were checked when it was opened.
func identityKey(c store.Config, s store.Store, id auth.Identity) string {
	principal := ""
	if p, ok := s.(store.Principal); ok {
		principal = p.Principal()
	}
	if c.ProviderIdentity {
		return "provider\x00" + principal
	}
	pod := ""
	if p, ok := s.(store.PodScoped); ok && p.PodScoped() {
		pod = id.Pod.UID
	}
	return id.Namespace + "\x00" + id.ServiceAccount + "\x00" + pod + "\x00" + principal
}

// read fills in the reading or the error of every want: fresh from memory,
// from a call that is on its way already, or from a batch a store; and, where
// the store is out of reach, the last good reading for as long as the store's
// maxStale allows.
func (r *round) read(groups [][]*want) {
	c := r.cache
	type pending struct {
		want *want
		call *call
	}
	var waits []pending

	c.mu.Lock()
	now := c.opts.Now() // not when the mount began: others may have read since
	for _, group := range groups {
		for _, w := range group {
			if e := c.entries.get(w.key); e != nil {
				e.use(w, now)
				if e.within(w.refresh, now) && !e.fetched.Before(w.since) {
					w.reading, w.origin = e.clone(), plan.Hit
					continue
				}
			}
			running := c.calls[w.key]
			if running == nil {
				running = c.enqueue(w.key, w.from)
			}
			waits = append(waits, pending{w, running})
		}
	}
	c.mu.Unlock()

	for _, p := range waits {
		select {
		case <-p.call.done:
			p.want.reading, p.want.err, p.want.origin = p.call.reading, p.call.err, plan.Fetched
		case <-r.ctx.Done():
			p.want.err = &store.Error{Reason: store.Unavailable, Text: "no answer within the mount's deadline; see the store's timeout", Cause: r.ctx.Err()}
		}
		if p.want.err != nil {
			r.lastGood(p.want)
		} else {
			c.use(p.want)
		}
	}
}

// use notes that a want's entry is in use, by whom and how fresh it must be.
func (c *Cache) use(w *want) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if item := c.entries.items[w.key]; item != nil {
		item.Value.(*entry).use(w, c.opts.Now())
	}
}

func (e *entry) use(w *want, now time.Time) {
	e.from = w.from // the newest tokens
	e.used, e.asked = now, true
	if e.refresh == 0 || w.refresh < e.refresh {
		e.refresh = w.refresh
	}
}

// lastGood answers a want whose store is out of reach with what was last read,
// within maxStale, and with nothing else: never for a denied or a missing
// secret, never across identities (the key sees to that).
func (r *round) lastGood(w *want) {
	limit := w.from.config.MaxStale
	if limit == 0 || !store.ReasonOf(w.err).Transient() {
		return
	}
	c := r.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries.get(w.key)
	if e == nil || !e.within(w.refresh+limit, c.opts.Now()) {
		return
	}
	w.reading, w.origin, w.err = e.clone(), plan.Stale, nil
}

// answer gathers what a query's wants gave.
func (r *round) answer(q plan.Query, wants []*want) (plan.Answer, error) {
	from := r.opened[q.Store]
	a := plan.Answer{Store: from.config.Name, Role: from.role(), Found: make([]plan.Found, 0, len(wants))}
	for _, w := range wants {
		if w.err != nil {
			if q.Optional && store.ReasonOf(w.err) == store.NotFound {
				r.count(from, "miss")
				continue
			}
			r.count(from, "error")
			return a, r.queryError(q, from, w.err)
		}
		r.count(from, results[w.origin])
		a.Found = append(a.Found, plan.Found{Ref: w.key.ref, Secret: w.secret, Origin: w.origin})
	}
	if len(wants) == 0 && !q.Optional {
		return a, r.queryError(q, from, store.Errorf(store.NotFound, "%s: find matches no secret that %s may see", q.Field, r.id))
	}
	return a, nil
}

// results are an origin's names in the metric.
var results = map[plan.Origin]string{plan.Hit: "hit", plan.Fetched: "miss", plan.Stale: "stale"}

func (r *round) count(from *opened, result string) {
	if m := r.cache.opts.Metrics; m != nil {
		m.Fetched(from.config.Name, result)
	}
}

func (r *round) queryError(q plan.Query, from *opened, err error) error {
	e := *asStoreError(err)
	if e.Store == "" {
		e.Store = from.config.Name
	}
	return &plan.QueryError{Field: q.Field, Query: q, Err: &e}
}

func asStoreError(err error) *store.Error {
	if e := new(store.Error); errors.As(err, &e) {
		return e
	}
	return &store.Error{Reason: store.ReasonOf(err), Text: err.Error(), Cause: err}
}

// dedupe says once what is wrong with a store as a whole, however many objects
// it fails.
func dedupe(errs Errors) Errors {
	seen := map[string]bool{}
	out := errs[:0]
	for _, err := range errs {
		if text := err.Error(); !seen[text] {
			seen[text] = true
			out = append(out, err)
		}
	}
	return out
}

func joinLines(errs []error) string {
	s := ""
	for i, err := range errs {
		if i > 0 {
			s += "; "
		}
		s += err.Error()
	}
	return s
}
