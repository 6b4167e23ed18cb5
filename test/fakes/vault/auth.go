package vault

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

// token is one that the fake issued.
type token struct {
	text, subject string
	role          Role
	ends          time.Time
}

func (t *token) answer() answer {
	return answer{status: http.StatusOK, auth: map[string]any{
		"client_token": t.text, "renewable": true, "lease_duration": int(t.role.TTL.Seconds()), "token_type": "service",
	}}
}

// login judges a token in the order of the core: the role, the signature and
// times, the audience, the subject. The caller locks.
func (s *Server) login(a asked, mount string) answer {
	role, ok := s.roles[Role{Namespace: a.namespace, Mount: mount, Name: a.body.Role}.key()]
	if !ok && !s.mounted(a.namespace, mount) {
		return refused(http.StatusForbidden, "permission denied")
	}
	claims, err := s.VerifyToken(a.body.JWT)
	now := float64(s.now().Unix())
	switch {
	case !ok:
		return refused(http.StatusBadRequest, "role %q could not be found", a.body.Role)
	case err != nil:
		return refused(http.StatusBadRequest, "error validating token: error verifying token signature: no known key successfully validated the token signature")
	case now >= claims.Expires:
		return refused(http.StatusBadRequest, "error validating token: invalid expiration time (exp) claim: token is expired")
	case !slices.Contains(claims.Audience, role.Audience):
		return refused(http.StatusBadRequest, "error validating token: invalid audience (aud) claim: audience claim does not match any expected audience")
	case !role.binds(claims.Subject):
		return refused(http.StatusBadRequest, `error validating claims: claim "sub" does not match any associated bound claim values`)
	}

	t := &token{text: fmt.Sprintf("hvs.%08d", s.count), subject: claims.Subject, role: role, ends: s.now().Add(role.TTL)}
	s.tokens[t.text] = t
	return t.answer()
}

func (s *Server) mounted(namespace, mount string) bool {
	for _, r := range s.roles {
		if r.Namespace == namespace && r.Mount == mount {
			return true
		}
	}
	return false
}

// end ends a token, and with it all that it was issued. The caller locks.
func (s *Server) end(t *token) { t.ends = earlier(t.ends, s.now()) }

// RevokeAll ends every token, and all leases with them.
func (s *Server) RevokeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tokens {
		s.end(t)
	}
}
