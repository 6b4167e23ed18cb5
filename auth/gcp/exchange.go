package gcp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"cloud.google.com/go/iam/credentials/apiv1/credentialspb"
	"google.golang.org/grpc/codes"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/peer"
)

const (
	attempts    = 3
	attemptTime = 5 * time.Second
	maxBody     = 64 << 10
)

// again tries until it works, or will not.
func again(ctx context.Context, try func(context.Context) (auth.Token, error)) (t auth.Token, err error) {
	for n := range attempts {
		attempt, cancel := context.WithTimeout(ctx, attemptTime)
		t, err = try(attempt)
		cancel()
		if err == nil || !fault.ReasonOf(err).Transient() || n == attempts-1 {
			break
		}
		select {
		case <-time.After(rand.N(200 * time.Millisecond << n)):
		case <-ctx.Done():
			return t, err
		}
	}
	return t, err
}

// exchange is STS: the pod's token for a federated one.
func (s *Session) exchange(ctx context.Context, t auth.Token) (auth.Token, error) {
	if err := s.id.CheckExpiry(t, s.found, s.broker.opts.Now()); err != nil {
		return auth.Token{}, fail(fault.Precondition, &Answer{}, "unable to fetch identitybindingtoken: %s", err)
	}
	out, err := again(ctx, func(ctx context.Context) (auth.Token, error) { return s.askSTS(ctx, t) })
	auth.Tried(s.broker.opts.Metrics, "gcp-sts", err)
	return out, err
}

