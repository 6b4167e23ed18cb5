package compat

import (
	"encoding/json"
	"maps"
	"regexp"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/program"
)

// refusal is one mistake, and the line that the pod's events show for it.
type refusal struct {
	name           string
	parameters     map[string]string // over the class's of its dialect
	serviceAccount string            // default: api
	token          *oidc.Request     // default: a good one
	expires        time.Time         // what the driver says of the token; default: nothing
	audience       string            // under which the token is given; default: sts.amazonaws.com
	issuer         string            // default: the one that AWS trusts
	fault          *aws.Fault
	want           string
}

type parameters = map[string]string

const (
	shopRole    = "arn:aws:iam::123456789012:role/shop"
	strangeRole = "arn:aws:iam::123456789012:role/billing"
	noRole      = "arn:aws:iam::123456789012:role/nowhere"
)

var requestIDs = regexp.MustCompile(`request [0-9a-f-]{36}`)

// Every mistake is one line that says what is wrong, whose it is and what to
// do. AWS is the strict fake: signatures, trust and permissions are checked.
func TestEveryMistakeIsOneLineInTheDialectOfTheAWSProvider(t *testing.T) {
	class := parameters{"region": "eu-west-3", "objects": "[{objectName: prod/mysql, objectType: secretsmanager}]"}
	refuse(t, "aws", class, awsRefusals)
}

func TestEveryMistakeIsOneLineInCoffresOwnSchema(t *testing.T) {
	class := parameters{"inlineStore": "{kind: aws-secrets-manager, region: eu-west-3}", "objects": "[{name: prod/mysql, file: mysql}]"}
	refuse(t, "coffre", class, coffreRefusals)
}

func refuse(t *testing.T, dialect string, class parameters, refusals []refusal) {
	n := startNode(t, program.Build(t), dialect, aws.Options{DefaultRegion: "eu-west-3"})
	issuer := ok[*oidc.Issuer](t)(oidc.NewIssuer("https://oidc.example"))
	n.aws.AddIssuer(issuer.URL, issuer.Keys())
	read := []string{"secretsmanager:GetSecretValue", "ssm:GetParameters"}
	n.aws.AddRole(aws.Role{ARN: shopRole, Subjects: []string{"system:serviceaccount:shop:*"},
		Permissions: []aws.Rule{{Actions: read, Resources: []string{"*:secret:prod/*", "*:parameter/prod/*"}}}})
	n.aws.AddRole(aws.Role{ARN: strangeRole, Subjects: []string{"system:serviceaccount:billing:*"}, Permissions: aws.AllowAll})
	for name, role := range map[string]string{"api": shopRole, "strange": strangeRole, "lost": noRole, "typo": "role/shop",
		"fresh-1": shopRole, "fresh-2": shopRole, "fresh-3": shopRole, "fresh-4": shopRole, "fresh-5": shopRole} {
		n.kube.SetServiceAccount("shop", name, map[string]string{"eks.amazonaws.com/role-arn": role})
	}
	n.kube.SetServiceAccount("shop", "bare", nil)
	n.aws.SetSecretValue("eu-west-3", "prod/mysql", `{"password":"s3cret"}`)
	n.aws.SetSecretValue("eu-west-3", "hr/salaries", "secret of others")
	n.aws.SetParameterValue("eu-west-3", "/prod/host", "db.example")
	if _, err := n.strictly(t, class, refusal{}, issuer); err != nil {
		t.Fatal("what is right is refused:", err)
	}
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			if r.fault != nil {
				defer n.aws.AddFault(*r.fault)()
			}
			_, err := n.strictly(t, class, r, issuer)
			if got := requestIDs.ReplaceAllString(status.Convert(err).Message(), "request ID"); got != r.want {
				t.Errorf("\n got %s\nwant %s", got, r.want)
			}
		})
	}
}

