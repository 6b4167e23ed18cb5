package aws

import (
	"slices"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/coffre-csi/coffre/auth"
)

// token finds the pod's token of an audience.
func token(id auth.Identity, audience, what string) (auth.Token, error) {
	if len(id.Tokens) == 0 {
		return auth.Token{}, errorf(Precondition, "CSI token error: serviceAccount.tokens not provided by the driver: the CSIDriver object secrets-store.csi.k8s.io must list audience %q in tokenRequests (the driver chart's tokenRequests)", audience)
	}
	t, ok := id.Tokens[audience]
	if !ok {
		return t, errorf(Precondition, "%s token extraction failed: token for audience %q not found - ensure tokenRequests includes this audience in CSIDriver", what, audience)
	}
	if t.Reveal() == "" {
		return t, errorf(Precondition, "%s token extraction failed: token for audience %q is empty", what, audience)
	}
	return t, nil
}

// unexpired refuses a token that nobody would take.
func unexpired(t auth.Token, audience string, id auth.Identity, now time.Time) error {
	if t.Expires.IsZero() || t.Expires.After(now) {
		return nil
	}
	return errorf(Precondition, "the token of %s for audience %q expired at %s; kubelet brings a fresh one with its next try, unless the node's clock is wrong", id, audience, t.Expires.UTC().Format(time.RFC3339))
}

// newer is the token that expires later.
func newer(a, b auth.Token) auth.Token {
	if b.Reveal() != "" && b.Expires.After(a.Expires) {
		return b
	}
	return a
}

// Spellings of the keys of a nodePublishSecretRef Secret.
func spellings() [3][]string {
	return [3][]string{
		{"access_key_id", "AWS_ACCESS_KEY_ID", "aws_access_key_id", "accessKeyID", "accessKeyId"},
		{"secret_access_key", "AWS_SECRET_ACCESS_KEY", "aws_secret_access_key", "secretAccessKey"},
		{"session_token", "AWS_SESSION_TOKEN", "aws_session_token", "sessionToken"},
	}
}

func staticKeys(s auth.Secrets) (sdk.Credentials, error) {
	var found [3]string
	for i, names := range spellings() {
		if at := slices.IndexFunc(names, func(n string) bool { return s[n] != "" }); at >= 0 {
			found[i] = s[names[at]]
		}
	}
	const how = "auth: static takes the tenant's own keys from the Secret that nodePublishSecretRef names"
	switch {
	case len(s) == 0:
		return sdk.Credentials{}, errorf(Precondition, "%s, and the volume names none; it needs access_key_id and secret_access_key", how)
	case found[0] == "":
		return sdk.Credentials{}, errorf(Precondition, "%s, which has no access_key_id (or AWS_ACCESS_KEY_ID)", how)
	case found[1] == "":
		return sdk.Credentials{}, errorf(Precondition, "%s, which has no secret_access_key (or AWS_SECRET_ACCESS_KEY)", how)
	}
	return sdk.Credentials{AccessKeyID: found[0], SecretAccessKey: found[1], SessionToken: found[2], Source: "nodePublishSecretRef"}, nil
}
