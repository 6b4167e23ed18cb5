package gcp

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"path"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/coffre-csi/coffre/test/fakes/serve"
	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// A visit is one request to the API: what the interceptor knows of the HTTP
// request, and what it has decided about its answer.
type visit struct {
	host, bearer string
	fate         traffic.Outcome // Drop and Garbage are done by serveAPI
}

type visitKey struct{}

// serveAPI serves gRPC, and REST by transcoding.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	v := &visit{host: hostname(r.Host), bearer: bearer}
	out := &answer{ResponseWriter: w, visit: v, rest: !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")}
	s.api.ServeHTTP(out, r.WithContext(context.WithValue(r.Context(), visitKey{}, v)))

	switch v.fate {
	case traffic.Drop:
		serve.Drop(r)
	case traffic.Garbage:
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte(traffic.Rubbish))
	default:
		out.finish()
	}
}

// An answer holds back what is not to be answered, and puts the errors of REST
// into the form of Google's own JSON APIs.
type answer struct {
	http.ResponseWriter
	*visit
	rest   bool
	status int
	failed bytes.Buffer // the body of a REST error
}

func (a *answer) doomed() bool { return a.fate == traffic.Drop || a.fate == traffic.Garbage }

func (a *answer) WriteHeader(status int) {
	a.status = status
	if !a.doomed() && (!a.rest || status < 400) {
		a.ResponseWriter.WriteHeader(status)
	}
}

func (a *answer) Write(b []byte) (int, error) {
	switch {
	case a.doomed():
		return len(b), nil
	case a.rest && a.status >= 400:
		return a.failed.Write(b)
	}
	return a.ResponseWriter.Write(b)
}

func (a *answer) Flush() {
	if f, ok := a.ResponseWriter.(http.Flusher); ok && !a.doomed() {
		f.Flush()
	}
}

// finish writes a REST error as the Cloud API Design Guide has it, "Errors":
// the status under "error", with the HTTP code and the name of the gRPC code.
func (a *answer) finish() {
	if !a.rest || a.status < 400 {
		return
	}
	var st struct {
		Code    int32             `json:"code"`
		Message string            `json:"message"`
		Details []json.RawMessage `json:"details,omitempty"`
	}
	_ = json.Unmarshal(a.failed.Bytes(), &st) // without one, the code says enough
	body, _ := json.Marshal(map[string]any{"error": map[string]any{
		"code": a.status, "message": st.Message, "status": code.Code(st.Code).String(), "details": st.Details,
	}})
	a.Header().Del("Content-Length")
	a.Header().Set("Content-Type", "application/json; charset=UTF-8")
	a.ResponseWriter.WriteHeader(a.status)
	a.ResponseWriter.Write(body)
}

// A caller is who a request is from; nil where it is nobody.
type callerKey struct{}

// intercept records, disturbs, authenticates and answers, in this order.
func (s *Server) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	v, _ := ctx.Value(visitKey{}).(*visit)
	m := apiHosts.FindStringSubmatch(v.host)
	service, location := m[1], m[2]

	name := resourceOf(req)
	c := Call{Service: service, Region: locationOf(name), Op: path.Base(info.FullMethod), IDs: []string{name}, Also: parents(name)}
	who, denied := s.authenticate(v.bearer)
	if who != nil {
		c.Caller = who.principal
	}
	call := s.Begin(c)

	out, err := s.answer(ctx, v, call, func() (any, error) {
		if denied != nil {
			return nil, denied
		}
		if err := checkEndpoint(info.FullMethod, service, location, name); err != nil {
			return nil, err
		}
		return next(context.WithValue(ctx, callerKey{}, who), req)
	})
	if v.fate == traffic.Proceed {
		st := status.Convert(err)
		s.End(call, httpStatus(st.Code()), code.Code(st.Code()).String())
	}
	return out, err
}

