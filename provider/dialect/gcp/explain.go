package gcp

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/coffre-csi/coffre/auth/fault"
	gcpauth "github.com/coffre-csi/coffre/auth/gcp"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
)

// failure is a Mount that failed, in the words, with the code and with the
// details that users of the Google provider know. What it hid behind them
// follows in brackets.
type failure struct {
	code  codes.Code // Internal where it is not set
	lines []line
	notes []string
	err   error
}

// line is one object's failure; said is the part of it that is a status of its
// own.
type line struct {
	text string
	code codes.Code
	said string
}

func (f *failure) add(field string, code codes.Code, said string) {
	f.lines = append(f.lines, line{field + ": " + said, code, said})
}

func (f *failure) Error() string {
	var texts []string
	for _, l := range f.lines {
		if !slices.Contains(texts, l.text) {
			texts = append(texts, l.text)
		}
	}
	text := strings.Join(texts, ",")
	if len(f.notes) > 0 {
		text += " (" + strings.Join(slices.Compact(f.notes), "; ") + ")"
	}
	return text
}

func (f *failure) Unwrap() error { return f.err }

// maxDetails keeps an answer's trailers small.
const maxDetails = 20

// GRPCStatus is the answer to the driver.
func (f *failure) GRPCStatus() *status.Status {
	code := f.code
	if code == codes.OK {
		code = codes.Internal
	}
	answer := status.New(code, "").Proto()
	for _, l := range f.lines[:min(len(f.lines), maxDetails)] {
		if l.said == "" {
			continue
		}
		if detail, err := anypb.New(&spb.Status{Code: int32(l.code), Message: l.said}); err == nil {
			answer.Details = append(answer.Details, detail)
		}
	}
	return status.FromProto(answer)
}

// Explain words a failure as the Google provider did, with the cause.
func (Dialect) Explain(err error) error {
	if r := new(request.Error); errors.As(err, &r) {
		return malformed(r)
	}
	f := &failure{err: err}
	for _, e := range plan.Split(err) {
		query, object, answer := new(plan.QueryError), new(plan.ObjectError), new(gcpauth.Answer)
		switch {
		case errors.As(e, &query) && errors.As(e, &answer) && answer.SignIn:
			return signIn(query.Err, answer, err)
		case errors.As(e, &query) && query.Err.Reason == store.Invalid && strings.HasPrefix(query.Err.Text, "attempting to set both"):
			return &failure{code: codes.InvalidArgument, lines: []line{{text: query.Err.Text}}, err: err}
		case errors.As(e, &query) && errors.As(e, &answer) && answer.Text != "":
			f.lines = append(f.lines, line{query.Query.Field + ": " + answer.RPC(), answer.Code, answer.Text})
			f.notes = append(f.notes, e.Error())
		case errors.As(e, &query):
			f.add(query.Query.Field, codes.Unavailable, e.Error())
		case errors.As(e, &object):
			f.add(object.Field, codes.Unknown, object.Text)
		default:
			f.lines = append(f.lines, line{text: e.Error()})
		}
	}
	return f
}

// signIn is why there was no credential. The Google provider says that the pod
// is denied, whatever failed; here that is said where somebody denies.
func signIn(e *store.Error, a *gcpauth.Answer, err error) error {
	text := "unable to obtain auth for mount: "
	if !strings.HasPrefix(e.Text, "google: could not find") && !strings.HasPrefix(e.Text, "unable to generate credentials") {
		text += "unable to obtain workload identity auth: "
	}
	code := codes.PermissionDenied
	if e.Reason.Transient() && !a.Refuses() && e.Reason != fault.Precondition && a.Code != codes.OK {
		code = codes.Internal
	}
	return &failure{code: code, lines: []line{{text: text + e.Text}}, err: err}
}

// malformed is a request that could not be read.
func malformed(r *request.Error) error {
	f := &failure{code: codes.InvalidArgument, err: r}
	cause := r.Text
	if r.Cause != nil {
		cause = r.Cause.Error()
	}
	switch r.Part {
	case request.PartPermission:
		f.lines = []line{{text: "Unable to parse permissions: " + r.Value}}
	case request.PartTokens:
		f.code = codes.PermissionDenied
		f.lines = []line{{text: "unable to obtain auth for mount: unable to obtain workload identity auth: unable to fetch SA token from driver: " + cause}}
	case request.PartAttributes, request.PartSecrets:
		f.lines = []line{{text: fmt.Sprintf("failed to unmarshal %s: %s", r.Part, cause)}}
		if r.Cause == nil && r.Part == request.PartAttributes {
			f.lines = []line{{text: "missing required 'secrets' attribute: the request has no attributes"}}
		}
	}
	return f
}
