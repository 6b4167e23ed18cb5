package gcp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coffre-csi/coffre/auth/fault"
)

// Answer is what a service of Google's said in the place of data: enough to
// decide on, and to word an error otherwise. It is the Cause of every error
// that came from Google.
type Answer struct {
	SignIn bool       // of STS, IAM or OAuth, rather than of a store
	Code   codes.Code // Unknown where the answer was no gRPC status
	Status int        // HTTP; 0 where the answer was a gRPC status, or none
	Text   string     // Google's own sentence on one line; "" where it was none of Google's

	Limited    bool          // says that it was asked too often
	RetryAfter time.Duration // what it asks for; 0 for nothing
}

func (a *Answer) Error() string {
	if a.Status != 0 {
		return fmt.Sprintf("HTTP %d", a.Status)
	}
	return a.RPC()
}

// RPC is the answer as gRPC clients print it.
func (a *Answer) RPC() string {
	return fmt.Sprintf("rpc error: code = %s desc = %s", a.Code, a.Text)
}

// Refuses says whether these are Google's own words for a refusal, and not an
// outage or a proxy's page.
func (a *Answer) Refuses() bool {
	if a.Status != 0 {
		return a.Status >= 400 && a.Status < 500 && a.Status != 408 && a.Status != 429
	}
	switch a.Code {
	case codes.InvalidArgument, codes.NotFound, codes.PermissionDenied, codes.Unauthenticated, codes.FailedPrecondition,
		codes.Unimplemented, codes.OutOfRange:
		return a.Text != ""
	}
	return false
}

// foreign begins what gRPC says of an answer that is none of a gRPC server's.
var foreign = []string{"unexpected HTTP status code received from server", "transport: received unexpected content-type",
	"malformed header"}

// Describe reads the error of a gRPC call.
func Describe(err error) *Answer {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &Answer{Code: codes.DeadlineExceeded}
	}
	st, ok := status.FromError(err)
	if !ok {
		return &Answer{Code: codes.Unavailable}
	}

	a := &Answer{Code: st.Code(), Text: Sentence(st.Message())}
	for _, text := range foreign {
		if strings.Contains(st.Message(), text) {
			return &Answer{Code: codes.Unavailable}
		}
	}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.RetryInfo:
			a.Limited, a.RetryAfter = true, d.GetRetryDelay().AsDuration()
		case *errdetails.ErrorInfo:
			a.Limited = a.Limited || d.GetReason() == "RATE_LIMIT_EXCEEDED"
		}
	}
	return a
}

// maxSentence is as much of Google's words as an event has room for.
const maxSentence = 400

// Sentence is a text of Google's on one line, and nothing where it could carry
// a token.
func Sentence(text string) string {
	if strings.Contains(text, "eyJ") || strings.Contains(text, "ya29.") {
		return "(a text that holds a token)"
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	if len(text) > maxSentence {
		text = strings.ToValidUTF8(text[:maxSentence], "") + "…"
	}
	return text
}

func fail(r fault.Reason, a *Answer, format string, args ...any) error {
	a.SignIn = true
	return &fault.Error{Reason: r, Text: fmt.Sprintf(format, args...), Cause: a}
}
