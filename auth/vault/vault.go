// Package vault signs in to HashiCorp Vault and OpenBao: with the pod's
// projected token (kubernetes, jwt), with credentials that the tenant brings in
// a Secret (AppRole, userpass, a token), with a TLS certificate, or, for the
// platform's own stores, as the provider.
//
// The store of Vault calls it: Open says who an identity is to Vault and
// contacts nobody; Session.Token signs in, renews the token that there is, or
// hands it out; Session.Do asks with it. One sign-in serves all pods of an
// identity. Tokens are revoked by Close, but for those whose leases are still
// in use. VAULT_TOKEN of the process's environment is used for nobody. Nothing
// here logs, and no error quotes a token or an answer's body.
package vault

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/keep"
	"github.com/coffre-csi/coffre/auth/peer"
	"github.com/coffre-csi/coffre/auth/pool"
)

// Method is a way to sign in.
type Method string

const (
	Kubernetes Method = "kubernetes"
	JWT        Method = "jwt"
	AppRole    Method = "approle"
	Userpass   Method = "userpass"
	Token      Method = "token"
	Cert       Method = "cert"
)

// Audiences of the tokens that the CSIDriver object must request.
const (
	AudienceVault   = "vault"
	AudienceOpenBao = "openbao"
)

// Login is how a store signs in.
type Login struct {
	Server    Server
	Namespace string
	Method    Method
	Mount     string // of the auth method; "" is the method's name
	Role      string
	// Audience of the pod's token. APIServer allows the token of the API
	// server's own audience ("") where there is none of it.
	Audience  string
	APIServer bool
	// Provider: the token is the provider's own service account's.
	Provider bool
	// TokenFile is that token.
	TokenFile string
}

// Credential is a token of Vault. It prints redacted.
type Credential struct {
	token     auth.Token
	renewable bool
	life      time.Duration // when it was issued, or renewed last
	at        Place
}

// Place is where a credential is good.
type Place struct {
	Server    Server
	Namespace string
}

// Reveal is the token itself.
func (c Credential) Reveal() string { return c.token.Reveal() }

// Expires is when it ends; zero for one that does not.
func (c Credential) Expires() time.Time { return c.token.Expires }

// Options of a Broker.
type Options struct {
	Metrics auth.SignIns // kinds: vault-kubernetes, …, vault-renew
	Now     func() time.Time
	// Transport takes requests in the place of connections of our own; for tests.
	Transport http.RoundTripper
}

// Broker makes and keeps tokens of Vault. It is safe for concurrent use.
type Broker struct {
	opts    Options
	keeper  *keep.Keeper[Credential]
	clients *pool.Pool[Server, *client]

	mu     sync.Mutex
	leased map[string]int       // leases in use, by the token that issued them
	anew   map[string]time.Time // when a refused token was last replaced, by key
}

// New makes a Broker; it contacts nobody.
func New(o Options) *Broker {
	if o.Now == nil {
		o.Now = time.Now
	}
	expires := func(c Credential) (time.Time, bool) { return c.token.Expires, !c.token.Expires.IsZero() }
	return &Broker{
		opts:   o,
		keeper: keep.New(keep.Options[Credential]{Expires: expires, Now: o.Now}),
		clients: pool.New[Server, *client](pool.Options[*client]{
			Now: o.Now, Close: func(c *client) { c.transport.CloseIdleConnections() },
		}),
		leased: map[string]int{}, anew: map[string]time.Time{},
	}
}

// Session is an identity as Vault will see it.
type Session struct {
	broker   *Broker
	id       auth.Identity
	login    Login
	token    auth.Token
	audience string
	key      string
}

// Open finds out with what an identity signs in. It contacts nobody.
func (b *Broker) Open(id auth.Identity, l Login) (*Session, error) {
	l.Mount = cmp.Or(l.Mount, string(l.Method))
	s := &Session{broker: b, id: id, login: l}
	who := auth.Joined(id.Namespace, id.ServiceAccount)
	if l.Provider {
		who = "provider"
	}

	var err error
	switch {
	case l.Method == Kubernetes || l.Method == JWT:
		if !l.Provider {
			s.token, s.audience, err = s.podToken()
		}
	case l.Method == Cert:
	case l.Method == AppRole:
		err = s.needs("roleID and secretID (or secretIDWrapped)", [][]string{roleID(), slices.Concat(secretID(), wrappedID())})
	case l.Method == Userpass:
		err = s.needs("username and password", [][]string{{"username"}, {"password"}})
	case l.Method == Token:
		err = s.needs("token", [][]string{{"token"}})
	default:
		err = fault.Errorf(fault.Invalid, "%.40q is no way to sign in to Vault", l.Method)
	}
	if err != nil {
		return nil, err
	}
	s.key = auth.Joined(who, s.Principal())
	return s, nil
}

