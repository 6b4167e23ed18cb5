package azure

import (
	"regexp"
	"strings"
	"time"

	azureauth "github.com/coffre-csi/coffre/auth/azure"
	"github.com/coffre-csi/coffre/provider/store"
)

// Settings are the fields of the kind.
type Settings struct {
	// Vault is the vault's name, as in https://NAME.vault.azure.net. Required.
	Vault string `yaml:"vault,omitempty"`
	// FailoverVault is the name of a second vault, asked for what the first could
	// not give because it did not answer, or was asked too much.
	FailoverVault string `yaml:"failoverVault,omitempty"`
	// TenantID is the directory that tokens come from: an id, a domain, or adfs.
	// Default: the ServiceAccount's annotation azure.workload.identity/tenant-id.
	TenantID string `yaml:"tenantID,omitempty"`
	// ClientID is the application or user assigned identity to sign in as.
	// Default: the ServiceAccount's annotation azure.workload.identity/client-id;
	// of managed-identity, the node's system assigned one.
	ClientID string `yaml:"clientID,omitempty"`
	// Auth is workload-identity (default), service-principal, token-proxy, or,
	// where the platform allows it, managed-identity and pod-identity.
	Auth azureauth.Method `yaml:"auth,omitempty"`
	// CloudName is one of Azure's clouds, or AzureStackCloud; default
	// --azure-cloud-name.
	CloudName string `yaml:"cloudName,omitempty"`
	// CloudEnvironmentFile says the endpoints of AzureStackCloud; default
	// AZURE_ENVIRONMENT_FILEPATH. A class may name only what the platform lists in
	// dialects.azure.cloudEnvironmentFiles.
	CloudEnvironmentFile string `yaml:"cloudEnvironmentFile,omitempty"`
	// RefuseOutOfTime fails an object whose time (exp) is over or yet to come
	// (nbf); otherwise it is delivered with a warning.
	RefuseOutOfTime bool `yaml:"refuseOutOfTime,omitempty"`
}

func newSettings() store.Settings { return &Settings{} }

// DefaultTimeout implements store.Patient: a vault that is asked too much is
// waited for nearly as long as a mount may take (60 s).
func (*Settings) DefaultTimeout() time.Duration { return 50 * time.Second }

// vaultName is Key Vault's grammar, as far as it keeps to one label of a host.
var vaultName = regexp.MustCompile(`^[-a-zA-Z0-9]{3,24}$`)

// ValidVault says whether a text can be a vault's name.
func ValidVault(name string) bool { return vaultName.MatchString(name) }

// Check says what is wrong. Everything in here may be the pod author's word.
func (s *Settings) Check(bool) []store.Mistake {
	var found store.Mistakes

	if s.Vault == "" {
		found.Add("vault", "is missing: name the key vault, the NAME of https://NAME.vault.azure.net")
	} else if !ValidVault(s.Vault) {
		found.Add("vault", "%.40q is no name of a key vault: 3 to 24 letters, digits and -", s.Vault)
	}
	switch {
	case s.FailoverVault == "":
	case !ValidVault(s.FailoverVault):
		found.Add("failoverVault", "%.40q is no name of a key vault: 3 to 24 letters, digits and -", s.FailoverVault)
	case strings.EqualFold(s.FailoverVault, s.Vault):
		found.Add("failoverVault", "%s: the failover vault cannot be the same as the first", s.FailoverVault)
	}
	if s.TenantID != "" && !azureauth.ValidTenant(s.TenantID) {
		found.Add("tenantID", "%.60q is no id and no domain of a tenant", s.TenantID)
	}
	if s.ClientID != "" && !azureauth.ValidClient(s.ClientID) {
		found.Add("clientID", "%.60q is no client id", s.ClientID)
	}
	if !s.Auth.Known() {
		found.Add("auth", "%.40q is none of %s", s.Auth, azureauth.Methods)
	}
	if !azureauth.KnownCloud(s.CloudName) {
		found.Add("cloudName", "%.40q is no cloud of Azure's: %s", s.CloudName, azureauth.CloudNames)
	}

	return found
}

// ReadsSecret implements store.SecretReader.
func (s *Settings) ReadsSecret() string {
	if s.Auth == azureauth.ServicePrincipal {
		return azureauth.SecretKeys
	}
	return ""
}

// Inline makes the store of a SecretProviderClass that says in its own way what
// a store would say.
func Inline(name string, s Settings, o store.InlineOptions) (*store.Config, []store.Mistake) {
	return store.NewInline(Kind, name, &s, o)
}
