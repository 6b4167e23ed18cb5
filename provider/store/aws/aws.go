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
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/coffre-csi/coffre/auth"
	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/peer"
	"github.com/coffre-csi/coffre/auth/pool"
	"github.com/coffre-csi/coffre/provider/pace"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/ask"
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
	cloud := &cloud{
		opts: o, pacers: pace.NewSet[pacerKey](pace.Options{}), noBatch: map[noBatchKey]time.Time{},
		clients: pool.New[endpoint, *clients](pool.Options[*clients]{Max: regionsKept, Now: o.Now}),
	}
	return []store.Kind{
		{Name: SecretsManager, Settings: newSettings, Close: o.SDK.Close, Open: func(ctx context.Context, c store.Config, id auth.Identity) (store.Store, error) {
			s, err := cloud.open(ctx, SecretsManager, c, id)
			if err != nil {
				return nil, err
			}
			return &secretsManager{s}, nil
		}},
		{Name: ParameterStore, Settings: newSettings, Open: func(ctx context.Context, c store.Config, id auth.Identity) (store.Store, error) {
			s, err := cloud.open(ctx, ParameterStore, c, id)
			if err != nil {
				return nil, err
			}
			return &parameterStore{s}, nil
		}},
	}
}

// cloud is what all stores of a process share.
type cloud struct {
	opts    Options
	clients *pool.Pool[endpoint, *clients]

	mu      sync.Mutex
	pacers  *pace.Set[pacerKey]
	noBatch map[noBatchKey]time.Time // who may not batch, until when
}

// endpoint is a region, by FIPS hosts or not.
type endpoint struct {
	region string
	fips   bool
}

type clients struct {
	secrets    *secretsmanager.Client
	parameters *ssm.Client
}

type pacerKey struct{ kind, region, account string }

// regionsKept is how many regions' clients are kept that nobody uses: a client
// of the SDK is large, and who may name regions may invent them.
const regionsKept = 16

// at gives the clients of a region, to be released. They have no credentials:
// each call brings those of its identity.
func (c *cloud) at(e endpoint) (*clients, func(), error) {
	return c.clients.Use(e, func() (*clients, error) {
		cfg, err := c.opts.SDK.Config()
		if err != nil {
			return nil, err
		}
		cfg.Region = e.region
		// Attempts are package ask's.
		cfg.Retryer = func() sdk.Retryer { return sdk.NopRetryer{} }

		return &clients{
			secrets: secretsmanager.NewFromConfig(cfg, func(o *secretsmanager.Options) {
				if e.fips {
					o.EndpointOptions.UseFIPSEndpoint = sdk.FIPSEndpointStateEnabled
				}
			}),
			parameters: ssm.NewFromConfig(cfg, func(o *ssm.Options) {
				if e.fips {
					o.EndpointOptions.UseFIPSEndpoint = sdk.FIPSEndpointStateEnabled
				}
			}),
		}, nil
	})
}

// warm opens the connections to a region that nobody has asked yet: to the
// service and to where one signs in for it, while it is found out who asks.
func (c *cloud) warm(ctx context.Context, kind string, e endpoint) (first bool) {
	if c.clients.Has(e) {
		return false
	}
	k, release, err := c.at(e)
	if err != nil {
		return false
	}
	defer release()
	c.ahead(ctx, kind, e, k)
	c.opts.Broker.Ahead(ctx, e.region, e.fips)
	return true
}

// ahead opens the connection to a region's host while somebody signs in.
func (c *cloud) ahead(ctx context.Context, kind string, e endpoint, k *clients) {
	var u url.URL
	if kind == SecretsManager {
		o := k.secrets.Options()
		at, err := o.EndpointResolverV2.ResolveEndpoint(ctx, secretsmanager.EndpointParameters{
			Region: sdk.String(e.region), UseFIPS: sdk.Bool(e.fips), UseDualStack: dualStack(o.EndpointOptions.UseDualStackEndpoint), Endpoint: o.BaseEndpoint,
		})
		if err != nil {
			return
		}
		u = at.URI
	} else {
		o := k.parameters.Options()
		at, err := o.EndpointResolverV2.ResolveEndpoint(ctx, ssm.EndpointParameters{
			Region: sdk.String(e.region), UseFIPS: sdk.Bool(e.fips), UseDualStack: dualStack(o.EndpointOptions.UseDualStackEndpoint), Endpoint: o.BaseEndpoint,
		})
		if err != nil {
			return
		}
		u = at.URI
	}

	c.opts.SDK.Open(&u)
}

