package azure

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/provider/store"
)

// refused is a request that failed, in words.
func (v *visit) refused(err error, o object) *store.Error {
	f := failureOf(err)
	reason, text := v.words(f, o)
	return &store.Error{Reason: reason, Text: text, Detail: fault.Detail{Request: f.request}, Cause: &f.answer}
}

func (v *visit) words(f *failed, o object) (store.Reason, string) {
	at, a := v.vault.host, f.answer
	switch {
	case a.Status == http.StatusTooManyRequests || f.limited && a.Status == 0:
		return store.Throttled, fmt.Sprintf("throttled: %s was asked more than it takes (4,000 reads in 10 s, from all together)", at)
	case a.Status == http.StatusUnauthorized && f.why == "":
		return store.Unavailable, fmt.Sprintf("%s does not take the token of %s, which is asked for anew: %s", at, v.login.Who(), a.Text)
	case f.why != "":
		return store.Unavailable, fmt.Sprintf("%s cannot be read: %s", at, f.why)
	case a.Status >= 500 || a.Code == "":
		return store.Unavailable, fmt.Sprintf("%s answers HTTP %d %s", at, a.Status, a.Code)
	case a.Status == http.StatusNotFound:
		return store.NotFound, v.missing(o)
	case a.Status == http.StatusForbidden:
		return v.forbidden(f, o)
	case a.Code == "UnsupportedKey":
		return store.Invalid, a.Text
	}
	return store.Invalid, fmt.Sprintf("%s does not take the request: %s: %s", at, a.Code, a.Text)
}

func (v *visit) missing(o object) string {
	if o.name == "" {
		return fmt.Sprintf("there is no vault %s: its name is another, or it was deleted (az keyvault recover --name %s)", v.vault.host, v.vaultName())
	}
	if o.version != "" {
		return fmt.Sprintf("there is no version %s of %s in %s, or it was deleted", o.version, o, v.vault.host)
	}
	return fmt.Sprintf("there is no %s in %s, or it was deleted (az keyvault %s recover brings back what was)", o, v.vault.host, singular[o.collection])
}

var singular = map[string]string{"secrets": "secret", "keys": "key", "certificates": "certificate"}

// roles are the least that reads a collection, by "Azure built-in roles for Key
// Vault data plane operations".
var roles = map[string]string{
	"secrets": "Key Vault Secrets User", "keys": "Key Vault Crypto User", "certificates": "Key Vault Certificate User",
}

// disabled are the inner codes of an object that was switched off.
var disabled = []string{"SecretDisabled", "KeyDisabled", "CertificateDisabled"}

// forbidden says who lacks what, and what gives it.
func (v *visit) forbidden(f *failed, o object) (store.Reason, string) {
	a, name, who := f.answer, v.vaultName(), v.login.Who()
	switch {
	case slices.Contains(disabled, a.Inner):
		return store.NotFound, fmt.Sprintf("%s in %s is disabled: enable it, or name another version", o, v.vault.host)
	case a.Inner == "ForbiddenByFirewall":
		return store.Denied, fmt.Sprintf("access denied: the firewall of %s does not let this node's address in: add it to the vault's network rules, or use a private endpoint", v.vault.host)
	case a.Inner == "ForbiddenByConnection":
		return store.Denied, fmt.Sprintf("access denied: %s takes no connection from public networks: this node must resolve its name to the vault's private endpoint", v.vault.host)
	case a.Inner == "ForbiddenByPolicy" || a.Inner == "AccessDenied":
		return store.Denied, fmt.Sprintf("access denied: %s has no permission get (and list, for find and histories) on %s: az keyvault set-policy --name %s --%s-permissions get list --spn %s",
			who, o.collection, name, singular[o.collection], v.clientOr("CLIENT_ID"))
	}
	return store.Denied, fmt.Sprintf("access denied: %s may not read %s: az role assignment create --role %q --assignee %s --scope $(az keyvault show --name %s --query id --output tsv)",
		who, v.what(o), roles[o.collection], v.clientOr("CLIENT_ID"), name)
}

func (v *visit) what(o object) string {
	if o.name == "" {
		return o.collection + " of " + v.vault.host
	}
	return o.String() + " of " + v.vault.host
}

func (v *visit) clientOr(otherwise string) string {
	if c := v.login.Client(); c != "" {
		return c
	}
	return otherwise
}

// vaultName is the first label of its host.
func (v *visit) vaultName() string {
	name := v.vault.host
	for i, c := range name {
		if c == '.' {
			return name[:i]
		}
	}
	return name
}
