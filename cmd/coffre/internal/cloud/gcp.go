package cloud

import (
	"net/url"
	"strconv"

	"k8s.io/klog/v2"

	gcpauth "github.com/coffre-csi/coffre/auth/gcp"
	"github.com/coffre-csi/coffre/auth/kubernetes"
	"github.com/coffre-csi/coffre/provider"
	gcpdialect "github.com/coffre-csi/coffre/provider/dialect/gcp"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/gcp"
)

// gcpCloud is Google's Secret Manager and Parameter Manager. It reads the
// environment variables that deployments of the Google provider set.
type gcpCloud struct{ audience string }

func (c *gcpCloud) Flags(fs Flags) {
	fs.StringVar(&c.audience, "gcp-audience", "", "full audience of the workload identity provider that vouches for this cluster, where a store names none; empty for that of the node's GKE cluster, or of the external_account file in GOOGLE_APPLICATION_CREDENTIALS")
}

func (c *gcpCloud) Wire(p Process, cluster *kubernetes.Client) Parts {
	if c.audience != "" && !gcpauth.ValidAudience(c.audience) {
		klog.ErrorS(nil, "--gcp-audience is no audience of a workload identity provider; it is not used", "value", c.audience)
		c.audience = ""
	}
	network := gcpauth.NewNetwork(gcpauth.NetworkOptions{UserAgent: "coffre/" + p.Version})
	login := gcpauth.Options{
		Network: network, ServiceAccounts: cluster, Audience: c.audience,
		Project: p.Getenv("PROJECT"), ClusterName: p.Getenv("CLUSTER_NAME"), ClusterLocation: p.Getenv("CLUSTER_LOCATION"),
		ClusterEndpoint: endpoint(p, "GKE_WORKLOAD_IDENTITY_ENDPOINT"), Exchange: endpoint(p, "GAIA_TOKEN_EXCHANGE_ENDPOINT"),
		MetadataHost: p.Getenv("GCE_METADATA_HOST"), CredentialsFile: p.Getenv("GOOGLE_APPLICATION_CREDENTIALS"),
	}
	kinds := gcp.Options{Network: network, Unconfigured: p.Unconfigured, KeyFiles: keyFiles(p)}
	if p.Metrics != nil {
		login.Metrics, kinds.Metrics = p.Metrics, p.Metrics
	}
	broker := gcpauth.New(login)
	kinds.Broker = broker

	audiences := c.audiences(login.Project)
	return Parts{
		Kinds:    gcp.Kinds(kinds),
		Dialects: map[string]provider.Dialect{gcpdialect.Name: gcpdialect.Dialect{}},
		Policies: []store.DialectPolicy{{Name: gcpdialect.Name}},
		Audiences: map[string][]string{
			gcpdialect.Name: audiences, gcp.SecretManager: audiences, gcp.ParameterManager: audiences,
		},
		Close: broker.Close,
	}
}

// audiences are those that tokens must have, as far as the configuration says.
func (c *gcpCloud) audiences(project string) []string {
	switch {
	case c.audience != "":
		return []string{gcpauth.TokenAudience(c.audience)}
	case project != "":
		return []string{project + ".svc.id.goog"}
	}
	return nil
}

// endpoint is an address that tokens go to, or that names a cluster.
func endpoint(p Process, name string) string {
	text := p.Getenv(name)
	u, err := url.Parse(text)
	if text == "" || err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" {
		return text
	}
	klog.ErrorS(nil, "the environment variable is no URL; the default is used", "name", name)
	return ""
}

func keyFiles(p Process) bool {
	text := p.Getenv("ALLOW_NODE_PUBLISH_SECRET")
	allowed, err := strconv.ParseBool(text)
	if text != "" && err != nil {
		klog.ErrorS(nil, "ALLOW_NODE_PUBLISH_SECRET is neither true nor false; key files are not used", "value", text)
	}
	return allowed
}
