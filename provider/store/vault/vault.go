// Package vault is the store of HashiCorp Vault, and of OpenBao, which is the
// same but for its defaults.
//
// It reads as the pod, on the official API client: KV of both versions, any
// other path that can be read, and what a write answers (a certificate, a
// decrypted text). What Vault issues for a time carries its lease, which is
// renewed and revoked with the token that it was issued to. README.md says
// which requests are made.
package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/vault"
	"github.com/coffre-csi/coffre/provider/pace"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/ask"
)

// The kinds of store in this package.
const (
	Vault   = "vault"
	OpenBao = "openbao"
)

// Metrics are told of every request that was made.
type Metrics interface {
	// Requested counts requests by kind of store, operation and status: "ok",
	// "403", or "none" where there was no answer.
	Requested(kind, operation, code string)
}

// Options of the kinds. Broker is required.
type Options struct {
	Broker  *vault.Broker
	Metrics Metrics
	// VersionKey keys the versions of values that Vault has none for; nil for
	// none (README.md).
	VersionKey []byte
	Now        func() time.Time
}

// Kinds are the two kinds of store.
func Kinds(o Options) []store.Kind {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &cloud{opts: o, pacers: pace.NewSet[string](pace.Options{}), steady: map[steadyKey]steadyReply{}, stretched: map[[32]byte]string{}}

	var kinds []store.Kind
	for _, name := range []string{Vault, OpenBao} {
		kinds = append(kinds, store.Kind{
			Name: name, Settings: newSettings,
			Open: func(_ context.Context, cfg store.Config, id auth.Identity) (store.Store, error) {
				s, err := c.open(name, cfg, id)
				if err != nil {
					return nil, err
				}
				return s, nil
			},
		})
	}
	return kinds
}

// cloud is what all stores of a process share.
type cloud struct {
	opts Options

	mu        sync.Mutex
	pacers    *pace.Set[string] // by address
	steady    map[steadyKey]steadyReply
	stretched map[[32]byte]string
}

// opened is one store opened for one identity.
type opened struct {
	cloud    *cloud
	kind     string
	config   store.Config
	settings *Settings
	address  string
	login    *vault.Session
	tenant   string
}

// providerToken is that of the provider's own service account.
const providerToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// open contacts nobody.
func (c *cloud) open(kind string, cfg store.Config, id auth.Identity) (*opened, error) {
	s, ok := cfg.Settings.(*Settings)
	if !ok {
		return nil, store.Errorf(store.Invalid, "has no settings of Vault")
	}
	policy := &Policy{}
	if cfg.Policy != nil {
		if p, ok := cfg.Policy.Settings.(*Policy); ok {
			policy = p
		}
	}
	server, err := reach(cfg, s, policy)
	if err != nil {
		return nil, err
	}

	login := vault.Login{
		Server: server, Namespace: cmp.Or(s.VaultNamespace, policy.VaultNamespace),
		Method: cmp.Or(s.Auth, vault.Kubernetes), Mount: strings.TrimSuffix(cmp.Or(s.AuthMount, policy.AuthMount), "/"), Role: s.Role,
		Audience: cmp.Or(s.Audience, kind), Provider: cfg.ProviderIdentity && !cfg.Inline,
		TokenFile: cmp.Or(s.TokenFile, providerToken),
		APIServer: s.APIServerToken || cfg.Inline && cfg.TakesAPIServerToken(id.Namespace),
	}
	if s.ReadsSecret() != "" {
		if err := cfg.CheckNodePublishSecret(id.Namespace); err != nil {
			return nil, err
		}
	}
	session, loginErr := c.opts.Broker.Open(id, login)
	if loginErr != nil {
		return nil, fault.As(loginErr, "signing in is not possible")
	}

	return &opened{cloud: c, kind: kind, config: cfg, settings: s, address: server.Address, login: session, tenant: id.Namespace}, nil
}

// reach says how the server is reached, by the class's word as far as the
// platform lets it.
func reach(cfg store.Config, s *Settings, p *Policy) (vault.Server, *store.Error) {
	server := vault.Server{
		Address: strings.TrimSuffix(s.Address, "/"), CACert: s.CACert, CACertFile: s.CACertFile, CACertDir: s.CACertDirectory,
		ServerName: s.TLSServerName, ClientCertFile: s.ClientCertFile, ClientKeyFile: s.ClientKeyFile, Insecure: s.SkipTLSVerify,
	}
	if !cfg.Inline {
		return server, nil
	}

	own := strings.TrimSuffix(p.Address, "/")
	server.Address = cmp.Or(server.Address, own)
	switch {
	case server.Address == "":
		return server, store.Errorf(store.Precondition, "no address of Vault is known: the class names none, and neither does the platform (dialects.%s.address)", cfg.Dialect)
	case server.Address == own:
		server.ClientCertFile, server.ClientKeyFile = p.ClientCertFile, p.ClientKeyFile
	default:
		if err := cfg.CheckAddress(server.Address); err != nil {
			return server, err
		}
	}

	for _, file := range s.Files.all() {
		if !p.allowsFile(file) {
			return server, store.Errorf(store.Denied, "%.120q is a file of the provider's container, which the platform has not allowed classes to name: it would in dialects.%s.tlsFiles", file, cfg.Dialect)
		}
	}
	if server.CACert == "" {
		server.CACertFile = cmp.Or(s.Files.CACert, p.CACertFile)
		server.CACertDir = cmp.Or(s.Files.CADirectory, p.CACertDirectory)
		if s.Files.CADirectory != "" && s.Files.CACert == "" {
			server.CACertFile = ""
		}
	}
	if s.Files.ClientCert != "" {
		server.ClientCertFile, server.ClientKeyFile = s.Files.ClientCert, s.Files.ClientKey
	}
	server.ServerName = cmp.Or(server.ServerName, p.TLSServerName)
	server.Insecure = server.Insecure || p.SkipTLSVerify
	return server, nil
}

