// Package cache answers queries from memory while values are fresh, and asks
// the stores for what is missing: concurrent misses of one secret are one
// fetch, what one Mount misses of one store is one batch. It knows nothing of
// files and nothing of clouds. README.md states its promises.
//
// cache.go is the way of one Get; read.go decides what memory may answer;
// batch.go asks the stores; entries.go holds what was read, within bounds;
// refresh.go reads ahead; leases.go renews and ends what was issued for a time;
// journal.go keeps it all over a restart.
package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fair"
	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
)

// Stores opens the store that a query names, for an identity that may use it.
// Where that fails the Opened says which store it was, as far as it is known.
type Stores interface {
	Open(ctx context.Context, s store.Selector, id auth.Identity) (*store.Opened, error)
}

// Metrics are told what the cache does.
type Metrics interface {
	// Fetched counts answers by store and result: hit, miss, stale or error.
	Fetched(store, result string)
	// Size reports what the cache holds.
	Size(entries int, bytes int64)
	// Available says whether an endpoint answered when it was last asked;
	// Unknown that nobody asks it any more.
	Available(endpoint string, yes bool)
	Unknown(endpoint string)
	// Oldest reports the age of the oldest value that is being served.
	Oldest(age time.Duration)
	// Leases reports how many leases are held; Leased counts what became of
	// them: issued, renewed, lost, revoked.
	Leases(held int)
	Leased(store, event string)
}

// Options bound a cache.
type Options struct {
	MaxEntries int           // secrets; default 10,000
	MaxBytes   int64         // of everything that entries keep alive; default 16 MiB
	Gather     time.Duration // how long a batch waits for others; default 2 ms, negative for not at all
	Now        func() time.Time
	Metrics    Metrics
	// LeaseIdle is how long after its last use a lease is kept up: longer than
	// any pod that lives goes without being asked for (the driver's
	// rotationPollInterval). Default DefaultLeaseIdle.
	LeaseIdle time.Duration
	// LeaseLost is told of a credential that could not be prolonged and not be
	// issued anew before its end; nil where nobody listens.
	LeaseLost func(id auth.Identity, store, secret string)
	// Journal keeps the cache over a restart; nil for not at all.
	Journal *Journal
}

// DefaultLeaseIdle is far above the driver's usual rotationPollInterval of two
// minutes.
const DefaultLeaseIdle = time.Hour

// DefaultMaxBytes is what a cache holds where nobody says otherwise.
const DefaultMaxBytes = 16 << 20

// Cache is safe for concurrent use.
type Cache struct {
	stores Stores
	opts   Options

	underWay   *fair.Gate     // secrets that are being read, by mounts that are not answered
	background sync.WaitGroup // batches, refreshes and revocations on their way

	mu       sync.Mutex
	entries  entries
	handles  map[batchKey]*handle
	calls    map[key]*call
	open     map[batchKey]*batch // that others may still join
	gates    map[string]*fair.Gate
	limits   map[string]*rate.Limiter
	breakers map[breakerKey]*breaker
	forced   times     // when each forceRefresh text was first seen
	mounted  times     // when each volume of queries that have one was last answered
	refused  times     // when a read that was refused began, by key
	lastTurn time.Time // on the wall clock
	ended    []ended   // leases to revoke
}

// New makes a cache over stores. Run refreshes ahead.
func New(stores Stores, opts Options) *Cache {
	if opts.MaxEntries <= 0 {
		opts.MaxEntries = 10_000
	}
	if opts.MaxBytes <= 0 {
		opts.MaxBytes = DefaultMaxBytes
	}
	if opts.LeaseIdle <= 0 {
		opts.LeaseIdle = DefaultLeaseIdle
	}
	if opts.Gather == 0 {
		opts.Gather = gather
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Metrics == nil {
		opts.Metrics = unmeasured{}
	}

	c := &Cache{
		stores: stores, opts: opts, entries: newEntries(opts.MaxEntries, opts.MaxBytes), handles: map[batchKey]*handle{},
		underWay: fair.New(secretsUnderWay, mountsWaiting), calls: map[key]*call{}, open: map[batchKey]*batch{}, gates: map[string]*fair.Gate{},
		limits: map[string]*rate.Limiter{}, breakers: map[breakerKey]*breaker{},
		forced: newTimes(), mounted: newTimes(), refused: newTimes(),
	}

	c.entries.gone = c.goneFrom
	if opts.Journal != nil {
		opts.Journal.rewrite = func() error { return c.rewrite(false) }
	}

	return c
}

// noted tells where something could not be written down.
func noted(err error) {
	if err != nil {
		klog.ErrorS(err, "the cache is not kept")
	}
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
	r := &round{cache: c, ctx: ctx, id: id, readers: map[store.Selector]*reader{}, read: map[key]*want{}}
	wants, errs := r.expand(queries)
	r.readAll(wants)

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
	var records []func() error
	c.mu.Lock()
	now := c.opts.Now()
	for i, q := range queries {
		if q.Volume == "" || i > 0 && queries[i-1].Volume == q.Volume {
			continue
		}
		name := hashed(r.volume(q))
		c.mounted.put(name, now)
		if record := c.opts.Journal.moment(recordMounted, name, now); record != nil {
			records = append(records, record)
		}
	}

	c.mu.Unlock()

	for _, record := range records {
		noted(record())
	}
}

// round is one Get.
type round struct {
	cache   *Cache
	ctx     context.Context
	id      auth.Identity
	readers map[store.Selector]*reader
	read    map[key]*want // what the round has already: one copy serves all its objects
	weight  func()        // lets go of what the secrets under way take
}

// reader is a store as an identity uses it.
type reader struct {
	*store.Opened
	selector store.Selector
	id       auth.Identity
	identity string
	err      *store.Error
}

func (r *reader) key() batchKey { return batchKey{r.Config.Digest, r.identity} }

// want is one secret, or one search, that a query needs.
type want struct {
	key     key
	from    *reader
	refresh time.Duration
	forced  time.Time // what was read before this is too old, whatever it is
	since   time.Time // the same, but for what was issued for a time
	// patience is how long it may be kept from a store that is back.
	patience time.Duration

	reading
	origin plan.Origin
	err    error
}

// expand turns queries into wants: itself for a Ref, the secrets that a search
// lists for a Find or a History.
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
		w := r.want(q, from, q.Ref, q.Searches())
		wants[i] = []*want{w}
		if q.Searches() {
			searches = append(searches, w)
		}
	}

	if searches == nil {
		return wants, errs
	}

	r.readAll([][]*want{searches})
	for i, q := range queries {
		if !q.Searches() || errs[i] != nil {
			continue
		}
		search := wants[i][0]
		wants[i] = nil
		if search.err != nil && q.Optional && store.ReasonOf(search.err) == store.NotFound {
			continue
		}
		if search.err != nil {
			errs[i] = r.queryError(q, search.from, search.err)
			continue
		}
		if err := budget.From(r.ctx).Queries(len(search.found)); err != nil {
			errs[i] = r.queryError(q, search.from, store.Errorf(store.Invalid, "%s: %s %s", q.Field, searched(q), err))
			continue
		}
		for _, ref := range search.found {
			wants[i] = append(wants[i], r.want(q, search.from, ref, false))
		}
	}

	return wants, errs
}