func (s *Session) askSTS(ctx context.Context, t auth.Token) (auth.Token, error) {
	endpoint := s.broker.opts.Exchange
	if endpoint == "" {
		endpoint = ExchangeGKE
		if federation.MatchString(s.audience) {
			endpoint = ExchangeFederation
		}
	}
	body, err := json.Marshal(map[string]string{
		"audience":             s.audience,
		"grant_type":           "urn:ietf:params:oauth:grant-type:token-exchange",
		"requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
		"scope":                scope,
		"subject_token":        t.Reveal(),
		"subject_token_type":   "urn:ietf:params:oauth:token-type:jwt",
	})
	if err != nil {
		return auth.Token{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return auth.Token{}, fault.Errorf(fault.Invalid, "GAIA_TOKEN_EXCHANGE_ENDPOINT is no URL")
	}
	req.Header.Set("Content-Type", "application/json")

	return s.broker.askToken(req, func(a *Answer, oauth string) error { return s.stsRefused(a, oauth, req.URL, t) })
}

// askToken asks a token endpoint; refused words an answer that is none.
func (b *Broker) askToken(req *http.Request, refused func(a *Answer, oauth string) error) (auth.Token, error) {
	res, err := b.opts.Network.http.Do(req)
	if err != nil {
		return auth.Token{}, fail(fault.Unavailable, &Answer{Code: codes.Unavailable}, "%s cannot be reached: %s", req.URL.Host, peer.Unreached(err))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return auth.Token{}, fail(fault.Unavailable, &Answer{Code: codes.Unavailable}, "%s broke off its answer", req.URL.Host)
	}
	if res.StatusCode != http.StatusOK {
		a, oauth := oauthError(res.StatusCode, body)
		return auth.Token{}, refused(a, oauth)
	}

	var t tokenAnswer
	if err := json.Unmarshal(body, &t); err != nil || t.AccessToken == "" {
		return auth.Token{}, fail(fault.Unavailable, &Answer{Code: codes.Unavailable}, "%s answered without a token", req.URL.Host)
	}
	return t.token(b.opts.Now()), nil
}

var oauthCode = regexp.MustCompile(`^[a-zA-Z_]{1,60}$`)

// oauthError reads {"error": "invalid_grant", "error_description": …}, and the
// form of Google's other services: {"error": {"status": …, "message": …}}.
func oauthError(status int, body []byte) (a *Answer, code string) {
	a = &Answer{Status: status, Code: codes.Unknown}
	var flat struct {
		Error string `json:"error"`
		Text  string `json:"error_description"`
	}
	var nested struct {
		Error struct {
			Status  string `json:"status"`
			Message string `json:"message"`
		} `json:"error"`
	}
	switch {
	case json.Unmarshal(body, &flat) == nil && oauthCode.MatchString(flat.Error):
		a.Text, code = Sentence(flat.Text), flat.Error
	case json.Unmarshal(body, &nested) == nil && oauthCode.MatchString(nested.Error.Status):
		a.Text, code = Sentence(nested.Error.Message), nested.Error.Status
	}
	return a, code
}

// stsRefused says what STS has against a token, and what would help.
func (s *Session) stsRefused(a *Answer, oauth string, at *url.URL, t auth.Token) error {
	what := fmt.Sprintf("unable to fetch identitybindingtoken: could not get idbindtoken token, status: %d", a.Status)
	said := oauth
	if a.Text != "" && !strings.Contains(a.Text, t.Reveal()) {
		said += ": " + a.Text
	}
	switch {
	case a.Status == http.StatusTooManyRequests:
		return fail(fault.Throttled, a, "%s: throttled: %s was asked too often", what, at.Host)
	case a.Status >= 500 || oauth == "":
		return fail(fault.Unavailable, a, "%s: %s does not answer as an exchange of tokens does", what, at.Host)
	case strings.Contains(a.Text, "expired"):
		return fail(fault.Precondition, a, "%s: %s: the token of %s for audience %q has expired; kubelet brings a fresh one with its next try, unless a clock is wrong", what, said, s.id, s.found)
	}

	remedy := fmt.Sprintf("the provider %s must exist and be enabled, have the cluster's issuer and take audience %q", s.audience, s.found)
	if identityNamespace.MatchString(s.audience) {
		remedy = fmt.Sprintf("the cluster that %s names must be this one, with Workload Identity switched on for its pool", s.audience)
	}
	if oauth == "unauthorized_client" {
		remedy = "the provider's attribute condition must admit subject " + s.id.Subject()
	}
	return fail(fault.Denied, a, "%s: %s: STS does not accept the token of %s: %s", what, said, s.id, remedy)
}

// impersonate is IAM: a federated token for one of a service account.
func (s *Session) impersonate(ctx context.Context, first auth.Token) (auth.Token, error) {
	conn, err := s.broker.credentials()
	if err != nil {
		return auth.Token{}, fail(fault.Unavailable, &Answer{Code: codes.Unavailable}, "%s cannot be reached", iamHost)
	}
	req := &credentialspb.GenerateAccessTokenRequest{Name: resource(s.login.Account), Scope: []string{scope}}
	for _, email := range s.login.Delegates {
		req.Delegates = append(req.Delegates, resource(email))
	}

	out, err := again(ctx, func(ctx context.Context) (auth.Token, error) {
		got, err := conn.GenerateAccessToken(ctx, req, Bearer(first))
		if err != nil {
			return auth.Token{}, s.iamRefused(ctx, Describe(err), first)
		}
		if got.GetAccessToken() == "" {
			return auth.Token{}, fail(fault.Unavailable, &Answer{Code: codes.Unavailable}, "IAM answered without a token for %s", s.login.Account)
		}
		expires := s.broker.opts.Now().Add(unsaid)
		if got.GetExpireTime() != nil {
			expires = got.GetExpireTime().AsTime()
		}
		return auth.NewToken(got.GetAccessToken(), expires), nil
	})
	auth.Tried(s.broker.opts.Metrics, "gcp-iam", err)
	return out, err
}

func resource(email string) string { return "projects/-/serviceAccounts/" + email }

// credentials is the client of IAM, over one connection for all.
func (b *Broker) credentials() (credentialspb.IAMCredentialsClient, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.iam == nil {
		conn, err := b.opts.Network.Connect(iamHost)
		if err != nil {
			return nil, err
		}
		b.iam = conn
	}
	return credentialspb.NewIAMCredentialsClient(b.iam), nil
}

func (s *Session) iamRefused(ctx context.Context, a *Answer, first auth.Token) error {
	what := "unable to fetch gcp service account token: " + a.RPC()
	switch a.Code {
	case codes.PermissionDenied:
		who, role := s.principal(ctx), "roles/iam.workloadIdentityUser"
		remedy := fmt.Sprintf("gcloud iam service-accounts add-iam-policy-binding %s --role=%s --member=%q", s.login.Account, role, who)
		if len(s.login.Delegates) > 0 {
			remedy = fmt.Sprintf("each of %s needs roles/iam.serviceAccountTokenCreator on the next, and %s that role on the first", strings.Join(append(s.login.Delegates, s.login.Account), ", "), who)
		}
		return fail(fault.Denied, a, "%s: access denied: %s may not act as %s, or there is no such service account: %s", what, s.id, s.login.Account, remedy)
	case codes.NotFound, codes.InvalidArgument, codes.FailedPrecondition:
		if a.Refuses() {
			return fail(fault.Invalid, a, "%s: is %s, which the annotation %s or the store names, a service account?", what, s.login.Account, AccountAnnotation)
		}
	case codes.Unauthenticated:
		s.broker.keeper.Forget(s.kept, func(kept auth.Token) bool { return kept.Reveal() == first.Reveal() })
	case codes.ResourceExhausted:
		return fail(fault.Throttled, a, "%s: throttled: %s was asked too often", what, iamHost)
	}
	return fail(fault.Unavailable, a, "%s: %s does not answer", what, iamHost)
}
