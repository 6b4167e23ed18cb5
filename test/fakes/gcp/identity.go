package gcp

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

// DefaultNumber is the number of every project that was not given one.
const DefaultNumber = "123456789"

// A Grant gives a member a role on a resource and all below it, as an IAM
// policy binding does.
type Grant struct {
	// Resource is "projects/P", a secret's or parameter's name, or
	// "projects/-/serviceAccounts/EMAIL".
	Resource string `json:"resource"`
	Role     string `json:"role"`

	// Member is "serviceAccount:EMAIL", "principal://…", "principalSet://…/*",
	// "principalSet://…/namespace/NS", or the older
	// "serviceAccount:POOL[NS/NAME]" of GKE.
	Member string `json:"member"`
}

// permissions of the predefined roles, IAM's "Roles and permissions" pages.
var permissions = map[string][]string{
	"roles/secretmanager.secretAccessor": {"secretmanager.versions.access"},
	"roles/secretmanager.viewer": {"secretmanager.secrets.get", "secretmanager.secrets.list",
		"secretmanager.versions.get", "secretmanager.versions.list"},
	"roles/secretmanager.secretVersionAdder": {"secretmanager.versions.add"},
	"roles/secretmanager.admin": {"secretmanager.secrets.get", "secretmanager.secrets.list", "secretmanager.secrets.create",
		"secretmanager.versions.get", "secretmanager.versions.list", "secretmanager.versions.access", "secretmanager.versions.add"},
	"roles/parametermanager.parameterAccessor": {"parametermanager.parameterVersions.get", "parametermanager.parameterVersions.render"},
	"roles/parametermanager.parameterViewer": {"parametermanager.parameters.get", "parametermanager.parameters.list",
		"parametermanager.parameterVersions.list"},
	"roles/iam.workloadIdentityUser": {"iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.getOpenIdToken"},
	"roles/iam.serviceAccountTokenCreator": {"iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.implicitDelegation",
		"iam.serviceAccounts.getOpenIdToken"},
}

// A Provider is what STS exchanges tokens for: a provider of a workload identity
// pool, a GKE cluster or a fleet membership.
type Provider struct {
	// Audience is what STS is asked for:
	//
	//	identitynamespace:P.svc.id.goog:https://container.googleapis.com/v1/projects/P/locations/L/clusters/C
	//	identitynamespace:P.svc.id.goog:https://gkehub.googleapis.com/projects/P/locations/L/memberships/M
	//	//iam.googleapis.com/projects/N/locations/global/workloadIdentityPools/POOL/providers/PROVIDER
	Audience string `json:"audience"`
	Issuer   string `json:"issuer"`

	// TokenAudiences may stand in a token. Default: the pool of an
	// identitynamespace, and else the audience with and without https:.
	TokenAudiences []string `json:"tokenAudiences,omitempty"`

	Subjects []string `json:"subjects,omitempty"` // an attribute condition on the claim sub; none: everybody
	Disabled bool     `json:"disabled,omitempty"`
}

// GKE is the Provider of a cluster.
func GKE(project, location, cluster, issuer string) Provider {
	return Provider{Issuer: issuer, Audience: fmt.Sprintf("identitynamespace:%s.svc.id.goog:"+
		"https://container.googleapis.com/v1/projects/%s/locations/%s/clusters/%s", project, project, location, cluster)}
}

// pool is the workload identity pool: P.svc.id.goog, or POOL.
func (p Provider) pool() (number, pool string) {
	if rest, ok := strings.CutPrefix(p.Audience, "identitynamespace:"); ok {
		pool, _, _ = strings.Cut(rest, ":")
		return "", pool
	}
	parts := strings.Split(p.Audience, "/")
	if len(parts) != 11 {
		return "", ""
	}
	return parts[4], parts[8]
}

func (p Provider) tokenAudiences() []string {
	if p.TokenAudiences != nil {
		return p.TokenAudiences
	}
	if strings.HasPrefix(p.Audience, "identitynamespace:") {
		_, pool := p.pool()
		return []string{pool}
	}
	return []string{p.Audience, "https:" + p.Audience}
}

// A caller is who a token speaks for.
type caller struct {
	principal string   // as a policy names it: principal://… or serviceAccount:…
	members   []string // all the names that a binding may use
	expires   time.Time
}

type identities struct {
	mu        sync.RWMutex
	providers map[string]Provider
	grants    []Grant
	accounts  map[string]*account // by email
	numbers   map[string]string   // of projects, by id
	tokens    map[string]*caller
	lifetime  time.Duration
}

func (i *identities) init() {
	i.providers = map[string]Provider{}
	i.accounts = map[string]*account{}
	i.numbers = map[string]string{}
	i.tokens = map[string]*caller{}
}

// AddProvider registers a provider or replaces it. Its issuer's keys are given
// with AddIssuer.
func (s *Server) AddProvider(p Provider) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.providers[p.Audience] = p
}

// AddProject gives a project a number; DefaultNumber is that of every other.
func (s *Server) AddProject(id, number string) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.numbers[id] = number
}

func (i *identities) number(project string) string {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if n := i.numbers[project]; n != "" {
		return n
	}
	return DefaultNumber
}

