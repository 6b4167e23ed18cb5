// Package soak runs the release binary for minutes under everything at once
// and judges every answer by an oracle that knows only the documentation and
// what the cloud was told: it shares no code with the product.
package soak

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The promises, as docs/security.md and docs/operations.md state them.
const (
	Age      = "a value is at most its refresh time old, and at most maxStale more while its store is out of reach"
	Identity = "a value is given only to an identity that was allowed to read it within that time"
	Whole    = "an answer has every file that was asked for, with the value of that secret"
	Forward  = "a volume never gets an older value than it has, nor an older version, through any restart"
	Code     = "a mount is never answered with a code after which kubelet leaves the pod an empty volume"
	Silent   = "no value stands in a log line or in a metric"
)

// A Fact is what was so from a moment on.
type Fact[T any] struct {
	At   time.Time
	What T
}

// Cloud is what the cloud was told, in order.
type Cloud struct {
	Values  map[string][]Fact[int]  // by secret: the number of its value
	Allowed map[string][]Fact[bool] // by identity and secret
	Trouble []Fact[bool]            // whether the store was in trouble
}

// NewCloud knows of nothing.
func NewCloud() *Cloud {
	return &Cloud{Values: map[string][]Fact[int]{}, Allowed: map[string][]Fact[bool]{}}
}

// Text is the value of a secret's number: it says what it is.
func Text(secret string, n int) string { return fmt.Sprintf("s3cr3t-%s-%d.", secret, n) }

// read is Text backwards.
func read(text string) (secret string, n int, ok bool) {
	body, is := strings.CutPrefix(text, "s3cr3t-")
	body, dotted := strings.CutSuffix(body, ".")
	i := strings.LastIndex(body, "-")
	if !is || !dotted || i < 0 {
		return "", 0, false
	}
	n, err := strconv.Atoi(body[i+1:])
	return body[:i], n, err == nil
}

// Answer is what a mount was given.
type Answer struct {
	Identity, Volume string
	Began, Ended     time.Time
	Refresh          time.Duration // what a republish that asks the store comes to: since the one before
	// Full is the refresh time, to which MaxStale is added while the store is out
	// of reach; Refresh where it is zero.
	Full, MaxStale time.Duration
	Code           string            // gRPC's
	Asked          []string          // secrets, each a file of its name
	Files          map[string]string // by secret
	Versions       map[string]string
}

// Oracle judges answers. It is not safe for concurrent use.
type Oracle struct {
	Cloud *Cloud
	// Slack is what the clocks of two processes, and the way between them, may
	// come to.
	Slack time.Duration

	has map[string]int // by volume and secret
}

// Judge says which promises an answer breaks, each with what is needed to see
// it.
func (o *Oracle) Judge(a Answer) (broken []string) {
	say := func(promise, format string, args ...any) {
		broken = append(broken, fmt.Sprintf("%s\n\t%s %s: %s", promise, a.Volume, a.Identity, fmt.Sprintf(format, args...)))
	}
	switch a.Code {
	case "Canceled", "DeadlineExceeded", "Unavailable", "ResourceExhausted", "Aborted":
		say(Code, "%s", a.Code)
	}
	if a.Code != "OK" {
		return broken
	}

	for _, secret := range a.Asked {
		text, there := a.Files[secret]
		name, n, ok := read(text)
		if !there || !ok || name != secret {
			say(Whole, "%s has %d bytes of something else", secret, len(text))
			continue
		}
		o.judge(a, secret, n, say)
	}
	return broken
}

func (o *Oracle) judge(a Answer, secret string, n int, say func(promise, format string, args ...any)) {
	oldest := a.Began.Add(-a.Refresh - o.Slack)
	if during(o.Cloud.Trouble, true, oldest, a.Ended) {
		oldest = a.Began.Add(-max(a.Refresh, a.Full) - a.MaxStale - o.Slack)
	}
	if !during(o.Cloud.Values[secret], n, oldest, a.Ended) {
		say(Age, "%s is value %d; since %s the store had %s", secret, n, oldest.Format("05.000"), show(o.Cloud.Values[secret], oldest))
	}
	if !during(o.Cloud.Allowed[a.Identity+" "+secret], true, oldest, a.Ended) {
		say(Identity, "%s, which it was not allowed since %s", secret, oldest.Format("05.000"))
	}

	if o.has == nil {
		o.has = map[string]int{}
	}
	key := a.Volume + " " + secret
	if had, known := o.has[key]; known && n < had {
		say(Forward, "%s went from value %d to %d", secret, had, n)
	}
	o.has[key] = n
}

// during says whether something was so at any moment from the first to the
// second.
func during[T comparable](facts []Fact[T], what T, from, to time.Time) bool {
	for i, f := range facts {
		ends := to
		if i+1 < len(facts) {
			ends = facts[i+1].At
		}
		if f.What == what && !f.At.After(to) && !ends.Before(from) {
			return true
		}
	}
	return false
}

func show(facts []Fact[int], from time.Time) string {
	var out []string
	for i, f := range facts {
		if i+1 == len(facts) || facts[i+1].At.After(from) {
			out = append(out, fmt.Sprintf("%d at %s", f.What, f.At.Format("05.000")))
		}
	}
	return strings.Join(out, ", ")
}
