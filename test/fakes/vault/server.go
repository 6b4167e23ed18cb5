package vault

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

// Server is the fake. All methods are safe for concurrent use.
type Server struct {
	*Gate
	oidc.Issuers
	now func() time.Time

	mu      sync.Mutex
	sealed  bool
	count   int // of what was issued
	roles   map[string]Role
	own     map[string][]string // paths by subject, in the place of the role's
	tokens  map[string]*token
	secrets map[string][]version
	lent    map[string]Lent
	leases  map[string]*Lease
}

// Role of the auth method jwt.
type Role struct {
	Namespace string // of Vault; "" is the root
	Mount     string // of the method; default jwt
	Name      string
	Audience  string        // default vault
	Subjects  []string      // globs, such as system:serviceaccount:shop:*
	Paths     []string      // of what may be read; a * at the end is all that begins so
	TTL       time.Duration // of its tokens, which can be renewed without end; default 10m
}

func (r Role) key() string { return r.Namespace + " auth/" + r.Mount + " " + r.Name }

func (r Role) defaults() Role {
	if r.Mount == "" {
		r.Mount = "jwt"
	}
	if r.Audience == "" {
		r.Audience = "vault"
	}
	if r.TTL == 0 {
		r.TTL = 10 * time.Minute
	}
	return r
}

// New makes a server that holds nothing and trusts nobody; nil is the real
// clock.
func New(now func() time.Time) *Server {
	if now == nil {
		now = time.Now
	}
	s := &Server{
		now: now, roles: map[string]Role{}, own: map[string][]string{}, tokens: map[string]*token{}, secrets: map[string][]version{},
		lent: map[string]Lent{}, leases: map[string]*Lease{},
	}
	s.Gate = Before(http.HandlerFunc(s.serve), now)
	return s
}

// AddRole adds a role, or puts it in the place of the one of that name: what its
// tokens may read changes with it.
func (s *Server) AddRole(r Role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r = r.defaults()
	s.roles[r.key()] = r
}

// Allow gives a subject paths of its own, in the place of its role's; tokens
// that there are have them at once. Nil is none.
func (s *Server) Allow(subject string, paths []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own[subject] = paths
}

// Seal seals the server, or unseals it.
func (s *Server) Seal(sealed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = sealed
}

// asked is one request.
type asked struct {
	method, namespace, path, version, token string
	body                                    struct {
		JWT     string `json:"jwt"`
		Role    string `json:"role"`
		LeaseID string `json:"lease_id"`
	}
}

// answer is what Vault says to it. Data of a 404 is of a version that is gone.
type answer struct {
	status int
	errors []string
	data   any
	auth   map[string]any
	lease  *Lease
	left   time.Duration // of the lease
}

func refused(status int, format string, args ...any) answer {
	return answer{status: status, errors: []string{fmt.Sprintf(format, args...)}}
}

// denied is a policy's refusal, in the core's own form.
func denied() answer {
	return refused(http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
}

func nothing() answer { return answer{status: http.StatusNotFound} }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	a := asked{
		method: r.Method, namespace: strings.Trim(r.Header.Get("X-Vault-Namespace"), "/"), token: r.Header.Get("X-Vault-Token"),
		path: strings.TrimPrefix(r.URL.Path, "/v1/"), version: r.URL.Query().Get("version"),
	}
	if raw, err := io.ReadAll(r.Body); err == nil && len(raw) > 0 {
		_ = json.Unmarshal(raw, &a.body)
	}
	if r.URL.Query().Get("list") == "true" {
		a.method = "LIST"
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	s.judge(a).write(w, fmt.Sprintf("request-%d", s.count))
}

// judge answers a request. The caller locks.
func (s *Server) judge(a asked) answer {
	mount, login := strings.CutSuffix(strings.TrimPrefix(a.path, "auth/"), "/login")
	switch {
	case s.sealed:
		return refused(http.StatusServiceUnavailable, "Vault is sealed")
	case login:
		return s.login(a, mount)
	}

	t := s.tokens[a.token]
	if t == nil || !s.now().Before(t.ends) || t.role.Namespace != a.namespace {
		return refused(http.StatusForbidden, "permission denied")
	}
	switch a.path {
	case "auth/token/renew-self":
		t.ends = s.now().Add(t.role.TTL)
		return t.answer()
	case "auth/token/revoke-self":
		s.end(t)
		return answer{status: http.StatusNoContent}
	case "sys/leases/renew":
		return s.renew(a.body.LeaseID)
	}
	paths, own := s.own[t.subject]
	if !own {
		paths = s.roles[t.role.key()].Paths
	}
	if !allow(paths, a.path) {
		return denied()
	}

	if a.path == "sys/leases/revoke" {
		return s.revoke(a.body.LeaseID)
	}
	if lent, ok := s.lent[a.namespace+" "+a.path]; ok && a.method == http.MethodGet {
		return s.lend(t, a.path, lent)
	}
	return s.kv(a)
}

func allow(paths []string, p string) bool {
	return slices.ContainsFunc(paths, func(glob string) bool {
		if prefix, ok := strings.CutSuffix(glob, "*"); ok {
			return strings.HasPrefix(p, prefix)
		}
		return glob == p
	})
}

func (r Role) binds(subject string) bool {
	return slices.ContainsFunc(r.Subjects, func(glob string) bool { ok, _ := path.Match(glob, subject); return ok })
}

// write is the answer in Vault's own form.
func (a answer) write(w http.ResponseWriter, request string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	if a.status == http.StatusNoContent {
		return
	}
	if a.status >= 300 && a.data == nil {
		_ = json.NewEncoder(w).Encode(map[string][]string{"errors": append([]string{}, a.errors...)})
		return
	}

	said := map[string]any{
		"request_id": request, "lease_id": "", "renewable": false, "lease_duration": 0,
		"data": a.data, "wrap_info": nil, "warnings": nil, "auth": nil,
	}
	if a.auth != nil {
		said["auth"] = a.auth
	}
	if a.lease != nil {
		said["lease_id"], said["renewable"], said["lease_duration"] = a.lease.ID, true, int(a.left.Round(time.Second).Seconds())
	}
	_ = json.NewEncoder(w).Encode(said)
}