// Grant binds a member to a role. A role that the fake does not know is a
// mistake in the test and panics.
func (s *Server) Grant(resource, role, member string) {
	if permissions[role] == nil {
		panic("gcp: this fake knows no role " + role)
	}
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.grants = append(s.grants, Grant{resource, role, member})
}

// Revoke takes back every grant on a resource, or of all where it is empty.
func (s *Server) Revoke(resource string) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.grants = slices.DeleteFunc(s.grants, func(g Grant) bool { return resource == "" || g.Resource == resource })
}

// RevokeAll forgets every issued token.
func (s *Server) RevokeAll() {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	clear(s.tokens)
}

// SetLifetime makes tokens issued from now on valid for d, whatever the caller
// asks for; 0 goes back to what it asks for.
func (s *Server) SetLifetime(d time.Duration) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.lifetime = d
}

// issue makes an access token.
func (s *Server) issue(who caller, lifetime time.Duration) (token string, expires time.Time) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	if s.lifetime > 0 {
		lifetime = s.lifetime
	}
	now := s.opts.Now()
	who.expires = now.Add(lifetime)
	if len(s.tokens)%1024 == 1023 {
		for t, old := range s.tokens {
			if old.expires.Before(now.Add(-time.Hour)) {
				delete(s.tokens, t)
			}
		}
	}
	token = "ya29.d." + rand.Text() + rand.Text()
	s.tokens[token] = &who
	return token, who.expires
}

// authenticate finds who a bearer token speaks for: one that was issued here, or
// a JWT that a service account's key has signed for itself.
func (s *Server) authenticate(bearer string) (*caller, error) {
	if s.opts.AcceptAnyToken && bearer != "" {
		return &caller{principal: "anybody"}, nil
	}
	if bearer == "" {
		return nil, status.Error(codes.Unauthenticated, "Request is missing required authentication credential. "+
			"Expected OAuth 2 access token, login cookie or other valid authentication credential. "+
			"See https://developers.google.com/identity/sign-in/web/devconsole-project.")
	}

	s.identities.mu.RLock()
	who := s.tokens[bearer]
	s.identities.mu.RUnlock()
	if who == nil {
		who = s.selfSigned(bearer)
	}
	if who == nil || !s.opts.Now().Before(who.expires) {
		return nil, with(status.New(codes.Unauthenticated, "Request had invalid authentication credentials. "+
			"Expected OAuth 2 access token, login cookie or other valid authentication credential. "+
			"See https://developers.google.com/identity/sign-in/web/devconsole-project."),
			&errdetails.ErrorInfo{Reason: "ACCESS_TOKEN_EXPIRED", Domain: "googleapis.com"}).Err()
	}
	return who, nil
}

// federated is who a verified token of a provider speaks for.
func (s *Server) federated(p Provider, claims oidc.Claims) caller {
	number, pool := p.pool()
	subject := claims.Subject
	gke := number == ""
	if gke {
		project, _, _ := strings.Cut(pool, ".")
		number = s.number(project)
		subject = "ns/" + claims.Kubernetes.Namespace + "/sa/" + claims.Kubernetes.ServiceAccount.Name
	}

	base := "iam.googleapis.com/projects/" + number + "/locations/global/workloadIdentityPools/" + pool
	who := caller{principal: "principal://" + base + "/subject/" + subject}
	who.members = []string{who.principal, "principalSet://" + base + "/*"}
	if gke {
		k := claims.Kubernetes
		who.members = append(who.members,
			"principalSet://"+base+"/namespace/"+k.Namespace,
			"serviceAccount:"+pool+"["+k.Namespace+"/"+k.ServiceAccount.Name+"]")
	}
	return who
}

func asAccount(email string) caller {
	member := "serviceAccount:" + email
	return caller{principal: member, members: []string{member}}
}

// may says whether a caller has a permission on a resource.
func (s *Server) may(who *caller, permission, resource string) bool {
	if s.opts.AcceptAnyToken {
		return true
	}
	on := parents(resource)
	s.identities.mu.RLock()
	defer s.identities.mu.RUnlock()
	return slices.ContainsFunc(s.grants, func(g Grant) bool {
		return slices.Contains(permissions[g.Role], permission) && slices.Contains(who.members, g.Member) &&
			slices.Contains(on, g.Resource)
	})
}

// authorize checks a permission of the request's caller. Whoever may not learns
// nothing of whether the resource exists.
func (s *Server) authorize(ctx context.Context, permission, resource string) error {
	who, _ := ctx.Value(callerKey{}).(*caller)
	if s.may(who, permission, resource) {
		return nil
	}
	return with(status.Newf(codes.PermissionDenied,
		"Permission '%s' denied for resource '%s' (or it may not exist).", permission, resource),
		&errdetails.ErrorInfo{Reason: "IAM_PERMISSION_DENIED", Domain: "iam.googleapis.com",
			Metadata: map[string]string{"permission": permission, "resource": resource}}).Err()
}

func jsonText(v any) string {
	b, _ := json.Marshal(v) // maps of texts
	return string(b)
}