func (n *node) strictly(t *testing.T, class parameters, r refusal, issuer *oidc.Issuer) (*pb.MountResponse, error) {
	t.Helper()
	attributes := maps.Clone(class)
	maps.Copy(attributes, r.parameters)
	if r.serviceAccount == "" {
		r.serviceAccount = "api"
	}
	if r.audience == "" {
		r.audience = "sts.amazonaws.com"
	}
	request := oidc.Request{Namespace: "shop", ServiceAccount: r.serviceAccount, Audiences: []string{r.audience}}
	if r.token != nil {
		request = *r.token
	}
	if r.issuer != "" {
		issuer = ok[*oidc.Issuer](t)(oidc.NewIssuer(r.issuer))
	}
	token := map[string]string{"token": issuer.Token(request)}
	if !r.expires.IsZero() {
		token["expirationTimestamp"] = r.expires.Format(time.RFC3339)
	}
	tokens, _ := json.Marshal(map[string]any{r.audience: token})
	// Nothing is answered from what was read before.
	attributes["forceRefresh"] = r.name
	pod := "pod-" + regexp.MustCompile(`[^a-zA-Z0-9]+`).ReplaceAllString(r.name, "-")
	maps.Copy(attributes, parameters{
		"csi.storage.k8s.io/pod.name": pod, "csi.storage.k8s.io/pod.namespace": "shop", "csi.storage.k8s.io/pod.uid": pod,
		"csi.storage.k8s.io/serviceAccount.name": r.serviceAccount, "csi.storage.k8s.io/serviceAccount.tokens": string(tokens),
		"secretProviderClass": "class",
	})
	raw, _ := json.Marshal(attributes)
	return n.client.Mount(t.Context(), &pb.MountRequest{Attributes: string(raw), Secrets: "{}", Permission: "420",
		TargetPath: "/var/lib/kubelet/pods/" + pod + "/volumes/kubernetes.io~csi/v/mount"})
}

func secret(fields string) parameters {
	return parameters{"objects": "[{objectType: secretsmanager, " + fields + "}]"}
}

