package vault

import (
	"errors"
	"fmt"
	"strings"

	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/peer"
	"github.com/coffre-csi/coffre/auth/vault"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/ask"
)

// Refused is what Vault answered: the Cause of every error that came from it.
type Refused = vault.Refused

func code(err error) string {
	if err == nil {
		return "ok"
	}
	if r := new(vault.Refused); errors.As(err, &r) {
		return fmt.Sprint(r.Status)
	}
	return "none"
}

// refused words a failed request for ref. Vault's own text stays in it.
func (a *asking) refused(err error, rd read) *store.Error {
	reason, text, cause := a.words(err, rd)
	return &store.Error{Reason: reason, Object: rd.ref.String(), Text: text, Cause: cause}
}

func (a *asking) words(err error, rd read) (store.Reason, string, error) {
	if e := new(fault.Error); errors.As(err, &e) {
		return e.Reason, e.Text, e
	}
	r := new(vault.Refused)
	if !errors.As(err, &r) {
		if errors.Is(err, ask.ErrNoTurn) {
			return store.Throttled, fmt.Sprintf("throttled: Vault at %s is asked too much", a.address), err
		}
		return store.Unavailable, fmt.Sprintf("Vault at %s cannot be reached: %s", a.address, peer.Unreached(err)), &vault.Refused{}
	}

	reason := r.Reason()
	switch {
	case r.Foreign:
		return reason, fmt.Sprintf("what answers at %s is no Vault (%s)", a.address, r), r
	case reason == store.Denied:
		return reason, fmt.Sprintf("%s: a policy of %s must allow %s on %q", r, a.login.Who(), capability(rd.call.Method), rd.call.Path), r
	case reason == store.NotFound:
		return reason, fmt.Sprintf("%s: %s", r, missing(r, rd)), r
	case reason == store.Invalid:
		return reason, fmt.Sprintf("%s: %s %q", r, rd.call.Method, rd.call.Path), r
	case reason == store.Throttled:
		return reason, fmt.Sprintf("throttled: %s, at %s", r, a.address), r
	}
	return reason, fmt.Sprintf("%s, at %s", r, a.address), r
}

// missing says what a 404 is about: KV v2 tells a version that was deleted.
func missing(r *vault.Refused, rd read) string {
	if meta, ok := r.Data["metadata"].(map[string]any); ok {
		version := fmt.Sprint(meta["version"])
		if destroyed, _ := meta["destroyed"].(bool); destroyed {
			return fmt.Sprintf("version %s at %q was destroyed", version, rd.call.Path)
		}
		if at, _ := meta["deletion_time"].(string); at != "" {
			return fmt.Sprintf("version %s at %q was deleted at %s", version, rd.call.Path, at)
		}
	}
	if version := rd.call.Query.Get("version"); version != "" {
		return fmt.Sprintf("there is no version %s at %q, or no such secret", version, rd.call.Path)
	}
	hint := ""
	if rd.reply && !strings.Contains(rd.call.Path, "/data/") {
		hint = "; a secret of KV v2 stands at MOUNT/data/NAME"
	}
	return fmt.Sprintf("there is nothing at %q, or no such mount%s", rd.call.Path, hint)
}

func capability(method string) string {
	switch method {
	case "GET":
		return "read"
	case "LIST":
		return "list"
	}
	return "update"
}