func dualStack(s sdk.DualStackEndpointState) *bool {
	return sdk.Bool(s == sdk.DualStackEndpointStateEnabled)
}

// session is one store opened for one identity.
type session struct {
	cloud   *cloud
	kind    string
	warmed  bool // connections were opened ahead already
	config  store.Config
	login   *awsauth.Session
	tenant  string // who waits in turn
	fips    bool
	regions []string // the first is asked first
}

// open does no I/O with AWS. It may read the node's region and the annotation
// of the ServiceAccount, both of which are kept.
func (c *cloud) open(ctx context.Context, kind string, cfg store.Config, id auth.Identity) (*session, error) {
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
			return nil, fault.As(err, err.Error())
		}
	}

	if !validRegion(region) {
		return nil, store.Errorf(store.Invalid, "%.40q is no AWS region", region)
	}
	if slices.Contains(s.FailoverRegions, region) {
		return nil, store.Errorf(store.Invalid, "%s: failover region cannot be the same as the primary region", region)
	}
	for _, r := range append([]string{region}, s.FailoverRegions...) {
		if err := cfg.CheckRegion(r); err != nil {
			return nil, err
		}
	}

	login, err := s.loginAs(cfg, id.Namespace)
	if err != nil {
		return nil, err
	}
	warmed := c.warm(ctx, kind, endpoint{region, s.UseFIPS})
	who, openErr := c.opts.Broker.Open(ctx, id, *login)
	if openErr != nil {
		return nil, loginFailed(openErr)
	}

	return &session{
		cloud: c, kind: kind, warmed: warmed, config: cfg, login: who, tenant: id.Namespace, fips: s.UseFIPS,
		regions: append([]string{region}, s.FailoverRegions...),
	}, nil
}

// loginAs is the way to sign in that the platform lets the store take.
func (s *Settings) loginAs(cfg store.Config, namespace string) (*awsauth.Login, *store.Error) {
	login := s.login()
	switch {
	case cfg.ProviderIdentity && cfg.Inline:
		return nil, store.Errorf(store.Denied, "an inline store is never read as the provider")
	case cfg.ProviderIdentity:
		login.Method = awsauth.Provider
	case login.Method == awsauth.Static:
		if err := cfg.CheckNodePublishSecret(namespace); err != nil {
			return nil, err
		}
	}

	return &login, nil
}

// Principal implements store.Principal.
func (s *session) Principal() string { return s.login.Principal() }

// Endpoint implements store.Endpoint.
func (s *session) Endpoint() string {
	at := strings.Join(s.regions, ",")
	if s.fips {
		at += " (FIPS)"
	}
	return at
}

// read asks one region for some refs. What it returns stands in the order of
// refs; told is called for a secret that is there before the others.
type read func(ctx context.Context, r *regional, refs []store.Ref, told func(int, store.Secret)) []ask.Result

// regional is a session in one of its regions, with credentials.
type regional struct {
	*session
	ask.Caller
	region  string
	clients *clients
	as      ask.Credential[sdk.Credentials]
}

func (s *session) places() ask.Places {
	return ask.Places{Names: s.regions, Noun: "regions", Timeout: s.config.Timeout}
}

// fetch reads refs region by region.
func (s *session) fetch(ctx context.Context, refs []store.Ref, answered func(int, store.Secret), in read) ([]store.Secret, error) {
	p := s.places()
	p.In = func(ctx context.Context, n int, refs []store.Ref, told func(int, store.Secret)) ([]ask.Result, *store.Error) {
		r, leave, err := s.enter(ctx, n)
		if err != nil {
			return nil, err
		}
		defer leave()

		asked := make([]store.Ref, len(refs))
		for i, ref := range refs {
			asked[i] = refIn(ref, n, r.region)
		}
		return in(ctx, r, asked, told), nil
	}

	return p.Fetch(ctx, refs, answered)
}

// list finds secrets in the first region that answers.
func (s *session) list(ctx context.Context, filter store.Filter, limit int, in func(context.Context, *regional, *store.Finder) *store.Error) ([]store.Ref, error) {
	var found *store.Finder
	err := s.places().First(ctx, func(ctx context.Context, n int) (err *store.Error) {
		if found, err = store.NewFinder(filter, limit); err != nil {
			return err
		}
		r, leave, err := s.enter(ctx, n)
		if err != nil {
			return err
		}
		defer leave()
		return in(ctx, r, found)
	})
	if err != nil {
		return nil, err
	}

	return found.Refs()
}

