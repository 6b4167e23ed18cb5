package aws

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

// Reason is what a caller decides on.
type Reason int

const (
	Unavailable  Reason = iota // may work later, or in another region
	Throttled                  // the same, and asked too much
	Denied                     // AWS does not let this identity in
	Invalid                    // cannot work as it is configured
	Precondition               // something must be set up first: a token, an annotation
)

// String is the reason as a metric label has it.
func (r Reason) String() string {
	switch r {
	case Throttled:
		return "throttled"
	case Denied:
		return "denied"
	case Invalid:
		return "invalid"
	case Precondition:
		return "precondition"
	default:
		return "unavailable"
	}
}

// Error is why there are no credentials: one line for the person who can mend it.
type Error struct {
	Reason Reason
	Text   string
	Cause  error // for errors.As; not printed
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Cause }

func errorf(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Text: fmt.Sprintf(format, args...)}
}

func reasonOf(err error) Reason {
	if e := new(Error); errors.As(err, &e) {
		return e.Reason
	}
	return Unavailable
}

// RegionError is what one region, or one agent, answered: enough to decide on,
// and to word an error otherwise, and nothing that anybody wrote into a body.
type RegionError struct {
	Region, Service, Op string
	Code                string // AWS's own; "" where there was no answer
	RequestID           string
	Status              int // HTTP; 0 where there was no answer
	// Fault is whose the error's model says it is. AWS's clients know no model
	// of many errors (AccessDeniedException and ThrottlingException among
	// them), for which it is smithy.FaultUnknown whatever the status.
	Fault smithy.ErrorFault
	// Throttled and Transient are what the SDK's own rules make of it.
	Throttled, Transient bool
	// Unreached says why there was no answer at all.
	Unreached string

	message string
}

func (e *RegionError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("%s: %s %s: no answer", e.Region, e.Service, e.Op)
	}
	return fmt.Sprintf("%s: %s %s: %s", e.Region, e.Service, e.Op, e.Code)
}

// Message is AWS's own sentence. It may quote names and policies, so that it is
// good for finding out what happened and not for showing.
func (e *RegionError) Message() string { return e.message }

// Describe reads the SDK's error.
func Describe(err error, region, service, op string) *RegionError {
	d := &RegionError{Region: region, Service: service, Op: op}
	var api smithy.APIError
	if errors.As(err, &api) {
		d.Code, d.Fault, d.message = api.ErrorCode(), api.ErrorFault(), api.ErrorMessage()
	}
	var res *awshttp.ResponseError
	if errors.As(err, &res) {
		d.Status, d.RequestID = res.HTTPStatusCode(), res.ServiceRequestID()
	}
	if d.Status == 0 && d.Code == "" {
		// An answer that could not be read as one has no API error in it.
		d.Transient = true
	}
	d.Throttled = retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) == sdk.TrueTernary || d.Status == http.StatusTooManyRequests
	if retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == sdk.TrueTernary || d.Status >= 500 || errors.Is(err, context.DeadlineExceeded) {
		d.Transient = true
	}
	return d
}

// Item is an error that stands inside an answer.
func Item(region, service, op, code, message string) *RegionError {
	d := Describe(&smithy.GenericAPIError{Code: code, Message: message}, region, service, op)
	if code == "InternalServiceError" || code == "InternalFailure" {
		d.Transient, d.Fault = true, smithy.FaultServer
	}
	return d
}

// Expired says whether AWS no longer takes the credentials.
func (e *RegionError) Expired() bool {
	switch e.Code {
	case "ExpiredToken", "ExpiredTokenException", "RequestExpired", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidToken":
		return true
	}
	return false
}

// RetryAfter is in seconds what the answer's header says; 0 where it does not.
func RetryAfter(err error) int {
	var res *awshttp.ResponseError
	if !errors.As(err, &res) || res.HTTPResponse() == nil {
		return 0
	}
	var seconds int
	if _, scan := fmt.Sscanf(res.HTTPResponse().Header.Get("Retry-After"), "%d", &seconds); scan != nil || seconds < 0 {
		return 0
	}
	return seconds
}
