// Package gcp turns an Identity into an access token of Google's: by Workload
// Identity (of a GKE cluster, of a fleet membership, or by federation of any
// other cluster), as a service account of Google's from there where one is
// named, by a key file of the tenant, or as the provider's own identity.
//
// The stores of Google call it: Open says who an identity is to Google and
// contacts nobody but, where configuration does not say it, the node's metadata
// server and the Kubernetes API server; Session.Token signs in, or hands out
// what a sign-in not long ago gave. Nothing here logs, and no error quotes a
// token, a key or an answer's body.
package gcp

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/keep"
	"github.com/coffre-csi/coffre/auth/kubernetes"
)

// Annotations of a ServiceAccount: the service account of Google's that its
// pods act as, and those on the way there, as a JSON list.
const (
	AccountAnnotation   = "iam.gke.io/gcp-service-account"
	DelegatesAnnotation = "iam.gke.io/gcp-service-account-delegates"
)

// Where tokens are exchanged.
const (
	ExchangeGKE        = "https://securetoken.googleapis.com/v1/identitybindingtoken"
	ExchangeFederation = "https://sts.googleapis.com/v1/token"
	clusterEndpoint    = "https://container.googleapis.com/v1"
	scope              = "https://www.googleapis.com/auth/cloud-platform"
	iamHost            = "iamcredentials.googleapis.com"
)

// Method is a way to sign in.
type Method string

const (
	WorkloadIdentity Method = "workload-identity"
	KeyFile          Method = "key-file"
	// Provider is the provider's own identity. Whoever calls sees to it that the
	// platform allows it.
	Provider Method = "provider"
)

// Login is how a store signs in.
type Login struct {
	Method Method
	// Audience is the full one of the workload identity provider:
	// "identitynamespace:POOL:PROVIDER" or "//iam.googleapis.com/projects/…".
	// Empty: the process's, or the node's cluster.
	Audience string
	// Account is the service account of Google's to act as, by way of Delegates.
	// Empty: what the ServiceAccount's annotation says.
	Account   string
	Delegates []string
}

// Options of a Broker. Network is required.
type Options struct {
	Network         *Network
	ServiceAccounts auth.ServiceAccounts
	Metrics         auth.SignIns // kinds: gcp-sts, gcp-iam, gcp-key

	Audience                              string // where a login names none
	Project, ClusterName, ClusterLocation string // each in the place of what the metadata server says
	ClusterEndpoint                       string // GKE_WORKLOAD_IDENTITY_ENDPOINT
	Exchange                              string // GAIA_TOKEN_EXCHANGE_ENDPOINT
	MetadataHost                          string // GCE_METADATA_HOST
	// CredentialsFile is GOOGLE_APPLICATION_CREDENTIALS: an external_account's
	// audience where there is no cluster of Google's, and the provider's own
	// identity.
	CredentialsFile string
	Now             func() time.Time
}

// Broker makes and keeps tokens. It is safe for concurrent use.
type Broker struct {
	opts        Options
	annotations *kubernetes.Optional
	metadata    *metadata
	keeper      *keep.Keeper[auth.Token]

	mu  sync.Mutex
	iam *grpc.ClientConn
}

// New makes a Broker; it contacts nobody.
func New(o Options) *Broker {
	o.ClusterEndpoint = cmp.Or(o.ClusterEndpoint, clusterEndpoint)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Broker{
		opts: o, annotations: kubernetes.NewOptional(o.ServiceAccounts, o.Now), metadata: newMetadata(o.MetadataHost, o.Now),
		keeper: keep.New(keep.Options[auth.Token]{
			Expires: func(t auth.Token) (time.Time, bool) { return t.Expires, !t.Expires.IsZero() }, Now: o.Now,
		}),
	}
}

// Close closes the connections of sign-ins.
func (b *Broker) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.iam != nil {
		_ = b.iam.Close()
		b.iam = nil
	}
	b.opts.Network.Close()
}

// Session is an identity as Google will see it.
type Session struct {
	broker   *Broker
	id       auth.Identity
	login    Login
	audience string // full, of workload identity
	token    auth.Token
	found    string // the audience that the driver's token is for
	key      *keyFile
	kept     string // the keeper's key of the first credential
}

// Grammars, by the references of IAM. What they allow goes into JSON and into
// the names of resources, never into a host.
var (
	plain   = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.:_-]{0,127}$`)
	account = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,126}@[a-zA-Z0-9][a-zA-Z0-9.-]{0,250}$`)
	// Audiences that STS knows: pools of clusters and fleets, and providers of
	// federation.
	identityNamespace = regexp.MustCompile(`^identitynamespace:([a-zA-Z0-9.-]{1,100}):https://[a-zA-Z0-9./_:-]{1,300}$`)
	federation        = regexp.MustCompile(`^//iam\.googleapis\.com/(projects/[0-9]{1,20}/locations/[a-z0-9-]{1,40}/workloadIdentityPools/[a-z0-9-]{1,64})/providers/[a-z0-9-]{1,64}$`)
)

