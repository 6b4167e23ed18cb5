package provider

import (
	"time"

	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/auth/kubernetes"
	awsdialect "github.com/coffre-csi/coffre/provider/dialect/aws"
	"github.com/coffre-csi/coffre/provider/dialect/coffre"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/aws"
	"github.com/coffre-csi/coffre/provider/store/sops"
)

// Environment is what the kinds of store need of the process that they run in.
// The zero Environment is that of a process outside of any cluster and cloud.
type Environment struct {
	Version    string // of Coffre, for user agents
	Kubernetes kubernetes.Options
	AWS        AWSEnvironment
	Metrics    StoreMetrics // nil for none
}

// AWSEnvironment is the AWS part. The rest of it the AWS SDK reads by itself,
// from its own variables.
type AWSEnvironment struct {
	Region             string        // AWS_REGION: of stores that name none
	PodIdentityTimeout time.Duration // 0 is the default
	EKSAddonVersion    string        // for the user agent
}

// StoreMetrics are told what the stores do.
type StoreMetrics interface {
	Requested(kind, operation, code string)
	Exchanged(kind, result string)
}

// Kinds lists the kinds of store that there are. A new secret manager is one
// folder under store, and one line here. Nothing is contacted by making them.
func Kinds(env Environment) store.Kinds {
	if env.Kubernetes.UserAgent == "" {
		env.Kubernetes.UserAgent = "coffre/" + env.Version
	}
	cluster := kubernetes.New(env.Kubernetes)
	kinds := store.Kinds{sops.Kind()}
	kinds = append(kinds, awsKinds(env, cluster)...)
	return kinds
}

func awsKinds(env Environment, cluster *kubernetes.Client) []store.Kind {
	sdk := awsauth.NewSDK(awsauth.SDKOptions{Version: env.Version, Addon: env.AWS.EKSAddonVersion})
	broker := awsauth.Options{SDK: sdk, ServiceAccounts: cluster, PodIdentityTimeout: env.AWS.PodIdentityTimeout}
	kinds := aws.Options{SDK: sdk, Region: env.AWS.Region, Node: cluster}
	if env.Metrics != nil {
		broker.Metrics, kinds.Metrics = env.Metrics, env.Metrics
	}
	kinds.Broker = awsauth.New(broker)
	return aws.Kinds(kinds)
}

// Dialects lists the dialects by name, which is that of their socket and of
// spec.provider.
func Dialects(env Environment, kinds store.Kinds) map[string]Dialect {
	return map[string]Dialect{
		coffre.Name:     coffre.Dialect{Kinds: kinds},
		awsdialect.Name: awsdialect.Dialect{DefaultRegion: env.AWS.Region},
	}
}
