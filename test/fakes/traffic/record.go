package traffic

import (
	"maps"
	"strings"
	"sync"
	"time"
)

// maxCalls bounds the memory of a long benchmark: the counts go on, the list
// does not.
const maxCalls = 1 << 16

// A Call is one request as it was asked, whether it was granted or not.
type Call struct {
	Service string
	Region  string // or location, or vault
	Op      string
	IDs     []string // what was asked for
	Also    []string // what faults may call it too; not shown
	Note    string   // shown behind the operation

	Caller string // who asks, once that is known: a session, a principal
	Role   string // what it asks as, or asks to become
	Time   time.Time

	// Status and Code are what was answered; 0 while it is not yet.
	Status int
	Code   string
}

// String is the call in the notation of the observed cases:
//
//	sts:us-east-1:AssumeRoleWithWebIdentity
//	secretsmanager:us-east-1:GetSecretValue S3@S3-1
//	podidentity:/v1/credentials auth=pod-token
//	secretmanager:europe-west9:AccessSecretVersion projects/p/locations/…
//	keyvault:shop:GetSecret mysql
func (c Call) String() string {
	s := c.Service + ":"
	if c.Region != "" {
		s += c.Region + ":"
	}
	s += c.Op
	if len(c.IDs) > 0 {
		s += " " + strings.Join(c.IDs, ",")
	}
	if c.Note != "" {
		s += " " + c.Note
	}
	return s
}

type record struct {
	mu     sync.Mutex
	calls  []*Call
	counts map[string]int
}

// Begin records a request as it arrives. The Call is the gate's from now on:
// change it through End and Amend only.
func (g *Gate) Begin(c Call) *Call {
	c.Time = g.opts.Now()
	if g.opts.Record != nil {
		g.opts.Record(c.String())
	}
	g.record.mu.Lock()
	defer g.record.mu.Unlock()
	g.counts[c.Op]++
	if len(g.calls) < maxCalls {
		g.calls = append(g.calls, &c)
	}
	return &c
}

// End adds the outcome.
func (g *Gate) End(c *Call, status int, code string) {
	g.Amend(c, func(c *Call) { c.Status, c.Code = status, code })
}

// Amend changes a call that was recorded: who asked may turn out later.
func (r *record) Amend(c *Call, change func(*Call)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(c)
}

// Calls are the requests since the start or the last Reset, in order of
// arrival; at most 65536 of them.
func (r *record) Calls() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Call, len(r.calls))
	for i, c := range r.calls {
		out[i] = *c
	}
	return out
}

// Count is how many requests asked for an operation ("GetSecretValue"), or how
// many there were where op is empty. It counts on where Calls is full.
func (r *record) Count(op string) int {
	counts := r.Counts()
	if op != "" {
		return counts[op]
	}
	n := 0
	for c := range maps.Values(counts) {
		n += c
	}
	return n
}

// Counts are the requests by operation.
func (r *record) Counts() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

// Notation is Calls as text.
func (r *record) Notation() []string {
	var out []string
	for _, c := range r.Calls() {
		out = append(out, c.String())
	}
	return out
}

// Reset forgets the requests; data, faults and credentials stay.
func (r *record) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls, r.counts = nil, map[string]int{}
}
