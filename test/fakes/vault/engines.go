package vault

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// version is one of a secret of KV v2.
type version struct {
	keys    map[string]string
	created time.Time
	deleted time.Time
}

// SetSecret writes a version of a secret of KV v2, which is mounted at secret.
func (s *Server) SetSecret(namespace, name string, keys map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := namespace + " " + name
	s.secrets[key] = append(s.secrets[key], version{keys: maps.Clone(keys), created: s.now()})
}

// DeleteSecret takes a secret away for good, versions and all.
func (s *Server) DeleteSecret(namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.secrets, namespace+" "+name)
}

// kv is KV v2 at secret: reading a version, and listing. The caller locks.
func (s *Server) kv(a asked) answer {
	if under, ok := strings.CutPrefix(a.path, "secret/metadata/"); ok && a.method == "LIST" {
		return s.list(a.namespace + " " + under)
	}
	name, ok := strings.CutPrefix(a.path, "secret/data/")
	all := s.secrets[a.namespace+" "+name]
	if !ok || a.method != http.MethodGet || len(all) == 0 {
		return nothing()
	}

	n := len(all)
	if a.version != "" && a.version != "0" {
		n, _ = strconv.Atoi(a.version)
	}
	if n < 1 || n > len(all) {
		return nothing()
	}
	v := all[n-1]
	return answer{status: http.StatusOK, data: map[string]any{
		"data": v.keys,
		"metadata": map[string]any{
			"created_time": v.created.UTC().Format(time.RFC3339Nano), "custom_metadata": nil, "deletion_time": "", "destroyed": false, "version": n,
		},
	}}
}

func (s *Server) list(under string) answer {
	keys := map[string]bool{}
	for key := range s.secrets {
		if rest, ok := strings.CutPrefix(key, under); ok {
			first, _, folder := strings.Cut(rest, "/")
			if folder {
				first += "/"
			}
			keys[first] = true
		}
	}
	if len(keys) == 0 {
		return nothing()
	}
	return answer{status: http.StatusOK, data: map[string]any{"keys": slices.Sorted(maps.Keys(keys))}}
}

// Lent is how long a credential lasts, and how long it can be made to last.
type Lent struct{ TTL, Max time.Duration }

// Lend makes reads of a path issue a user and a password with a lease.
func (s *Server) Lend(namespace, path string, l Lent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lent[namespace+" "+path] = l
}

// Lease is one that was issued.
type Lease struct {
	ID, Path, Username string
	Subject            string // to whom
	Issued, Ends       time.Time
	Renewed            int

	max   time.Duration
	ttl   time.Duration
	token *token
	ends  []prolonged
}

// prolonged is an end that a lease had from a time on.
type prolonged struct{ from, ends time.Time }

// EndsBy is when the lease was to end, as it looked at a time.
func (l Lease) EndsBy(at time.Time) (ends time.Time) {
	for _, p := range l.ends {
		if !p.from.After(at) {
			ends = p.ends
		}
	}
	return ends
}

// until sets the end.
func (l *Lease) until(now, ends time.Time) {
	l.Ends = ends
	l.ends = append(l.ends, prolonged{now, ends})
}

// Leases are all that were ever issued, in order; those that are over, too.
func (s *Server) Leases() []Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Lease
	for _, l := range s.leases {
		all = append(all, *l)
	}
	slices.SortFunc(all, func(a, b Lease) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Ended is when the credential of a user ended, or will; false for one that was
// never issued.
func (s *Server) Ended(username string) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.leases {
		if l.Username == username {
			return earlier(l.Ends, l.token.ends), true
		}
	}
	return time.Time{}, false
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// lend issues. The caller locks.
func (s *Server) lend(t *token, path string, lent Lent) answer {
	l := &Lease{
		ID: fmt.Sprintf("%s/%08d", path, s.count), Path: path, Username: fmt.Sprintf("user-%d", s.count), Subject: t.subject,
		Issued: s.now(), ttl: lent.TTL, max: lent.Max, token: t,
	}
	l.until(s.now(), s.now().Add(lent.TTL))
	s.leases[l.ID] = l
	return answer{status: http.StatusOK, lease: l, left: lent.TTL, data: map[string]any{"username": l.Username, "password": "of-" + l.Username}}
}

// renew prolongs a lease as far as its greatest age. The caller locks.
func (s *Server) renew(id string) answer {
	l := s.leases[id]
	if l == nil || !s.now().Before(earlier(l.Ends, l.token.ends)) {
		return refused(http.StatusBadRequest, "lease not found")
	}
	left := min(l.ttl, l.Issued.Add(l.max).Sub(s.now()))
	l.until(s.now(), s.now().Add(left))
	l.Renewed++
	return answer{status: http.StatusOK, lease: l, left: left}
}

func (s *Server) revoke(id string) answer {
	if l := s.leases[id]; l != nil {
		l.until(s.now(), earlier(l.Ends, s.now()))
	}
	return answer{status: http.StatusNoContent}
}
