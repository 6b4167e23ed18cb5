package cloud

import (
	"time"

	"github.com/aws/smithy-go/logging"
	"k8s.io/klog/v2"

	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/auth/kubernetes"
	"github.com/coffre-csi/coffre/provider"
	awsdialect "github.com/coffre-csi/coffre/provider/dialect/aws"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/aws"
)

// awsCloud is AWS Secrets Manager and Parameter Store. Of the environment it
// reads AWS_REGION; the rest the AWS SDK reads by itself.
type awsCloud struct {
	addonVersion string
	agentTimeout string
}

func (c *awsCloud) Flags(fs Flags) {
	fs.StringVar(&c.agentTimeout, "pod-identity-http-timeout", "", "how long an answer of the EKS Pod Identity agent may take, as 500ms; empty for 5s")
	fs.StringVar(&c.addonVersion, "eks-addon-version", "", "version of the EKS add-on that installed this, for the user agent")
}

func (c *awsCloud) Wire(p Process, cluster *kubernetes.Client) Parts {
	region := p.Getenv("AWS_REGION")
	sdk := awsauth.NewSDK(awsauth.SDKOptions{Version: p.Version, Addon: c.addonVersion, Logger: logging.LoggerFunc(logSDK)})
	login := awsauth.Options{SDK: sdk, ServiceAccounts: cluster, PodIdentityTimeout: c.timeout()}
	kinds := aws.Options{SDK: sdk, Region: region, Node: cluster}
	if p.Metrics != nil {
		login.Metrics, kinds.Metrics = p.Metrics, p.Metrics
	}
	kinds.Broker = awsauth.New(login)

	audiences := []string{awsauth.AudienceIRSA}
	return Parts{
		Kinds:    aws.Kinds(kinds),
		Dialects: map[string]provider.Dialect{awsdialect.Name: awsdialect.Dialect{DefaultRegion: region}},
		Policies: []store.DialectPolicy{{Name: awsdialect.Name}},
		Audiences: map[string][]string{
			awsdialect.Name: audiences, aws.SecretsManager: audiences, aws.ParameterStore: audiences,
		},
	}
}

// timeout reads the flag of the AWS provider, which goes on with its default
// where it cannot read it; so does this.
func (c *awsCloud) timeout() time.Duration {
	if c.agentTimeout == "" {
		return 0
	}
	d, err := time.ParseDuration(c.agentTimeout)
	if err != nil || d <= 0 {
		klog.ErrorS(err, "--pod-identity-http-timeout is no duration above 0; the default is used", "value", c.agentTimeout)
		return 0
	}
	return d
}

// logSDK takes what the SDK has to say into the chosen log, without its
// arguments, which may hold anything.
func logSDK(level logging.Classification, format string, _ ...any) {
	klog.InfoS("the AWS SDK says", "level", string(level), "message", format)
}
