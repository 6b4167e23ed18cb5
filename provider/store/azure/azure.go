// Package azure is the store of Azure Key Vault: its secrets, public keys and
// certificates.
//
// It reads as the pod (or, where the platform says so, as an identity of the
// node) over connections that the whole process shares; which identity asks is
// said request by request, so that a vault is asked for its challenge once, and
// not once an identity. Reads go out concurrently, held to what a vault takes;
// and where one does not answer, a second vault is asked, for what is still
// missing. README.md says which requests are made and why.
package azure

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/coffre-csi/coffre/auth"
	azureauth "github.com/coffre-csi/coffre/auth/azure"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/pool"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/ask"
)

// Kind is the kind of store in this package.
const Kind = "azure-key-vault"

// Dialect is whose classes sign in as a service principal or as the node's
// identity without a policy, where the platform wrote none at all.
const Dialect = "azure"

// Metrics are told of every request that was made.
type Metrics interface {
	// Requested counts requests by kind of store, operation and Key Vault's code.
	Requested(kind, operation, code string)
}

// Options of the kind. Network and Broker are required.
type Options struct {
	Network *azureauth.Network
	Broker  *azureauth.Broker
	Metrics Metrics
	// Cloud is that of stores that name none, and EnvironmentFile says the
	// endpoints of AzureStackCloud to those that name no file.
	Cloud, EnvironmentFile string
	// Unconfigured says that there is no file of the platform's: whoever started
	// the process gave it the node's identity, as the Azure provider has it.
	Unconfigured bool
	// Warn tells the owner of a pod of what was delivered and is not as it should
	// be; nil for the log alone.
	Warn func(id auth.Identity, message string)
	Now  func() time.Time
}

// Kinds is the one kind of store.
func Kinds(o Options) []store.Kind {
	if o.Now == nil {
		o.Now = time.Now
	}
	vaults := pool.New[string, *vault](pool.Options[*vault]{Max: maxVaults, Idle: time.Hour, Now: o.Now})
	c := &cloud{opts: o, vaults: vaults, times: newTimes(o)}

	return []store.Kind{{
		Name: Kind, Settings: newSettings, Close: c.vaults.Close,
		Open: func(ctx context.Context, cfg store.Config, id auth.Identity) (store.Store, error) {
			s, err := c.open(ctx, cfg, id)
			if err != nil {
				return nil, err
			}
			return s, nil
		},
	}}
}

// maxVaults are remembered while nobody reads them.
const maxVaults = 256

// cloud is what all stores of a process share.
type cloud struct {
	opts   Options
	vaults *pool.Pool[string, *vault] // by host
	times  *times
}

// session is one store opened for one identity.
type session struct {
	cloud    *cloud
	config   store.Config
	settings *Settings
	azure    azureauth.Cloud
	names    []string // of vaults, the first asked first
	login    *azureauth.Session
	id       auth.Identity
}

// open does no I/O with Azure. It may read the annotations of the ServiceAccount,
// which are kept, and a file of endpoints.
func (c *cloud) open(ctx context.Context, cfg store.Config, id auth.Identity) (*session, error) {
	settings, ok := cfg.Settings.(*Settings)
	if !ok {
		return nil, store.Errorf(store.Invalid, "has no settings of Azure's")
	}
	s := &session{cloud: c, config: cfg, settings: settings, id: id, names: []string{settings.Vault}}
	if settings.FailoverVault != "" {
		s.names = append(s.names, settings.FailoverVault)
	}

	var err error
	if s.azure, err = c.azureOf(cfg, settings); err != nil {
		return nil, err
	}
	if refused := s.mayAsk(); refused != nil {
		return nil, refused
	}
	login := azureauth.Login{Method: s.method(), Cloud: s.azure, Tenant: settings.TenantID, Client: settings.ClientID}
	if refused := s.mayUse(login.Method); refused != nil {
		refused.Cause = &azureauth.Answer{Setup: true, SignIn: true}
		return nil, refused
	}
	if s.login, err = c.opts.Broker.Open(ctx, id, login); err != nil {
		return nil, err
	}
	return s, nil
}