// answer lets a request through, or does to it what faults and limits demand.
func (s *Server) answer(ctx context.Context, v *visit, call *Call, through func() (any, error)) (any, error) {
	outcome, fault := s.Judge(ctx, call)
	switch outcome {
	case traffic.Proceed:
		return through()
	case traffic.Throttle:
		return nil, quotaExceeded(call.Service)
	case traffic.Refuse:
		return nil, faultStatus(fault).Err()
	}
	v.fate = outcome
	return nil, status.Error(codes.Internal, "not to be seen")
}

// checkEndpoint refuses what an endpoint does not serve: another service's
// methods, and resources of another location than its own.
func checkEndpoint(method, service, location, name string) error {
	prefix := map[string]string{
		SecretManager:    "/google.cloud.secretmanager.v1.",
		ParameterManager: "/google.cloud.parametermanager.v1.",
		IAM:              "/google.iam.credentials.v1.",
	}[service]
	if !strings.HasPrefix(method, prefix) {
		return status.Errorf(codes.Unimplemented, "Method not found: %s", method)
	}

	own := locationOf(name)
	if location == "" {
		location = "global"
	}
	if service != IAM && own != location {
		return status.Errorf(codes.InvalidArgument, "The location %s of the resource is not the location %s of the endpoint.", own, location)
	}
	return nil
}

// resourceOf is what a request is about.
func resourceOf(req any) string {
	if r, ok := req.(interface{ GetName() string }); ok {
		return r.GetName()
	}
	if r, ok := req.(interface{ GetParent() string }); ok {
		return r.GetParent()
	}
	return ""
}

// locationOf is the location in a name, "global" where there is none.
func locationOf(name string) string {
	parts := strings.Split(name, "/")
	if len(parts) > 3 && parts[2] == "locations" {
		return parts[3]
	}
	return "global"
}

// parents are the names that a resource is below, with itself: of a version its
// secret, of a secret its project.
func parents(name string) (up []string) {
	parts := strings.Split(name, "/")
	for n := len(parts); n >= 2; n -= 2 {
		up = append(up, strings.Join(parts[:n], "/"))
	}
	return up
}

// faultStatus makes a status of a fault: its code by Google's name, with the
// wait as a RetryInfo.
func faultStatus(f Fault) *status.Status {
	c, ok := code.Code_value[f.Code]
	if !ok {
		c = int32(codes.Internal)
	}
	return withRetry(status.New(codes.Code(c), f.Message), f.RetryAfter)
}

func withRetry(st *status.Status, wait time.Duration) *status.Status {
	if wait == 0 {
		return st
	}
	return with(st, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
}

func with(st *status.Status, details ...protoadapt.MessageV1) *status.Status {
	more, err := st.WithDetails(details...)
	if err != nil {
		return st // OK carries no details
	}
	return more
}

// quotaExceeded is what a service says of a spent quota (Secret Manager,
// "Quotas and limits"; the wording is that of Service Infrastructure).
func quotaExceeded(service string) error {
	st := status.Newf(codes.ResourceExhausted, "Quota exceeded for quota metric 'Access requests' and limit "+
		"'Access requests per minute' of service '%s.googleapis.com' for consumer 'project_number:%s'.", service, DefaultNumber)
	return withRetry(with(st, &errdetails.ErrorInfo{
		Reason: "RATE_LIMIT_EXCEEDED", Domain: "googleapis.com",
		Metadata: map[string]string{"service": service + ".googleapis.com"},
	}), time.Second).Err()
}

// httpStatus is the HTTP code of a gRPC code, google/rpc/code.proto.
func httpStatus(c codes.Code) int {
	return map[codes.Code]int{
		codes.OK: 200, codes.Canceled: 499, codes.InvalidArgument: 400, codes.DeadlineExceeded: 504,
		codes.NotFound: 404, codes.AlreadyExists: 409, codes.PermissionDenied: 403, codes.Unauthenticated: 401,
		codes.ResourceExhausted: 429, codes.FailedPrecondition: 400, codes.Aborted: 409, codes.OutOfRange: 400,
		codes.Unimplemented: 501, codes.Unavailable: 503,
	}[c]
}
