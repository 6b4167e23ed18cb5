package azure

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
)

// refusal is Entra's answer in the place of a token.
type refusal struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Trace       string `json:"trace_id"`
}

var (
	aadsts  = regexp.MustCompile(`AADSTS[0-9]{4,10}`)
	traceID = regexp.MustCompile(`^[0-9a-fA-F-]{8,64}$`)
)

// read gives the AADSTS code and the sentence behind it; both are empty where
// the answer is none of Entra's.
func (r refusal) read() (code, sentence string) {
	if r.Error == "" {
		return "", ""
	}
	code = aadsts.FindString(r.Description)
	sentence, _, _ = strings.Cut(r.Description, "Trace ID:")
	sentence, _, _ = strings.Cut(sentence, "\n")
	return code, Sentence(strings.TrimPrefix(strings.TrimSpace(sentence), code+":"))
}

// entraRefused is an answer in words: what Entra has against it, and the command
// that mends it.
func (s *Session) entraRefused(host string, status int, body []byte, t auth.Token) error {
	var r refusal
	_ = json.Unmarshal(body, &r) // what is no JSON is none of Entra's
	code, sentence := r.read()
	if !traceID.MatchString(r.Trace) {
		r.Trace = ""
	}
	a := &Answer{Status: status, Code: code, Text: sentence}

	reason := reasonOf(status, code, r.Error)
	switch {
	case reason == fault.Throttled:
		return refused(reason, a, r.Trace, "throttled: %s was asked too often for client %s", host, s.login.Client)
	case reason == fault.Unavailable && r.Error == "":
		return refused(reason, a, r.Trace, "%s answers HTTP %d, and not as an authority does", host, status)
	case reason == fault.Unavailable:
		return refused(reason, a, r.Trace, "%s failed with HTTP %d: %s", host, status, strings.TrimSpace(code+" "+sentence))
	}

	said := strings.TrimSpace(code + ": " + sentence)
	if code == "" {
		said = r.Error
	}
	return refused(reason, a, r.Trace, "Entra does not let %s sign in: %s%s", s.id, said, s.remedy(code, t))
}

// reasonOf decides on an answer: only Entra's own words are a refusal.
func reasonOf(status int, code, oauth string) fault.Reason {
	switch {
	case status == http.StatusTooManyRequests, code == "AADSTS50196":
		return fault.Throttled
	case status >= 500, oauth == "", oauth == "temporarily_unavailable", oauth == "server_error":
		return fault.Unavailable
	case code == "AADSTS50166", code == "AADSTS90033": // the cluster's issuer did not answer; Entra itself did not
		return fault.Unavailable
	case code == "AADSTS700024":
		return fault.Precondition
	case code == "AADSTS90002", code == "AADSTS1002012":
		return fault.Invalid
	}
	return fault.Denied
}

// remedy is what mends a refusal, by "Microsoft Entra authentication and
// authorization error codes".
func (s *Session) remedy(code string, t auth.Token) string {
	switch code {
	case "AADSTS70021", "AADSTS700211", "AADSTS700212", "AADSTS700213", "AADSTS70025":
		if s.login.Method == TokenProxy {
			return fmt.Sprintf("; the identity binding of this cluster must be of client %s and let %s use it", s.login.Client, s.id)
		}
		return "; " + s.credentialCommand(t)
	case "AADSTS700016":
		return fmt.Sprintf("; clientID %s is no application or identity of tenant %s", s.login.Client, s.login.Tenant)
	case "AADSTS90002":
		return fmt.Sprintf("; tenantID %s is no tenant of cloud %s", s.login.Tenant, s.login.Cloud.Name)
	case "AADSTS7000215", "AADSTS7000222":
		return "; put a new secret (az ad app credential reset --id " + s.login.Client + " --append) into the Secret of nodePublishSecretRef"
	case "AADSTS700027", "AADSTS700023":
		return "; register the certificate (az ad app credential reset --id " + s.login.Client + " --append --cert @FILE), or bring the one that is"
	case "AADSTS700024":
		return "; kubelet brings a fresh token with its next try, unless a clock is wrong"
	case "AADSTS50013", "AADSTS5000224":
		return "; Entra does not find the key of the token: the issuer " + orUnknown(t.Issuer()) + " must publish the cluster's keys"
	}
	return ""
}

// credentialCommand makes the federated credential that is missing.
func (s *Session) credentialCommand(t auth.Token) string {
	return fmt.Sprintf("az identity federated-credential create --name %s-%s --identity-name NAME --resource-group GROUP --issuer %s --subject %s --audiences %s (NAME and GROUP are those of the identity whose client id is %s)",
		s.id.Namespace, s.id.ServiceAccount, orUnknown(t.Issuer()), s.id.Subject(), TokenExchangeAudience, s.login.Client)
}

func orUnknown(issuer string, ok bool) string {
	if !ok || issuer == "" {
		return "ISSUER_OF_THE_CLUSTER"
	}
	return Sentence(issuer)
}