// mayAsk asks the platform's word on where secrets may be read. Where a vault
// stands its name does not say: a region is a cloud here, and addresses are
// looked at where the platform lists any.
func (s *session) mayAsk() *store.Error {
	if err := s.config.CheckRegion(s.azure.Name); err != nil {
		return err
	}
	if s.config.Policy == nil || s.config.Policy.AllowedAddresses == nil {
		return nil
	}
	for n := range s.names {
		if err := s.config.CheckAddress("https://" + s.host(n)); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) method() azureauth.Method {
	if s.config.ProviderIdentity && !s.settings.Auth.OfNode() {
		return azureauth.ManagedIdentity
	}
	return cmp.Or(s.settings.Auth, azureauth.WorkloadIdentity)
}

// mayUse asks the platform's word on a way to sign in.
func (s *session) mayUse(m azureauth.Method) *store.Error {
	asUpstream := s.cloud.opts.Unconfigured && s.config.Dialect == Dialect
	switch {
	case asUpstream:
		return nil
	case m.OfNode():
		return s.config.CheckProviderIdentity(s.id.Namespace)
	case m == azureauth.ServicePrincipal:
		return s.config.CheckNodePublishSecret(s.id.Namespace)
	}
	return nil
}

// azureOf is the cloud of a store. A class names a file of endpoints only where
// the platform lists it: it says where tokens are sent.
func (c *cloud) azureOf(cfg store.Config, s *Settings) (azureauth.Cloud, error) {
	name := cmp.Or(s.CloudName, c.opts.Cloud)
	file := cmp.Or(s.CloudEnvironmentFile, c.opts.EnvironmentFile)
	named := cfg.Inline && s.CloudEnvironmentFile != "" && azureauth.IsStackCloud(name)
	if named && !c.opts.Unconfigured && !allowsFile(cfg.Policy, file) {
		return azureauth.Cloud{}, &store.Error{Reason: store.Denied, Cause: &azureauth.Answer{Setup: true},
			Text: fmt.Sprintf("the file of endpoints %.200q is not allowed: the platform lists those that are in dialects.azure.cloudEnvironmentFiles", file)}
	}

	cloud, err := azureauth.CloudOf(name, file)
	if err != nil {
		return cloud, &store.Error{Reason: store.Precondition, Text: fmt.Sprintf("cloudName %s is not valid, error: %v", name, err), Cause: &azureauth.Answer{Setup: true}}
	}
	return cloud, nil
}

func allowsFile(p *store.Policy, file string) bool {
	if p == nil || path.Clean(file) != file {
		return false
	}
	own, ok := p.Settings.(*Policy)
	return ok && slices.ContainsFunc(own.CloudEnvironmentFiles, func(glob string) bool {
		matches, _ := path.Match(glob, file)
		return matches
	})
}

// Principal implements store.Principal.
func (s *session) Principal() string { return s.login.Principal() }

// PodScoped implements store.PodScoped.
func (s *session) PodScoped() bool { return s.login.PodScoped() }

// Role implements store.RoleHolder.
func (s *session) Role() string { return s.login.Client() }

// Endpoint implements store.Endpoint.
func (s *session) Endpoint() string { return s.host(0) }

// Types implements store.Typed.
func (s *session) Types() []string { return []string{Secret, Key, Certificate, PublicCertificate} }

// Pinned implements store.Pinner: Key Vault never gives a version another value.
func (s *session) Pinned(ref store.Ref) bool { return ref.Version != "" && ref.Extra == "" }

// host of the nth vault.
func (s *session) host(n int) string { return hostOf(s.names[n], s.azure) }

func (s *session) places() ask.Places {
	hosts := make([]string, len(s.names))
	for n := range hosts {
		hosts[n] = s.host(n)
	}
	return ask.Places{Names: hosts, Noun: "vaults", Timeout: s.config.Timeout}
}

// Fetch implements store.Store.
func (s *session) Fetch(ctx context.Context, refs []store.Ref) ([]store.Secret, error) {
	return s.FetchEach(ctx, refs, func(int, store.Secret) {})
}

// FetchEach implements store.Streamer.
func (s *session) FetchEach(ctx context.Context, refs []store.Ref, answered func(int, store.Secret)) ([]store.Secret, error) {
	p := s.places()
	p.In = func(ctx context.Context, n int, refs []store.Ref, told func(int, store.Secret)) ([]ask.Result, *store.Error) {
		v, leave, err := s.enter(ctx, n)
		if err != nil {
			return nil, err
		}
		defer leave()

		var mu sync.Mutex
		out := make([]ask.Result, len(refs))
		ask.Each(len(refs), func(i int) {
			secret, err := v.read(ctx, refs[i])
			if err != nil {
				out[i].Err = err
				return
			}
			out[i].Secret = secret
			mu.Lock()
			defer mu.Unlock()
			told(i, secret)
		})
		return out, nil
	}

	return p.Fetch(ctx, refs, answered)
}

// History implements store.Historian: enabled versions only, from the ref's
// version on.
func (s *session) History(ctx context.Context, ref store.Ref, limit int) (refs []store.Ref, err error) {
	failed := s.places().First(ctx, func(ctx context.Context, n int) *store.Error {
		v, leave, err := s.enter(ctx, n)
		if err != nil {
			return err
		}
		defer leave()
		refs, err = v.history(ctx, ref, limit)
		return err
	})
	if failed != nil {
		return nil, failed
	}
	return refs, nil
}

// List implements store.Lister: names of enabled secrets.
func (s *session) List(ctx context.Context, filter store.Filter, limit int) ([]store.Ref, error) {
	var found *store.Finder
	failed := s.places().First(ctx, func(ctx context.Context, n int) (err *store.Error) {
		if found, err = store.NewFinder(filter, limit); err != nil {
			return err
		}
		v, leave, err := s.enter(ctx, n)
		if err != nil {
			return err
		}
		defer leave()
		return v.list(ctx, found)
	})
	if failed != nil {
		return nil, failed
	}
	return found.Refs()
}

// signInFailed is an error of auth/azure as one of a store.
func signInFailed(err error) *store.Error { return fault.As(err, "signing in was not done in time") }
