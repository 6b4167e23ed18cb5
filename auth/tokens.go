package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/auth/fault"
)

// Why there is no token of an audience; the Cause of TokenFor's error, for a
// cloud that has words of its own for it.
var (
	ErrNoTokens   = errors.New("the driver gave no token at all")
	ErrNoAudience = errors.New("the driver gave no token of this audience")
	ErrEmptyToken = errors.New("the driver gave an empty token")
)

// TokenFor finds the pod's token of the first audience that there is one for.
// "" is never found by another name: the API server's own audience is asked for
// by itself.
func (id Identity) TokenFor(audiences ...string) (t Token, audience string, err error) {
	for _, audience := range audiences {
		t, ok := id.Tokens[audience]
		if ok && t.Reveal() == "" {
			return t, audience, noToken(ErrEmptyToken, "the token for audience %q is empty", audience)
		}
		if ok {
			return t, audience, nil
		}
	}

	wanted := make([]string, len(audiences))
	for i, audience := range audiences {
		wanted[i] = fmt.Sprintf("%q", audience)
	}
	names := strings.Join(wanted, " or ")
	const remedy = "the CSIDriver object secrets-store.csi.k8s.io must list it in tokenRequests (the driver chart's tokenRequests)"
	if len(id.Tokens) == 0 {
		return t, "", noToken(ErrNoTokens, "the driver gave no token for audience %s, nor any other: %s", names, remedy)
	}

	return t, "", noToken(ErrNoAudience, "the driver gave no token for audience %s, only for %q: %s", names, id.Tokens.Audiences(), remedy)
}

func noToken(cause error, format string, args ...any) error {
	return &fault.Error{Reason: fault.Precondition, Text: fmt.Sprintf(format, args...), Cause: cause}
}

// CheckExpiry refuses a token that nobody would take any more.
func (id Identity) CheckExpiry(t Token, audience string, now time.Time) error {
	if t.Expires.IsZero() || t.Expires.After(now) {
		return nil
	}
	return fault.Errorf(fault.Precondition, "the token of %s for audience %q expired at %s; kubelet brings a fresh one with its next try, unless the node's clock is wrong", id, audience, t.Expires.UTC().Format(time.RFC3339))
}
