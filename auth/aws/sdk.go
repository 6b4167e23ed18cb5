package aws

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"

	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/peer"
)

// SDK is the AWS SDK's configuration: loaded when it is first used, once, from
// the SDK's own environment variables (AWS_ENDPOINT_URL and its kin,
// AWS_USE_FIPS_ENDPOINT, AWS_CA_BUNDLE) and from no file, with one pool of
// connections for everything.
type SDK struct {
	opts SDKOptions

	mu     sync.Mutex
	loaded *sdk.Config
	warmer *peer.Warmer // nil where Transport is set
}

// SDKOptions are what the SDK does not read from its environment by itself.
type SDKOptions struct {
	Version string // of Coffre, for the user agent
	Addon   string // version of the EKS add-on it was installed by, or ""
	// Transport stands in for the network, where it is not nil.
	Transport http.RoundTripper
	// Logger is told what the SDK has to say; nil where nobody listens.
	Logger logging.Logger
}

// NewSDK makes the configuration of a process; it reads nothing yet.
func NewSDK(o SDKOptions) *SDK { return &SDK{opts: o} }

// Bounds of the connection pool, a host. A burst of mounts keeps what it opened
// for the next one, for a while.
const (
	connections = 64
	idle        = 64
	idleTotal   = 128
	idleTime    = 60 * time.Second
)

// Config is the base of every client. It has no region and no credentials.
func (s *SDK) Config() (sdk.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded == nil {
		cfg, warmer, err := s.load(context.Background(), config.WithCredentialsProvider(sdk.AnonymousCredentials{}))
		if err != nil {
			return cfg, err
		}
		s.loaded, s.warmer = &cfg, warmer
	}

	return s.loaded.Copy(), nil
}

// ownIdentity is the SDK's default chain: the environment, then the instance.
func (s *SDK) ownIdentity(ctx context.Context) (sdk.CredentialsProvider, error) {
	cfg, _, err := s.load(ctx)
	return cfg.Credentials, err
}

func (s *SDK) load(ctx context.Context, more ...func(*config.LoadOptions) error) (sdk.Config, *peer.Warmer, error) {
	pool := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxConnsPerHost, t.MaxIdleConnsPerHost, t.MaxIdleConns = connections, idle, idleTotal
		t.IdleConnTimeout = idleTime
		t.ReadBufferSize, t.WriteBufferSize = 4<<10, 4<<10
	})

	options := append([]func(*config.LoadOptions) error{
		config.WithSharedConfigFiles([]string{}),
		config.WithSharedCredentialsFiles([]string{}),
		config.WithHTTPClient(pool),
		config.WithLogger(s.logger()),
		config.WithAppID("coffre/" + s.opts.Version),
		config.WithRetryer(func() sdk.Retryer { return retryer() }),
	}, more...)
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return cfg, nil, &fault.Error{Reason: fault.Precondition, Text: "the provider's AWS environment variables cannot be used: " + err.Error(), Cause: err}
	}
	if s.opts.Addon != "" {
		cfg.APIOptions = append(cfg.APIOptions, middleware.AddUserAgentKeyValue("eks-addon", strings.TrimSpace(s.opts.Addon)))
	}
	// A client of the SDK would make a pool of its own out of a buildable one.
	transport := s.opts.Transport
	var warmer *peer.Warmer
	if b, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok && transport == nil {
		warmer = peer.Warm(b.GetTransport())
		transport = warmer.Transport()
	}
	cfg.HTTPClient = &http.Client{Transport: transport, CheckRedirect: peer.NoRedirect}

	return cfg, warmer, nil
}

func (s *SDK) logger() logging.Logger {
	if s.opts.Logger != nil {
		return s.opts.Logger
	}
	return logging.Nop{}
}

// Open opens a connection to the host of a URL, which will be needed soon.
func (s *SDK) Open(u *url.URL) {
	s.mu.Lock()
	w := s.warmer
	s.mu.Unlock()
	if w != nil {
		w.Open(u)
	}
}

// Close closes the connections that are idle.
func (s *SDK) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.warmer != nil {
		s.warmer.Transport().CloseIdleConnections()
	}
}

// retryer is for logins: three attempts with full jitter, and no quota that a
// storm of other people's failures could use up.
func retryer() sdk.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = 3
		o.MaxBackoff = 2 * time.Second
		o.RateLimiter = ratelimit.None
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: map[string]struct{}{"IDPCommunicationError": {}}})
	})
}
