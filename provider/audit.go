package provider

import (
	"slices"
	"strings"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
)

// Delivery is a Mount as the audit trail has it: what was delivered, or why
// nothing was.
type Delivery struct {
	Request request.Request
	Asked   plan.Plan
	Answers []plan.Answer // in the order of Asked.Queries
	Failed  *Failure      // nil where the pod got its files
}

// AuditSecret is one secret of a delivery.
type AuditSecret struct {
	Store   string `json:"store"`
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	// File is the path of the file that it became; of several, joined by
	// commas; a folder ends in "/".
	File string `json:"file,omitempty"`
	// Result is hit, fetched or stale; of one that was not delivered, the reason.
	Result string `json:"result"`
}

// AuditLog writes one structured line a Mount: who got which version of which
// secret of which store, as which role and from where, or was refused; never
// the value.
func AuditLog(dialect, node string) func(Delivery) {
	return func(d Delivery) {
		id := d.Request.Identity
		line := []any{
			"dialect", dialect, "node", node, "namespace", id.Namespace, "serviceAccount", id.ServiceAccount,
			"pod", id.Pod.Name, "podUID", id.Pod.UID, "secretProviderClass", d.Request.Class,
		}
		if role := d.roles(); role != "" {
			line = append(line, "role", role)
		}
		if f := d.Failed; f != nil {
			what := "audit: failed"
			if f.Reason == store.Denied.String() {
				what = "audit: denied"
			}
			klog.InfoS(what, append(line, "reason", f.Reason, "code", f.Code.String(), "secrets", d.refused())...)
			return
		}

		klog.InfoS("audit: delivered", append(line, "secrets", d.delivered())...)
	}
}

// roles are those that the stores were read as, where they know it.
func (d Delivery) roles() string {
	var roles []string
	for _, a := range d.Answers {
		if a.Role != "" && !slices.Contains(roles, a.Role) {
			roles = append(roles, a.Role)
		}
	}
	return strings.Join(roles, ", ")
}

// delivered lists each secret once, with all files that it became.
func (d Delivery) delivered() []AuditSecret {
	secrets := []AuditSecret{}
	answers := d.Answers
	for _, o := range d.Asked.Objects {
		for range o.Sources {
			for _, f := range answers[0].Found {
				secrets = once(secrets, AuditSecret{answers[0].Store, nameOf(f.Ref), f.Secret.Version, o.Output.File, string(f.Origin)})
			}
			answers = answers[1:]
		}
	}

	return secrets
}

// refused lists the secrets that failed.
func (d Delivery) refused() []AuditSecret {
	secrets := []AuditSecret{}
	for _, err := range causes(d.Failed.Err) {
		q, ok := err.(*plan.QueryError)
		if !ok {
			continue
		}
		secrets = once(secrets, AuditSecret{Store: q.Err.Store, Name: nameOf(q.Query.Ref), Version: q.Query.Ref.Version, Result: q.Err.Reason.String()})
	}
	return secrets
}

func nameOf(r store.Ref) string {
	r.Version = "" // it has a place of its own
	return r.String()
}

func once(secrets []AuditSecret, s AuditSecret) []AuditSecret {
	for i, have := range secrets {
		if have.Store != s.Store || have.Name != s.Name || have.Version != s.Version {
			continue
		}
		if s.File != "" && !slices.Contains(strings.Split(have.File, ","), s.File) {
			secrets[i].File = strings.TrimPrefix(have.File+","+s.File, ",")
		}
		return secrets
	}

	return append(secrets, s)
}

// causes are the errors at the leaves of an error, and every error above them.
func causes(err error) []error {
	if err == nil {
		return nil
	}
	all := []error{err}
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, each := range e.Unwrap() {
			all = append(all, causes(each)...)
		}
	case interface{ Unwrap() error }:
		all = append(all, causes(e.Unwrap())...)
	}

	return all
}