// podToken is the token of the role's audience. Where there is none, and the
// platform says that its roles take it, the one of the API server's own.
func (s *Session) podToken() (auth.Token, string, error) {
	t, audience, err := s.id.TokenFor(s.login.Audience)
	if !errors.Is(err, auth.ErrNoAudience) && !errors.Is(err, auth.ErrNoTokens) {
		return t, audience, err
	}
	if s.login.APIServer {
		return s.id.TokenFor(s.login.Audience, "")
	}
	missing := fault.As(err, "")
	if _, has := s.id.Tokens[""]; has {
		return t, audience, &fault.Error{Reason: fault.Precondition, Cause: err, Text: missing.Text +
			`; the token for audience "", the API server's own, goes to a Vault only where the platform's apiServerToken names the namespace`}
	}
	return t, audience, missing
}

// The keys of nodePublishSecretRef's Secret, each with another spelling.
func roleID() []string    { return []string{"roleID", "role-id"} }
func secretID() []string  { return []string{"secretID", "secret-id"} }
func wrappedID() []string { return []string{"secretIDWrapped", "secret-id-wrapped"} }

// needs says what nodePublishSecretRef's Secret lacks: one key of each set.
func (s *Session) needs(what string, sets [][]string) error {
	for _, names := range sets {
		if s.secret(names) == "" {
			return fault.Errorf(fault.Precondition, "signing in to Vault by %s needs the Secret that nodePublishSecretRef names to hold %s; it holds %q",
				s.login.Method, what, s.id.Secrets.Keys())
		}
	}
	return nil
}

// secret is the first of the keys that the tenant's Secret has.
func (s *Session) secret(names []string) string {
	for _, n := range names {
		if v := s.id.Secrets[n]; v != "" {
			return v
		}
	}
	return ""
}

// Principal tells sessions of one service account apart. It is for memory only.
func (s *Session) Principal() string {
	l := s.login
	return auth.Joined(l.Server.Address, l.Namespace, string(l.Method), l.Mount, l.Role, s.audience, fmt.Sprint(l.Server), s.bySecret())
}

func (s *Session) bySecret() string {
	switch s.login.Method {
	case AppRole, Userpass, Token:
		return s.id.Secrets.Digest()
	}
	return ""
}

// Who names the session in an error.
func (s *Session) Who() string {
	whose := s.id.String()
	if s.login.Provider {
		whose = "the provider"
	}
	if s.login.Role == "" {
		return fmt.Sprintf("%s, signed in at auth/%s", whose, s.login.Mount)
	}
	return fmt.Sprintf("role %s of auth/%s (%s)", s.login.Role, s.login.Mount, whose)
}

// Role is the role of Vault that is read as.
func (s *Session) Role() string { return s.login.Role }

// Token is a credential that serves still. fresh says that nobody has used it
// before.
func (s *Session) Token(ctx context.Context) (c Credential, fresh bool, err error) {
	if s.login.Method == Token {
		return Credential{token: auth.NewToken(s.id.Secrets["token"], time.Time{}), at: s.place()}, true, nil
	}
	c, err = s.broker.keeper.Get(ctx, keep.Asked[Credential]{
		Key: s.key, Place: s.login.Server.Address, Namespace: s.id.Namespace, Token: s.token,
		Exchange: func(ctx context.Context, t auth.Token) (Credential, error) {
			fresh = true
			return s.signIn(ctx, t)
		},
	})
	return c, fresh, err
}

// anewEvery is how often a token that Vault refuses is replaced: one that was
// revoked at once, and an identity that may not read costs no more than that.
const anewEvery = time.Minute

// Refused drops a token that was refused, and says whether another may help:
// there is one already where another read was refused before.
func (s *Session) Refused(c Credential) bool {
	if s.login.Method == Token {
		return false
	}
	b := s.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	if kept, ok := b.keeper.Known(s.key); !ok || kept.Reveal() != c.Reveal() {
		return true
	}
	now := b.opts.Now()
	if now.Sub(b.anew[s.key]) < anewEvery {
		return false
	}
	if len(b.anew) > 5000 {
		clear(b.anew)
	}
	b.anew[s.key] = now
	b.keeper.Forget(s.key, func(kept Credential) bool { return kept.Reveal() == c.Reveal() })
	return true
}

func (s *Session) place() Place { return Place{s.login.Server, s.login.Namespace} }