var past = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var awsRefusals = []refusal{
	{name: "region that is none", parameters: parameters{"region": "Paris"},
		want: `region: "Paris" is no AWS region, such as eu-west-3`},
	{name: "region with a host in it", parameters: parameters{"region": "eu-west-3.evil.example/"},
		want: `region: "eu-west-3.evil.example/" is no AWS region, such as eu-west-3`},
	{name: "failover region that is none", parameters: parameters{"failoverRegion": "eu_west"},
		want: `failoverRegions[0]: "eu_west" is no AWS region, such as eu-central-1`},
	{name: "failover region of another partition", parameters: parameters{"failoverRegion": "cn-north-1"},
		want: "failoverRegions[0]: cn-north-1 is in another partition of AWS than eu-west-3, where no credential of it is good"},
	{name: "usePodIdentity", parameters: parameters{"usePodIdentity": "yes"},
		want: `failed to parse usePodIdentity value, error: strconv.ParseBool: parsing "yes": invalid syntax`},
	{name: "pathTranslation", parameters: parameters{"pathTranslation": "--"},
		want: `pathTranslation must be either 'False' or a single character string; it is "--"`},
	{name: "refresh", parameters: parameters{"refresh": "soon"},
		want: `refresh: "soon" is no refresh time; write a duration of at least 1s (30s, 5m, 1h), or never`},
	{name: "objects that are no list", parameters: parameters{"objects": "prod/mysql"},
		want: "objects: Failed to load SecretProviderClass: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go value of type []*aws.descriptor"},
	{name: "objectType", parameters: parameters{"objects": "[{objectName: prod/mysql, objectType: ssm}]"},
		want: "objects[0]: Invalid objectType: ssm"},
	{name: "objectType missing", parameters: parameters{"objects": "[{objectName: prod/mysql}]"},
		want: "objects[0]: Must use objectType when a full ARN is not specified: prod/mysql"},
	{name: "objectName missing", parameters: secret("objectAlias: x"),
		want: "objects[0]: Object name must be specified"},
	{name: "filePermission", parameters: secret("objectName: prod/mysql, filePermission: '0999'"),
		want: "objects[0]: Invalid File Permission: 0999"},
	{name: "alias that leaves the volume", parameters: parameters{"pathTranslation": "False", "objects": "[{objectType: secretsmanager, objectName: prod/mysql, objectAlias: ../x}]"},
		want: "objects[0]: path can not contain ../: ../x"},
	{name: "two files of one name", parameters: parameters{"objects": "[{objectType: secretsmanager, objectName: prod/mysql}, {objectType: ssmparameter, objectName: prod_mysql}]"},
		want: `objects[1]: "prod_mysql" is the file of objects[0] too; give one of them another objectAlias`},
	{name: "jmesPath that is none", parameters: secret("objectName: prod/mysql, jmesPath: [{path: 'a.[', objectAlias: x}]"),
		want: `objects[0]: jmesPath[0]: path "a.[" is no JMESPath expression: Incomplete expression`},
	{name: "jmesPath that finds nothing", parameters: secret("objectName: prod/mysql, jmesPath: [{path: user, objectAlias: x}]"),
		want: `Failed to fetch secret from all regions. Verify secret exists and required permissions are granted for: prod/mysql: objects[0]: secretsmanager: prod/mysql: jmesPath "user" selects nothing`},
	{name: "decode", parameters: secret("objectName: prod/mysql, decode: rot13"),
		want: `objects[0]: decode: "rot13" is not base64, base64url, hex or auto`},
	{name: "objectNameMatch", parameters: secret("objectName: prod/, objectNameMatch: glob"),
		want: `objects[0]: objectNameMatch: "glob" is neither prefix nor regexp`},
	{name: "find without the permission", parameters: secret("objectName: prod/, objectNameMatch: prefix"),
		want: "Failed to fetch secret from all regions. Verify secret exists and required permissions are granted for: prod/: secretsmanager: access denied: role arn:aws:iam::123456789012:role/shop (service account shop/api) lacks secretsmanager:ListSecrets, which find needs, in eu-west-3 (request ID)"},
	{name: "several mistakes", parameters: parameters{"region": "Paris", "usePodIdentity": "yes", "objects": "[{objectName: a}, {objectName: b, objectType: ssm}]"},
		want: `failed to parse usePodIdentity value, error: strconv.ParseBool: parsing "yes": invalid syntax; objects[0]: Must use objectType when a full ARN is not specified: a; objects[1]: Invalid objectType: ssm`},

	{name: "ARN of another service", parameters: parameters{"objects": "[{objectName: 'arn:aws:s3:eu-west-3:123456789012:secret:prod/mysql'}]"},
		want: "objects[0]: Invalid service in ARN: s3"},
	{name: "ARN of another region", parameters: parameters{"objects": "[{objectName: 'arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/mysql'}]"},
		want: "objects[0]: ARN region must match region eu-west-3: arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/mysql"},
	{name: "ARN of a parameter as a secret", parameters: secret("objectName: 'arn:aws:ssm:eu-west-3:123456789012:parameter/prod/host'"),
		want: "objects[0]: objectType does not match ARN: arn:aws:ssm:eu-west-3:123456789012:parameter/prod/host"},
	{name: "ARN that is cut off", parameters: secret("objectName: 'arn:aws:secretsmanager:eu-west-3'"),
		want: "objects[0]: Invalid ARN format in object name: arn:aws:secretsmanager:eu-west-3"},
	{name: "ARN of a secret that is not there", parameters: secret("objectName: 'arn:aws:secretsmanager:eu-west-3:123456789012:secret:prod/nothing-AbCdEf'"),
		want: "eu-west-3: Failed fetching secret arn:aws:secretsmanager:eu-west-3:123456789012:secret:prod/nothing-AbCdEf: secretsmanager: arn:aws:secretsmanager:eu-west-3:123456789012:secret:prod/nothing-AbCdEf: there is no such secret in eu-west-3 (request ID)"},

	{name: "no such secret", parameters: secret("objectName: prod/nothing"),
		want: "eu-west-3: Failed fetching secret prod/nothing: secretsmanager: prod/nothing: there is no such secret in eu-west-3 (request ID)"},
	{name: "denied secret", parameters: secret("objectName: hr/salaries"),
		want: "Failed to fetch secret from all regions. Verify secret exists and required permissions are granted for: hr/salaries: secretsmanager: hr/salaries: access denied: role arn:aws:iam::123456789012:role/shop (service account shop/api) lacks secretsmanager:GetSecretValue, in eu-west-3 (request ID)"},
	{name: "no such version", parameters: secret("objectName: prod/mysql, objectVersion: 00000000-0000-0000-0000-000000000000"),
		want: "eu-west-3: Failed fetching secret prod/mysql: secretsmanager: prod/mysql@00000000-0000-0000-0000-000000000000: the secret has no version 00000000-0000-0000-0000-000000000000 in eu-west-3 (request ID)"},
	{name: "no such label", parameters: secret("objectName: prod/mysql, objectVersionLabel: BLUE"),
		want: "eu-west-3: Failed fetching secret prod/mysql: secretsmanager: prod/mysql@BLUE: the secret has no version of stage BLUE in eu-west-3 (request ID)"},
	{name: "no such parameter", parameters: parameters{"objects": "[{objectName: /prod/nothing, objectType: ssmparameter}]"},
		want: "eu-west-3: invalid parameters: /prod/nothing (no such parameter, version or label)"},
	{name: "no such parameter version", parameters: parameters{"objects": "[{objectName: /prod/host, objectType: ssmparameter, objectVersion: '7'}]"},
		want: "eu-west-3: invalid parameters: /prod/host:7 (no such parameter, version or label)"},
	{name: "denied parameter", parameters: parameters{"objects": "[{objectName: /hr/host, objectType: ssmparameter}]"},
		want: "Failed to fetch parameters from all regions. ssmparameter: /hr/host: access denied: role arn:aws:iam::123456789012:role/shop (service account shop/api) lacks ssm:GetParameters, in eu-west-3 (request ID)"},
	{name: "denied key", parameters: secret("objectName: prod/mysql"), fault: &aws.Fault{Op: "GetSecretValue", Status: 400, Code: "AccessDeniedException", Message: "Access to KMS is not allowed"},
		want: "Failed to fetch secret from all regions. Verify secret exists and required permissions are granted for: prod/mysql: secretsmanager: prod/mysql: access denied: role arn:aws:iam::123456789012:role/shop (service account shop/api) lacks kms:Decrypt on the KMS key that encrypts it (in its own policy, or in the key's), in eu-west-3 (request ID)"},

	{name: "service account without a role", serviceAccount: "bare",
		want: "secretsmanager: An IAM role must be associated with service account bare (namespace: shop): annotate it with eks.amazonaws.com/role-arn, or set the store's roleARN"},
	{name: "service account that is gone", serviceAccount: "gone",
		want: `secretsmanager: failed to get service account shop/gone: serviceaccounts "gone" not found`},
	{name: "role that does not trust the pod", serviceAccount: "strange",
		want: "Failed to fetch secret from all regions. Verify secret exists and required permissions are granted for: prod/mysql: secretsmanager: the role's trust policy does not accept the pod: role arn:aws:iam::123456789012:role/billing (service account shop/strange): it must allow sts:AssumeRoleWithWebIdentity to the cluster's OIDC provider, with subject system:serviceaccount:shop:strange and audience sts.amazonaws.com; and the role must exist (request ID)"},
	{name: "role that is not there", serviceAccount: "lost",
		want: "Failed to fetch secret from all regions. Verify secret exists and required permissions are granted for: prod/mysql: secretsmanager: the role's trust policy does not accept the pod: role arn:aws:iam::123456789012:role/nowhere (service account shop/lost): it must allow sts:AssumeRoleWithWebIdentity to the cluster's OIDC provider, with subject system:serviceaccount:shop:lost and audience sts.amazonaws.com; and the role must exist (request ID)"},
	{name: "role that is no ARN", serviceAccount: "typo",
		want: "Failed to fetch secret from all regions. Verify secret exists and required permissions are granted for: prod/mysql: secretsmanager: STS does not understand the request for role role/shop (service account shop/typo): ValidationError; is that a role's ARN? (request ID)"},

	{name: "token of another audience", audience: "vault",
		want: `secretsmanager: IRSA token extraction failed: token for audience "sts.amazonaws.com" not found - ensure tokenRequests includes this audience in CSIDriver`},
	{name: "token of another audience under the right name", serviceAccount: "fresh-1", token: &oidc.Request{Namespace: "shop", ServiceAccount: "fresh-1", Audiences: []string{"vault"}},
		want: "eu-west-3: Failed fetching secret prod/mysql: secretsmanager: the role's trust policy does not accept the pod's token: role arn:aws:iam::123456789012:role/shop (service account shop/fresh-1): the role's account needs an IAM OIDC provider whose URL is the cluster's issuer and whose audiences include sts.amazonaws.com (request ID)"},
	{name: "token that expired", serviceAccount: "fresh-2", token: &oidc.Request{Namespace: "shop", ServiceAccount: "fresh-2", Audiences: []string{"sts.amazonaws.com"}, Issued: past},
		want: `eu-west-3: Failed fetching secret prod/mysql: secretsmanager: STS says that the token of service account shop/fresh-2 for audience "sts.amazonaws.com" has expired; kubelet brings a fresh one with its next try, unless the node's clock is wrong (request ID)`},
	{name: "token that the driver says expired", serviceAccount: "fresh-3", expires: past,
		want: `secretsmanager: the token of service account shop/fresh-3 for audience "sts.amazonaws.com" expired at 2026-01-02T03:04:05Z; kubelet brings a fresh one with its next try, unless the node's clock is wrong`},
	{name: "token of another cluster", serviceAccount: "fresh-4", issuer: "https://oidc.elsewhere.example",
		want: "eu-west-3: Failed fetching secret prod/mysql: secretsmanager: the role's trust policy does not accept the pod's token: role arn:aws:iam::123456789012:role/shop (service account shop/fresh-4): the role's account needs an IAM OIDC provider whose URL is the cluster's issuer and whose audiences include sts.amazonaws.com (request ID)"},
	{name: "token of another service account", serviceAccount: "masked", token: &oidc.Request{Namespace: "billing", ServiceAccount: "invoices", Audiences: []string{"sts.amazonaws.com"}},
		want: `serviceAccount.tokens: the token for audience "sts.amazonaws.com" belongs to "system:serviceaccount:billing:invoices", not to the pod's service account shop/masked`},
	{name: "pod without an association", audience: "pods.eks.amazonaws.com", parameters: parameters{"usePodIdentity": "true"},
		want: "Failed to fetch secret from all regions. Verify secret exists and required permissions are granted for: prod/mysql: secretsmanager: the EKS Pod Identity agent gives service account shop/api no credentials: HTTP 400 AccessDeniedException: is there a pod identity association of this cluster for it, and does the role's trust policy allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com?"},
	{name: "Pod Identity without its token", parameters: parameters{"usePodIdentity": "true"},
		want: `secretsmanager: Pod Identity token extraction failed: token for audience "pods.eks.amazonaws.com" not found - ensure tokenRequests includes this audience in CSIDriver`},

	{name: "service down", fault: &aws.Fault{Service: aws.SecretsManager, Status: 503, Code: "ServiceUnavailable"},
		want: "Failed to fetch secret from all regions. Verify secret exists and required permissions are granted for: prod/mysql: secretsmanager: prod/mysql: Secrets Manager in eu-west-3 failed: ServiceUnavailable (request ID)"},
	{name: "connections cut", fault: &aws.Fault{Service: aws.SecretsManager, Drop: true},
		want: "Failed to fetch secret from all regions. Verify secret exists and required permissions are granted for: prod/mysql: secretsmanager: prod/mysql: Secrets Manager in eu-west-3 cannot be reached: the connection broke off"},
	{name: "STS down", serviceAccount: "fresh-5", fault: &aws.Fault{Service: aws.STS, Drop: true},
		want: "Failed to fetch secret from all regions. Verify secret exists and required permissions are granted for: prod/mysql: secretsmanager: STS in eu-west-3 cannot be reached: the connection broke off"},
}