// ValidAudience says whether a text is the full audience of a workload identity
// provider.
func ValidAudience(text string) bool {
	return identityNamespace.MatchString(text) || federation.MatchString(text)
}

// ValidAccount says whether a text can be the email of a service account.
func ValidAccount(text string) bool { return account.MatchString(text) }

// Open finds out who id is to Google.
func (b *Broker) Open(ctx context.Context, id auth.Identity, login Login) (*Session, error) {
	s := &Session{broker: b, id: id, login: login}
	switch login.Method {
	case WorkloadIdentity:
		return s, s.openWorkloadIdentity(ctx)
	case KeyFile:
		var err error
		s.key, err = readKey(id.Secrets)
		s.kept = auth.Joined("key", id.Namespace, id.ServiceAccount, id.Secrets.Digest())
		return s, err
	case Provider:
		s.kept = "provider"
		return s, nil
	}
	return nil, fault.Errorf(fault.Invalid, "%.40q is no way to sign in to Google", login.Method)
}

func (s *Session) openWorkloadIdentity(ctx context.Context) (err error) {
	if s.audience = s.login.Audience; s.audience == "" {
		if s.audience, err = s.broker.ownAudience(ctx); err != nil {
			return err
		}
	}
	if s.login.Account == "" {
		if err := s.annotated(ctx); err != nil {
			return err
		}
	}
	for _, email := range append([]string{s.login.Account}, s.login.Delegates...) {
		if email != "" && !account.MatchString(email) {
			return fault.Errorf(fault.Invalid, "%.80q, which the annotation %s or the store names for %s, is no email of a service account", email, AccountAnnotation, s.id)
		}
	}

	// The full audience first; never the API server's own token.
	if s.token, s.found, err = s.id.TokenFor(s.tokenAudiences()...); err != nil {
		text := "unable to fetch SA token from driver: no token has audience value of idPool: " + err.Error()
		return &fault.Error{Reason: fault.Precondition, Text: text, Cause: &Answer{SignIn: true}}
	}
	s.kept = auth.Joined("sts", s.audience, s.id.Namespace, s.id.ServiceAccount)
	return nil
}

// Audiences are those that the CSIDriver object may list for a full audience,
// the first one looked for first.
func (s *Session) tokenAudiences() []string {
	if m := identityNamespace.FindStringSubmatch(s.audience); m != nil {
		return []string{s.audience, m[1]}
	}
	return []string{s.audience, "https:" + s.audience}
}

// ownAudience is that of the configuration, of the node's cluster, or of the
// credentials file, in this order.
func (b *Broker) ownAudience(ctx context.Context) (string, error) {
	if b.opts.Audience != "" {
		return b.opts.Audience, nil
	}
	audience, err := b.cluster(ctx)
	if err == nil {
		return audience, nil
	}

	file, fileErr := b.externalAccount()
	switch {
	case fileErr != nil && b.opts.CredentialsFile != "":
		return "", fail(fault.ReasonOf(fileErr), &Answer{}, "%s; and %s", fileErr, err)
	case fileErr != nil:
		return "", &fault.Error{Reason: fault.ReasonOf(err), Cause: &Answer{SignIn: true}, Text: fmt.Sprintf(
			"it is not known which workload identity provider vouches for this cluster: %s; and %s. On GKE the metadata server says it; elsewhere set the store's audience, --gcp-audience (the chart's gcp.audience), or PROJECT, CLUSTER_LOCATION and CLUSTER_NAME", err, fileErr)}
	}
	return file, nil
}

const maxFile = 1 << 20

// externalAccount is the audience of the credentials file, read anew each time.
func (b *Broker) externalAccount() (string, error) {
	if b.opts.CredentialsFile == "" {
		return "", fault.Errorf(fault.Precondition, "GOOGLE_APPLICATION_CREDENTIALS names no file")
	}
	const what = "google: error getting credentials using GOOGLE_APPLICATION_CREDENTIALS environment variable"
	raw, err := os.ReadFile(b.opts.CredentialsFile)
	if err != nil {
		return "", fault.Errorf(fault.Precondition, "%s: %v", what, err)
	}
	var file struct{ Type, Audience string }
	if err := json.Unmarshal(raw[:min(len(raw), maxFile)], &file); err != nil {
		return "", fault.Errorf(fault.Invalid, "%s: it is no JSON", what)
	}
	if file.Type != "external_account" {
		return "", fault.Errorf(fault.Precondition, "google: unexpected credentials type: %.40s, expected: external_account", file.Type)
	}
	if !ValidAudience(file.Audience) {
		return "", fault.Errorf(fault.Invalid, "%s: its audience %.120q is none of a workload identity provider", what, file.Audience)
	}
	return file.Audience, nil
}

