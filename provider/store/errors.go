package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Reason is the one decision that a caller makes on a failed ref.
type Reason int

const (
	// Unavailable: the store could not be reached, was too slow, or failed on
	// its own side. The only reasons that a last good value may stand in for
	// are this one and Throttled.
	Unavailable Reason = iota
	// Throttled: the store asked to be asked less.
	Throttled
	// NotFound: there is no such secret, version or key.
	NotFound
	// Denied: the identity may not read it.
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

// Error is why one secret, or a whole store, could not be read. Its text is
// one line for the person who can mend it: store, object, reason, identity,
// remedy; never a value, a token or a response body.
type Error struct {
	Reason Reason
	Store  string // the store's name; filled in by the cache where a store leaves it empty
	Ref    Ref    // zero where the whole store failed
	Text   string // "access denied: role … lacks secretsmanager:GetSecretValue"
	Cause  error  // for errors.Is; not printed
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Store != "" {
		b.WriteString(e.Store + ": ")
	}
	if e.Ref.Name != "" {
		b.WriteString(e.Ref.String() + ": ")
	}
	b.WriteString(e.Text)
	return b.String()
}

func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an Error about a whole store.
func Errorf(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Text: fmt.Sprintf(format, args...)}
}

// RefErrorf makes an Error about one secret.
func RefErrorf(r Reason, ref Ref, format string, args ...any) *Error {
	return &Error{Reason: r, Ref: ref, Text: fmt.Sprintf(format, args...)}
}

// Errors are the refs of one Fetch that failed, by their place in it.
type Errors map[int]*Error

func (es Errors) Error() string {
	lines := make([]string, 0, len(es))
	for _, i := range es.order() {
		lines = append(lines, es[i].Error())
	}
	return strings.Join(lines, "; ")
}

func (es Errors) order() []int { return slices.Sorted(maps.Keys(es)) }

// Unwrap gives the single errors, so that errors.As and ReasonOf see the first.
func (es Errors) Unwrap() []error {
	errs := make([]error, 0, len(es))
	for _, i := range es.order() {
		errs = append(errs, es[i])
	}
	return errs
}

// OrNil is es as an error, nil where nothing failed.
func (es Errors) OrNil() error {
	if len(es) == 0 {
		return nil
	}
	return es
}

// ErrTooMany is List's answer where more secrets match than the limit allows.
var ErrTooMany = errors.New("too many secrets match")

// ReasonOf is the reason inside err; an error that carries none is Unavailable.
func ReasonOf(err error) Reason {
	if e := new(Error); errors.As(err, &e) {
		return e.Reason
	}
	return Unavailable
}
