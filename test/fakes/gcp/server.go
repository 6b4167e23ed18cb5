// Package gcp is a fake of the Google services that Coffre talks to, for tests,
// benchmarks and demonstrations: Secret Manager and Parameter Manager, global
// and regional, and IAM Credentials, over gRPC and REST, STS, the OAuth token
// endpoint, and the metadata server.
//
// The services are built on Google's own protobuf packages, so that the product
// and its SDK run against it unmodified. It rejects by default: host names and
// routes that it does not have, tokens that it did not issue, principals without
// a grant. README.md says what the real SDK confirms and what is this fake's own
// belief.
//
// It is never linked into the product.
package gcp

import (
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/iam/credentials/apiv1/credentialspb"
	"cloud.google.com/go/parametermanager/apiv1/parametermanagerpb"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"connectrpc.com/vanguard/vanguardgrpc"
	"google.golang.org/grpc"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// The services, as Fault, Limit and Call name them.
const (
	SecretManager    = "secretmanager"
	ParameterManager = "parametermanager"
	IAM              = "iamcredentials"
	STS              = "sts"
	OAuth            = "oauth2"
	Metadata         = "metadata"
)

// What goes wrong and what was asked is the same for every fake. A Fault's Code
// is a gRPC code as Google writes it ("RESOURCE_EXHAUSTED"), its RetryAfter a
// RetryInfo; at STS and OAuth its Code is an OAuth error. A Region is a location,
// "global" where the name has none.
type (
	Fault = traffic.Fault
	Limit = traffic.Limit
	Call  = traffic.Call
)

// Options are what does not change while the server runs.
type Options struct {
	// Now is the fake's clock. Latency is real time whatever the clock.
	Now func() time.Time

	// AcceptAnyToken makes every service take any text for a token, and lets
	// everybody do everything.
	AcceptAnyToken bool

	// PageSize is the most that a list answers at once; 0 is what Google allows.
	PageSize int

	// Record is traffic.Options'.
	Record func(call string)
}

// Server is the fake. Its handlers may be served on any number of listeners;
// all methods are safe for concurrent use, and data may change while it runs.
type Server struct {
	opts Options

	mu         sync.RWMutex // guards the data
	secrets    map[string]*Secret
	parameters map[string]*Parameter
	answers    map[string]*Answer

	oidc.Issuers  // whose tokens are trusted
	identities    // who may do what
	metadata      // what a node is told of itself
	*traffic.Gate // what was asked, and what goes wrong

	api http.Handler // gRPC and REST
}

// New makes a server that holds nothing and trusts nobody.
func New(opts Options) *Server {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Server{opts: opts, secrets: map[string]*Secret{}, parameters: map[string]*Parameter{}, answers: map[string]*Answer{}}
	s.identities.init()
	s.metadata.init()
	s.Gate = traffic.New(traffic.Options{Now: opts.Now, Record: opts.Record})

	server := grpc.NewServer(grpc.UnaryInterceptor(s.intercept))
	secretmanagerpb.RegisterSecretManagerServiceServer(server, secretManager{self: self{s}})
	parametermanagerpb.RegisterParameterManagerServer(server, &parameterManager{self: self{s}})
	credentialspb.RegisterIAMCredentialsServer(server, iamCredentials{self: self{s}})
	api, err := vanguardgrpc.NewTranscoder(server)
	if err != nil {
		panic(fmt.Sprintf("gcp: the services' own descriptors: %v", err)) // nothing that a caller can change
	}
	s.api = api
	return s
}

// self is the Server inside a service, one level below the generated methods, so
// that DeleteSecret of the API is not taken for that of a test.
type self struct{ *Server }

// HTTP2 is true of the hosts that serve gRPC.
func (s *Server) HTTP2(host string) bool { return apiHosts.MatchString(host) }

// apiHosts are the endpoints of the API references, global and regional.
var apiHosts = regexp.MustCompile(`^(secretmanager|parametermanager|iamcredentials)(?:\.([a-z0-9-]+)\.rep)?\.googleapis\.com$`)

// Serves says whether a host is one of Google's: all of googleapis.com, and the
// metadata server.
func (s *Server) Serves(host string) bool {
	host = hostname(host)
	return strings.HasSuffix(host, ".googleapis.com") || metadataHosts[host]
}

// ServeHTTP routes by host name.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := hostname(r.Host)
	switch {
	case apiHosts.MatchString(host):
		s.serveAPI(w, r)
	case host == "sts.googleapis.com" && r.URL.Path == "/v1/token",
		host == "securetoken.googleapis.com" && r.URL.Path == "/v1/identitybindingtoken":
		s.serveSTS(w, r)
	case host == "oauth2.googleapis.com" && r.URL.Path == "/token":
		s.serveOAuth(w, r)
	case metadataHosts[host]:
		s.serveMetadata(w, r)
	default:
		c := s.Begin(Call{Service: "unknown", Op: r.Method + " " + host + r.URL.Path})
		s.End(c, http.StatusNotFound, "")
		http.Error(w, "this fake serves no such host or path", http.StatusNotFound)
	}
}

var metadataHosts = map[string]bool{"169.254.169.254": true, "metadata.google.internal": true, "metadata": true}

// MetadataServer serves the metadata server alone, whatever the host name, as
// GCE_METADATA_HOST points at it.
func (s *Server) MetadataServer() http.Handler { return http.HandlerFunc(s.serveMetadata) }

func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
