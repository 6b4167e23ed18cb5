package aws

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// begin records a request as it arrives.
func (s *Server) begin(q *request) {
	c := Call{Service: q.service, Region: q.region, Op: q.op, IDs: q.ids, Also: plainIDs(q.ids)}
	switch {
	case q.service == PodIdentity:
		c.Op = q.URL.Path
		c.Note = "auth=" + subjectOf(q.Header.Get("Authorization"))
	case q.service == STS:
		c.Caller, c.Role = q.params["RoleSessionName"], q.params["RoleArn"]
	default:
		if who := s.peek(q); who != nil {
			c.Caller, c.Role = who.name, who.roleARN
		}
	}
	q.call = s.Begin(c)
}

// disturb does to a request what faults, latency and limits demand. It returns
// true where it has answered.
func (s *Server) disturb(w http.ResponseWriter, q *request) bool {
	return s.Disturb(w, q.Request, q.call, func(outcome traffic.Outcome, f Fault) {
		if outcome == traffic.Throttle {
			s.fail(w, q, throttling(q.service))
			return
		}
		s.fail(w, q, faultError(f))
	})
}

func faultError(f Fault) *apiError {
	e := &apiError{Status: f.Status, Code: f.Code, Message: f.Message, retryAfter: f.RetryAfter}
	if e.Status == 0 {
		e.Status = http.StatusInternalServerError
	}
	return e
}

// itemOnly is true of an error for one secret of a batch: BatchGetSecretValue
// lists it in Errors and answers the rest.
func itemOnly(f Fault, c *Call) bool {
	return f.ID != "" && f.Code != "" && c.Op == "BatchGetSecretValue"
}

// itemFault is the error of one secret of a batch. A fault of GetSecretValue is
// one too: the batch reads each secret with that permission and that path.
func (s *Server) itemFault(q *request, names ...string) *apiError {
	batch := &Call{Service: q.service, Region: q.region, Op: "BatchGetSecretValue", IDs: names}
	single := &Call{Service: q.service, Region: q.region, Op: "GetSecretValue", IDs: names}
	f, ok := s.Take(func(f Fault) bool {
		return f.ID != "" && f.Matches(batch) || f.Op == "GetSecretValue" && f.Matches(single)
	})
	if !ok {
		return nil
	}
	return faultError(f)
}

// throttling is the services' own code for too many requests.
func throttling(service string) *apiError {
	switch service {
	case STS:
		return badRequest("Throttling", "Rate exceeded")
	case PodIdentity:
		return &apiError{Status: http.StatusTooManyRequests, Message: "Too Many Requests. "}
	}
	return badRequest("ThrottlingException", "Rate exceeded")
}

// plainIDs are the ids of a request without what selects a version.
func plainIDs(ids []string) (plain []string) {
	for _, id := range ids {
		if name, _, ok := strings.Cut(id, "@"); ok {
			plain = append(plain, name)
		}
		if name, _, ok := cutSelector(id); ok {
			plain = append(plain, name)
		}
	}
	return plain
}

// subjectOf keeps real tokens out of records.
func subjectOf(token string) string {
	if c, err := oidc.Parse(token); err == nil {
		return c.Subject
	}
	return token
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
