package aws

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// jsonType is the content type of the AWS JSON 1.1 protocol.
const jsonType = "application/x-amz-json-1.1"

// An operation of a JSON service: its input type, the names it asks for, what
// it does.
type operation struct {
	input func() any
	ids   func(in any) []string
	do    func(s *Server, q *request) (any, *apiError)
}

// op binds an operation's parts with its input's type.
func op[In any](ids func(*In) []string, do func(*Server, *request, *In) (any, *apiError)) operation {
	return operation{
		input: func() any { return new(In) },
		ids: func(in any) []string {
			if ids == nil {
				return nil
			}
			return ids(in.(*In))
		},
		do: func(s *Server, q *request) (any, *apiError) { return do(s, q, q.input.(*In)) },
	}
}

// operations by service and name; whatever is not here is refused.
var operations = map[string]map[string]operation{
	SecretsManager: {
		"GetSecretValue":      op((*getSecretValueInput).ids, (*Server).getSecretValue),
		"BatchGetSecretValue": op((*batchInput).ids, (*Server).batchGetSecretValue),
		"DescribeSecret":      op((*describeSecretInput).ids, (*Server).describeSecret),
		"ListSecrets":         op(nil, (*Server).listSecrets),
	},
	SSM: {
		"GetParameter":        op((*getParameterInput).ids, (*Server).getParameter),
		"GetParameters":       op((*getParametersInput).ids, (*Server).getParameters),
		"GetParametersByPath": op((*byPathInput).ids, (*Server).getParametersByPath),
		"DescribeParameters":  op(nil, (*Server).describeParameters),
	},
}

var targets = map[string]string{SecretsManager: "secretsmanager.", SSM: "AmazonSSM."}

// serveJSON reads the operation, then records, disturbs, authenticates and
// answers, in this order.
func (s *Server) serveJSON(w http.ResponseWriter, q *request) {
	if q.region == "" {
		q.region = q.scopeRegion()
	}
	name, ok := strings.CutPrefix(q.Header.Get("X-Amz-Target"), targets[q.service])
	operation, known := operations[q.service][name]
	if !ok || !known || !q.isContentType(jsonType) {
		q.op = name
		s.refuse(w, q, http.StatusBadRequest, "UnknownOperationException", "")
		return
	}
	q.op, q.input = name, operation.input()
	readable := json.Unmarshal(q.body, q.input) == nil
	if readable {
		q.ids = operation.ids(q.input)
	}
	s.begin(q)
	if s.disturb(w, q) {
		return
	}
	if e := s.authenticate(q); e != nil {
		s.fail(w, q, e)
		return
	}
	if !readable {
		s.fail(w, q, badRequest("SerializationException", ""))
		return
	}
	out, e := operation.do(s, q)
	if e != nil {
		s.fail(w, q, e)
		return
	}
	s.end(q, http.StatusOK, "")
	w.Header().Set("Content-Type", jsonType)
	b, _ := json.Marshal(out)
	w.Write(b)
}

// epoch is a time as JSON 1.1 writes it: seconds since 1970, as a number.
type epoch time.Time

func (e epoch) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Time(e).UnixMilli()) / 1000)
}

// plainIDs are the ids of a request with and without what selects a version.
func plainIDs(ids []string) []string {
	out := slices.Clone(ids)
	for _, id := range ids {
		if name, _, ok := strings.Cut(id, "@"); ok {
			out = append(out, name)
		}
		if name, _, ok := cutSelector(id); ok {
			out = append(out, name)
		}
	}
	return out
}

// page cuts one page out of sorted names. A token is opaque to clients; here it
// holds the last name answered, so that a list that changes between two pages
// loses nothing that stays.
func page[T any](items []T, name func(T) string, token string, size int) (out []T, next string, ok bool) {
	start := 0
	if token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		last, found := strings.CutPrefix(string(b), "after:")
		if err != nil || !found {
			return nil, "", false
		}
		start = slices.IndexFunc(items, func(t T) bool { return name(t) == last }) + 1
		if start == 0 {
			return nil, "", false
		}
	}
	items = items[start:]
	if len(items) <= size {
		return items, "", true
	}
	return items[:size], base64.RawURLEncoding.EncodeToString([]byte("after:" + name(items[size-1]))), true
}
