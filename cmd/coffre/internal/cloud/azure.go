package cloud

import (
	"k8s.io/klog/v2"

	azureauth "github.com/coffre-csi/coffre/auth/azure"
	"github.com/coffre-csi/coffre/auth/kubernetes"
	"github.com/coffre-csi/coffre/provider"
	azuredialect "github.com/coffre-csi/coffre/provider/dialect/azure"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/azure"
)

// azureCloud is Azure Key Vault. Its flags are those of the Azure provider, with
// azure- before them; managed identities are found by the variables that Azure's
// SDK reads (IDENTITY_ENDPOINT and its kin).
type azureCloud struct {
	cloudName, proxyURL, serverName string
	chain, separate                 bool
}

// clusterCA is where kubelet puts the cluster's authority for every pod.
const clusterCA = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"

func (c *azureCloud) Flags(fs Flags) {
	fs.StringVar(&c.cloudName, "azure-cloud-name", "AzurePublicCloud", "the cloud of stores that name none: "+azureauth.CloudNames+", whose endpoints stand in the file that $AZURE_ENVIRONMENT_FILEPATH names")
	fs.StringVar(&c.proxyURL, "azure-token-proxy-url", "", "https URL of the cluster's token proxy of identity bindings; empty for the API server's address")
	fs.StringVar(&c.serverName, "azure-sni-name", "", "TLS server name of the token proxy; empty to compute it from the API server's certificate")
	fs.BoolVar(&c.chain, "azure-construct-pem-chain", true, "order the certificates of a PFX from the leaf to the root, in classes of provider: azure")
	fs.BoolVar(&c.separate, "azure-write-cert-and-key-in-separate-files", false, "write PATH.crt and PATH.key beside each certificate with its key, in classes of provider: azure")
}

func (c *azureCloud) Wire(p Process, cluster *kubernetes.Client) Parts {
	if !azureauth.KnownCloud(c.cloudName) {
		klog.ErrorS(nil, "--azure-cloud-name is no cloud of Azure's; only stores that name one work", "value", c.cloudName)
	}
	network := azureauth.NewNetwork(azureauth.NetworkOptions{UserAgent: "coffre/" + p.Version})
	login := azureauth.Options{Network: network, ServiceAccounts: cluster, Binding: azureauth.Binding{
		URL: c.proxyURL, ServerName: c.serverName, Port: p.Kubernetes.Port, CAFile: clusterCA,
	}}
	kinds := azure.Options{
		Network: network, Cloud: c.cloudName, EnvironmentFile: p.Getenv("AZURE_ENVIRONMENT_FILEPATH"),
		Unconfigured: p.Unconfigured, Warn: p.Warn,
	}
	if p.Metrics != nil {
		login.Metrics, kinds.Metrics = p.Metrics, p.Metrics
	}
	broker := azureauth.New(login)
	kinds.Broker = broker

	audiences := []string{azureauth.TokenExchangeAudience}
	return Parts{
		Kinds:     azure.Kinds(kinds),
		Dialects:  map[string]provider.Dialect{azure.Dialect: azuredialect.Dialect{VaultOrder: !c.chain, SeparateFiles: c.separate}},
		Policies:  []store.DialectPolicy{{Name: azure.Dialect, Settings: azure.NewPolicy}},
		Audiences: map[string][]string{azure.Dialect: audiences, azure.Kind: audiences},
		Close:     broker.Close,
	}
}
