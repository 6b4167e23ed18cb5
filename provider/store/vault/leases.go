package vault

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/auth/vault"
	"github.com/coffre-csi/coffre/provider/store"
)

// lease is what store.Secret.Lease says: a lease of Vault, and the token that it
// was issued to. A lease ends with its token, so that this token, and no newer
// one of the same identity, renews it, is renewed with it, and is kept with it
// over a restart. It is as secret as the value beside which it stands.
type lease struct {
	ID        string
	Token     string
	Renewable bool
}

func (l lease) String() string {
	raw, _ := json.Marshal(l) // texts
	return string(raw)
}

func leaseOf(text string) (l lease, ok bool) {
	return l, json.Unmarshal([]byte(text), &l) == nil && l.ID != ""
}

// Renew implements store.Leaser: the token first, then the lease; what ends
// first of both is the end.
func (o *opened) Renew(ctx context.Context, text string) (time.Time, error) {
	l, ok := leaseOf(text)
	if !ok || !l.Renewable {
		return time.Time{}, nil
	}
	b := o.cloud.opts.Broker
	asked := o.cloud.opts.Now()

	token, err := b.Renew(ctx, o.login.Restored(l.Token))
	var refused *vault.Refused
	switch {
	case err == nil:
	case errors.As(err, &refused) && refused.Reason() == store.Denied:
		b.Unleased(l.Token)
		return time.Time{}, store.Errorf(store.Denied, "the token that the lease was issued to is over (%s)", refused)
	case errors.As(err, &refused) && refused.Reason() == store.Invalid:
		return time.Time{}, nil // the token cannot be renewed: a new lease is issued in time
	default:
		return time.Time{}, o.leaseFailed(err)
	}

	body, _ := json.Marshal(map[string]string{"lease_id": l.ID})
	secret, err := o.login.Do(ctx, vault.Call{Method: http.MethodPut, Path: "sys/leases/renew", Token: l.Token, Body: body})
	o.counted("renew", err)
	switch {
	case err == nil && secret != nil && secret.LeaseDuration > 0:
		return earlier(asked.Add(time.Duration(secret.LeaseDuration)*time.Second), token.Expires()), nil
	case err == nil:
		return time.Time{}, nil
	}
	return time.Time{}, o.leaseFailed(err)
}

// Renewable implements store.Leaser.
func (o *opened) Renewable(text string) bool {
	l, ok := leaseOf(text)
	return ok && l.Renewable
}

// leaseFailed says why a lease could not be renewed. Nil is one that cannot be
// renewed further: it is not lost.
func (o *opened) leaseFailed(err error) error {
	refused := new(vault.Refused)
	if !errors.As(err, &refused) {
		return store.Errorf(store.Unavailable, "Vault at %s cannot be reached", o.address)
	}
	gone := strings.Contains(strings.Join(refused.Errors, " "), "not found")
	switch reason := refused.Reason(); {
	case gone:
		return store.Errorf(store.NotFound, "Vault knows no such lease any more (%s)", refused)
	case reason == store.Denied, reason == store.Invalid, reason == store.NotFound:
		return nil
	default:
		return store.Errorf(reason, "%s, at %s", refused, o.address)
	}
}

// Revoke implements store.Leaser. Where the policy does not let a lease be
// revoked, as Vault's default policy does not, its token is, if nothing else
// was issued to it.
func (o *opened) Revoke(ctx context.Context, texts []string) error {
	var failed error
	for _, text := range texts {
		l, ok := leaseOf(text)
		if !ok {
			continue
		}
		last := o.cloud.opts.Broker.Unleased(l.Token)
		body, _ := json.Marshal(map[string]string{"lease_id": l.ID})
		_, err := o.login.Do(ctx, vault.Call{Method: http.MethodPut, Path: "sys/leases/revoke", Token: l.Token, Body: body})
		o.counted("revoke", err)

		refused := new(vault.Refused)
		if errors.As(err, &refused) && refused.Reason() == store.Denied && last {
			err = o.login.RevokeToken(ctx, o.login.Restored(l.Token))
			o.counted("revoke-self", err)
		}
		if err != nil {
			failed = o.revokeFailed(err)
		}
	}
	return failed
}

func (o *opened) revokeFailed(err error) error {
	refused := new(vault.Refused)
	switch {
	case errors.As(err, &refused) && refused.Reason() == store.Denied:
		return store.Errorf(store.Denied, "Vault answers %s: its policy must allow update on sys/leases/revoke", refused)
	case errors.As(err, &refused):
		return store.Errorf(refused.Reason(), "Vault at %s answers %s", o.address, refused)
	}
	return store.Errorf(store.Unavailable, "Vault at %s cannot be reached", o.address)
}

func (o *opened) counted(op string, err error) {
	m := o.cloud.opts.Metrics
	if m == nil {
		return
	}
	m.Requested(o.kind, op, code(err))
}
