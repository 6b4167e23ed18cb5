//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

const (
	azureVault  = "e2e-shop"
	azureTenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"
)

// azureApp is an application with a federated credential for a namespace's
// ServiceAccount app, where issuer says by whom, and the right to read secrets.
func azureApp(ns namespace, client, issuer string) object {
	app := object{"clientID": client, "tenant": azureTenant}
	if issuer != "" {
		app["federated"] = []object{{"issuer": issuer, "subject": "system:serviceaccount:" + ns.name + ":app"}}
	}
	return object{
		"vaults": object{azureVault: object{"tenant": azureTenant}},
		"apps":   []object{app},
		"grants": []object{{"scope": azureVault, "role": "Key Vault Secrets User", "clientID": client}},
	}
}

// putAzure gives a secret of the vault its only version.
func putAzure(t *testing.T, name string, version object) {
	t.Helper()
	addTo(t, "azure", object{"secrets": object{azureVault: object{"secrets": object{name: []object{version}}}}})
}

func azureClass(name, client, secret string, secrets ...object) object {
	return secretProviderClass{name: name, provider: "azure", secrets: secrets, parameters: map[string]string{
		"keyvaultName": azureVault, "tenantID": azureTenant, "clientID": client,
		"objects": "array:\n- |\n  objectName: " + secret + "\n  objectType: secret\n",
	}}.object()
}

// certificate is a key and its certificate, as Key Vault's secret has them.
func certificate(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	leaf, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}))
}

func TestAzuresWorkloadIdentityReadsRotatesAndSyncsACertificate(t *testing.T) {
	parallel(t)
	needAWS(t)
	ns := newNamespace(t, "e2e-azure")
	const client = "11111111-1111-4111-8111-111111111111"
	issuer, err := clusterIssuer()
	must(t, err)
	addTo(t, "azure", azureApp(ns, client, issuer))
	first, second := certificate(t, "first.example"), certificate(t, "second.example")
	putAzure(t, "web", object{"version": "v1", "value": first, "contentType": "application/x-pem-file", "kid": "https://" + azureVault + ".vault.azure.net/keys/web/v1"})
	ns.apply(
		azureClass("web", client, "web", object{
			"secretName": "web", "type": "kubernetes.io/tls",
			"data": []object{{"objectName": "web", "key": "tls.crt"}, {"objectName": "web", "key": "tls.key"}},
		}),
		pod{name: "app", classes: []string{"web"}}.object(),
	)
	ns.ready("app")
	ns.expectFile("app", "/secrets/web/web", first)
	ns.awaitSecret("web", "tls.crt", first[strings.Index(first, "-----BEGIN CERTIFICATE"):])
	ns.expectVersions("app", "web", map[string]string{"secret/web": "v1"})

	putAzure(t, "web", object{"version": "v2", "value": second, "contentType": "application/x-pem-file", "kid": "https://" + azureVault + ".vault.azure.net/keys/web/v2"})
	ns.awaitFile("app", "/secrets/web/web", second)
	ns.awaitSecret("web", "tls.crt", second[strings.Index(second, "-----BEGIN CERTIFICATE"):])
	ns.expectRestarts("app", 0)
}

func TestAMissingFederatedCredentialIsAnEventWithTheCommand(t *testing.T) {
	parallel(t)
	needAWS(t)
	ns := newNamespace(t, "e2e-azure-unknown")
	const client = "22222222-2222-4222-8222-222222222222"
	issuer, err := clusterIssuer()
	must(t, err)
	addTo(t, "azure", azureApp(ns, client, ""))
	putAzure(t, "unknown", object{"version": "v1", "value": "hunter2"})
	ns.apply(azureClass("mysql", client, "unknown"), pod{name: "app", classes: []string{"mysql"}}.object())
	ns.awaitEvent("app", "failed to mount objects, error: failed to get objectType:secret, objectName:unknown, objectVersion:", "AADSTS70025",
		"az identity federated-credential create", "--issuer "+issuer, "--subject system:serviceaccount:e2e-azure-unknown:app", "--audiences api://AzureADTokenExchange")

	addTo(t, "azure", azureApp(ns, client, issuer))
	ns.ready("app")
	ns.expectFile("app", "/secrets/mysql/unknown", "hunter2")
}
