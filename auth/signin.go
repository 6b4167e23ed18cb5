package auth

import (
	"context"
	"strings"

	"github.com/coffre-csi/coffre/auth/fault"
)

// ServiceAccounts reads annotations of ServiceAccounts, "" for one that is not
// there.
type ServiceAccounts interface {
	ServiceAccountAnnotation(ctx context.Context, namespace, name, key string) (string, error)
}

// SignIns are told of every sign-in that was tried.
type SignIns interface {
	// Exchanged counts sign-ins by kind, such as gcp-sts, and result: "ok", or the
	// reason of what failed (denied, throttled, unavailable, invalid).
	Exchanged(kind, result string)
}

// Tried tells how a sign-in ended; to nobody where m is nil.
func Tried(m SignIns, kind string, err error) {
	if m == nil {
		return
	}
	result := "ok"
	if err != nil {
		result = fault.ReasonOf(err).String()
	}
	m.Exchanged(kind, result)
}

// Joined makes one key of parts that may hold anything.
func Joined(parts ...string) string { return strings.Join(parts, "\x00") }
