package azure

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/auth"
	azureauth "github.com/coffre-csi/coffre/auth/azure"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/azure"
)

// openInline opens the store that a class of the Azure provider makes, under the
// platform's word on them.
func (w *world) openInline(t testing.TB, dialects string, s Settings, id auth.Identity) error {
	t.Helper()
	set := store.NewSet(store.Catalog{Kinds: w.kinds, Dialects: []store.DialectPolicy{{Name: Dialect, Settings: NewPolicy}}})
	if err := set.Load(dialects); err != nil {
		t.Fatalf("the configuration does not load: %v", err)
	}
	c, mistakes := Inline("shop", s, store.InlineOptions{Dialect: Dialect})
	if mistakes != nil {
		t.Fatalf("got the mistakes %v, want none", mistakes)
	}
	_, err := set.Open(t.Context(), store.Selector{Inline: c}, id)
	return err
}

// The node's identity is everybody's; what a class brings, or has read, is the
// platform's word.
func TestWhatAClassMayUseIsThePlatformsWord(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "cloud.json")
	endpoints := `{"activeDirectoryEndpoint": "https://login.custom.test", "keyVaultDNSSuffix": "vault.custom.test"}`
	if err := os.WriteFile(file, []byte(endpoints), 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	w := newWorld(t)
	w.SetNode(shopID)
	id := w.identity("api")
	id.Secrets = auth.Secrets{"clientid": shopID, "clientsecret": "client-s3cret"}
	of := func(m azureauth.Method) Settings {
		return Settings{Vault: "shop", TenantID: azure.DefaultTenant, ClientID: shopID, Auth: m}
	}
	stack := of(azureauth.WorkloadIdentity)
	stack.CloudName, stack.CloudEnvironmentFile = "AzureStackCloud", file

	for name, c := range map[string]struct {
		dialects string
		settings Settings
		want     string
	}{
		"the node's identity":           {"", of(azureauth.ManagedIdentity), "it would in dialects.azure.providerIdentity.namespaces"},
		"pod identity":                  {"", of(azureauth.PodIdentity), "it would in dialects.azure.providerIdentity.namespaces"},
		"the node's, allowed elsewhere": {"dialects: {azure: {providerIdentity: {namespaces: [bank]}}}", of(azureauth.ManagedIdentity), `namespace "shop"`},
		"the node's, allowed":           {"dialects: {azure: {providerIdentity: {namespaces: [shop]}}}", of(azureauth.ManagedIdentity), ""},
		"a service principal":           {"", of(azureauth.ServicePrincipal), "it would in dialects.azure.nodePublishSecret.namespaces"},
		"a service principal, allowed":  {`dialects: {azure: {nodePublishSecret: {namespaces: ["*"]}}}`, of(azureauth.ServicePrincipal), ""},
		"a file":                        {"", stack, "the platform lists those that are in dialects.azure.cloudEnvironmentFiles"},
		"a file, allowed":               {`dialects: {azure: {cloudEnvironmentFiles: ["` + dir + `/*.json"]}}`, stack, ""},
		"another vault":                 {`dialects: {azure: {allowedAddresses: ["https://team-*.vault.azure.net"]}}`, of(""), "the address https://shop.vault.azure.net is not allowed"},
		"the pod's own":                 {"", of(""), ""},
	} {
		err := w.openInline(t, c.dialects, c.settings, id)
		if c.want == "" && err != nil {
			t.Errorf("%s: got the error %v, want it open", name, err)
		}
		if c.want != "" && (store.ReasonOf(err) != store.Denied || !strings.Contains(fmt.Sprint(err), c.want)) {
			t.Errorf("%s: got %v, want denied: … %s …", name, err, c.want)
		}
	}
	if n := len(w.Calls()); n != 0 {
		t.Errorf("got %d calls, want none to open a store", n)
	}
}

// A file of endpoints is one request's, and never the process's.
func TestACloudOfAFileIsThatOfItsStoreAlone(t *testing.T) {
	w := newWorld(t)
	w.SetSecretValue("shop", "mysql", "s3cret")
	file := filepath.Join(t.TempDir(), "cloud.json")
	custom := `{"activeDirectoryEndpoint": "https://login.custom.test", "keyVaultDNSSuffix": "vault.custom.test"}`
	if err := os.WriteFile(file, []byte(custom), 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	for _, more := range []string{", cloudName: AzureStackCloud, cloudEnvironmentFile: " + file, ""} {
		if _, err := w.read(t, more, store.Ref{Name: "mysql"}); err != nil {
			t.Errorf("%q: got the error %v, want the secret", more, err)
		}
	}
}

func TestMistakesNameTheFieldAndWhatItTakes(t *testing.T) {
	w := newWorld(t)
	for fields, want := range map[string]string{
		"":                                      "stores.x.vault: is missing",
		"vault: a_b":                            `stores.x.vault: "a_b" is no name of a key vault`,
		"vault: shop, failoverVault: SHOP":      "stores.x.failoverVault: SHOP: the failover vault cannot be the same as the first",
		"vault: shop, failoverVault: a.b":       "stores.x.failoverVault: ",
		"vault: shop, tenantID: a/b":            `stores.x.tenantID: "a/b" is no id and no domain of a tenant`,
		"vault: shop, clientID: 'a b'":          `stores.x.clientID: "a b" is no client id`,
		"vault: shop, auth: msi":                `stores.x.auth: "msi" is none of workload-identity`,
		"vault: shop, cloudName: AzureMoon":     `stores.x.cloudName: "AzureMoon" is no cloud of Azure's`,
		"vault: shop, vaultUrl: https://x.test": "stores.x.vaultUrl",
	} {
		set := store.NewSet(store.Catalog{Kinds: w.kinds})
		err := set.Load("stores: {x: {kind: " + Kind + ", namespaces: [shop], " + fields + "}}")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", fields, err, want)
		}
	}
}
