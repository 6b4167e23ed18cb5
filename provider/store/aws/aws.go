// Package aws is the stores of AWS Secrets Manager and of Parameter Store.
//
// Both read as the pod (or, where the platform says so, as the node), through
// the AWS SDK's clients, one a region for the whole process. Reads go out
// concurrently and in the services' own batch calls; a pacer a service, region
// and account holds them to what AWS wants to answer; and where a region does
// not answer, the next of the store's is asked, for what is still missing.
// README.md says which calls are made and why.
package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/coffre-csi/coffre/auth"
	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/provider/pace"
	"github.com/coffre-csi/coffre/provider/store"
)

// The kinds of store in this package.
const (
	SecretsManager = "aws-secrets-manager"
	ParameterStore = "aws-parameter-store"
)

// Metrics are told of every request that was made.
type Metrics interface {
	// Requested counts requests by kind of store, operation and AWS's code:
	// "ok", an error code, or "none" where there was no answer.
	Requested(kind, operation, code string)
}

// Regions finds the region of the node.
type Regions interface {
	Region(ctx context.Context, namespace, pod string) (string, error)
}

// Options of the kinds. SDK and Broker are required.
type Options struct {
	SDK    *awsauth.SDK
	Broker *awsauth.Broker
	// Region is that of stores that name none; where it is empty too, Node
	// says the node's.
	Region  string
	Node    Regions
	Metrics Metrics
	Now     func() time.Time
}

// Kinds are the two kinds of store, which share clients, credentials and pacers.
func Kinds(o Options) []store.Kind {
	if o.Now == nil {
		o.Now = time.Now
	}
	cloud := &cloud{opts: o, clients: map[place]*clients{}, pacers: map[pacerKey]*pace.Pacer{}, noBatch: map[noBatchKey]time.Time{}}
	return []store.Kind{
		{Name: SecretsManager, Settings: newSettings, Open: func(ctx context.Context, c store.Config, id auth.Identity) (store.Store, error) {
			s, err := cloud.open(ctx, c, id)
			if err != nil {
				return nil, err
			}
			return &secretsManager{s}, nil
		}},
		{Name: ParameterStore, Settings: newSettings, Open: func(ctx context.Context, c store.Config, id auth.Identity) (store.Store, error) {
			s, err := cloud.open(ctx, c, id)
			if err != nil {
				return nil, err
			}
			return &parameterStore{s}, nil
		}},
	}
}

// cloud is what all stores of a process share.
type cloud struct {
	opts Options

	mu      sync.Mutex
	clients map[place]*clients
	pacers  map[pacerKey]*pace.Pacer
	noBatch map[noBatchKey]time.Time // who may not batch, until when
}

// place is a region, by FIPS endpoints or not.
type place struct {
	region string
	fips   bool
}

type clients struct {
	secrets    *secretsmanager.Client
	parameters *ssm.Client
}

type pacerKey struct{ kind, region, account string }

// maxPacers bounds what is remembered of regions and accounts.
const maxPacers = 1024

// at gives the clients of a region. They have no credentials: each call brings
// those of its identity.
func (c *cloud) at(p place) (*clients, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.clients[p]; k != nil {
		return k, nil
	}
	cfg, err := c.opts.SDK.Config()
	if err != nil {
		return nil, err
	}
	cfg.Region = p.region
	// Attempts are this package's own: see call.
	cfg.Retryer = func() sdk.Retryer { return sdk.NopRetryer{} }
	k := &clients{
		secrets: secretsmanager.NewFromConfig(cfg, func(o *secretsmanager.Options) {
			if p.fips {
				o.EndpointOptions.UseFIPSEndpoint = sdk.FIPSEndpointStateEnabled
			}
		}),
		parameters: ssm.NewFromConfig(cfg, func(o *ssm.Options) {
			if p.fips {
				o.EndpointOptions.UseFIPSEndpoint = sdk.FIPSEndpointStateEnabled
			}
		}),
	}
	c.clients[p] = k
	return k, nil
}

