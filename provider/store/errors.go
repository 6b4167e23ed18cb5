package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/coffre-csi/coffre/auth/fault"
)

// Reason and Error are those of sign-ins too: there is one of each.
type (
	Reason = fault.Reason
	Error  = fault.Error
)

// The reasons of package fault, under the names that stores use.
const (
	Unavailable  = fault.Unavailable
	Throttled    = fault.Throttled
	NotFound     = fault.NotFound
	Denied       = fault.Denied
	Invalid      = fault.Invalid
	Precondition = fault.Precondition
)

// Errorf makes an Error about a whole store.
func Errorf(r Reason, format string, args ...any) *Error { return fault.Errorf(r, format, args...) }

// RefErrorf makes an Error about one secret.
func RefErrorf(r Reason, ref Ref, format string, args ...any) *Error {
	return &Error{Reason: r, Object: ref.String(), Text: fmt.Sprintf(format, args...)}
}

// ReasonOf is the reason inside err; an error that carries none is Unavailable.
func ReasonOf(err error) Reason { return fault.ReasonOf(err) }

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
