package cloud

import (
	"bytes"
	"os"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/auth/kubernetes"
	vaultauth "github.com/coffre-csi/coffre/auth/vault"
	"github.com/coffre-csi/coffre/provider"
	vaultdialect "github.com/coffre-csi/coffre/provider/dialect/vault"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/vault"
)

// vaultCloud is HashiCorp Vault and OpenBao. It reads nothing of the
// environment: VAULT_TOKEN there would be every pod's.
type vaultCloud struct {
	vaultKeyFile, openBaoKeyFile string
}

func (c *vaultCloud) Flags(fs Flags) {
	fs.StringVar(&c.vaultKeyFile, "vault-version-key-file", "", "file of the Vault provider's key of object versions (the key \"key\" of its Secret vault-csi-provider-hmac-key): moving from it then restarts nothing")
	fs.StringVar(&c.openBaoKeyFile, "openbao-version-key-file", "", "the same of the OpenBao provider (openbao-csi-provider-hmac-key)")
}

func (c *vaultCloud) Wire(p Process, _ *kubernetes.Client) Parts {
	login := vaultauth.Options{}
	key, baoKey := versionKey(c.vaultKeyFile), versionKey(c.openBaoKeyFile)
	kinds := vault.Options{VersionKey: key}
	if key == nil {
		kinds.VersionKey = baoKey
	}
	if p.Metrics != nil {
		login.Metrics, kinds.Metrics = p.Metrics, p.Metrics
	}
	kinds.Broker = vaultauth.New(login)

	return Parts{
		Kinds: vault.Kinds(kinds),
		Dialects: map[string]provider.Dialect{
			vaultdialect.Vault:   vaultdialect.Dialect{Provider: vaultdialect.Vault, VersionKey: key},
			vaultdialect.OpenBao: vaultdialect.Dialect{Provider: vaultdialect.OpenBao, VersionKey: baoKey},
		},
		Policies: []store.DialectPolicy{
			{Name: vaultdialect.Vault, Settings: vault.NewPolicy}, {Name: vaultdialect.OpenBao, Settings: vault.NewPolicy},
		},
		Audiences: map[string][]string{
			vaultdialect.Vault: {vaultauth.AudienceVault}, vaultdialect.OpenBao: {vaultauth.AudienceOpenBao},
		},
		Close: kinds.Broker.Close,
	}
}

// versionKey reads a key; nil where there is none. Without one a pod's versions
// are Coffre's own, and it starts all the same.
func versionKey(file string) store.Value {
	if file == "" {
		return nil
	}
	key, err := os.ReadFile(file)
	if err == nil && len(bytes.Trim(key, "\x00")) > 0 {
		return key
	}
	klog.ErrorS(err, "the key of object versions cannot be read, or is empty; versions are Coffre's own", "file", file)
	return nil
}
