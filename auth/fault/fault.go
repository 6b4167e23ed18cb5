// Package fault is the one error of sign-ins and of stores: why there is no
// credential, or no secret, in a line for the person who can mend it.
//
// Sign-ins and stores make it, the cache decides by its Reason, and whoever
// tells people or counts causes reads its parts. Nobody cuts its text apart:
// what varies from one try to the next stands beside the text, in Detail.
package fault

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Reason is the one decision that a caller makes on what failed.
type Reason int

const (
	// Unavailable: the peer could not be reached, was too slow, failed on its
	// own side, or said something that is no answer. Only the peer's own words
	// for a refusal are a refusal; everything else is this. The only reasons
	// that a last good value may stand in for are this one and Throttled.
	Unavailable Reason = iota
	// Throttled: the peer asked to be asked less.
	Throttled
	// NotFound: there is no such secret, version or key.
	NotFound
	// Denied: the identity may not read it, or is not let in.
	Denied
	// Invalid: the request can never work as it is written.
	Invalid
	// Precondition: something that the platform or the tenant must set up
	// first is missing: a token, a key, an annotation.
	Precondition
)

// String is the reason as a metric label has it.
func (r Reason) String() string {
	switch r {
	case Throttled:
		return "throttled"
	case NotFound:
		return "not_found"
	case Denied:
		return "denied"
	case Invalid:
		return "invalid"
	case Precondition:
		return "precondition"
	default:
		return "unavailable"
	}
}

// Transient says whether the same request may work later with nothing changed.
func (r Reason) Transient() bool { return r == Unavailable || r == Throttled }

// Detail is what differs from one try to the next though the cause is the same.
type Detail struct {
	Request string        // what the peer calls the request
	Tries   int           // failures in a row
	Next    time.Duration // until the next try
}

// String is the detail in brackets, with a space before; "" for none.
func (d Detail) String() string {
	var parts []string
	if d.Tries > 0 {
		parts = append(parts, fmt.Sprintf("%d times in a row", d.Tries))
	}
	if d.Next > 0 {
		parts = append(parts, "next try in "+d.Next.String())
	}
	if d.Request != "" {
		parts = append(parts, "request "+d.Request)
	}
	if parts == nil {
		return ""
	}

	return " (" + strings.Join(parts, "; ") + ")"
}

// Error is why a secret, a store or a credential could not be had. Its text is
// one line: store, object, reason, identity, remedy; never a value, a token or
// an answer's body.
type Error struct {
	Reason Reason
	Store  string // the store's name; the cache fills it in where it is empty
	Object string // the secret, as its tenant wrote it; "" where the whole store failed
	Text   string // "access denied: role … lacks secretsmanager:GetSecretValue"
	Detail Detail
	Cause  error // for errors.Is and errors.As; not printed
}

func (e *Error) Error() string { return e.words() + e.Detail.String() }

func (e *Error) words() string {
	var b strings.Builder

	if e.Store != "" {
		b.WriteString(e.Store + ": ")
	}
	if e.Object != "" {
		b.WriteString(e.Object + ": ")
	}
	b.WriteString(e.Text)

	return b.String()
}

func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an Error about a whole store, or a sign-in.
func Errorf(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Text: fmt.Sprintf(format, args...)}
}

// ReasonOf is the reason inside err; an error that carries none is Unavailable.
func ReasonOf(err error) Reason {
	if e := new(Error); errors.As(err, &e) {
		return e.Reason
	}
	return Unavailable
}

// As is the Error inside err; one that carries none becomes an Unavailable one
// with the given text, which is then all that is known.
func As(err error, otherwise string) *Error {
	if e := new(Error); errors.As(err, &e) {
		return e
	}
	return &Error{Reason: Unavailable, Text: otherwise, Cause: err}
}

// Same is err's text without what varies: equal for two tries that failed for
// the same cause. An error without any Error inside is its own text.
func Same(err error) string {
	var words []string
	collect(err, &words)
	if words == nil {
		return err.Error()
	}
	return strings.Join(words, "; ")
}

func collect(err error, words *[]string) {
	if err == nil {
		return
	}
	if e, ok := err.(*Error); ok {
		*words = append(*words, e.words())
		return
	}

	switch wrapped := err.(type) {
	case interface{ Unwrap() error }:
		collect(wrapped.Unwrap(), words)
	case interface{ Unwrap() []error }:
		for _, e := range wrapped.Unwrap() {
			collect(e, words)
		}
	}
}