func (p *Policy) allowsFile(file string) bool {
	if path.Clean(file) != file {
		return false
	}
	for _, glob := range p.TLSFiles {
		if ok, _ := path.Match(glob, file); ok {
			return true
		}
	}
	return false
}

// Principal implements store.Principal.
func (o *opened) Principal() string { return o.login.Principal() }

// Endpoint implements store.Endpoint.
func (o *opened) Endpoint() string { return o.address }

// Role implements store.RoleHolder.
func (o *opened) Role() string { return o.login.Role() }

// Fetch implements store.Store.
func (o *opened) Fetch(ctx context.Context, refs []store.Ref) ([]store.Secret, error) {
	return o.FetchEach(ctx, refs, func(int, store.Secret) {})
}

// FetchEach implements store.Streamer.
func (o *opened) FetchEach(ctx context.Context, refs []store.Ref, answered func(int, store.Secret)) ([]store.Secret, error) {
	secrets, failed := make([]store.Secret, len(refs)), store.Errors{}
	places := map[store.Ref][]int{}
	var reads []read
	for i, ref := range refs {
		if places[ref] = append(places[ref], i); len(places[ref]) > 1 {
			continue
		}
		rd, err := o.plan(ref)
		if err != nil {
			for _, at := range places[ref] {
				failed[at] = err
			}
			continue
		}
		reads = append(reads, rd)
	}

	asking, err := o.enter(ctx)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	ask.Each(len(reads), func(n int) {
		secret, err := asking.read(ctx, reads[n])
		mu.Lock()
		defer mu.Unlock()
		for _, i := range places[reads[n].ref] {
			if err != nil {
				failed[i] = err
				continue
			}
			secrets[i] = secret
			answered(i, secret)
		}
	})
	for ref, at := range places { // a ref that stands twice and cannot be read
		if e := failed[at[0]]; e != nil {
			for _, i := range at {
				named := *e
				named.Object = ref.String()
				failed[i] = &named
			}
		}
	}
	return secrets, failed.OrNil()
}

// asking is a store with a token.
type asking struct {
	*opened
	ask.Caller
	as ask.Credential[signedIn]
}

// signedIn is a token as a mount has it.
type signedIn struct {
	vault.Credential
	fresh bool // nobody has used it before
}

func (o *opened) enter(ctx context.Context) (*asking, *store.Error) {
	a := &asking{opened: o}
	a.Caller = ask.Caller{
		Pacer: o.cloud.pacers.Of(o.address), Tenant: o.tenant, Last: true,
		Count: a.count,
	}
	if err := a.signIn(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *asking) signIn(ctx context.Context) *store.Error {
	c, fresh, err := a.login.Token(ctx)
	if err != nil {
		return fault.As(err, "failed to login: signing in was not done in time")
	}
	a.as.Hold(signedIn{c, fresh})
	return nil
}

// renew signs in again after a token was refused.
func (a *asking) renew(ctx context.Context, refused signedIn) error {
	return a.as.Renew(refused, func() (signedIn, error) {
		if !a.login.Refused(refused.Credential) {
			return signedIn{}, errors.New("it was renewed not long ago")
		}
		c, fresh, err := a.login.Token(ctx)
		return signedIn{c, fresh}, err
	})
}

// judge reads the answer to a request that was made by a token.
func (a *asking) judge(err error, by signedIn) ask.Verdict {
	r := new(vault.Refused)
	if !errors.As(err, &r) {
		return ask.Verdict{Transient: fault.ReasonOf(err) == fault.Unavailable}
	}
	reason := r.Reason()
	fresh := by.fresh && a.as.Held() == by
	return ask.Verdict{
		Throttled: reason == fault.Throttled, Transient: reason == fault.Unavailable,
		Expired: r.Status == http.StatusForbidden && !r.Foreign && !fresh,
		Code:    fmt.Sprint(r.Status), RetryAfter: r.RetryAfter,
	}
}

func (a *asking) count(op, answer string) {
	if m := a.cloud.opts.Metrics; m != nil {
		m.Requested(a.kind, op, answer)
	}
}

// call makes one request until it is answered.
func (a *asking) call(ctx context.Context, op string, call vault.Call) (secret *api.Secret, _ vault.Credential, err error) {
	var by signedIn
	caller := a.Caller
	caller.Judge = func(err error) ask.Verdict { return a.judge(err, by) }
	caller.Renew = func(ctx context.Context) error { return a.renew(ctx, by) }
	_, err = caller.Do(ctx, op, func(ctx context.Context) (err error) {
		by = a.as.Held()
		call.Token = by.Reveal()
		secret, err = a.login.Do(ctx, call)
		return err
	})
	return secret, by.Credential, err
}
