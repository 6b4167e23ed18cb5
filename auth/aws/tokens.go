package aws

import (
	"errors"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
)

// token finds the pod's token of an audience, in the words that users of the
// AWS provider know.
func token(id auth.Identity, audience, what string) (auth.Token, error) {
	t, _, err := id.TokenFor(audience)
	switch {
	case errors.Is(err, auth.ErrNoTokens):
		return t, fault.Errorf(fault.Precondition, "CSI token error: serviceAccount.tokens not provided by the driver: the CSIDriver object secrets-store.csi.k8s.io must list audience %q in tokenRequests (the driver chart's tokenRequests)", audience)
	case errors.Is(err, auth.ErrNoAudience):
		return t, fault.Errorf(fault.Precondition, "%s token extraction failed: token for audience %q not found - ensure tokenRequests includes this audience in CSIDriver", what, audience)
	case err != nil:
		return t, fault.Errorf(fault.Precondition, "%s token extraction failed: token for audience %q is empty", what, audience)
	}
	return t, nil
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
		return sdk.Credentials{}, fault.Errorf(fault.Precondition, "%s, and the volume names none; it needs access_key_id and secret_access_key", how)
	case found[0] == "":
		return sdk.Credentials{}, fault.Errorf(fault.Precondition, "%s, which has no access_key_id (or AWS_ACCESS_KEY_ID)", how)
	case found[1] == "":
		return sdk.Credentials{}, fault.Errorf(fault.Precondition, "%s, which has no secret_access_key (or AWS_SECRET_ACCESS_KEY)", how)
	}

	return sdk.Credentials{AccessKeyID: found[0], SecretAccessKey: found[1], SessionToken: found[2], Source: "nodePublishSecretRef"}, nil
}
