package compat

import (
	"encoding/json"
	"testing"
	"time"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/kubernetes"
	"github.com/coffre-csi/coffre/test/node"
	"github.com/coffre-csi/coffre/test/program"
)

func TestSecretProviderClassesOfTheAWSProviderWorkUnchanged(t *testing.T) {
	replay(t, "aws.json", func(t *testing.T, path string, _ json.RawMessage) world {
		return beginAWS(t, path, "aws", aws.Options{AcceptAnyToken: true, DefaultRegion: "us-east-1"})
	})
}

// awsWorld is AWS around a node, in the environment that the AWS provider would
// find there.
type awsWorld struct {
	aws     *aws.Server
	node    *node.Node
	program *program.Process
}

func beginAWS(t *testing.T, path, dialect string, options aws.Options) *awsWorld {
	t.Helper()
	w := &awsWorld{aws: aws.New(options), node: node.New(t)}
	cloud := fixture.Serve(t, "", w.aws, w.node.CA)
	fixture.Serve(t, agentAddress+":80", w.aws, nil)
	w.program = w.node.Serve(t, path, dialect, []string{"AWS_ENDPOINT_URL=" + cloud.URL()})
	return w
}

func (w *awsWorld) hold(t *testing.T, c, step json.RawMessage) {
	t.Helper()
	w.aws.Replace(fixture.OK[aws.World](t)(aws.LoadCompat(step)))
	w.node.Kube.Replace(fixture.OK[kubernetes.World](t)(kubernetes.LoadCompat(c)))
	w.aws.Reset()
}

func (w *awsWorld) calls() []string                    { return w.aws.Notation() }
func (w *awsWorld) client() pb.CSIDriverProviderClient { return w.program }

// volume is of the pod that kubernetes.World holds.
func (w *awsWorld) volume() request.Volume {
	v := node.Pod{Namespace: "default", ServiceAccount: "sa-1", Name: "pod-1"}.Volume(nil)
	forLong := time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	v.Identity.Tokens = auth.Tokens{
		"sts.amazonaws.com":      auth.NewToken("irsa-token", forLong),
		"pods.eks.amazonaws.com": auth.NewToken("pod-token", forLong),
	}
	return v
}

const (
	shopRole    = "arn:aws:iam::123456789012:role/shop"
	strangeRole = "arn:aws:iam::123456789012:role/billing"
	noRole      = "arn:aws:iam::123456789012:role/nowhere"
)

// Every mistake is one line that says what is wrong, whose it is and what to
// do. AWS is the strict fake: signatures, trust and permissions are checked.
func TestEveryMistakeIsOneLineInTheDialectOfTheAWSProvider(t *testing.T) {
	m := strictAWS(t, "aws")
	m.class = map[string]string{"region": "eu-west-3", "objects": "[{objectName: prod/mysql, objectType: secretsmanager}]"}
	m.refuse(t, "aws-refusals.json")
}

func TestEveryMistakeIsOneLineInCoffresOwnSchema(t *testing.T) {
	m := strictAWS(t, "coffre")
	m.class = map[string]string{
		"inlineStore": "{kind: aws-secrets-manager, region: eu-west-3}", "objects": "[{name: prod/mysql, file: mysql}]",
	}
	m.refuse(t, "coffre-aws-refusals.json")
}

// strictAWS holds a secret, a parameter and a secret of others, and roles of
// which one is the pods'.
func strictAWS(t *testing.T, dialect string) mistakes {
	w := beginAWS(t, program.Build(t), dialect, aws.Options{DefaultRegion: "eu-west-3"})
	w.aws.AddIssuer(w.node.Issuer.URL, w.node.Issuer.Keys())

	read := []string{"secretsmanager:GetSecretValue", "ssm:GetParameters"}
	w.aws.AddRole(aws.Role{ARN: shopRole, Subjects: []string{"system:serviceaccount:shop:*"},
		Permissions: []aws.Rule{{Actions: read, Resources: []string{"*:secret:prod/*", "*:parameter/prod/*"}}}})
	w.aws.AddRole(aws.Role{ARN: strangeRole, Subjects: []string{"system:serviceaccount:billing:*"}, Permissions: aws.AllowAll})

	for name, role := range map[string]string{
		"api": shopRole, "strange": strangeRole, "lost": noRole, "typo": "role/shop",
		"fresh-1": shopRole, "fresh-2": shopRole, "fresh-3": shopRole, "fresh-4": shopRole, "fresh-5": shopRole,
	} {
		w.node.Kube.SetServiceAccount("shop", name, map[string]string{"eks.amazonaws.com/role-arn": role})
	}
	w.node.Kube.SetServiceAccount("shop", "bare", nil)

	w.aws.SetSecretValue("eu-west-3", "prod/mysql", `{"password":"s3cret"}`)
	w.aws.SetSecretValue("eu-west-3", "hr/salaries", "secret of others")
	w.aws.SetParameterValue("eu-west-3", "/prod/host", "db.example")
	return mistakes{node: w.node, client: w.client(), gate: w.aws.Gate, audience: "sts.amazonaws.com"}
}
