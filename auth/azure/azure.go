// Package azure turns an Identity into an access token of Microsoft Entra: by
// workload identity (of the pod's own token), as a service principal that the
// tenant brings, by the token proxy of an AKS identity binding, or as the node's
// own identity (managed identity, pod identity).
//
// The store of Key Vault calls it: Open says who an identity is to Entra and
// contacts nobody but, where configuration does not say it, the Kubernetes API
// server; Session.Token signs in, or hands out what a sign-in not long ago gave.
// Authorities are never asked for discovery: what a cloud's are is known. Nothing
// here logs, and no error quotes a token or a secret; of an answer only the
// service's own sentence, on one line and cut (Sentence).
package azure

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/keep"
	"github.com/coffre-csi/coffre/auth/kubernetes"
)

// Annotations of a ServiceAccount, as Azure's workload identity webhook has
// them: whom its pods sign in as, and in which tenant.
const (
	ClientAnnotation = "azure.workload.identity/client-id"
	TenantAnnotation = "azure.workload.identity/tenant-id"
)

// Audiences of the pod's tokens.
const (
	TokenExchangeAudience   = "api://AzureADTokenExchange"
	IdentityBindingAudience = "api://AKSIdentityBinding"
)

// Method is a way to sign in.
type Method string

const (
	WorkloadIdentity Method = "workload-identity"
	// ServicePrincipal is the application whose secret or certificate the Secret
	// of nodePublishSecretRef holds.
	ServicePrincipal Method = "service-principal"
	// TokenProxy is the identity binding of an AKS cluster.
	TokenProxy Method = "token-proxy"
	// ManagedIdentity and PodIdentity are the node's to give. Whoever calls sees
	// to it that the platform allows them.
	ManagedIdentity Method = "managed-identity"
	PodIdentity     Method = "pod-identity"
)

// Methods are all of them, for an error.
const Methods = "workload-identity, service-principal, token-proxy, managed-identity and pod-identity"

// Known says whether there is such a method; the empty one is workload identity.
func (m Method) Known() bool {
	switch m {
	case "", WorkloadIdentity, ServicePrincipal, TokenProxy, ManagedIdentity, PodIdentity:
		return true
	}
	return false
}

// OfNode says whether it signs in as an identity that the node has.
func (m Method) OfNode() bool { return m == ManagedIdentity || m == PodIdentity }

// Login is how a store signs in.
type Login struct {
	Method Method
	Cloud  Cloud
	Tenant string // an id, a domain or adfs; empty: the annotation's
	Client string // empty: the annotation's; of a managed identity the system assigned one
}

// Options of a Broker. Network is required.
type Options struct {
	Network         *Network
	ServiceAccounts auth.ServiceAccounts
	Metrics         auth.SignIns // kinds: azure-entra, azure-proxy, azure-imds, azure-nmi
	Binding         Binding
	NMI             string // address of pod identity's node server; default http://localhost:2579
	// Local reaches the node's metadata server; nil for the network.
	Local *http.Client
	Now   func() time.Time
}

// Broker makes and keeps tokens. It is safe for concurrent use.
type Broker struct {
	opts        Options
	annotations *kubernetes.Optional
	keeper      *keep.Keeper[auth.Token]
	proxy       *proxy
}

// New makes a Broker; it contacts nobody.
func New(o Options) *Broker {
	o.NMI = cmp.Or(o.NMI, "http://localhost:2579")
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Local == nil {
		o.Local = local()
	}

	annotations := kubernetes.NewOptional(o.ServiceAccounts, o.Now)
	return &Broker{opts: o, annotations: annotations, proxy: newProxy(o.Binding), keeper: keep.New(keep.Options[auth.Token]{
		Expires: func(t auth.Token) (time.Time, bool) { return t.Expires, !t.Expires.IsZero() }, Now: o.Now,
	})}
}

// Close closes the connections of sign-ins.
func (b *Broker) Close() {
	b.opts.Network.Close()
	b.proxy.close()
}

// Session is an identity as Entra will see it.
type Session struct {
	broker  *Broker
	id      auth.Identity
	login   Login
	token   auth.Token // the driver's, of workload identity and the token proxy
	service principal
}

// Grammars, by Entra's reference. Both go into a path or a form, never into a
// host.
var (
	tenantName = regexp.MustCompile(`^[0-9a-zA-Z.-]{1,128}$`)
	clientName = regexp.MustCompile(`^[0-9a-zA-Z._-]{1,128}$`)
)

// ValidTenant says whether a text can be a tenant's id or domain.
func ValidTenant(text string) bool { return tenantName.MatchString(text) }

// ValidClient says whether a text can be a client id.
func ValidClient(text string) bool { return clientName.MatchString(text) }