// Do asks the session's server.
func (s *Session) Do(ctx context.Context, call Call) (*api.Secret, error) {
	call.Namespace = s.login.Namespace
	return s.broker.Do(ctx, s.login.Server, call)
}

// Do asks a server.
func (b *Broker) Do(ctx context.Context, server Server, call Call) (*api.Secret, error) {
	c, release, err := b.clients.Use(server, func() (*client, error) { return server.client(b.opts.Transport) })
	if err != nil {
		return nil, err
	}
	defer release()
	return c.do(ctx, call)
}

// signIn renews the token that there is, where it can be; or logs in.
func (s *Session) signIn(ctx context.Context, t auth.Token) (Credential, error) {
	if old, ok := s.broker.keeper.Known(s.key); ok && old.renewable {
		if c, err := s.broker.Renew(ctx, old); err == nil && c.life > old.life*2/3 {
			return c, nil
		}
	}

	c, err := s.logIn(ctx, t)
	auth.Tried(s.broker.opts.Metrics, "vault-"+string(s.login.Method), err)
	return c, err
}

// Renew prolongs a token as far as Vault lets it.
func (b *Broker) Renew(ctx context.Context, c Credential) (Credential, error) {
	secret, err := b.Do(ctx, c.at.Server, Call{Method: http.MethodPost, Path: "auth/token/renew-self", Namespace: c.at.Namespace, Token: c.Reveal(), Body: []byte("{}")})
	if err == nil && (secret == nil || secret.Auth == nil) {
		err = &Refused{Status: http.StatusOK, Foreign: true}
	}
	auth.Tried(b.opts.Metrics, "vault-renew", err)
	if err != nil {
		return c, err
	}
	return b.credential(secret.Auth, c.at), nil
}

func (b *Broker) credential(a *api.SecretAuth, at Place) Credential {
	c := Credential{renewable: a.Renewable, life: time.Duration(a.LeaseDuration) * time.Second, at: at}
	var ends time.Time
	if c.life > 0 {
		ends = b.opts.Now().Add(c.life)
	}
	c.token = auth.NewToken(a.ClientToken, ends)
	return c
}

// loginAttempts bounds tries of a sign-in that Vault did not answer.
const loginAttempts = 3

func (s *Session) logIn(ctx context.Context, t auth.Token) (Credential, error) {
	path, body, err := s.request(ctx, t)
	if err != nil {
		return Credential{}, err
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return Credential{}, fault.Errorf(fault.Invalid, "what to sign in with is no text")
	}

	var secret *api.Secret
	for attempt := range loginAttempts {
		secret, err = s.Do(ctx, Call{Method: http.MethodPost, Path: path, Body: raw})
		if err == nil && (secret == nil || secret.Auth == nil || secret.Auth.ClientToken == "") {
			err = &Refused{Status: http.StatusOK, Foreign: true}
		}
		if err == nil || !reasonOf(err).Transient() || !pause(ctx, attempt) {
			break
		}
	}
	if err != nil {
		return Credential{}, s.loginFailed(err)
	}
	return s.broker.credential(secret.Auth, s.place()), nil
}

