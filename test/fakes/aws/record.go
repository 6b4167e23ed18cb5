package aws

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

// maxCalls bounds the memory of a long benchmark: the counts go on, the list
// does not.
const maxCalls = 1 << 16

// A Call is one request as it was asked, whether it was granted or not.
type Call struct {
	Service string    `json:"service"`
	Region  string    `json:"region,omitempty"`
	Op      string    `json:"op"`
	IDs     []string  `json:"ids,omitempty"` // what was asked for: name@version@stage, or name:selector
	Session string    `json:"session,omitempty"`
	Role    string    `json:"role,omitempty"` // the role's ARN, or the role that is asked for
	Time    time.Time `json:"time"`

	// Status and Code are what was answered; 0 while it is not yet.
	Status int    `json:"status"`
	Code   string `json:"code,omitempty"`

	auth string // Pod Identity: the token, or the subject where it is a JWT
}

// String is the call in the notation of the observed cases:
//
//	sts:us-east-1:AssumeRoleWithWebIdentity
//	secretsmanager:us-east-1:GetSecretValue S3@S3-1
//	ssm:us-east-1:GetParameters a,b
//	podidentity:/v1/credentials auth=pod-token
func (c Call) String() string {
	if c.Service == PodIdentity {
		return "podidentity:" + c.Op + " auth=" + c.auth
	}
	s := c.Service + ":" + c.Region + ":" + c.Op
	if len(c.IDs) > 0 {
		s += " " + strings.Join(c.IDs, ",")
	}
	return s
}

type record struct {
	mu     sync.Mutex
	calls  []*Call
	counts map[string]int
}

func (r *record) init() { r.counts = map[string]int{} }

// begin records a request as it arrives.
func (s *Server) begin(q *request) {
	c := &Call{Service: q.service, Region: q.region, Op: q.op, IDs: q.ids, Time: s.opts.Now()}
	switch {
	case q.service == PodIdentity:
		c.Op = q.URL.Path
		c.auth = subjectOf(q.Header.Get("Authorization"))
	case q.service == STS:
		c.Session, c.Role = q.params["RoleSessionName"], q.params["RoleArn"]
	default:
		if who := s.peek(q); who != nil {
			c.Session, c.Role = who.name, who.roleARN
		}
	}
	q.call = c
	if s.opts.Record != nil {
		s.opts.Record(c.String())
	}
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	s.counts[c.Op]++
	if len(s.calls) < maxCalls {
		s.calls = append(s.calls, c)
	}
}

// end adds the outcome.
func (s *Server) end(q *request, status int, code string) {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	q.call.Status, q.call.Code = status, code
}

// subjectOf keeps real tokens out of records.
func subjectOf(token string) string {
	if c, err := oidc.Parse(token); err == nil {
		return c.Subject
	}
	return token
}

// Calls are the requests since the start or the last Reset, in order of
// arrival; at most 65536 of them.
func (s *Server) Calls() []Call {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	out := make([]Call, len(s.calls))
	for i, c := range s.calls {
		out[i] = *c
	}
	return out
}

// Count is how many requests asked for an operation ("GetSecretValue",
// "/v1/credentials"), or how many there were where op is empty. It counts on
// where Calls is full.
func (s *Server) Count(op string) int {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	if op != "" {
		return s.counts[op]
	}
	n := 0
	for c := range maps.Values(s.counts) {
		n += c
	}
	return n
}

// Notation is Calls as text.
func (s *Server) Notation() []string {
	var out []string
	for _, c := range s.Calls() {
		out = append(out, c.String())
	}
	return out
}

// Reset forgets the requests; data, faults and credentials stay.
func (s *Server) Reset() {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	s.calls, s.counts = nil, map[string]int{}
}

func (s *Server) countsByOp() map[string]int {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	return maps.Clone(s.counts)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