// Open finds out who id is to Entra.
func (b *Broker) Open(ctx context.Context, id auth.Identity, login Login) (*Session, error) {
	login.Method = cmp.Or(login.Method, WorkloadIdentity)
	s := &Session{broker: b, id: id, login: login}
	if !login.Method.OfNode() {
		if err := s.annotated(ctx); err != nil {
			return nil, err
		}
		if s.login.Tenant == "" {
			return nil, setup(fault.Precondition, "tenantId is not provided: set the store's tenantID, or the annotation %s of %s", TenantAnnotation, id)
		}
	}

	var err error
	switch login.Method {
	case WorkloadIdentity:
		err = s.federated("workload identity tokens", TokenExchangeAudience)
	case TokenProxy:
		err = s.federated("service account token for identity binding", IdentityBindingAudience)
	case ServicePrincipal:
		s.service, err = readPrincipal(id.Secrets)
		s.login.Client = s.service.client
	case ManagedIdentity, PodIdentity:
	default:
		err = setup(fault.Invalid, "%.40q is no way to sign in to Entra", login.Method)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// federated finds the pod's token for an audience.
func (s *Session) federated(what, audience string) (err error) {
	if s.login.Client == "" {
		if s.login.Method == TokenProxy {
			return setup(fault.Precondition, "clientID is required for identity binding")
		}
		return setup(fault.Precondition, "it is not known whom %s signs in as: set clientID, or the annotation %s of it", s.id, ClientAnnotation)
	}

	s.token, _, err = s.id.TokenFor(audience)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, auth.ErrNoTokens) && s.login.Method == TokenProxy:
		return setup(fault.Precondition, "service account tokens are required for identity binding: %s", err)
	case errors.Is(err, auth.ErrNoTokens):
		return setup(fault.Precondition, "failed to parse %s, error: service account tokens not found: %s", what, err)
	}
	return setup(fault.Precondition, "failed to parse %s, error: token for audience %s not found: %s", what, audience, err)
}

// annotated reads from the ServiceAccount what the store does not say. Where
// nobody lets Coffre read ServiceAccounts that is nothing.
func (s *Session) annotated(ctx context.Context) error {
	complete := s.login.Tenant != "" && (s.login.Client != "" || s.login.Method == ServicePrincipal)
	if complete {
		return nil
	}

	for key, value := range map[string]*string{ClientAnnotation: &s.login.Client, TenantAnnotation: &s.login.Tenant} {
		if *value != "" {
			continue
		}
		text, err := s.broker.annotations.Annotation(ctx, s.id.Namespace, s.id.ServiceAccount, key)
		if err != nil {
			return setup(fault.ReasonOf(err), "the annotation %s of %s cannot be read: %s", key, s.id, err)
		}
		*value = strings.TrimSpace(text)
	}

	if s.login.Client != "" && !ValidClient(s.login.Client) {
		return setup(fault.Invalid, "%.60q, the annotation %s of %s, is no client id", s.login.Client, ClientAnnotation, s.id)
	}
	if s.login.Tenant != "" && !ValidTenant(s.login.Tenant) {
		return setup(fault.Invalid, "%.60q, the annotation %s of %s, is no tenant", s.login.Tenant, TenantAnnotation, s.id)
	}
	return nil
}

// Principal tells sessions of one service account apart. It is for memory only.
func (s *Session) Principal() string {
	parts := []string{string(s.login.Method), s.login.Cloud.Authority, s.login.Tenant, s.login.Client}
	switch s.login.Method {
	case ServicePrincipal:
		parts = append(parts, s.id.Secrets.Digest())
	case PodIdentity:
		parts = append(parts, s.id.Pod.Name)
	}
	return strings.Join(parts, "\x00")
}

// PodScoped says whether two pods of one service account may be two identities.
func (s *Session) PodScoped() bool { return s.login.Method == PodIdentity }

// Client is the client id that is signed in as; "" where the node knows it.
func (s *Session) Client() string { return s.login.Client }

// Tenant is the directory that tokens come from; "" where the node knows it.
func (s *Session) Tenant() string { return s.login.Tenant }

// Who names the session in an error.
func (s *Session) Who() string {
	switch {
	case s.login.Method == PodIdentity:
		return "the pod identity of " + s.id.String()
	case s.login.Method == ManagedIdentity && s.login.Client == "":
		return "the node's system assigned identity"
	case s.login.Method == ManagedIdentity:
		return "the node's identity " + s.login.Client
	}
	return "client " + s.login.Client + " (" + s.id.String() + ")"
}

// key is the keeper's, of a token for a resource. An identity of the node is the
// same whoever asks.
func (s *Session) key(resource string) string {
	owner := s.id.Namespace + "\x00" + s.id.ServiceAccount
	if s.login.Method == ManagedIdentity {
		owner = ""
	}
	return strings.Join([]string{resource, owner, s.Principal()}, "\x00")
}

// Ready says whether a token for a resource is kept, so that Token asks nobody.
func (s *Session) Ready(resource string) bool {
	_, ok := s.broker.keeper.Known(s.key(resource))
	return ok
}

// Token is one for a resource (https://vault.azure.net), good for at least a
// minute where Entra gives any for that long.
func (s *Session) Token(ctx context.Context, resource string) (auth.Token, error) {
	ways := map[Method]func(context.Context, auth.Token, string) (auth.Token, error){
		WorkloadIdentity: s.assert, ServicePrincipal: s.prove, TokenProxy: s.askProxy,
		ManagedIdentity: s.askNode, PodIdentity: s.askNMI,
	}
	exchange := func(ctx context.Context, t auth.Token) (auth.Token, error) {
		return ways[s.login.Method](ctx, t, resource)
	}
	return s.broker.keeper.Get(ctx, keep.Asked[auth.Token]{
		Key: s.key(resource), Place: s.login.Cloud.Authority, Namespace: s.id.Namespace, Token: s.token, Exchange: exchange,
	})
}

// Forget drops a token that its vault no longer takes.
func (s *Session) Forget(resource string, t auth.Token) {
	s.broker.keeper.Forget(s.key(resource), func(kept auth.Token) bool { return kept.Reveal() == t.Reveal() })
}
