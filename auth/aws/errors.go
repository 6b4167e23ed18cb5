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

// unknownCode is what the SDK makes up for an error answer that names no code.
const unknownCode = "UnknownError"

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
	// Only AWS's own words are a refusal. A code is one; without any, what came
	// is a proxy's page, half an answer, or none. A path that is not there is
	// not worth another try.
	if d.Code == "" || d.Code == unknownCode {
		d.Code, d.Transient = "", d.Status != http.StatusNotFound
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

// Refuses says whether AWS's own words are that it does not let this
// identity in, beyond what the operation's errors say.
func (e *RegionError) Refuses() bool {
	if e.Code != "" && (e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized) {
		return true
	}
	switch e.Code {
	case "SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken", "NotAuthorized", "OptInRequired",
		"UnauthorizedOperation", "AccountProblem", "AuthFailure", "Blocked":
		return true
	}
	return e.Expired()
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