// enter gets ready to ask the nth region; leave gives its clients back.
func (s *session) enter(ctx context.Context, n int) (r *regional, leave func(), _ *store.Error) {
	r = &regional{session: s, region: s.regions[n]}
	at := endpoint{r.region, s.fips}
	var err error
	if r.clients, leave, err = s.cloud.at(at); err != nil {
		return nil, nil, loginFailed(err)
	}

	r.Caller = ask.Caller{
		Pacer: s.cloud.pacers.Of(pacerKey{s.kind, r.region, s.login.Account()}), Tenant: s.tenant, Last: n == len(s.regions)-1,
		Judge: r.judge, Count: r.count,
	}

	if !s.warmed && !s.login.Ready() {
		s.cloud.ahead(ctx, s.kind, at, r.clients)
	}
	if err := r.signIn(ctx); err != nil {
		leave()
		return nil, nil, err
	}

	return r, leave, nil
}

// call makes one request until it is answered; nil where that is a good answer.
func (r *regional) call(ctx context.Context, op string, fn func(context.Context) error) *awsauth.RegionError {
	var used sdk.Credentials
	caller := r.Caller
	caller.Renew = func(ctx context.Context) error { return r.renew(ctx, used) }
	throttled, err := caller.Do(ctx, op, func(ctx context.Context) error {
		used = r.as.Held()
		return fn(ctx)
	})
	if err == nil {
		return nil
	}
	if errors.Is(err, ask.ErrNoTurn) {
		d := &awsauth.RegionError{Region: r.region, Service: serviceOf(r.kind), Op: op, Transient: true, Throttled: throttled}
		if throttled {
			d.Code = "ThrottlingException"
		}
		return d
	}

	d := awsauth.Describe(err, r.region, serviceOf(r.kind), op)
	if d.Code == "" {
		d.Unreached = peer.Unreached(err)
	}

	return d
}

func (r *regional) judge(err error) ask.Verdict {
	d := awsauth.Describe(err, r.region, serviceOf(r.kind), "")
	return ask.Verdict{
		Throttled: d.Throttled, Transient: d.Transient, Expired: d.Expired(), Code: d.Code,
		RetryAfter: time.Duration(awsauth.RetryAfter(err)) * time.Second,
	}
}

func (r *regional) count(op, answer string) {
	if m := r.cloud.opts.Metrics; m != nil {
		m.Requested(r.kind, op, answer)
	}
}

func serviceOf(kind string) string {
	if kind == ParameterStore {
		return "ssm"
	}
	return "secretsmanager"
}

// renew signs in anew after credentials were refused.
func (r *regional) renew(ctx context.Context, refused sdk.Credentials) error {
	return r.as.Renew(refused, func() (sdk.Credentials, error) {
		r.login.Forget(refused)
		return r.login.Credentials(ctx, r.region)
	})
}

// signIn gets the credentials.
func (r *regional) signIn(ctx context.Context) *store.Error {
	c, err := r.login.Credentials(ctx, r.region)
	if err != nil {
		return loginFailed(err)
	}
	r.as.Hold(c)
	return nil
}

func (r *regional) provider() sdk.CredentialsProvider {
	c := r.as.Held()
	return sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) { return c, nil })
}

// checkName refuses what AWS cannot know: no name, and an ARN of elsewhere.
func (r *regional) checkName(name, service string) *store.Error {
	switch {
	case name == "":
		return store.Errorf(store.Invalid, "a name is missing")
	case len(name) > 2048:
		return store.Errorf(store.Invalid, "the name is longer than any that AWS has")
	case !strings.HasPrefix(name, "arn:"):
		return nil
	}

	parts := strings.SplitN(name, ":", 6)
	switch {
	case len(parts) < 6 || parts[5] == "":
		return store.Errorf(store.Invalid, "Invalid ARN format in object name: %s", name)
	case parts[2] != service:
		return store.Errorf(store.Invalid, "Invalid service in ARN: %s; a store of kind %s reads %s", parts[2], r.kind, service)
	case parts[3] != r.region:
		return store.Errorf(store.Invalid, "ARN region must match region %s: %s", r.region, name)
	}

	return nil
}
