package aws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/peer"
)

// What STS allows of a session name, by its reference.
const maxSessionName = 64

var notInSessionName = regexp.MustCompile(`[^\w+=,.@-]`)

// SessionName carries the namespace and the service account into CloudTrail:
// coffre-NAMESPACE-NAME. One that is too long is cut in both parts and ends in
// a hash, so that it is the same on every node and nobody else's.
func SessionName(namespace, serviceAccount string) string {
	clean := func(s string) string { return notInSessionName.ReplaceAllString(s, "_") }
	name := "coffre-" + clean(namespace) + "-" + clean(serviceAccount)
	if len(name) <= maxSessionName {
		return name
	}
	sum := sha256.Sum256([]byte(auth.Joined(namespace, serviceAccount)))
	const room = maxSessionName - len("coffre-") - len("-") - len("-") - 8
	ns, sa := clean(namespace), clean(serviceAccount)
	// Each part gets half of the room, and what the other leaves of its half.
	half := room / 2
	nsLen := min(len(ns), max(half, room-len(sa)))
	saLen := min(len(sa), room-nsLen)

	return "coffre-" + ns[:nsLen] + "-" + sa[:saLen] + "-" + hex.EncodeToString(sum[:4])
}

// assumeWithToken is IRSA.
func (s *Session) assumeWithToken(ctx context.Context, region string, t auth.Token) (c sdk.Credentials, err error) {
	if err := s.id.CheckExpiry(t, AudienceIRSA, s.broker.opts.Now()); err != nil {
		return c, err
	}
	client, release, err := s.broker.client(region, s.login.UseFIPS)
	if err != nil {
		return c, err
	}
	defer release()

	out, err := client.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
		RoleArn:          sdk.String(s.login.RoleARN),
		RoleSessionName:  sdk.String(SessionName(s.id.Namespace, s.id.ServiceAccount)),
		WebIdentityToken: sdk.String(t.Reveal()),
	})
	if err != nil {
		err = s.tokenRefused(Describe(err, region, "sts", "AssumeRoleWithWebIdentity"), err)
	} else {
		c, err = fromSTS(out.Credentials, region, "AssumeRoleWithWebIdentity")
	}
	auth.Tried(s.broker.opts.Metrics, string(IRSA), err)

	return c, err
}

// assume is the role in another account.
func (s *Session) assume(ctx context.Context, region string, first sdk.Credentials) (c sdk.Credentials, err error) {
	client, release, err := s.broker.client(region, s.login.UseFIPS)
	if err != nil {
		return c, err
	}
	defer release()
	in := &sts.AssumeRoleInput{
		RoleArn:         sdk.String(s.login.Chain.RoleARN),
		RoleSessionName: sdk.String(SessionName(s.id.Namespace, s.id.ServiceAccount)),
	}
	if s.login.Method == Provider {
		in.RoleSessionName = sdk.String("coffre")
	}
	if s.login.Chain.ExternalID != "" {
		in.ExternalId = sdk.String(s.login.Chain.ExternalID)
	}
	for _, k := range slices.Sorted(maps.Keys(s.login.Chain.Tags)) {
		in.Tags = append(in.Tags, types.Tag{Key: sdk.String(k), Value: sdk.String(s.login.Chain.Tags[k])})
	}
	out, err := client.AssumeRole(ctx, in, func(o *sts.Options) { o.Credentials = fixed(first) })
	if err != nil {
		err = s.chainRefused(Describe(err, region, "sts", "AssumeRole"), err, first)
	} else {
		c, err = fromSTS(out.Credentials, region, "AssumeRole")
	}
	auth.Tried(s.broker.opts.Metrics, "chain", err)

	return c, err
}

func fixed(c sdk.Credentials) sdk.CredentialsProvider {
	return sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) { return c, nil })
}