// annotated reads the annotations. Where nobody lets Coffre read ServiceAccounts
// pods are who they are themselves: that is what most grants are for.
func (s *Session) annotated(ctx context.Context) error {
	read := func(key string) (string, error) {
		return s.broker.annotations.Annotation(ctx, s.id.Namespace, s.id.ServiceAccount, key)
	}
	email, err := read(AccountAnnotation)
	var delegates string
	if err == nil && email != "" {
		delegates, err = read(DelegatesAnnotation)
	}
	if err != nil {
		return fail(fault.ReasonOf(err), &Answer{}, "unable to fetch SA info: %s", err)
	}

	s.login.Account = strings.TrimSpace(email)
	if delegates == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(delegates), &s.login.Delegates); err != nil {
		return fail(fault.Invalid, &Answer{}, "unable to parse delegates annotation on SA: %s (the annotation %s of %s must be a JSON list of emails)", err, DelegatesAnnotation, s.id)
	}
	return nil
}

// Principal tells sessions of one service account apart. It is for memory only.
func (s *Session) Principal() string {
	if s.login.Method == WorkloadIdentity {
		return auth.Joined(append([]string{s.audience, s.login.Account}, s.login.Delegates...)...)
	}
	return s.kept
}

// Role is the service account of Google's that is read as; "" for none.
func (s *Session) Role() string {
	if s.key != nil {
		return s.key.Email
	}
	return s.login.Account
}

// Member is the session as a policy of Google's names it.
func (s *Session) Member(ctx context.Context) string {
	switch {
	case s.Role() != "":
		return "serviceAccount:" + s.Role()
	case s.login.Method == Provider:
		return "the provider's own identity"
	}
	return s.principal(ctx)
}

// principal is the first identity of workload identity, whomever it acts as.
func (s *Session) principal(ctx context.Context) string {
	if m := federation.FindStringSubmatch(s.audience); m != nil {
		return "principal://iam.googleapis.com/" + m[1] + "/subject/" + s.id.Subject()
	}
	m := identityNamespace.FindStringSubmatch(s.audience)
	if m == nil {
		return s.id.String()
	}
	number, err := s.broker.metadata.value(ctx, "project/numeric-project-id")
	if err != nil || !plain.MatchString(number) {
		number = "PROJECT_NUMBER"
	}
	return fmt.Sprintf("principal://iam.googleapis.com/projects/%s/locations/global/workloadIdentityPools/%s/subject/ns/%s/sa/%s",
		number, m[1], s.id.Namespace, s.id.ServiceAccount)
}

// Ready says whether a token is kept, so that Token asks nobody.
func (s *Session) Ready() bool {
	_, ok := s.broker.keeper.Known(s.lastKey())
	return ok
}

func (s *Session) lastKey() string {
	if s.login.Method != WorkloadIdentity || s.login.Account == "" {
		return s.kept
	}
	return auth.Joined(append([]string{s.kept, s.login.Account}, s.login.Delegates...)...)
}

// Token is good for at least a minute, where Google gives any for that long.
func (s *Session) Token(ctx context.Context) (auth.Token, error) {
	switch {
	case s.login.Method == KeyFile:
		return s.get(ctx, s.kept, auth.Token{}, s.exchangeKey)
	case s.login.Method == Provider:
		return s.get(ctx, s.kept, auth.Token{}, s.own)
	case s.login.Account == "":
		return s.first(ctx)
	}
	return s.get(ctx, s.lastKey(), auth.Token{}, func(ctx context.Context, _ auth.Token) (auth.Token, error) {
		first, err := s.first(ctx)
		if err != nil {
			return auth.Token{}, err
		}
		return s.impersonate(ctx, first)
	})
}

func (s *Session) first(ctx context.Context) (auth.Token, error) {
	return s.get(ctx, s.kept, s.token, s.exchange)
}

func (s *Session) get(ctx context.Context, key string, t auth.Token, in func(context.Context, auth.Token) (auth.Token, error)) (auth.Token, error) {
	return s.broker.keeper.Get(ctx, keep.Asked[auth.Token]{
		Key: key, Place: "google", Namespace: s.id.Namespace, Token: t, Exchange: in,
	})
}

// Forget drops a token that Google no longer takes, and what it came from.
func (s *Session) Forget(t auth.Token) {
	s.broker.keeper.Forget(s.lastKey(), func(kept auth.Token) bool { return kept.Reveal() == t.Reveal() })
}

// TokenAudience is the audience that pods' tokens are asked for, for a full one:
// of a cluster or fleet its pool, as the Google provider has it.
func TokenAudience(full string) string {
	if m := identityNamespace.FindStringSubmatch(full); m != nil {
		return m[1]
	}
	return full
}
