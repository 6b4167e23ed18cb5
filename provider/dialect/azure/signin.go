package azure

import (
	"errors"
	"slices"
	"strconv"

	"github.com/coffre-csi/coffre/auth"
	azureauth "github.com/coffre-csi/coffre/auth/azure"
	azurestore "github.com/coffre-csi/coffre/provider/store/azure"
)

// Parameters that each choose a way to sign in.
const (
	modePod   = "usePodIdentity"
	modeVM    = "useVMManagedIdentity"
	modeProxy = "useAzureTokenProxy"
)

// modes reads the three.
func (r *reader) modes() (map[string]bool, error) {
	modes := map[string]bool{}
	for _, name := range []string{modePod, modeVM, modeProxy} {
		text := r.parameter(name)
		if text == "" {
			continue
		}
		on, err := strconv.ParseBool(text)
		if err != nil {
			return nil, failed("failed to parse %s flag, error: %s", name, err)
		}
		if on {
			modes[name] = true
		}
	}
	if len(modes) > 1 {
		return nil, failed("only one identity mode can be enabled at a time: %s, %s, or %s", modePod, modeVM, modeProxy)
	}

	return modes, nil
}

// modeOf is a way to sign in as the Azure provider names it.
func modeOf(m azureauth.Method) string {
	switch m {
	case azureauth.PodIdentity:
		return "PodIdentity"
	case azureauth.ManagedIdentity:
		return "VMManagedIdentity"
	case azureauth.TokenProxy:
		return "AzureTokenProxy"
	}
	return "None"
}

// signIn says how the vault is signed in to. Without a client id that is the
// service principal of nodePublishSecretRef; where the volume brings none, and a
// token, it is the client id of the ServiceAccount's annotation.
func (r *reader) signIn(modes map[string]bool) error {
	s := &r.settings
	s.ClientID = r.parameter("clientID")
	brings := len(r.req.Identity.Secrets) > 0
	_, _, noToken := r.req.Identity.TokenFor(azureauth.TokenExchangeAudience)

	switch {
	case modes[modePod]:
		s.Auth = azureauth.PodIdentity
	case modes[modeVM]:
		s.Auth = azureauth.ManagedIdentity
	case modes[modeProxy]:
		s.Auth = azureauth.TokenProxy
	case s.ClientID != "" || !brings && noToken == nil:
		s.Auth = azureauth.WorkloadIdentity
	default:
		s.Auth = azureauth.ServicePrincipal
	}
	if s.ClientID == "" || !s.Auth.OfNode() {
		s.ClientID = r.clientOf(s)
		return nil
	}

	// A client id asks for the pod's token in these modes too, which is not used.
	// Who looks at a class without a pod has none.
	err := tokenFault(noToken)
	s.ClientID = r.clientOf(s)
	if err != "" && r.req.Identity.Pod.Name != "" {
		return failed("failed to build auth config for mode %s: failed to parse workload identity tokens, error: %s", modeOf(s.Auth), err)
	}

	return nil
}

// clientOf is whom the way to sign in names.
func (r *reader) clientOf(s *azurestore.Settings) string {
	switch s.Auth {
	case azureauth.ManagedIdentity:
		return r.parameter("userAssignedIdentityID")
	case azureauth.PodIdentity:
		return ""
	}
	return s.ClientID
}

// tokenFault words why there is no token; "" where there is one.
func tokenFault(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, auth.ErrNoTokens):
		return "service account tokens not found"
	}
	return "token for audience " + azureauth.TokenExchangeAudience + " not found"
}

// knownParameters are the Azure provider's and those that Coffre adds.
func knownParameters() []string {
	names := []string{
		"clientID", "cloudEnvFileName", "cloudName", "keyvaultName", "objects", "tenantID", "tenantId",
		"userAssignedIdentityID",
		modePod, modeVM, modeProxy, paramFailover, paramForce, paramInTime, paramRefresh,
	}
	slices.Sort(names)

	return names
}