func fromSTS(c *types.Credentials, region, op string) (sdk.Credentials, error) {
	if c == nil || sdk.ToString(c.AccessKeyId) == "" || sdk.ToString(c.SecretAccessKey) == "" {
		return sdk.Credentials{}, fail(fault.Unavailable, &RegionError{Region: region, Service: "sts", Op: op, Transient: true},
			"STS in %s answered without credentials", region)
	}
	out := sdk.Credentials{AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey, SessionToken: sdk.ToString(c.SessionToken), Source: "STS"}
	if c.Expiration != nil {
		out.CanExpire, out.Expires = true, c.Expiration.UTC()
	}
	return out, nil
}

func (s *Session) tokenRefused(d *RegionError, err error) error {
	role := fmt.Sprintf("role %s (%s)", s.login.RoleARN, s.id)
	switch d.Code {
	case "AccessDenied", "AccessDeniedException":
		return fail(fault.Denied, d, "the role's trust policy does not accept the pod: %s: it must allow sts:AssumeRoleWithWebIdentity to the cluster's OIDC provider, with subject %s and audience %s; and the role must exist",
			role, s.id.Subject(), AudienceIRSA)
	case "InvalidIdentityToken", "IDPRejectedClaim":
		return fail(fault.Denied, d, "the role's trust policy does not accept the pod's token: %s: the role's account needs an IAM OIDC provider whose URL is the cluster's issuer and whose audiences include %s",
			role, AudienceIRSA)
	case "ExpiredTokenException", "ExpiredToken":
		return fail(fault.Precondition, d, "STS says that the token of %s for audience %q has expired; kubelet brings a fresh one with its next try, unless the node's clock is wrong", s.id, AudienceIRSA)
	}

	return s.refused(d, err, role)
}

func (s *Session) chainRefused(d *RegionError, err error, first sdk.Credentials) error {
	role := fmt.Sprintf("role %s (%s)", s.login.Chain.RoleARN, s.id)
	if d.Expired() {
		s.Forget(first)
		return fail(fault.Unavailable, d, "STS in %s no longer takes the first credentials for %s", d.Region, role)
	}
	if d.Code == "AccessDenied" || d.Code == "AccessDeniedException" {
		who := *s
		who.login.Chain = Chain{}
		with := ""
		if s.login.Chain.ExternalID != "" {
			with += ", with the store's externalID"
		}
		if len(s.login.Chain.Tags) > 0 {
			with += ", and sts:TagSession"
		}
		return fail(fault.Denied, d, "access denied: %s may not assume role %s: its own policy and that role's trust policy must both allow sts:AssumeRole%s", who.Who(), s.login.Chain.RoleARN, with)
	}

	return s.refused(d, err, role)
}

// refused is what both calls have in common.
func (s *Session) refused(d *RegionError, err error, role string) error {
	switch {
	case d.Code == "RegionDisabledException":
		return fail(fault.Precondition, d, "STS is not switched on in %s for the account of %s", d.Region, role)
	case d.Throttled:
		return fail(fault.Throttled, d, "throttled: STS in %s answers %s, for %s", d.Region, d.Code, role)
	case d.Code == "" && d.Status == 0:
		return fail(fault.Unavailable, d, "STS in %s cannot be reached: %s", d.Region, peer.Unreached(err))
	case d.Transient:
		return fail(fault.Unavailable, d, "STS in %s failed: %s", d.Region, answered(d))
	case d.Code == "ValidationError" || strings.HasPrefix(d.Code, "Malformed") || d.Code == "PackedPolicyTooLarge":
		return fail(fault.Invalid, d, "STS does not understand the request for %s: %s; is that a role's ARN?", role, d.Code)
	}
	if d.Refuses() {
		return fail(fault.Denied, d, "STS in %s refused %s: %s", d.Region, role, answered(d))
	}

	return fail(fault.Unavailable, d, "STS in %s answers %s for %s, which is no refusal that STS documents", d.Region, answered(d), role)
}

func fail(r fault.Reason, d *RegionError, format string, args ...any) error {
	return &fault.Error{Reason: r, Text: fmt.Sprintf(format, args...), Detail: fault.Detail{Request: d.RequestID}, Cause: d}
}

func answered(d *RegionError) string {
	if d.Code != "" {
		return d.Code
	}
	return fmt.Sprintf("HTTP %d", d.Status)
}
