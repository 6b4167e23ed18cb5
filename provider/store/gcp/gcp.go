// Package gcp is the stores of Google's Secret Manager and Parameter Manager.
//
// Both read as the pod (or, where the platform says so, as the provider),
// through Google's own clients over one connection a location for the whole
// process; which identity asks is said call by call. Reads go out concurrently,
// held by a pacer a service, location and project to what Google wants to
// answer. README.md says which calls are made and why.
package gcp

import (
	"cmp"
	"context"
	"sync"
	"time"

	parametermanager "cloud.google.com/go/parametermanager/apiv1"
	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	gcpauth "github.com/coffre-csi/coffre/auth/gcp"
	"github.com/coffre-csi/coffre/auth/pool"
	"github.com/coffre-csi/coffre/provider/pace"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/ask"
)

// The kinds of store in this package.
const (
	SecretManager    = "gcp-secret-manager"
	ParameterManager = "gcp-parameter-manager"
)

// Dialect is whose classes may bring a key file without saying so: that is how
// the Google provider has it.
const Dialect = "gcp"

// Metrics are told of every request that was made.
type Metrics interface {
	// Requested counts requests by kind of store, operation and Google's code.
	Requested(kind, operation, code string)
}

// Options of the kinds. Network and Broker are required.
type Options struct {
	Network *gcpauth.Network
	Broker  *gcpauth.Broker
	Metrics Metrics
	// KeyFiles is ALLOW_NODE_PUBLISH_SECRET: classes of the Google provider may
	// bring a key file in any namespace.
	KeyFiles bool
	// Unconfigured says that there is no file of the platform's: whoever started
	// the process gave it the provider's identity, as the Google provider has it.
	Unconfigured bool
	Now          func() time.Time
}

// Kinds are the two kinds of store, which share connections, tokens and pacers.
func Kinds(o Options) []store.Kind {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &cloud{opts: o, pacers: pace.NewSet[pacerKey](pace.Options{MaxInFlight: streams})}
	c.hosts = pool.New[string, *host](pool.Options[*host]{Now: o.Now, Close: func(h *host) { _ = h.conn.Close() }})

	return []store.Kind{
		{Name: SecretManager, Settings: newSettings, Close: c.hosts.Close, Open: func(ctx context.Context, cfg store.Config, id auth.Identity) (store.Store, error) {
			s, err := c.open(ctx, SecretManager, cfg, id)
			if err != nil {
				return nil, err
			}
			return &secrets{s}, nil
		}},
		{Name: ParameterManager, Settings: newSettings, Open: func(ctx context.Context, cfg store.Config, id auth.Identity) (store.Store, error) {
			s, err := c.open(ctx, ParameterManager, cfg, id)
			if err != nil {
				return nil, err
			}
			return &parameters{s}, nil
		}},
	}
}

// cloud is what all stores of a process share.
type cloud struct {
	opts   Options
	hosts  *pool.Pool[string, *host]
	pacers *pace.Set[pacerKey]
}

// host is a connection to a service in one location, with Google's client of it.
type host struct {
	conn       *grpc.ClientConn
	secrets    *secretmanager.Client
	parameters *parametermanager.Client
}

type pacerKey struct{ host, project string }

// streams are as many calls as Google takes over one connection at once: none
// costs a connection of its own, and a volume of fifty secrets is one wave.
const streams = 100

// at gives the connection of a host, to be released.
func (c *cloud) at(kind, name string) (*host, func(), error) {
	return c.hosts.Use(name, func() (*host, error) {
		conn, err := c.opts.Network.Connect(name)
		if err != nil {
			return nil, err
		}

		h := &host{conn: conn}
		if kind == SecretManager {
			h.secrets, err = secretmanager.NewClient(context.Background(), option.WithGRPCConn(conn))
		} else {
			h.parameters, err = parametermanager.NewClient(context.Background(), option.WithGRPCConn(conn))
		}
		if err != nil {
			_ = conn.Close()
			return nil, err
		}
		// Attempts are package ask's.
		if h.secrets != nil {
			h.secrets.CallOptions = &secretmanager.CallOptions{}
		} else {
			h.parameters.CallOptions = &parametermanager.CallOptions{}
		}
		return h, nil
	})
}

