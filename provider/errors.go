package provider

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/coffre-csi/coffre/provider/store"
)

// Failure is a Mount that failed, with the gRPC code that it is answered with.
//
// Five codes are never among them: after Canceled, DeadlineExceeded,
// Unavailable, ResourceExhausted or Aborted kubelet keeps the volume's
// directory, the driver takes the retry for a republish that is not due, and
// the pod starts with an empty volume (contracts: driver, rotation 2).
type Failure struct {
	Code   codes.Code
	Reason string // as metrics have it: a store.Reason's, or internal
	Err    error
	// Details go into the answer beside the text, where the provider whose
	// dialect it is has any.
	Details []*anypb.Any
}

// reasonInternal is the reason of what is Coffre's own fault, or the node's.
const reasonInternal = "internal"

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// maxMessage keeps an answer's text to what events and logs can hold.
const maxMessage = 4096

// GRPCStatus makes grpc answer with the failure's own code.
func (f *Failure) GRPCStatus() *status.Status {
	text := strings.ToValidUTF8(f.Err.Error(), "\uFFFD")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "… (more was left out)"
	}
	answer := status.New(f.Code, text).Proto()
	answer.Details = f.Details
	return status.FromProto(answer)
}

// worded gives a failure the code and the details that its dialect words it
// with, if it does.
func worded(f *Failure) error {
	if own, ok := f.Err.(interface{ GRPCStatus() *status.Status }); ok {
		f.Code, f.Details = own.GRPCStatus().Code(), own.GRPCStatus().Proto().GetDetails()
	}
	return f
}

// invalid is a SecretProviderClass, or a value for it, that cannot work as it is.
func invalid(err error) error {
	return worded(&Failure{Code: codes.InvalidArgument, Reason: store.Invalid.String(), Err: err})
}

// unanswered is a store's failure, explained in the dialect's words: the code is
// that of its first error.
func unanswered(err error, explain func(error) error) error {
	code, reason := codes.Internal, store.ReasonOf(err)
	switch reason {
	case store.NotFound:
		code = codes.NotFound
	case store.Denied:
		code = codes.PermissionDenied
	case store.Invalid:
		code = codes.InvalidArgument
	case store.Precondition:
		code = codes.FailedPrecondition
	}

	return worded(&Failure{Code: code, Reason: reason.String(), Err: explain(err)})
}

// internal is a fault of Coffre's own, or of the node.
func internal(err error) error {
	return &Failure{Code: codes.Internal, Reason: reasonInternal, Err: err}
}

// safe makes sure that an error leaves with one of the codes above.
func safe(err error) error {
	if err == nil {
		return nil
	}
	if f := new(Failure); errors.As(err, &f) {
		return &Failure{Code: f.Code, Reason: f.Reason, Err: err, Details: f.Details}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("the mount was not done in time")
	}
	return internal(err)
}