func (c *cloud) pacer(key pacerKey) *pace.Pacer {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pacers[key]
	if p == nil {
		if len(c.pacers) >= maxPacers {
			for k, old := range c.pacers {
				if old.Idle() {
					delete(c.pacers, k)
				}
			}
		}
		p = pace.New(pace.Options{})
		c.pacers[key] = p
	}
	return p
}

// session is one store opened for one identity.
type session struct {
	cloud   *cloud
	config  store.Config
	login   *awsauth.Session
	tenant  string // who waits in turn
	fips    bool
	regions []string // the first is asked first
}

// open does no I/O with AWS. It may read the node's region and the annotation
// of the ServiceAccount, both of which are kept.
func (c *cloud) open(ctx context.Context, cfg store.Config, id auth.Identity) (*session, error) {
	s, ok := cfg.Settings.(*Settings)
	if !ok {
		return nil, store.Errorf(store.Invalid, "has no AWS settings")
	}
	region := cmp.Or(s.Region, c.opts.Region)
	if region == "" {
		if c.opts.Node == nil {
			return nil, store.Errorf(store.Precondition, "no region is known: set the store's region, or AWS_REGION (the chart's awsRegion)")
		}
		var err error
		if region, err = c.opts.Node.Region(ctx, id.Namespace, id.Pod.Name); err != nil {
			return nil, &store.Error{Reason: store.Precondition, Text: err.Error(), Cause: err}
		}
	}
	if !validRegion(region) {
		return nil, store.Errorf(store.Invalid, "%.40q is no AWS region", region)
	}
	if slices.Contains(s.FailoverRegions, region) {
		return nil, store.Errorf(store.Invalid, "%s: failover region cannot be the same as the primary region", region)
	}
	login := s.login()
	if cfg.ProviderIdentity {
		if cfg.Inline {
			return nil, store.Errorf(store.Denied, "an inline store is never read as the provider")
		}
		login.Method = awsauth.Provider
	}
	who, err := c.opts.Broker.Open(ctx, id, login)
	if err != nil {
		return nil, loginFailed(err)
	}
	return &session{
		cloud: c, config: cfg, login: who, tenant: id.Namespace, fips: s.UseFIPS,
		regions: append([]string{region}, s.FailoverRegions...),
	}, nil
}

// Principal implements store.Principal.
func (s *session) Principal() string { return s.login.Principal() }

// read asks one region for some refs. What it returns stands in the order of
// refs: a secret, or why there is none.
type read func(ctx context.Context, r *regional, refs []store.Ref) []result

type result struct {
	secret store.Secret
	err    *store.Error
}

// regional is a session in one of its regions, with credentials.
type regional struct {
	*session
	kind    string
	region  string
	clients *clients
	pacer   *pace.Pacer
	last    bool // there is no region after this one

	mu          sync.Mutex
	credentials sdk.Credentials
}

// fetch reads refs region by region: each only what the ones before it could
// not give for reasons of their own.
func (s *session) fetch(ctx context.Context, kind string, refs []store.Ref, ask read) ([]store.Secret, error) {
	secrets := make([]store.Secret, len(refs))
	causes := make([][]*store.Error, len(refs))
	failed := store.Errors{}
	pending := make([]int, len(refs))
	for i := range pending {
		pending[i] = i
	}
	var locked []*store.Error // of regions that could not be entered
	for n, region := range s.regions {
		asked := make([]store.Ref, len(pending))
		for k, i := range pending {
			asked[k] = refIn(refs[i], n, region)
		}
		results, whole := s.inRegion(ctx, kind, n, asked, ask)
		if whole != nil {
			locked = append(locked, whole)
			if !whole.Reason.Transient() && len(pending) == len(refs) {
				return nil, together(locked)
			}
			results = slices.Repeat([]result{{err: whole}}, len(asked))
		}
		var later []int
		for k, res := range results {
			i := pending[k]
			switch {
			case res.err == nil:
				secrets[i] = res.secret
			case res.err.Reason.Transient():
				causes[i] = append(causes[i], res.err)
				later = append(later, i)
			default:
				failed[i] = named(together(append(causes[i], res.err)), refs[i])
			}
		}
		if pending = later; len(pending) == 0 || ctx.Err() != nil {
			break
		}
	}
	if len(locked) == len(s.regions) {
		return nil, together(locked)
	}
	for _, i := range pending {
		failed[i] = named(together(causes[i]), refs[i])
	}
	return secrets, failed.OrNil()
}

