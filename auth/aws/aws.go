// Package aws turns an Identity into AWS credentials: by the IAM role of its
// ServiceAccount (IRSA), by EKS Pod Identity, by static keys of the tenant, or
// as the node's own identity, and from any of them into a role of another
// account.
//
// The stores of AWS call it: Open says who an identity is to AWS and contacts
// nobody but, where the role is not configured, the Kubernetes API server;
// Session.Credentials logs in, or hands out what a login not long ago gave.
// Credentials are kept an identity and renewed before they expire, and one
// login serves every pod of an identity that starts at the same moment.
// Nothing here logs, and no error quotes a token, a key or an answer's body.
package aws

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/keep"
	"github.com/coffre-csi/coffre/auth/pool"
)

// Audiences of the tokens that the CSIDriver object must request.
const (
	AudienceIRSA        = "sts.amazonaws.com"
	AudiencePodIdentity = "pods.eks.amazonaws.com"
)

// RoleAnnotation of a ServiceAccount names its IAM role.
const RoleAnnotation = "eks.amazonaws.com/role-arn"

// The addresses of the EKS Pod Identity agent on every node.
const (
	AgentIPv4 = "http://169.254.170.23"
	AgentIPv6 = "http://[fd00:ec2::23]"
)

// Method is a way to log in.
type Method string

const (
	IRSA        Method = "irsa"
	PodIdentity Method = "pod-identity"
	Static      Method = "static"
	// Provider is the node's own identity. Only a store that the platform
	// configured may use it; whoever calls sees to that.
	Provider Method = "provider"
)

// AddressType says at which of its addresses the Pod Identity agent is asked.
type AddressType string

const (
	Auto AddressType = "auto" // IPv4, and IPv6 where IPv4 gives no answer
	IPv4 AddressType = "ipv4"
	IPv6 AddressType = "ipv6"
)

// Login is how a store logs in.
type Login struct {
	Method  Method
	Address AddressType // of the Pod Identity agent
	RoleARN string      // IRSA; "" is the one that the ServiceAccount's annotation names
	UseFIPS bool        // of STS

	// Chain is the role to take on afterwards, usually in another account.
	// Zero is none.
	Chain Chain
}

// Chain is a role that the first credential may assume.
type Chain struct {
	RoleARN    string
	ExternalID string
	Tags       map[string]string // session tags
}

// Options of a Broker. SDK is required.
type Options struct {
	SDK             *SDK
	ServiceAccounts auth.ServiceAccounts
	// PodIdentityTimeout is how long an answer of the agent may take; default
	// 5 s. AgentIPv4 and AgentIPv6 are its base URLs.
	PodIdentityTimeout   time.Duration
	AgentIPv4, AgentIPv6 string
	Metrics              auth.SignIns // kinds: irsa, pod-identity, chain
	Now                  func() time.Time
}

// Broker makes and keeps credentials. It is safe for concurrent use.
type Broker struct {
	opts  Options
	agent *agent

	keeper *keep.Keeper[sdk.Credentials]
	sts    *pool.Pool[stsKey, *sts.Client]

	mu  sync.Mutex
	own sdk.CredentialsProvider // the node's
}

type stsKey struct {
	region string
	fips   bool
}

// New makes a Broker; it contacts nobody.
func New(o Options) *Broker {
	if o.PodIdentityTimeout <= 0 {
		o.PodIdentityTimeout = 5 * time.Second
	}
	o.AgentIPv4, o.AgentIPv6 = cmp.Or(o.AgentIPv4, AgentIPv4), cmp.Or(o.AgentIPv6, AgentIPv6)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Broker{
		opts: o, agent: newAgent(o),
		keeper: keep.New(keep.Options[sdk.Credentials]{Expires: expires, Now: o.Now}),
		sts:    pool.New[stsKey, *sts.Client](pool.Options[*sts.Client]{Now: o.Now}),
	}
}

// Session is an identity as AWS will see it.
type Session struct {
	broker *Broker
	id     auth.Identity
	login  Login
	token  auth.Token
	static sdk.Credentials
	key    string // of the first credential
}

