package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"sync/atomic"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/peer"
)

// agent is the EKS Pod Identity agent of the node.
type agent struct {
	bases [2]string // IPv4, IPv6
	works atomic.Int32
	http  *http.Client
	limit time.Duration
}

func newAgent(o Options) *agent {
	return &agent{
		bases: [2]string{o.AgentIPv4, o.AgentIPv6}, limit: o.PodIdentityTimeout,
		http: peer.Local(o.PodIdentityTimeout, time.Second),
	}
}

const agentAttempts = 3

// askAgent is EKS Pod Identity.
func (s *Session) askAgent(ctx context.Context, t auth.Token) (c sdk.Credentials, err error) {
	if err := s.id.CheckExpiry(t, AudiencePodIdentity, s.broker.opts.Now()); err != nil {
		return c, err
	}
	for attempt := range agentAttempts {
		c, err = s.broker.agent.credentials(ctx, s.login.Address, t, s.id)
		if last := attempt == agentAttempts-1; err == nil || last || !fault.ReasonOf(err).Transient() {
			break
		}
		if d := new(RegionError); errors.As(err, &d) && d.Status == 0 {
			break // nobody is there
		}
		select {
		case <-time.After(rand.N(200 * time.Millisecond << attempt)):
		case <-ctx.Done():
		}
	}

	auth.Tried(s.broker.opts.Metrics, string(PodIdentity), err)

	return c, err
}

// credentials asks at the address of the given type. Automatic is the address
// that worked last, first of all IPv4; where nobody answers there, the other.
func (a *agent) credentials(ctx context.Context, at AddressType, t auth.Token, id auth.Identity) (sdk.Credentials, error) {
	switch at {
	case IPv4:
		return a.ask(ctx, a.bases[0], t, id)
	case IPv6:
		return a.ask(ctx, a.bases[1], t, id)
	}
	first := a.works.Load()
	c, err := a.ask(ctx, a.bases[first], t, id)
	if d := new(RegionError); err == nil || !errors.As(err, &d) || d.Status != 0 || ctx.Err() != nil {
		return c, err
	}
	other := 1 - first
	c, otherErr := a.ask(ctx, a.bases[other], t, id)
	if d := new(RegionError); otherErr == nil || errors.As(otherErr, &d) && d.Status != 0 {
		a.works.Store(other)
		return c, otherErr
	}

	return c, fail(fault.Unavailable, describeAgent(0, nil), "the EKS Pod Identity agent cannot be reached at %s nor at %s: is the add-on eks-pod-identity-agent installed?", a.bases[0], a.bases[1])
}

// exception is a name of an error inside the agent's text.
var exception = regexp.MustCompile(`\b[A-Z][A-Za-z]{2,60}Exception\b`)

func (a *agent) ask(ctx context.Context, base string, t auth.Token, id auth.Identity) (sdk.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, a.limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/credentials", nil)
	if err != nil {
		return sdk.Credentials{}, fault.Errorf(fault.Invalid, "the EKS Pod Identity agent's address is no URL")
	}
	req.Header.Set("Authorization", t.Reveal())
	res, err := a.http.Do(req)
	if err != nil {
		return sdk.Credentials{}, fail(fault.Unavailable, describeAgent(0, nil), "the EKS Pod Identity agent at %s cannot be reached: %s; is the add-on eks-pod-identity-agent installed?", base, peer.Unreached(err))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return sdk.Credentials{}, fail(fault.Unavailable, describeAgent(0, nil), "the EKS Pod Identity agent at %s broke off its answer", base)
	}
	if res.StatusCode != http.StatusOK {
		return sdk.Credentials{}, agentRefused(describeAgent(res.StatusCode, body), id)
	}
	var out struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		Token           string
		AccountID       string `json:"AccountId"`
		Expiration      time.Time
	}
	if json.Unmarshal(body, &out) != nil || out.AccessKeyID == "" || out.SecretAccessKey == "" {
		return sdk.Credentials{}, fail(fault.Unavailable, describeAgent(res.StatusCode, nil), "the EKS Pod Identity agent's answer holds no credentials")
	}
	return sdk.Credentials{AccessKeyID: out.AccessKeyID, SecretAccessKey: out.SecretAccessKey, SessionToken: out.Token,
		AccountID: out.AccountID, CanExpire: !out.Expiration.IsZero(), Expires: out.Expiration, Source: "EKS Pod Identity"}, nil
}

func describeAgent(status int, body []byte) *RegionError {
	d := &RegionError{Service: "pod-identity", Op: "GetCredentials", Status: status, Code: exception.FindString(string(body))}
	switch {
	case status == 0 || status >= 500:
		d.Transient, d.Fault = true, smithy.FaultServer
	case status == http.StatusTooManyRequests || d.Code == "ThrottlingException":
		d.Throttled, d.Transient, d.Fault = true, true, smithy.FaultClient
	case d.Code == "":
		d.Transient = true // not the agent's own words
	case status >= 400:
		d.Fault = smithy.FaultClient
	}

	return d
}

func agentRefused(d *RegionError, id auth.Identity) error {
	what := fmt.Sprintf("HTTP %d", d.Status)
	if d.Code != "" {
		what += " " + d.Code
	}
	switch {
	case d.Throttled:
		return fail(fault.Throttled, d, "throttled: the EKS Pod Identity agent answers %s", what)
	case d.Transient:
		return fail(fault.Unavailable, d, "the EKS Pod Identity agent failed: %s", what)
	case d.Code == "ExpiredTokenException":
		return fail(fault.Precondition, d, "the EKS Pod Identity agent says that the token of %s has expired; kubelet brings a fresh one with its next try", id)
	}

	return fail(fault.Denied, d, "the EKS Pod Identity agent gives %s no credentials: %s: is there a pod identity association of this cluster for it, and does the role's trust policy allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com?", id, what)
}