func pause(ctx context.Context, attempt int) bool {
	t := time.NewTimer(50 * time.Millisecond << attempt)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func reasonOf(err error) fault.Reason {
	if r := new(Refused); errors.As(err, &r) {
		return r.Reason()
	}
	return fault.ReasonOf(err)
}

// request is the path and the body of the sign-in.
func (s *Session) request(ctx context.Context, t auth.Token) (string, any, error) {
	login := "auth/" + s.login.Mount + "/login"
	switch s.login.Method {
	case AppRole:
		id, err := s.secretID(ctx)
		return login, map[string]string{"role_id": s.secret(roleID()), "secret_id": id}, err
	case Userpass:
		return login + "/" + url.PathEscape(s.id.Secrets["username"]), map[string]string{"password": s.id.Secrets["password"]}, nil
	case Cert:
		return login, map[string]string{"name": s.login.Role}, nil
	}

	if s.login.Provider {
		raw, err := os.ReadFile(s.login.TokenFile)
		if err != nil {
			return "", nil, fault.Errorf(fault.Precondition, "the provider has no token of its own to sign in to Vault with: %s", plain(err))
		}
		return login, map[string]string{"jwt": strings.TrimSpace(string(raw)), "role": s.login.Role}, nil
	}
	if err := s.id.CheckExpiry(t, s.audience, s.broker.opts.Now()); err != nil {
		return "", nil, err
	}
	return login, map[string]string{"jwt": t.Reveal(), "role": s.login.Role}, nil
}

// secretID is that of AppRole, unwrapped where it came in a wrapping token.
func (s *Session) secretID(ctx context.Context) (string, error) {
	if id := s.secret(secretID()); id != "" {
		return id, nil
	}
	wrapped := s.secret(wrappedID())
	secret, err := s.Do(ctx, Call{Method: http.MethodPost, Path: "sys/wrapping/unwrap", Token: wrapped})
	if err != nil {
		return "", s.loginFailed(err)
	}
	if secret != nil {
		if id, ok := secret.Data["secret_id"].(string); ok {
			return id, nil
		}
	}
	return "", fault.Errorf(fault.Invalid, "the wrapped secret id of nodePublishSecretRef holds no secret_id")
}

// loginFailed words what went wrong. Vault's own text stays in it: people match
// on it.
func (s *Session) loginFailed(err error) error {
	if e := new(fault.Error); errors.As(err, &e) {
		return e
	}
	at := fmt.Sprintf("%s (auth/%s)", s.login.Server.Address, s.login.Mount)
	r := new(Refused)
	if !errors.As(err, &r) {
		return &fault.Error{Reason: fault.Unavailable, Cause: &Refused{Login: true}, Text: fmt.Sprintf("failed to login: Vault at %s cannot be reached: %s", at, peer.Unreached(err))}
	}

	said := *r
	said.Login = true
	reason, text := r.Reason(), r.Error()
	switch {
	case r.Foreign:
		text = fmt.Sprintf("what answers at %s is no Vault (%s)", at, r)
	case reason == fault.Denied || reason == fault.Invalid || reason == fault.NotFound:
		reason = fault.Denied
		text = fmt.Sprintf("%s: %s", r, s.remedy(r, at))
	case reason == fault.Unavailable:
		text = fmt.Sprintf("%s, at %s", r, at)
	}
	return &fault.Error{Reason: reason, Text: "failed to login: " + text, Cause: &said}
}

// remedy says what to look at where Vault lets a session in by no means.
func (s *Session) remedy(r *Refused, at string) string {
	said := strings.Join(r.Errors, " ")
	noRole := strings.Contains(said, "could not be found") || strings.Contains(said, "invalid role name")
	switch {
	case s.bySecret() != "":
		return fmt.Sprintf("%s does not take what the Secret of nodePublishSecretRef holds, or there is no such mount or namespace (%q)", at, s.login.Namespace)
	case noRole || r.Reason() == fault.NotFound:
		return fmt.Sprintf("at %s there is no such role as %q, or no such mount or namespace (%q)", at, s.login.Role, s.login.Namespace)
	}
	return fmt.Sprintf("%s is not let in: is there such a mount, and do the role's bound names, namespaces and audience (%q) match?", s.Who(), s.audience)
}

// Leased says that a token has issued a lease; Unleased that it is over.
func (b *Broker) Leased(token string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leased[token]++
}

// Unleased takes the lease away, and says whether it was the last one. Of a
// token that a process before this one was given nobody knows that.
func (b *Broker) Unleased(token string) (last bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left, known := b.leased[token]
	if left--; left > 0 {
		b.leased[token] = left
		return false
	}
	delete(b.leased, token)
	return known
}

// RevokeToken ends a token and all that it issued.
func (s *Session) RevokeToken(ctx context.Context, c Credential) error {
	s.broker.keeper.Forget(s.key, func(kept Credential) bool { return kept.Reveal() == c.Reveal() })
	return s.broker.revoke(ctx, c)
}

func (b *Broker) revoke(ctx context.Context, c Credential) error {
	_, err := b.Do(ctx, c.at.Server, Call{Method: http.MethodPost, Path: "auth/token/revoke-self", Namespace: c.at.Namespace, Token: c.Reveal()})
	return err
}

// Restored is a credential that was kept outside of this process.
func (s *Session) Restored(token string) Credential {
	return Credential{token: auth.NewToken(token, time.Time{}), renewable: true, at: s.place()}
}

// closeTime bounds the revocations of a stop.
const closeTime = 5 * time.Second

// Close revokes the tokens that are kept, but for those whose leases go on.
func (b *Broker) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()

	var all sync.WaitGroup
	for _, c := range b.keeper.All() {
		b.mu.Lock()
		inUse := b.leased[c.Reveal()] > 0
		b.mu.Unlock()
		if !inUse {
			all.Go(func() { _ = b.revoke(ctx, c) }) // it ends by itself where that fails
		}
	}
	all.Wait()
	b.clients.Close()
}