// session is one store opened for one identity.
type session struct {
	cloud    *cloud
	kind     string
	config   store.Config
	settings *Settings
	location string // "" is global
	login    *gcpauth.Session
	tenant   string // who waits in turn
	refused  string // a key file that the platform does not let the class bring
}

// open does no I/O with Google. It may ask the node's metadata server and read
// the annotations of the ServiceAccount, both of which are kept.
func (c *cloud) open(ctx context.Context, kind string, cfg store.Config, id auth.Identity) (*session, error) {
	settings, ok := cfg.Settings.(*Settings)
	if !ok {
		return nil, store.Errorf(store.Invalid, "has no settings of Google's")
	}
	s := &session{cloud: c, kind: kind, config: cfg, settings: settings, tenant: id.Namespace, location: settings.Location}
	if kind == ParameterManager {
		s.location = cmp.Or(s.location, global) // its names always say one
	}
	if err := cfg.CheckRegion(cmp.Or(s.location, global)); err != nil {
		return nil, err
	}

	login, err := s.loginAs(id)
	if err != nil {
		return nil, err
	}
	who, openErr := c.opts.Broker.Open(ctx, id, login)
	if openErr != nil {
		return nil, s.signInFailed(openErr)
	}
	s.login = who
	return s, nil
}

// loginAs is the way to sign in that the platform lets the store take.
func (s *session) loginAs(id auth.Identity) (gcpauth.Login, *store.Error) {
	login := gcpauth.Login{
		Method: s.settings.Auth, Audience: s.settings.Audience, Account: s.settings.ServiceAccount, Delegates: s.settings.Delegates,
	}
	if s.config.ProviderIdentity {
		login.Method = gcpauth.Provider
	}
	_, keyed := id.Secrets[gcpauth.KeyName]
	if keyed && s.config.Dialect == Dialect {
		method, err := s.keyFile(id.Namespace)
		if err != nil {
			return login, err
		}
		login.Method = cmp.Or(method, login.Method)
	}

	switch login.Method = cmp.Or(login.Method, gcpauth.WorkloadIdentity); {
	case login.Method == gcpauth.KeyFile && s.config.Dialect != Dialect:
		return login, s.config.CheckNodePublishSecret(id.Namespace)
	case login.Method == gcpauth.Provider && !(s.cloud.opts.Unconfigured && s.config.Dialect == Dialect):
		if err := s.config.CheckProviderIdentity(id.Namespace); err != nil {
			err.Cause = &gcpauth.Answer{SignIn: true}
			return login, err
		}
	}
	return login, nil
}

// keyFile is what becomes of a key file that a class of the Google provider
// brings: the way to sign in where it is allowed; where nothing is said of it,
// nothing, as there.
func (s *session) keyFile(namespace string) (gcpauth.Method, *store.Error) {
	policy := s.config.Policy
	refused := s.config.CheckNodePublishSecret(namespace)
	switch {
	case refused != nil && policy != nil && policy.NodePublishSecret != nil:
		refused.Cause = &gcpauth.Answer{SignIn: true}
		return "", refused
	case refused != nil && !s.cloud.opts.KeyFiles:
		s.refused = "; the key file of nodePublishSecretRef is not used: " + refused.Text
		return "", nil
	}

	written := map[gcpauth.Method]string{gcpauth.Provider: "provider-adc", gcpauth.WorkloadIdentity: "pod-adc"}[s.settings.Auth]
	if written != "" {
		return "", store.Errorf(store.Invalid, "attempting to set both nodePublishSecretRef and %s auth", written)
	}
	return gcpauth.KeyFile, nil
}

