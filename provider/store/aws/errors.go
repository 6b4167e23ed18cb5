package aws

import (
	"fmt"
	"strings"

	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/provider/store"
)

// RegionError is what a region answered; the Cause of every error that came
// from AWS. Where several regions failed, errors.As finds the first.
type RegionError = awsauth.RegionError

// loginFailed is an error of auth/aws as one of a store.
func loginFailed(err error) *store.Error {
	return fault.As(err, "signing in was not done in time")
}

// refused is AWS's answer to a request for ref in words; permission is what the
// request needs, such as secretsmanager:GetSecretValue.
func (r *regional) refused(d *awsauth.RegionError, ref store.Ref, permission string) *store.Error {
	reason, text := r.words(d, ref, permission)
	return &store.Error{Reason: reason, Object: ref.String(), Text: text, Detail: fault.Detail{Request: d.RequestID}, Cause: d}
}

func (r *regional) words(d *awsauth.RegionError, ref store.Ref, permission string) (store.Reason, string) {
	who := r.login.Who()
	switch {
	case d.Throttled:
		return store.Throttled, fmt.Sprintf("throttled: %s in %s answers %s", title(r.kind), d.Region, d.Code)
	case d.Code == "" && (d.Status < 300 || d.Status == 0):
		why := d.Unreached
		if why == "" {
			why = "no answer in time"
		}
		return store.Unavailable, fmt.Sprintf("%s in %s cannot be reached: %s", title(r.kind), d.Region, why)
	case denied(d):
		if aboutKMS(d) {
			return store.Denied, fmt.Sprintf("access denied: %s lacks kms:Decrypt on the KMS key that encrypts it (in its own policy, or in the key's), in %s", who, d.Region)
		}
		return store.Denied, fmt.Sprintf("access denied: %s lacks %s, in %s", who, permission, d.Region)
	case d.Expired():
		return store.Denied, fmt.Sprintf("access denied: %s: %s in %s does not take the credentials (%s)", who, title(r.kind), d.Region, d.Code)
	}
	switch d.Code {
	case "ResourceNotFoundException":
		return r.missing(d, ref)
	case "ParameterNotFound":
		return store.NotFound, fmt.Sprintf("there is no such parameter in %s", d.Region)
	case "ParameterVersionNotFound":
		return store.NotFound, fmt.Sprintf("the parameter has no such version in %s", d.Region)
	case "DecryptionFailure", "KMSAccessDeniedException", "InvalidKeyId":
		return store.Denied, fmt.Sprintf("access denied: it cannot be decrypted in %s (%s): %s needs kms:Decrypt on its KMS key, and the key must exist and be enabled", d.Region, d.Code, who)
	case "InvalidRequestException":
		if strings.Contains(d.Message(), "marked for deletion") || strings.Contains(d.Message(), "marked deleted") {
			return store.NotFound, fmt.Sprintf("the secret is marked for deletion in %s; restore it, or take it out of the SecretProviderClass", d.Region)
		}
		return store.Invalid, fmt.Sprintf("%s in %s cannot answer in the state that the secret is in (%s): has it a value?", title(r.kind), d.Region, d.Code)
	case "InvalidParameterException", "ValidationException", "InvalidFilterOption", "InvalidFilterKey", "InvalidFilterValue":
		return store.Invalid, fmt.Sprintf("%s in %s takes the name, or its version, for no valid one (%s)", title(r.kind), d.Region, d.Code)
	}
	switch {
	case d.Transient || d.Status >= 500:
		return store.Unavailable, fmt.Sprintf("%s in %s failed: %s", title(r.kind), d.Region, answer(d))
	case d.Refuses():
		return store.Denied, fmt.Sprintf("%s in %s refused %s: %s", title(r.kind), d.Region, who, answer(d))
	}

	return store.Unavailable, fmt.Sprintf("%s in %s answers %s to %s, which is no refusal that it documents", title(r.kind), d.Region, answer(d), who)
}

// missing tells a secret that is not there from a version of it that is not.
// AWS says which in its sentence only.
func (r *regional) missing(d *awsauth.RegionError, ref store.Ref) (store.Reason, string) {
	m := d.Message()
	version, stage := named(ref)
	switch {
	case stage != "" && strings.Contains(m, "staging label"):
		return store.NotFound, fmt.Sprintf("the secret has no version of stage %s in %s", stage, d.Region)
	case version != "" && strings.Contains(m, "VersionId"):
		return store.NotFound, fmt.Sprintf("the secret has no version %s in %s", version, d.Region)
	case strings.Contains(m, "staging label"):
		return store.NotFound, fmt.Sprintf("the secret has no value yet in %s", d.Region)
	case version != "" || stage != "":
		return store.NotFound, fmt.Sprintf("there is no such secret in %s, or no such version of it", d.Region)
	}

	return store.NotFound, fmt.Sprintf("there is no such secret in %s", d.Region)
}

func denied(d *awsauth.RegionError) bool {
	switch d.Code {
	case "AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "NotAuthorized", "OptInRequired":
		return true
	}
	return false
}

func aboutKMS(d *awsauth.RegionError) bool {
	m := d.Message()
	return strings.Contains(m, "KMS") || strings.Contains(m, "kms:") || strings.Contains(m, "ciphertext")
}

func answer(d *awsauth.RegionError) string {
	if d.Code != "" {
		return d.Code
	}
	return fmt.Sprintf("HTTP %d", d.Status)
}

func title(kind string) string {
	if kind == ParameterStore {
		return "Parameter Store"
	}
	return "Secrets Manager"
}
