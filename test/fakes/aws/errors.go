package aws

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// An apiError is an error as a service answers it.
type apiError struct {
	Status  int
	Code    string
	Message string

	retryAfter time.Duration
	front      bool // made by the front end, before the service saw the request
}

func (e *apiError) Error() string { return e.Code + ": " + e.Message }

// badRequest is HTTP 400, which both JSON services use for every modelled
// client error, a missing secret and a missing permission included.
func badRequest(code, format string, args ...any) *apiError {
	return &apiError{Status: http.StatusBadRequest, Code: code, Message: fmt.Sprintf(format, args...)}
}

// invalid is the error for a value that breaks a constraint of the API's model.
func invalid(field, value, constraint string) *apiError {
	return badRequest("ValidationException",
		"1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: %s", value, field, constraint)
}

// fail writes an error in the form of the service that was asked.
func (s *Server) fail(w http.ResponseWriter, q *request, e *apiError) {
	s.End(q.call, e.Status, e.Code)
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((e.retryAfter+time.Second-1)/time.Second)))
	}
	switch q.service {
	case STS:
		s.failXML(w, e)
	case PodIdentity:
		failText(w, e)
	default:
		failJSON(w, q, e)
	}
}

// failJSON: Secrets Manager spells Message with a capital where SSM and the
// front end of both do not; clients read both.
func failJSON(w http.ResponseWriter, q *request, e *apiError) {
	key := "message"
	if q.service == SecretsManager && !e.front {
		key = "Message"
	}
	body := map[string]string{"__type": e.Code}
	if e.Message != "" {
		body[key] = e.Message
	}
	b, _ := json.Marshal(body)
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(e.Status)
	w.Write(b)
}

func (s *Server) failXML(w http.ResponseWriter, e *apiError) {
	type detail struct {
		Type    string
		Code    string
		Message string
	}
	kind := "Sender"
	if e.Status >= 500 {
		kind = "Receiver"
	}
	b, _ := xml.Marshal(struct {
		XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
		Error     detail
		RequestId string
	}{Error: detail{kind, e.Code, e.Message}, RequestId: w.Header().Get("x-amzn-RequestId")})
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(e.Status)
	w.Write(b)
}

// failText: the agent answers plain text, with the error of the EKS Auth API
// that it passes on in one line.
func failText(w http.ResponseWriter, e *apiError) {
	message := e.Message
	if e.Code != "" {
		fault := "client"
		if e.Status >= 500 {
			fault = "server"
		}
		message = fmt.Sprintf("[%s]: (%s): %s, fault: %s", w.Header().Get("x-amzn-RequestId"), e.Code, e.Message, fault)
	}
	http.Error(w, message, e.Status)
}
