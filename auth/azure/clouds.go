package azure

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"strings"
)

// Cloud is what differs between Azure's clouds: https://NAME.Suffix is a vault,
// and Authority is where tokens come from.
type Cloud struct {
	Name      string
	Authority string // https://login.microsoftonline.com
	Suffix    string // vault.azure.net
	// VaultEndpoint is what pod identity asks tokens for.
	VaultEndpoint string
}

// Resource is what tokens for the vaults of the cloud are for, where a vault
// does not say otherwise.
func (c Cloud) Resource() string { return "https://" + c.Suffix }

// StackCloud is the cloud whose endpoints stand in a file.
const StackCloud = "AzureStackCloud"

// CloudNames are those that there are, for an error.
const CloudNames = "AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud, AzureGermanCloud and AzureStackCloud"

// The clouds and the other names that the Azure provider has for them.
var aliases = map[string]string{
	"": "azurepubliccloud", "azurecloud": "azurepubliccloud", "azureusgovernment": "azureusgovernmentcloud",
}

func named(name string) (Cloud, bool) {
	name = strings.ToLower(name)
	if full, ok := aliases[name]; ok {
		name = full
	}
	switch name {
	case "azurepubliccloud":
		return public("AzurePublicCloud", "login.microsoftonline.com", "vault.azure.net"), true
	case "azureusgovernmentcloud":
		return public("AzureUSGovernmentCloud", "login.microsoftonline.us", "vault.usgovcloudapi.net"), true
	case "azurechinacloud":
		return public("AzureChinaCloud", "login.chinacloudapi.cn", "vault.azure.cn"), true
	case "azuregermancloud":
		return public("AzureGermanCloud", "login.microsoftonline.de", "vault.microsoftazure.de"), true
	}
	return Cloud{}, false
}

func public(name, authority, suffix string) Cloud {
	return Cloud{Name: name, Authority: "https://" + authority, Suffix: suffix, VaultEndpoint: "https://" + suffix + "/"}
}

// KnownCloud says whether there is a cloud of a name, in any case; "" is the
// process's.
func KnownCloud(name string) bool {
	_, ok := named(name)
	return ok || IsStackCloud(name)
}

// IsStackCloud says whether a name means the cloud of a file.
func IsStackCloud(name string) bool { return strings.EqualFold(name, StackCloud) }

// CloudOf is the cloud of a name; file says that of AzureStackCloud, and is read
// anew each time.
func CloudOf(name, file string) (Cloud, error) {
	if c, ok := named(name); ok {
		return c, nil
	}
	if !IsStackCloud(name) {
		return Cloud{}, fmt.Errorf("there is no cloud of this name; there are %s", CloudNames)
	}
	return readCloud(file)
}

// maxFile is far above what such a file has.
const maxFile = 64 << 10

// environment is a file of endpoints, in the form of go-autorest.
type environment struct {
	Authority string `json:"activeDirectoryEndpoint"`
	Endpoint  string `json:"keyVaultEndpoint"`
	Suffix    string `json:"keyVaultDNSSuffix"`
}

func readCloud(file string) (Cloud, error) {
	f, err := os.Open(file)
	if err != nil {
		return Cloud{}, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return Cloud{}, err
	}

	var e environment
	if err := json.Unmarshal(raw, &e); err != nil {
		return Cloud{}, fmt.Errorf("%s holds no JSON of a cloud's endpoints", file)
	}
	u, err := url.Parse(e.Authority)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return Cloud{}, fmt.Errorf("%s: activeDirectoryEndpoint is no https URL", file)
	}
	if !hostName.MatchString(e.Suffix) {
		return Cloud{}, fmt.Errorf("%s: keyVaultDNSSuffix is no DNS name", file)
	}
	authority := "https://" + u.Host + strings.TrimSuffix(u.EscapedPath(), "/")
	return Cloud{Name: StackCloud, Authority: authority, Suffix: strings.ToLower(e.Suffix), VaultEndpoint: e.Endpoint}, nil
}

var hostName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,62}\.)+[a-zA-Z0-9-]{1,63}$`)