// searched is what asks for any number of secrets.
func searched(q plan.Query) string {
	if q.Find != nil {
		return "find"
	}
	return "the history"
}

func (r *round) want(q plan.Query, from *reader, ref store.Ref, search bool) *want {
	w := &want{from: from, refresh: q.Refresh, key: key{batchKey: from.key(), ref: ref}}
	if search && q.Find != nil {
		w.key.find, w.key.isFind = *q.Find, true
	} else if search {
		w.key.history = q.History
	}
	if w.refresh == 0 {
		w.refresh = from.Config.Refresh
	}
	if !search && from.Pinned(ref) {
		w.refresh = store.Never
	}

	c := r.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if q.Force != "" {
		var record func() error
		w.forced, record = c.firstForced(r.id.Namespace + "/" + q.Force)
		w.since = w.forced
		if record != nil {
			c.background.Go(func() { noted(record()) })
		}
	}

	// A pinned version never changes, whoever asks again; and a refresh time
	// that the platform chose for a dialect holds for its republishes too.
	follows := q.Volume != "" && w.refresh != store.Never && !from.Config.Paced
	if w.patience = w.refresh; follows {
		w.patience = followed
	}
	if follows {
		if last, ok := c.mounted.get(r.volume(q)); ok && last.After(w.since) {
			w.since = last.Add(1) // read after it
		}
	}

	return w
}

// followed is the patience of a volume that wants every republish to show what
// the store holds now.
const followed = 5 * time.Second

// volume names a mount of this round.
func (r *round) volume(q plan.Query) string { return r.id.Pod.UID + "\x00" + q.Volume }

// open opens each store of the round once.
func (r *round) open(s store.Selector) *reader {
	if o, ok := r.readers[s]; ok {
		return o
	}
	o := r.cache.openFor(r.ctx, s, r.id)
	r.readers[s] = o
	return o
}

func (c *Cache) openFor(ctx context.Context, s store.Selector, id auth.Identity) *reader {
	opened, err := c.stores.Open(ctx, s, id)
	r := &reader{Opened: opened, selector: s, id: id}
	if err != nil {
		r.err = asStoreError(err)
		return r
	}
	r.identity = identityKey(r.Config, r.Store, id)
	return r
}

// role is whom the store is read as, where it knows.
func (r *reader) role() string {
	if known, ok := r.Store.(store.RoleHolder); ok {
		return known.Role()
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

// answer gathers what a query's wants gave.
func (r *round) answer(q plan.Query, wants []*want) (plan.Answer, error) {
	from := r.readers[q.Store]
	a := plan.Answer{Store: from.Config.Name, Role: from.role(), Found: make([]plan.Found, 0, len(wants))}
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

	if len(wants) == 0 && q.Find == nil && !q.Optional {
		return a, r.queryError(q, from, store.RefErrorf(store.NotFound, q.Ref, "it has no version that is enabled"))
	}
	if len(wants) == 0 && !q.Optional {
		return a, r.queryError(q, from, store.Errorf(store.NotFound, "%s: find matches no secret that %s may see", q.Field, r.id))
	}

	return a, nil
}

// results are an origin's names in the metric.
var results = map[plan.Origin]string{plan.Hit: "hit", plan.Fetched: "miss", plan.Stale: "stale"}

func (r *round) count(from *reader, result string) {
	r.cache.opts.Metrics.Fetched(from.Config.Name, result)
}

func (r *round) queryError(q plan.Query, from *reader, err error) error {
	e := *asStoreError(err)
	if e.Store == "" {
		e.Store = from.Config.Name
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

// unmeasured is where nobody counts.
type unmeasured struct{}

func (unmeasured) Fetched(string, string) {}
func (unmeasured) Size(int, int64)        {}
func (unmeasured) Available(string, bool) {}
func (unmeasured) Unknown(string)         {}
func (unmeasured) Oldest(time.Duration)   {}
func (unmeasured) Leases(int)             {}
func (unmeasured) Leased(string, string)  {}
