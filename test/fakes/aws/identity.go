package aws

import (
	"crypto/rand"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

// A Rule allows actions on resources. Both are patterns with * and ?, as in an
// identity-based policy; actions are matched in any case.
type Rule struct {
	Actions   []string `json:"actions"`
	Resources []string `json:"resources"` // empty is "*"
}

// AllowAll permits everything.
var AllowAll = []Rule{{Actions: []string{"*"}, Resources: []string{"*"}}}

// A Role is an IAM role: who may assume it, and what it may do then.
type Role struct {
	ARN string `json:"arn"`

	// Subjects are the patterns of the token subjects that may assume the role
	// with a web identity ("system:serviceaccount:shop:*").
	Subjects []string `json:"subjects,omitempty"`
	Issuer   string   `json:"issuer,omitempty"` // the only issuer trusted; "" is any that is registered

	// AssumableBy are the patterns of the role ARNs that may assume the role
	// with AssumeRole, under the conditions that follow.
	AssumableBy  []string          `json:"assumableBy,omitempty"`
	ExternalID   string            `json:"externalId,omitempty"`
	RequiredTags map[string]string `json:"requiredTags,omitempty"` // session tags: key to a pattern of the value

	Permissions []Rule        `json:"permissions,omitempty"` // none: nothing is allowed
	MaxSession  time.Duration `json:"-"`                     // an hour where 0, as a new role has it
}

// An Association gives a service account a role through Pod Identity.
type Association struct {
	Namespace      string `json:"namespace"`
	ServiceAccount string `json:"serviceAccount"`
	RoleARN        string `json:"roleArn"`
}

// A session is a key that requests are signed with.
type session struct {
	id, secret, token string
	expires           time.Time
	arn               string // of the caller, as errors and GetCallerIdentity name it
	userID            string
	roleARN           string
	name              string
	tags              map[string]string
	rules             []Rule
}

type identities struct {
	mu           sync.RWMutex
	roles        map[string]Role
	associations map[[2]string]string
	sessions     map[string]*session
	lifetime     time.Duration
}

func (i *identities) init() {
	i.roles = map[string]Role{}
	i.associations = map[[2]string]string{}
	i.sessions = map[string]*session{}
}

// AddRole registers a role or replaces it. Sessions that exist keep what they
// were given.
func (s *Server) AddRole(r Role) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.roles[r.ARN] = r
}

// Associate registers a Pod Identity association or replaces it.
func (s *Server) Associate(a Association) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.associations[[2]string{a.Namespace, a.ServiceAccount}] = a.RoleARN
}

// SetLifetime makes credentials issued from now on valid for d, whatever the
// caller asks for; 0 goes back to what it asks for.
func (s *Server) SetLifetime(d time.Duration) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.lifetime = d
}

// AddKey registers a user's long-term access key.
func (s *Server) AddKey(id, secret, userARN string, rules []Rule) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.sessions[id] = &session{id: id, secret: secret, arn: userARN, userID: "AIDA" + id, rules: rules}
}

// RevokeAll forgets every issued credential, as a role's "revoke active
// sessions" makes them useless.
func (s *Server) RevokeAll() {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	clear(s.sessions)
}

func (s *Server) session(id string) *session {
	s.identities.mu.RLock()
	defer s.identities.mu.RUnlock()
	return s.sessions[id]
}

func (s *Server) role(arn string) (Role, bool) {
	s.identities.mu.RLock()
	defer s.identities.mu.RUnlock()
	r, ok := s.roles[arn]
	return r, ok
}

// issue makes credentials of a role.
func (s *Server) issue(r Role, region, name string, lifetime time.Duration, tags map[string]string) *session {
	account, role := roleParts(r.ARN)
	now := s.opts.Now()
	who := &session{
		id: "ASIA" + rand.Text()[:16], secret: rand.Text() + rand.Text()[:14], token: "FwoGZXIvYXdzE" + rand.Text() + rand.Text(),
		arn:     "arn:" + partition(region) + ":sts::" + account + ":assumed-role/" + role + "/" + name,
		userID:  "AROA" + strings.ToUpper(role) + ":" + name,
		roleARN: r.ARN, name: name, tags: tags, rules: r.Permissions,
	}
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	if s.lifetime > 0 {
		lifetime = s.lifetime
	}
	who.expires = now.Add(lifetime).Truncate(time.Second)
	s.sessions[who.id] = who
	if len(s.sessions)%1024 == 0 {
		s.sweep(now.Add(-time.Hour))
	}
	return who
}

// sweep forgets credentials that expired so long ago that nobody can want to
// hear of it.
func (i *identities) sweep(before time.Time) {
	for id, who := range i.sessions {
		if who.token != "" && who.expires.Before(before) {
			delete(i.sessions, id)
		}
	}
}

// roleParts are the account and the name of a role, without its path. What is
// not an ARN is a role of the default account, for AcceptAnyToken.
func roleParts(arn string) (account, name string) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 {
		return Account, arn
	}
	return parts[4], path.Base(parts[5])
}

// authorize checks one action on one resource.
func (q *request) authorize(action, resource string) *apiError {
	if q.who.allows(action, resource) {
		return nil
	}
	return badRequest("AccessDeniedException",
		"User: %s is not authorized to perform: %s on resource: %s because no identity-based policy allows the %s action",
		q.who.arn, action, resource, action)
}

func (who *session) allows(action, resource string) bool {
	return slices.ContainsFunc(who.rules, func(r Rule) bool {
		return slices.ContainsFunc(r.Actions, func(p string) bool { return glob(strings.ToLower(p), strings.ToLower(action)) }) &&
			(len(r.Resources) == 0 || matchesAny(r.Resources, resource))
	})
}

func matchesAny(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return glob(p, s) })
}

// glob matches * (any text, separators too) and ? (one character).
func glob(pattern, s string) bool {
	star, mark := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// trusted finds the role that a verified token may assume. Unknown roles and
// untrusted subjects are told apart by nobody, in AWS neither.
func (s *Server) trusted(roleARN string, c oidc.Claims) (Role, *apiError) {
	r, ok := s.role(roleARN)
	if ok && (r.Issuer == "" || r.Issuer == c.Issuer) && matchesAny(r.Subjects, c.Subject) {
		return r, nil
	}
	return Role{}, &apiError{Status: http.StatusForbidden, Code: "AccessDenied", Message: "Not authorized to perform sts:AssumeRoleWithWebIdentity"}
}

// lax is the role of AcceptAnyToken: as registered, or one that may do all.
func (s *Server) lax(roleARN string) Role {
	if r, ok := s.role(roleARN); ok {
		return r
	}
	return Role{ARN: roleARN, Permissions: AllowAll}
}