// refIn is what a ref is called in the nth region.
func refIn(ref store.Ref, n int, region string) store.Ref {
	if n == 0 {
		return ref
	}
	if alt := ref.Failover; alt != (store.Alternate{}) {
		ref.Name, ref.Version, ref.Label = cmp.Or(alt.Name, ref.Name), alt.Version, alt.Label
		return ref
	}
	// A secret that is replicated has the same ARN but for its region.
	if parts := strings.SplitN(ref.Name, ":", 6); len(parts) == 6 && parts[0] == "arn" {
		parts[3] = region
		ref.Name = strings.Join(parts, ":")
	}
	return ref
}

// Times of one region. Where there is another to go to, waiting is short.
const (
	minRegionTime = 3 * time.Second
	maxRegionTime = 5 * time.Second
)

func (s *session) regionTime(n int) time.Duration {
	if n == len(s.regions)-1 {
		return s.config.Timeout // what is left of the mount's, that is
	}
	return min(max(s.config.Timeout/time.Duration(len(s.regions)), minRegionTime), maxRegionTime)
}

// inRegion asks the nth region; whole is why it could not be asked at all.
func (s *session) inRegion(ctx context.Context, kind string, n int, refs []store.Ref, ask read) (results []result, whole *store.Error) {
	if t := s.regionTime(n); t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t)
		defer cancel()
	}
	r, err := s.enter(ctx, kind, n)
	if err != nil {
		return nil, err
	}
	return ask(ctx, r, refs), nil
}

// enter gets ready to ask the nth region.
func (s *session) enter(ctx context.Context, kind string, n int) (*regional, *store.Error) {
	r := &regional{session: s, kind: kind, region: s.regions[n], last: n == len(s.regions)-1}
	var err error
	if r.clients, err = s.cloud.at(place{r.region, s.fips}); err != nil {
		return nil, loginFailed(err)
	}
	r.pacer = s.cloud.pacer(pacerKey{kind, r.region, s.login.Account()})
	if err := r.log(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// log logs in.
func (r *regional) log(ctx context.Context) *store.Error {
	c, err := r.login.Credentials(ctx, r.region)
	if err != nil {
		return loginFailed(err)
	}
	r.mu.Lock()
	r.credentials = c
	r.mu.Unlock()
	return nil
}

func (r *regional) provider() sdk.CredentialsProvider {
	r.mu.Lock()
	c := r.credentials
	r.mu.Unlock()
	return sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) { return c, nil })
}

// together is one error of those that every region gave.
func together(errs []*store.Error) *store.Error {
	if len(errs) == 0 {
		return store.Errorf(store.Unavailable, "no region was asked in time")
	}
	if len(errs) == 1 {
		return errs[0]
	}
	texts := make([]string, len(errs))
	causes := make([]error, len(errs))
	// The first region did not answer, or no other would have been asked: what
	// another says is missing there may well be in the first. But an identity
	// is the same in every region, and one that is denied in any must not get
	// the last good value.
	reason := store.Throttled
	for i, e := range errs {
		texts[i], causes[i] = e.Text, e
		switch {
		case e.Reason == store.Denied:
			reason = store.Denied
		case e.Reason != store.Throttled && reason != store.Denied:
			reason = store.Unavailable
		}
	}
	return &store.Error{Reason: reason, Text: fmt.Sprintf("none of %d regions gave it: %s", len(errs), strings.Join(texts, "; ")), Cause: errors.Join(causes...)}
}

// named is err about ref, as it was asked for.
func named(err *store.Error, ref store.Ref) *store.Error {
	e := *err
	e.Ref = ref
	return &e
}