// Open finds out who id is to AWS. It contacts the Kubernetes API server where
// the role stands in an annotation, and nobody else.
func (b *Broker) Open(ctx context.Context, id auth.Identity, login Login) (*Session, error) {
	s := &Session{broker: b, id: id, login: login}
	var err error
	switch login.Method {
	case IRSA:
		if s.token, err = token(id, AudienceIRSA, "IRSA"); err != nil {
			return nil, err
		}
		if s.login.RoleARN == "" {
			if s.login.RoleARN, err = b.annotatedRole(ctx, id); err != nil {
				return nil, err
			}
		}

		s.key = auth.Joined("irsa", id.Namespace, id.ServiceAccount, s.login.RoleARN)
	case PodIdentity:
		if s.token, err = token(id, AudiencePodIdentity, "Pod Identity"); err != nil {
			return nil, err
		}
		s.key = auth.Joined("pod-identity", id.Namespace, id.ServiceAccount)
	case Static:
		if s.static, err = staticKeys(id.Secrets); err != nil {
			return nil, err
		}
		s.key = auth.Joined("static", id.Namespace, id.ServiceAccount, id.Secrets.Digest())
	case Provider:
		s.key = "provider"
	default:
		return nil, fault.Errorf(fault.Invalid, "%.40q is no way to log in to AWS", login.Method)
	}

	return s, nil
}

func (b *Broker) annotatedRole(ctx context.Context, id auth.Identity) (string, error) {
	missing := fmt.Sprintf("An IAM role must be associated with service account %s (namespace: %s)", id.ServiceAccount, id.Namespace)
	if b.opts.ServiceAccounts == nil {
		return "", fault.Errorf(fault.Precondition, "%s: set the store's roleARN; annotations of ServiceAccounts are not read here", missing)
	}
	role, err := b.opts.ServiceAccounts.ServiceAccountAnnotation(ctx, id.Namespace, id.ServiceAccount, RoleAnnotation)
	if err != nil {
		return "", fault.As(err, err.Error())
	}
	if role = strings.TrimSpace(role); role == "" {
		return "", fault.Errorf(fault.Precondition, "%s: annotate it with %s, or set the store's roleARN", missing, RoleAnnotation)
	}
	if len(role) > 2048 {
		return "", fault.Errorf(fault.Invalid, "the annotation %s of %s is no role's ARN", RoleAnnotation, id)
	}

	return role, nil
}

// Principal tells sessions of one service account apart: cached values are
// never shared between principals. It is for memory only.
func (s *Session) Principal() string {
	first := string(s.login.Method)
	switch s.login.Method {
	case IRSA:
		first = s.login.RoleARN
	case Static:
		first = s.id.Secrets.Digest()
	}
	if s.login.Chain.RoleARN == "" {
		return first
	}
	return auth.Joined(first, s.chainKey())
}

// Role is the ARN of the role that is read as, "" where it is not known: that of
// EKS Pod Identity is the agent's to know.
func (s *Session) Role() string { return cmp.Or(s.login.Chain.RoleARN, s.login.RoleARN) }

// Account is the AWS account of the session, as far as it is known before
// logging in.
func (s *Session) Account() string {
	parts := strings.SplitN(cmp.Or(s.login.Chain.RoleARN, s.login.RoleARN), ":", 6)
	if len(parts) < 6 {
		return ""
	}
	return parts[4]
}

// Who names the session in an error: its role, where that is known, and whose
// it is.
func (s *Session) Who() string {
	role := s.login.Chain.RoleARN
	if role == "" && s.login.Method == IRSA {
		role = s.login.RoleARN
	}
	switch {
	case role != "" && s.login.Method == Provider:
		return fmt.Sprintf("role %s (the node's own identity)", role)
	case role != "":
		return fmt.Sprintf("role %s (%s)", role, s.id)
	case s.login.Method == PodIdentity:
		return fmt.Sprintf("the Pod Identity role of %s", s.id)
	case s.login.Method == Static:
		return fmt.Sprintf("the access key of nodePublishSecretRef (%s)", s.id)
	default:
		return "the node's own identity"
	}
}

