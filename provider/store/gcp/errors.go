package gcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	gcpauth "github.com/coffre-csi/coffre/auth/gcp"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/ask"
)

// errNoAnswer is inside an answer that holds not what it must.
var errNoAnswer = errors.New("the answer does not hold what it must")

// describe reads the error of a call.
func describe(err error) *gcpauth.Answer {
	if errors.Is(err, errNoAnswer) {
		return &gcpauth.Answer{Code: codes.DataLoss}
	}
	return gcpauth.Describe(err)
}

// judge says what to do about an error. One that Google calls internal is not
// asked for again at once: its own clients do not do that either.
func (v *visit) judge(err error) ask.Verdict {
	a := describe(err)
	out := ask.Verdict{Code: a.Code.String(), RetryAfter: a.RetryAfter, Expired: a.Code == codes.Unauthenticated}
	switch a.Code {
	case codes.ResourceExhausted:
		// Parameter Manager calls a rendering that is too large so, too: what
		// is a rate says so.
		out.Throttled = v.kind == SecretManager || a.Limited
	case codes.Unavailable, codes.DeadlineExceeded, codes.DataLoss, codes.Aborted:
		out.Transient = true
	}
	return out
}

func (v *visit) count(op, answer string) {
	if m := v.cloud.opts.Metrics; m != nil {
		m.Requested(v.kind, op, answer)
	}
}

// refused is an answer in words; need says what the call needs.
func (v *visit) refused(ctx context.Context, a *gcpauth.Answer, r resource, need need) *store.Error {
	reason, text := v.words(ctx, a, r, need)
	return &store.Error{Reason: reason, Text: text, Cause: a}
}

// need is what a call needs: a permission, on what, and what gives it.
type need struct{ permission, role, what string }

func (v *visit) words(ctx context.Context, a *gcpauth.Answer, r resource, n need) (store.Reason, string) {
	at := v.session.host()
	switch {
	case a.Limited || a.Code == codes.ResourceExhausted:
		return store.Throttled, fmt.Sprintf("throttled: %s was asked more than the quota of project %s allows", at, r.project)
	case a.Code == codes.DataLoss:
		return store.Unavailable, fmt.Sprintf("%s answered without the value, or with one whose checksum (data_crc32c) is another's", at)
	case !a.Refuses() && a.Text == "":
		return store.Unavailable, fmt.Sprintf("%s cannot be reached: no answer in time, or none of Google's", at)
	case !a.Refuses():
		return store.Unavailable, fmt.Sprintf("%s failed: %s; is it reachable from this node?", at, a.Code)
	}

	switch a.Code {
	case codes.PermissionDenied:
		member := v.login.Member(ctx)
		return store.Denied, fmt.Sprintf("access denied: %s lacks %s, or there is no such %s: %s", member, n.permission, n.what, v.grant(r, n, member))
	case codes.Unauthenticated:
		return store.Unavailable, fmt.Sprintf("%s does not take the token of %s, which is asked for anew", at, v.login.Member(ctx))
	case codes.NotFound:
		return store.NotFound, fmt.Sprintf("there is no such %s in %s, or it has no version %s", n.what, r.parent(), cmp.Or(r.version, latest))
	case codes.FailedPrecondition:
		return store.NotFound, fmt.Sprintf("version %s is disabled or destroyed: enable it, or name another: %s", cmp.Or(r.version, latest), a.Text)
	}
	return store.Invalid, fmt.Sprintf("%s does not take the request: %s", at, a.Text)
}

// grant is the command that gives what is missing.
func (v *visit) grant(r resource, n need, member string) string {
	if v.kind == ParameterManager || r.object == "" {
		return fmt.Sprintf("gcloud projects add-iam-policy-binding %s --role=%s --member=%q", r.project, n.role, member)
	}
	location := ""
	if r.location != "" {
		location = " --location=" + r.location
	}
	return fmt.Sprintf("gcloud secrets add-iam-policy-binding %s --project=%s%s --role=%s --member=%q", r.object, r.project, location, n.role, member)
}
