package azure

import (
	"crypto/rand"
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"time"
)

// DefaultTenant is the tenant of everything that names no other.
const DefaultTenant = "11111111-2222-3333-4444-555555555555"

// An App is an application or a managed identity: how it signs in, and who it is
// then.
type App struct {
	ClientID string `json:"clientID"`
	ObjectID string `json:"objectID,omitempty"` // "oid-of-" and the client id where empty
	Tenant   string `json:"tenant,omitempty"`   // DefaultTenant where empty

	Federated    []Federated         `json:"federated,omitempty"`
	Secrets      []string            `json:"secrets,omitempty"`
	Certificates []*x509.Certificate `json:"-"`

	// Binding makes the token proxy of a cluster's identity binding take the
	// tokens of that issuer.
	Binding string `json:"binding,omitempty"`
}

// Federated is a federated identity credential. All three must be equal to the
// token's.
type Federated struct {
	Issuer   string `json:"issuer"`
	Subject  string `json:"subject"`
	Audience string `json:"audience,omitempty"` // TokenExchange where empty
}

// The audiences of tokens, "Workload identity federation" and "Identity bindings".
const (
	TokenExchange   = "api://AzureADTokenExchange"
	IdentityBinding = "api://AKSIdentityBinding"
)

// A Grant gives an application a role on a vault or one object of it.
type Grant struct {
	Scope string `json:"scope"` // "shop", or "shop/secrets/mysql"

	// Role is a built-in role ("Key Vault Secrets User") or an access policy's
	// permission ("secrets get").
	Role     string `json:"role"`
	ClientID string `json:"clientID"`
}

// roles are what Azure's built-in roles allow, "Azure built-in roles for Key
// Vault data plane operations".
var roles = map[string][]string{
	"Key Vault Secrets User":     {"secrets get", "secrets list"},
	"Key Vault Secrets Officer":  {"secrets get", "secrets list", "secrets set", "secrets delete"},
	"Key Vault Certificate User": {"secrets get", "secrets list", "keys get", "keys list", "certificates get", "certificates list"},
	"Key Vault Crypto User":      {"keys get", "keys list"},
	"Key Vault Reader":           {"secrets list", "keys list", "keys get", "certificates list", "certificates get"},
	"Key Vault Administrator": {"secrets get", "secrets list", "secrets set", "secrets delete", "keys get", "keys list",
		"certificates get", "certificates list"},
}

// A caller is who a token speaks for.
type caller struct {
	app      App
	resource string // the token's audience
	expires  time.Time
}

type identities struct {
	mu       sync.RWMutex
	apps     map[string]App // by client id
	grants   []Grant
	tokens   map[string]*caller
	lifetime time.Duration

	system   string            // client id of the node's system assigned identity
	assigned []string          // client ids of the node's user assigned identities
	pods     map[string]string // pod identity: namespace/name to client id
}

func (i *identities) init() {
	i.apps = map[string]App{}
	i.tokens = map[string]*caller{}
	i.pods = map[string]string{}
}

// AddApp registers an application or replaces it.
func (s *Server) AddApp(a App) {
	if a.ObjectID == "" {
		a.ObjectID = "oid-of-" + a.ClientID
	}
	if a.Tenant == "" {
		a.Tenant = DefaultTenant
	}
	a.Federated = slices.Clone(a.Federated)
	for i := range a.Federated {
		if a.Federated[i].Audience == "" {
			a.Federated[i].Audience = TokenExchange
		}
	}
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.apps[a.ClientID] = a
}

// Grant gives an application a role. A role that the fake does not know is a
// mistake in the test and panics.
func (s *Server) Grant(scope, role, clientID string) {
	kind, _, _ := strings.Cut(role, " ")
	if roles[role] == nil && kind != "secrets" && kind != "keys" && kind != "certificates" {
		panic("azure: this fake knows no role " + role)
	}
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.grants = append(s.grants, Grant{scope, role, clientID})
}

// Revoke takes back every grant on a scope, or of all where it is empty.
func (s *Server) Revoke(scope string) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.grants = slices.DeleteFunc(s.grants, func(g Grant) bool { return scope == "" || g.Scope == scope })
}

// RevokeAll forgets every issued token.
func (s *Server) RevokeAll() {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	clear(s.tokens)
}

// SetLifetime makes tokens issued from now on valid for d; 0 goes back to a day.
func (s *Server) SetLifetime(d time.Duration) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.lifetime = d
}

// SetNode gives the node, and so IMDS, its identities by client id; system is ""
// where there is none.
func (s *Server) SetNode(system string, assigned ...string) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.system, s.assigned = system, assigned
}

// AssignPod gives a pod an identity through NMI.
func (s *Server) AssignPod(namespace, name, clientID string) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.pods[namespace+"/"+name] = clientID
}

func (s *Server) app(clientID string) (App, bool) {
	s.identities.mu.RLock()
	defer s.identities.mu.RUnlock()
	a, ok := s.apps[clientID]
	if !ok && s.opts.AcceptAnyToken {
		return App{ClientID: clientID, ObjectID: "oid-of-" + clientID, Tenant: DefaultTenant}, true
	}
	return a, ok
}

// hasTenant is true of a tenant that an application or a vault is in.
func (s *Server) hasTenant(tenant string) bool {
	if s.opts.AcceptAnyToken || tenant == DefaultTenant {
		return true
	}
	s.identities.mu.RLock()
	defer s.identities.mu.RUnlock()
	for _, a := range s.apps {
		if a.Tenant == tenant {
			return true
		}
	}
	return false
}

// issue makes an access token. Its text means nothing to clients.
func (s *Server) issue(a App, resource string) (token string, lifetime time.Duration) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	lifetime = 24*time.Hour - time.Second
	if s.lifetime > 0 {
		lifetime = s.lifetime
	}
	now := s.opts.Now()
	if len(s.tokens)%1024 == 1023 {
		for t, old := range s.tokens {
			if old.expires.Before(now.Add(-time.Hour)) {
				delete(s.tokens, t)
			}
		}
	}
	token = "fake." + rand.Text() + rand.Text()
	s.tokens[token] = &caller{app: a, resource: resource, expires: now.Add(lifetime)}
	return token, lifetime
}

func (s *Server) token(bearer string) *caller {
	s.identities.mu.RLock()
	defer s.identities.mu.RUnlock()
	return s.tokens[bearer]
}

// may says whether an application has a permission ("secrets get") on an object,
// or on a vault where the object is empty.
func (s *Server) may(a App, permission, vault, object string) bool {
	if s.opts.AcceptAnyToken {
		return true
	}
	s.identities.mu.RLock()
	defer s.identities.mu.RUnlock()
	return slices.ContainsFunc(s.grants, func(g Grant) bool {
		covers := g.Scope == vault || object != "" && g.Scope == vault+"/"+object
		allows := g.Role == permission || slices.Contains(roles[g.Role], permission)
		return covers && allows && g.ClientID == a.ClientID
	})
}
