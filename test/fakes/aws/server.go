// Package aws is a fake of the AWS services that Coffre talks to, for tests,
// benchmarks and demonstrations: Secrets Manager and Systems Manager Parameter
// Store (JSON 1.1), STS (query protocol) and the EKS Pod Identity agent.
//
// It speaks the wire protocols, so that the product runs against it unmodified,
// and it rejects by default: what it does not know, what is not signed with a
// key that it issued itself, and what no role permits. It is written from the
// published behaviour of the services, and is not evidence of what AWS does:
// where a comment names no source, the text or the code is this fake's own.
//
// It is never linked into the product.
package aws

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"mime"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// The services, as Fault, Limit and Call name them.
const (
	SecretsManager = "secretsmanager"
	SSM            = "ssm"
	STS            = "sts"
	PodIdentity    = "podidentity"
)

// Account is the account of everything that names no other.
const Account = "123456789012"

// maxBody bounds a request. BatchGetSecretValue with twenty ARNs of 2048
// characters, the longest that is legal, is far below.
const maxBody = 1 << 20

// Options are what does not change while the server runs.
type Options struct {
	// Now is the fake's clock: for signatures, tokens and credentials. Latency
	// is real time whatever the clock.
	Now func() time.Time

	// AcceptAnyToken makes STS and the Pod Identity agent take any text for a
	// token and any name for a role. A role that is not registered may then do
	// everything. Signatures are verified all the same.
	AcceptAnyToken bool

	// DefaultRegion is where an unsigned STS call goes that neither host nor
	// path assigns to a region.
	DefaultRegion string

	// PageSize is the most that a list answers at once; 0 is what AWS answers.
	PageSize int

	// Record is traffic.Options'.
	Record func(call string)
}

// Server is the fake. Its handlers may be served on any number of listeners;
// all methods are safe for concurrent use, and data may change while it runs.
type Server struct {
	opts Options

	mu      sync.RWMutex // guards the data
	secrets map[regional]*Secret
	params  map[regional]*Parameter
	rotate  sync.Mutex // held by what makes a new version of an old one

	oidc.Issuers  // whose tokens are trusted
	identities    // who may do what
	*traffic.Gate // what was asked, and what goes wrong
}

// What goes wrong and what was asked is the same for every fake.
type (
	Fault = traffic.Fault
	Limit = traffic.Limit
	Call  = traffic.Call
)

// regional is a name in a region.
type regional struct{ region, name string }

// New makes a server that holds nothing and trusts nobody.
func New(opts Options) *Server {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Server{opts: opts, secrets: map[regional]*Secret{}, params: map[regional]*Parameter{}}
	s.identities.init()
	s.Gate = traffic.New(traffic.Options{Now: opts.Now, Record: opts.Record, Inside: itemOnly})
	return s
}

// A request is what every step needs to know of an HTTP request.
type request struct {
	*http.Request
	body    []byte
	service string
	region  string // "" where the request does not say
	op      string
	ids     []string
	call    *Call
	who     *session // set by authenticate

	params map[string]string // STS: the form
	input  any               // JSON: the decoded body
}

// ServeHTTP routes by host name, then by path, X-Amz-Target and Action.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("x-amzn-RequestId", requestID())
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		panic(http.ErrAbortHandler) // the client went away
	}
	q := &request{Request: r, body: body}
	if len(body) > maxBody {
		s.refuse(w, q, http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", "Request body is too large")
		return
	}
	host, onHost := parseHost(r.Host)
	switch {
	case strings.HasSuffix(hostname(r.Host), ".amazonaws.com") && !onHost:
		s.refuse(w, q, http.StatusNotFound, "UnknownHost", "This fake serves no such host")
	case onHost && r.URL.Path != "/":
		q.service, q.region = host.service, host.region
		s.refuse(w, q, http.StatusNotFound, "UnknownOperationException", "")
	case onHost:
		q.service, q.region = host.service, host.region
		s.serveService(w, q)
	case r.Header.Get("X-Amz-Target") == "" && (strings.HasPrefix(r.URL.Path, "/v1/") || r.Method == http.MethodGet):
		s.servePodIdentity(w, q)
	default:
		s.serveEndpoint(w, q)
	}
}

// serveEndpoint is the single endpoint of AWS_ENDPOINT_URL: one address for all
// services, and optionally a path or a first label that is a region.
func (s *Server) serveEndpoint(w http.ResponseWriter, q *request) {
	target := q.Header.Get("X-Amz-Target")
	switch {
	case strings.HasPrefix(target, "secretsmanager."):
		q.service = SecretsManager
	case strings.HasPrefix(target, "AmazonSSM."):
		q.service = SSM
	case target == "" && strings.HasPrefix(q.Header.Get("Content-Type"), formType):
		q.service = STS
	default:
		s.refuse(w, q, http.StatusNotFound, "UnknownOperationException", "")
		return
	}
	label, _, _ := strings.Cut(hostname(q.Host), ".")
	path := strings.Trim(q.URL.Path, "/")
	switch {
	case regionName.MatchString(path):
		q.region = path
	case path != "":
		s.refuse(w, q, http.StatusNotFound, "UnknownOperationException", "")
		return
	case regionName.MatchString(label):
		q.region = label
	}
	s.serveService(w, q)
}

func (s *Server) serveService(w http.ResponseWriter, q *request) {
	if q.Method != http.MethodPost {
		s.refuse(w, q, http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed against this resource.")
		return
	}
	if q.service == STS {
		s.serveSTS(w, q)
		return
	}
	s.serveJSON(w, q)
}

// PodIdentityAgent serves the agent alone, as the addresses 169.254.170.23 and
// fd00:ec2::23 of a node do.
func (s *Server) PodIdentityAgent() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.servePodIdentity(w, &request{Request: r})
	})
}

// atMost is the size of a page.
func (s *Server) atMost(size int) int {
	if s.opts.PageSize > 0 {
		return min(size, s.opts.PageSize)
	}
	return size
}

// refuse records and answers what reaches no operation.
func (s *Server) refuse(w http.ResponseWriter, q *request, status int, code, message string) {
	s.begin(q)
	s.fail(w, q, &apiError{Status: status, Code: code, Message: message})
}

var regionName = regexp.MustCompile(`^[a-z]{2}(-[a-z]+){1,2}-[0-9]$`)

type endpoint struct{ service, region string }

// hostNames are the endpoints of the AWS General Reference, "Service endpoints
// and quotas" of the three services: plain, FIPS and dual-stack.
var hostNames = regexp.MustCompile(`^(secretsmanager|ssm|sts)(-fips)?\.([a-z0-9-]+)\.(amazonaws\.com(\.cn)?|api\.aws|api\.amazonwebservices\.com\.cn)$`)

func parseHost(host string) (endpoint, bool) {
	name := hostname(host)
	if name == "sts.amazonaws.com" { // the global endpoint, which lives in us-east-1
		return endpoint{STS, "us-east-1"}, true
	}
	m := hostNames.FindStringSubmatch(name)
	if m == nil || !regionName.MatchString(m[3]) {
		return endpoint{}, false
	}
	if strings.HasPrefix(m[3], "cn-") != strings.HasSuffix(name, ".cn") {
		return endpoint{}, false
	}
	return endpoint{m[1], m[3]}, true
}

func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// isContentType ignores parameters such as charset.
func (q *request) isContentType(want string) bool {
	got, _, err := mime.ParseMediaType(q.Header.Get("Content-Type"))
	return err == nil && got == want
}

func requestID() string {
	var b [16]byte
	rand.Read(b[:])
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// partition is the part of an ARN that the region decides on.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}
