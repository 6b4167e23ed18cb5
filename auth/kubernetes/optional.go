package kubernetes

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
)

// forbiddenFor is how long an API server that has refused ServiceAccounts is
// not asked again.
const forbiddenFor = time.Minute

// Optional reads annotations that a sign-in can do without: where nobody lets
// this process read ServiceAccounts, there are none. It is safe for concurrent
// use.
type Optional struct {
	from auth.ServiceAccounts
	now  func() time.Time

	mu        sync.Mutex
	forbidden time.Time // when the API server last refused
}

// NewOptional reads from an API server; nil is one that nobody may read from.
func NewOptional(from auth.ServiceAccounts, now func() time.Time) *Optional {
	return &Optional{from: from, now: now}
}

// Annotation is one annotation, "" where there is none or it may not be read. An
// error is an API server that should have answered.
func (o *Optional) Annotation(ctx context.Context, namespace, name, key string) (string, error) {
	if o.from == nil || o.isForbidden() {
		return "", nil
	}
	text, err := o.from.ServiceAccountAnnotation(ctx, namespace, name, key)
	if err != nil && notAllowed(err) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.forbidden = o.now()
		return "", nil
	}
	return text, err
}

func (o *Optional) isForbidden() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now().Sub(o.forbidden) < forbiddenFor
}

// notAllowed says whether ServiceAccounts may not be read here, at all or by
// anybody's word.
func notAllowed(err error) bool {
	k := new(Error)
	if !errors.As(err, &k) {
		return fault.ReasonOf(err) == fault.Precondition // no API server is configured
	}
	return !Unreachable(err) && (k.Status == http.StatusForbidden || k.Status == http.StatusUnauthorized)
}
