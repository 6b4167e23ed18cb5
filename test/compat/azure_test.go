package compat

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/test/fakes/azure"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/node"
	"github.com/coffre-csi/coffre/test/program"
)

func TestSecretProviderClassesOfTheAzureProviderWorkUnchanged(t *testing.T) {
	// The cases share a node, and those of one command line a program: what is
	// kept of one is another's service account.
	shared := beginAzure(t, azure.Options{AcceptAnyToken: true})
	programs := map[string]*program.Process{}
	whole := t

	replayFilled(t, "azure.json", azureFixtures(t), func(t *testing.T, path string, c json.RawMessage) world {
		args := azureCaseOf(t, c).Args
		at := strings.Join(args, " ")
		if programs[at] == nil {
			programs[at] = shared.node.Serve(whole, path, "azure", nil, args...)
		}
		shared.program = programs[at]
		return shared
	})
}

// azureCase is what a case says of the process and the pod.
type azureCase struct {
	Args       []string     `json:"args"`
	Pod        string       `json:"pod"`
	Secret     auth.Secrets `json:"nodePublishSecret"`
	SecretsRaw *string      `json:"secretsRaw"`
}

func azureCaseOf(t *testing.T, c json.RawMessage) (out azureCase) {
	t.Helper()
	if err := json.Unmarshal(c, &out); err != nil {
		t.Fatalf("the case: %v", err)
	}
	return out
}

// azureWorld is Azure around a node, under Azure's own host names.
type azureWorld struct {
	azure   *azure.Server
	node    *node.Node
	program *program.Process // of the case
	given   azureCase
	cases   int // of the world so far; each is another's service account
}

const azureAddress = "127.0.1.11"

func beginAzure(t *testing.T, options azure.Options) *azureWorld {
	t.Helper()
	resolve(t, azureAddress+" testkv.vault.azure.net aaaaaaaaaaaaaaaaaaaaaaaa.vault.azure.net login.microsoftonline.com")
	w := &azureWorld{azure: azure.New(options), node: node.New(t)}
	fixture.Serve(t, azureAddress+":443", w.azure, w.node.CA)
	fixture.Serve(t, metadataAddress+":80", w.azure, nil)
	fixture.Serve(t, "127.0.0.1:2579", w.azure.NMI(), nil)
	return w
}

func (w *azureWorld) hold(t *testing.T, c, step json.RawMessage) {
	t.Helper()
	w.given = azureCaseOf(t, c)
	w.azure.Replace(fixture.OK[azure.World](t)(azure.LoadCompat(step)))
	w.cases++
	w.azure.Reset()
}

func (w *azureWorld) calls() []string                    { return w.azure.Notation() }
func (w *azureWorld) client() pb.CSIDriverProviderClient { return w.program }

func (w *azureWorld) volume() request.Volume {
	account := fmt.Sprintf("sa%d", w.cases)
	v := node.Pod{Namespace: "ns1", ServiceAccount: account, Name: "pod1"}.Volume(nil)
	if w.given.Pod != "" {
		v.Identity.Pod.Name = w.given.Pod
	}
	v.Identity.Pod.UID = account
	v.Identity.Secrets = maps.Clone(w.given.Secret)
	return v
}

// amend implements amender: the text of the Secret.
func (w *azureWorld) amend(req *pb.MountRequest) {
	if w.given.SecretsRaw != nil {
		req.Secrets = *w.given.SecretsRaw
	}
}

// Every mistake is one line that says what is wrong, whose it is and what to
// do. Azure is the strict fake: tokens, federated credentials and roles are
// checked.
func TestEveryMistakeIsOneLineInTheDialectOfTheAzureProvider(t *testing.T) {
	m := strictAzure(t, "azure")
	m.class = map[string]string{
		"keyvaultName": "shop", "tenantId": azure.DefaultTenant, "clientID": azureClient, "objects": "- {objectName: mysql, objectType: secret}",
	}
	m.refuse(t, "azure-refusals.json")
}

func TestEveryMistakeWithKeyVaultIsOneLineInCoffresOwnSchema(t *testing.T) {
	m := strictAzure(t, "coffre")
	m.class = map[string]string{"inlineStore": "{kind: azure-key-vault, vault: shop}", "objects": "[{name: mysql, file: mysql}]"}
	m.refuse(t, "coffre-azure-refusals.json")
}

const (
	azureClient  = "aaaaaaaa-0000-4000-8000-000000000001" // trusts the pods, and may read
	azureOther   = "aaaaaaaa-0000-4000-8000-000000000002" // trusts others
	secretsUser  = "Key Vault Secrets User"
	aDayLongGone = 1700000000
)