func (s *Session) chainKey() string {
	c := s.login.Chain
	h := sha256.New()
	fmt.Fprintf(h, "%q %q", c.RoleARN, c.ExternalID)
	for _, k := range slices.Sorted(maps.Keys(c.Tags)) {
		fmt.Fprintf(h, " %q=%q", k, c.Tags[k])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Credentials are valid for at least another minute, where AWS gives any for
// that long. region is whose STS is asked if somebody has to be.
func (s *Session) Credentials(ctx context.Context, region string) (sdk.Credentials, error) {
	if s.login.Chain.RoleARN == "" {
		return s.first(ctx, region)
	}
	key := auth.Joined(s.key, s.chainKey())
	return s.kept(ctx, key, region, auth.Token{}, func(ctx context.Context, _ auth.Token) (sdk.Credentials, error) {
		first, err := s.first(ctx, region)
		if err != nil {
			return sdk.Credentials{}, err
		}
		return s.assume(ctx, region, first)
	})
}

func (s *Session) first(ctx context.Context, region string) (sdk.Credentials, error) {
	switch s.login.Method {
	case Static:
		return s.static, nil
	case Provider:
		return s.broker.providers(ctx)
	case PodIdentity:
		return s.kept(ctx, s.key, region, s.token, s.askAgent)
	default:
		return s.kept(ctx, s.key, region, s.token, func(ctx context.Context, t auth.Token) (sdk.Credentials, error) {
			return s.assumeWithToken(ctx, region, t)
		})
	}
}

// Ready says whether credentials are kept, so that Credentials asks nobody.
func (s *Session) Ready() bool {
	key := s.key
	if s.login.Chain.RoleARN != "" {
		key = auth.Joined(s.key, s.chainKey())
	}
	_, ok := s.broker.keeper.Known(key)
	return ok || s.login.Method == Static || s.login.Method == Provider
}

// kept asks the keeper for a credential, under a key of this session.
func (s *Session) kept(ctx context.Context, key, region string, t auth.Token, in func(context.Context, auth.Token) (sdk.Credentials, error)) (sdk.Credentials, error) {
	return s.broker.keeper.Get(ctx, keep.Asked[sdk.Credentials]{
		Key: key, Place: region, Namespace: s.id.Namespace, Token: t, Exchange: in,
	})
}

// Forget drops credentials that AWS no longer takes.
func (s *Session) Forget(c sdk.Credentials) {
	same := func(kept sdk.Credentials) bool { return kept.AccessKeyID == c.AccessKeyID }
	s.broker.keeper.Forget(s.key, same)
	if s.login.Chain.RoleARN != "" {
		s.broker.keeper.Forget(auth.Joined(s.key, s.chainKey()), same)
	}
}

func expires(c sdk.Credentials) (time.Time, bool) { return c.Expires, c.CanExpire }

// client of the STS of a region, to be released.
func (b *Broker) client(region string, fips bool) (*sts.Client, func(), error) {
	return b.sts.Use(stsKey{region, fips}, func() (*sts.Client, error) {
		cfg, err := b.opts.SDK.Config()
		if err != nil {
			return nil, err
		}
		return sts.NewFromConfig(cfg, func(o *sts.Options) {
			o.Region = region
			o.Retryer = retryer()
			if fips {
				o.EndpointOptions.UseFIPSEndpoint = sdk.FIPSEndpointStateEnabled
			}
		}), nil
	})
}

// Ahead opens the connection to the STS of a region, which will be needed soon.
func (b *Broker) Ahead(ctx context.Context, region string, fips bool) {
	client, release, err := b.client(region, fips)
	if err != nil {
		return
	}
	defer release()
	o := client.Options()
	at, err := o.EndpointResolverV2.ResolveEndpoint(ctx, sts.EndpointParameters{
		Region: sdk.String(region), UseFIPS: sdk.Bool(fips), Endpoint: o.BaseEndpoint, UseGlobalEndpoint: sdk.Bool(false),
		UseDualStack: sdk.Bool(o.EndpointOptions.UseDualStackEndpoint == sdk.DualStackEndpointStateEnabled),
	})
	if err == nil {
		b.opts.SDK.Open(&at.URI)
	}
}

// providers are the credentials of the node's own identity, by the SDK's
// default chain.
func (b *Broker) providers(ctx context.Context) (sdk.Credentials, error) {
	b.mu.Lock()
	own := b.own
	b.mu.Unlock()
	if own == nil {
		var err error
		if own, err = b.opts.SDK.ownIdentity(ctx); err != nil {
			return sdk.Credentials{}, err
		}
		b.mu.Lock()
		b.own = own
		b.mu.Unlock()
	}

	c, err := own.Retrieve(ctx)
	if err != nil {
		return c, fault.Errorf(fault.Precondition, "the node's own identity has no AWS credentials: neither the environment nor the instance gives any (a pod reaches the instance's only with a hop limit of 2)")
	}

	return c, nil
}