var coffreRefusals = []refusal{
	{name: "region that is none", parameters: parameters{"inlineStore": "{kind: aws-secrets-manager, region: Paris}"},
		want: `inlineStore.region: "Paris" is no AWS region, such as eu-west-3`},
	{name: "kind that is none", parameters: parameters{"inlineStore": "{kind: aws-secretsmanager, region: eu-west-3}"},
		want: `inlineStore.kind: "aws-secretsmanager" is no kind of store; did you mean "aws-secrets-manager"?`},
	{name: "field that is none", parameters: parameters{"inlineStore": "{kind: aws-secrets-manager, regoin: eu-west-3}"},
		want: `inlineStore.regoin: unknown field; did you mean "region"?`},
	{name: "roleARN that is none", parameters: parameters{"inlineStore": "{kind: aws-secrets-manager, region: eu-west-3, roleARN: shop}"},
		want: `inlineStore.roleARN: "shop" is no ARN of an IAM role, such as arn:aws:iam::123456789012:role/shop`},
	{name: "auth that is none", parameters: parameters{"inlineStore": "{kind: aws-secrets-manager, region: eu-west-3, auth: iam}"},
		want: `inlineStore.auth: "iam" is none of irsa, pod-identity and static`},
	{name: "keys that are not given", parameters: parameters{"inlineStore": "{kind: aws-secrets-manager, region: eu-west-3, auth: static}"},
		want: "inline: auth: static takes the tenant's own keys from the Secret that nodePublishSecretRef names, and the volume names none; it needs access_key_id and secret_access_key"},
	{name: "the node's identity", parameters: parameters{"inlineStore": "{kind: aws-secrets-manager, region: eu-west-3, identity: provider}"},
		want: "inlineStore.identity: an inline store is always read as the pod; only the platform's stores may use the provider's identity"},
	{name: "chained role that does not trust", parameters: parameters{"inlineStore": "{kind: aws-secrets-manager, region: eu-west-3, assumeRoleARN: '" + strangeRole + "', externalID: shop-1}"},
		want: "inline: access denied: role arn:aws:iam::123456789012:role/shop (service account shop/api) may not assume role arn:aws:iam::123456789012:role/billing: its own policy and that role's trust policy must both allow sts:AssumeRole, with the store's externalID (request ID)"},
	{name: "external id without a role", parameters: parameters{"inlineStore": "{kind: aws-secrets-manager, region: eu-west-3, externalID: shop-1}"},
		want: "inlineStore.externalID: goes with assumeRoleARN, which is missing"},
	{name: "no such secret", parameters: parameters{"objects": "[{name: prod/nothing, file: x}]"},
		want: "inline: prod/nothing: there is no such secret in eu-west-3 (request ID)"},
	{name: "denied secret", parameters: parameters{"objects": "[{name: hr/salaries, file: x}]"},
		want: "inline: hr/salaries: access denied: role arn:aws:iam::123456789012:role/shop (service account shop/api) lacks secretsmanager:GetSecretValue, in eu-west-3 (request ID)"},
	{name: "no such version", parameters: parameters{"objects": "[{name: prod/mysql, version: 00000000-0000-0000-0000-000000000000, file: x}]"},
		want: "inline: prod/mysql@00000000-0000-0000-0000-000000000000: the secret has no version 00000000-0000-0000-0000-000000000000 in eu-west-3 (request ID)"},
	{name: "no such stage", parameters: parameters{"objects": "[{name: prod/mysql, version: 'stage:BLUE', file: x}]"},
		want: "inline: prod/mysql@stage:BLUE: the secret has no version of stage BLUE in eu-west-3 (request ID)"},
	{name: "no such key", parameters: parameters{"objects": "[{name: prod/mysql, key: user, file: x}]"},
		want: `objects[0]: inline: prod/mysql: has no key "user"`},
	{name: "ARN of another region", parameters: parameters{"objects": "[{name: 'arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/mysql', file: x}]"},
		want: "inline: arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/mysql: ARN region must match region eu-west-3: arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/mysql"},
	{name: "ARN of a parameter", parameters: parameters{"objects": "[{name: 'arn:aws:ssm:eu-west-3:123456789012:parameter/prod/host', file: x}]"},
		want: "inline: arn:aws:ssm:eu-west-3:123456789012:parameter/prod/host: Invalid service in ARN: ssm; a store of kind aws-secrets-manager reads secretsmanager"},
	{name: "no such parameter", parameters: parameters{"inlineStore": "{kind: aws-parameter-store, region: eu-west-3}", "objects": "[{name: /prod/nothing, file: x}]"},
		want: "inline: /prod/nothing: there is no such parameter in eu-west-3"},
	{name: "two of them", parameters: parameters{"objects": "[{name: prod/nothing, file: x}, {name: hr/salaries, file: y}, {name: prod/mysql, file: z}]"},
		want: "inline: prod/nothing: there is no such secret in eu-west-3 (request ID); inline: hr/salaries: access denied: role arn:aws:iam::123456789012:role/shop (service account shop/api) lacks secretsmanager:GetSecretValue, in eu-west-3 (request ID)"},
	{name: "role that does not trust the pod", serviceAccount: "strange",
		want: "inline: the role's trust policy does not accept the pod: role arn:aws:iam::123456789012:role/billing (service account shop/strange): it must allow sts:AssumeRoleWithWebIdentity to the cluster's OIDC provider, with subject system:serviceaccount:shop:strange and audience sts.amazonaws.com; and the role must exist (request ID)"},
	{name: "service account without a role", serviceAccount: "bare",
		want: "inline: An IAM role must be associated with service account bare (namespace: shop): annotate it with eks.amazonaws.com/role-arn, or set the store's roleARN"},
	{name: "token of another audience", audience: "vault",
		want: `inline: IRSA token extraction failed: token for audience "sts.amazonaws.com" not found - ensure tokenRequests includes this audience in CSIDriver`},
}