// strictAzure is a vault with secrets of the pods and of others, and vaults that
// let nobody in.
func strictAzure(t *testing.T, dialect string) mistakes {
	t.Helper()
	w := beginAzure(t, azure.Options{})
	resolve(t, azureAddress+" shop.vault.azure.net nowhere.vault.azure.net foreign.vault.azure.net closed.vault.azure.net login.microsoftonline.com")
	w.azure.AddIssuer(w.node.Issuer.URL, w.node.Issuer.Keys())
	var trusted []azure.Federated
	for _, name := range []string{"api", "bare", "fresh-1", "fresh-2", "fresh-3", "fresh-4", "fresh-5"} {
		trusted = append(trusted, azure.Federated{Issuer: w.node.Issuer.URL, Subject: "system:serviceaccount:shop:" + name})
		w.node.Kube.SetServiceAccount("shop", name, map[string]string{
			"azure.workload.identity/client-id": azureClient, "azure.workload.identity/tenant-id": azure.DefaultTenant,
		})
	}
	w.node.Kube.SetServiceAccount("shop", "bare", nil)
	w.azure.AddApp(azure.App{ClientID: azureClient, Federated: trusted})
	w.azure.AddApp(azure.App{ClientID: azureOther, Federated: []azure.Federated{{Issuer: w.node.Issuer.URL, Subject: "system:serviceaccount:billing:payroll"}}})
	w.azure.AddVault("foreign", azure.Vault{Tenant: "99999999-2222-3333-4444-555555555555"})
	w.azure.AddVault("closed", azure.Vault{Closed: "firewall"})
	w.fillShop(t)

	stores := filepath.Join(t.TempDir(), "stores.yaml")
	if err := os.WriteFile(stores, []byte("stores: {}\n"), 0o600); err != nil {
		t.Fatalf("the stores' file: %v", err)
	}
	client := w.node.Serve(t, program.Build(t), dialect, nil, "--stores", stores)

	return mistakes{node: w.node, client: client, gate: w.azure.Gate, audience: "api://AzureADTokenExchange"}
}

// fillShop puts secrets into the vault shop. Of all but one the pods are
// readers.
func (w *azureWorld) fillShop(t *testing.T) {
	t.Helper()
	w.azure.AddVault("shop", azure.Vault{})
	off := false
	fixtures := azureFixtures(t)
	kid := "https://shop.vault.azure.net/keys/web/v1"
	for name, v := range map[string]azure.Version{
		"mysql":    {Value: `{"password":"s3cret"}`},
		"word":     {Value: "changeit"},
		"short":    {Value: "abc"},
		"off":      {Value: "x", Enabled: &off},
		"web":      {Value: fixtures["key_ec"] + fixtures["cert_leaf"], KID: kid, ContentType: "application/x-pem-file"},
		"locked":   {Value: fixtures["pfx_locked"], ContentType: "application/x-pkcs12"},
		"salaries": {Value: "secret of others"},
	} {
		v.Version, v.Created = "v1", aDayLongGone
		w.azure.SetObject("shop", azure.Secrets, name, v)
		if name != "salaries" {
			w.azure.Grant("shop/secrets/"+name, secretsUser, azureClient)
		}
	}
	w.azure.Grant("shop/secrets/none", secretsUser, azureClient)
}

// A certificate of Key Vault is a document in Coffre's own schema, and a file
// of every format; a remount changes none of them.
func TestACertificateOfKeyVaultIsFilesOfEveryFormat(t *testing.T) {
	m := strictAzure(t, "coffre")
	m.class = map[string]string{"inlineStore": "{kind: azure-key-vault, vault: shop}", "objects": `
- {name: web, type: certificate, keys: "*"}
- {name: web, type: certificate, format: pem, file: web.pem}
- {name: web, type: certificate, format: pfx, file: web.pfx}
- {name: web, type: certificate, format: jks, password: word, file: web.jks}
`}

	var before map[string]string
	for range 2 {
		answer, err := mount(t, m.client, m.request(t, refusal{Name: "a mount"}))
		if err != nil {
			t.Fatalf("got the error %v, want files", err)
		}
		files := map[string]string{}
		for _, f := range answer.GetFiles() {
			files[f.GetPath()] = string(f.GetContents())
		}
		if before != nil && !maps.Equal(files, before) {
			t.Error("a remount changes a file")
		}
		before = files
	}

	if got, want := slices.Sorted(maps.Keys(before)), []string{"tls.crt", "tls.key", "web.jks", "web.pem", "web.pfx"}; !slices.Equal(got, want) {
		t.Fatalf("got the files %q, want %q", got, want)
	}
	if before["web.pem"] != before["tls.key"]+before["tls.crt"] {
		t.Error("web.pem is not the key and the certificate")
	}
	key, leaf, err := pkcs12.Decode([]byte(before["web.pfx"]), "")
	if err != nil || key == nil || leaf.Subject.CommonName != "leaf" {
		t.Errorf("web.pfx: got the error %v, want the leaf and its key", err)
	}
	store := keystore.New()
	if err := store.Load(strings.NewReader(before["web.jks"]), []byte("changeit")); err != nil || !store.IsPrivateKeyEntry("certificate") {
		t.Errorf("web.jks: got the error %v and the entries %q, want the entry certificate", err, store.Aliases())
	}
}
