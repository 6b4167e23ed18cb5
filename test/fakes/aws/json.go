package aws

import (
	"encoding/json"
	"net/http"
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
	s.End(q.call, http.StatusOK, "")
	w.Header().Set("Content-Type", jsonType)
	b, _ := json.Marshal(out)
	w.Write(b)
}

// epoch is a time as JSON 1.1 writes it: seconds since 1970, as a number.
type epoch time.Time

func (e epoch) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Time(e).UnixMilli()) / 1000)
}