// Principal implements store.Principal.
func (s *session) Principal() string { return s.login.Principal() }

// Role implements store.RoleHolder.
func (s *session) Role() string { return s.login.Role() }

// Endpoint implements store.Endpoint.
func (s *session) Endpoint() string { return s.host() }

// host is the service's in the store's location, by the references of both APIs.
func (s *session) host() string {
	service := "secretmanager"
	if s.kind == ParameterManager {
		service = "parametermanager"
	}
	if s.location == "" || s.location == global {
		return service + ".googleapis.com"
	}
	return service + "." + s.location + ".rep.googleapis.com"
}

// visit is a session with a connection and a token.
type visit struct {
	*session
	*host
	as ask.Credential[auth.Token]
}

// read asks for one resource.
type read func(ctx context.Context, v *visit, r resource) ask.Result

// fetch reads refs, all at once as far as the pacer lets them.
func (s *session) fetch(ctx context.Context, refs []store.Ref, answered func(int, store.Secret), one read) ([]store.Secret, error) {
	p := ask.Places{Names: []string{s.host()}, Noun: "locations", Timeout: s.config.Timeout}
	p.In = func(ctx context.Context, _ int, refs []store.Ref, told func(int, store.Secret)) ([]ask.Result, *store.Error) {
		v, leave, err := s.enter(ctx)
		if err != nil {
			return nil, err
		}
		defer leave()

		var mu sync.Mutex
		out := make([]ask.Result, len(refs))
		ask.Each(len(refs), func(i int) {
			r, err := s.name(refs[i])
			if err != nil {
				out[i].Err = err
				return
			}
			if out[i] = one(ctx, v, r); out[i].Err == nil {
				mu.Lock()
				defer mu.Unlock()
				told(i, out[i].Secret)
			}
		})
		return out, nil
	}
	return p.Fetch(ctx, refs, answered)
}

// enter gets ready to ask; leave gives the connection back. It is opened while
// somebody signs in.
func (s *session) enter(ctx context.Context) (v *visit, leave func(), _ *store.Error) {
	h, leave, err := s.cloud.at(s.kind, s.host())
	if err != nil {
		return nil, nil, store.Errorf(store.Unavailable, "%s cannot be connected to", s.host())
	}
	v = &visit{session: s, host: h}
	h.conn.Connect()
	if err := v.signIn(ctx); err != nil {
		leave()
		return nil, nil, s.signInFailed(err)
	}
	return v, leave, nil
}

func (v *visit) signIn(ctx context.Context) error {
	t, err := v.login.Token(ctx)
	if err != nil {
		return err
	}
	v.as.Hold(t)
	return nil
}

// renew signs in anew after a token was refused.
func (v *visit) renew(ctx context.Context, refused auth.Token) error {
	return v.as.Renew(refused, func() (auth.Token, error) {
		v.login.Forget(refused)
		return v.login.Token(ctx)
	})
}

// signInFailed is an error of auth/gcp as one of a store.
func (s *session) signInFailed(err error) *store.Error {
	e := *fault.As(err, "signing in was not done in time")
	e.Text += s.refused
	return &e
}

// call makes one request until it is answered; nil where that is a good answer.
func (v *visit) call(ctx context.Context, project, op string, fn func(ctx context.Context, as gax.CallOption) error) *gcpauth.Answer {
	var used auth.Token
	caller := ask.Caller{
		Pacer: v.cloud.pacers.Of(pacerKey{v.session.host(), project}), Tenant: v.tenant, Last: true, Judge: v.judge, Count: v.count,
		Renew: func(ctx context.Context) error { return v.renew(ctx, used) },
	}
	throttled, err := caller.Do(ctx, op, func(ctx context.Context) error {
		used = v.as.Held()
		return fn(ctx, gax.WithGRPCOptions(gcpauth.Bearer(used)))
	})
	if err == nil {
		return nil
	}
	a := describe(err)
	a.Limited = a.Limited || throttled
	return a
}
