//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// awsClass is a SecretProviderClass as it is written for the AWS provider.
func awsClass(name string, parameters map[string]string, secrets ...object) object {
	return secretProviderClass{name: name, provider: "aws", parameters: parameters, secrets: secrets}.object()
}

func TestIRSAPodReadsItsFilesThroughTheAWSDialect(t *testing.T) {
	parallel(t)
	needAWS(t)
	ns := newNamespace(t, "e2e-irsa")
	document := `{"username": "shop", "password": "p@ss \"wörd\"", "port": 3306}`
	version := put(t, "secret", "e2e-irsa/mysql", document)
	put(t, "parameter", "/e2e-irsa/greeting", "hello\n")
	addTo(t, "aws", object{"roles": []object{ns.reader().object()}})
	ns.assume("app", ns.reader().arn())
	ns.apply(
		awsClass("mysql", map[string]string{"region": awsRegion, "objects": `
- objectName: "e2e-irsa/mysql"
  objectType: "secretsmanager"
  objectAlias: "mysql.json"
  jmesPath:
    - path: username
      objectAlias: dbusername
    - path: password
      objectAlias: dbpassword
      filePermission: "0444"
- objectName: "/e2e-irsa/greeting"
  objectType: "ssmparameter"
`}, opaque("mysql", "password", "dbpassword")),
		pod{name: "app", classes: []string{"mysql"}, env: map[string]string{"DATABASE_PASSWORD": "mysql/password"}}.object(),
	)
	ns.ready("app")
	for file, want := range map[string]string{
		"mysql.json":         document,
		"dbusername":         "shop",
		"dbpassword":         `p@ss "wörd"`,
		"_e2e-irsa_greeting": "hello\n",
	} {
		ns.expectFile("app", "/secrets/mysql/"+file, want)
	}
	modes, err := ns.exec("app", "stat", "-L", "-c", "%a", "/secrets/mysql/dbusername", "/secrets/mysql/dbpassword")
	must(t, err)
	if modes != "644\n444\n" {
		t.Errorf("the files have modes %q", modes)
	}
	ns.awaitSecret("mysql", "password", `p@ss "wörd"`)
	ns.expectEnv("pod/app", "DATABASE_PASSWORD", `p@ss "wörd"`)
	// Whoever watches versions sees those of AWS.
	ns.expectVersions("app", "mysql", map[string]string{"mysql.json": version, "dbusername": version, "dbpassword": version, "_e2e-irsa_greeting": "1"})
}

func TestIRSARotationReachesFileAndSecret(t *testing.T) {
	parallel(t)
	needAWS(t)
	ns := newNamespace(t, "e2e-irsa-rotation")
	before := put(t, "secret", "e2e-irsa-rotation/mysql", `{"password": "before"}`)
	addTo(t, "aws", object{"roles": []object{ns.reader().object()}})
	ns.assume("app", ns.reader().arn())
	ns.apply(
		awsClass("mysql", map[string]string{"region": awsRegion, "objects": `
- objectName: e2e-irsa-rotation/mysql
  objectType: secretsmanager
  objectAlias: mysql.json
  jmesPath: [{path: password, objectAlias: password}]
`}, opaque("mysql", "password", "password")),
		pod{name: "app", classes: []string{"mysql"}}.object(),
	)
	ns.ready("app")
	ns.expectFile("app", "/secrets/mysql/password", "before")
	ns.awaitSecret("mysql", "password", "before")
	ns.expectVersions("app", "mysql", map[string]string{"mysql.json": before, "password": before})

	after := put(t, "secret", "e2e-irsa-rotation/mysql", `{"password": "after"}`)
	ns.awaitFile("app", "/secrets/mysql/password", "after")
	ns.awaitSecret("mysql", "password", "after")
	ns.expectVersions("app", "mysql", map[string]string{"mysql.json": after, "password": after})
	ns.expectRestarts("app", 0)
}

func TestAServiceAccountThatTheRoleDoesNotTrustGetsAClearEvent(t *testing.T) {
	parallel(t)
	needAWS(t)
	ns := newNamespace(t, "e2e-irsa-untrusted")
	put(t, "secret", "e2e-irsa-untrusted/mysql", "hunter2")
	others := ns.reader()
	others.account = "payroll:app" // the same name in another namespace
	addTo(t, "aws", object{"roles": []object{others.object()}})
	ns.assume("app", others.arn())
	ns.apply(
		awsClass("mysql", map[string]string{"region": awsRegion, "objects": "- {objectName: e2e-irsa-untrusted/mysql, objectType: secretsmanager, objectAlias: password}"}),
		pod{name: "app", classes: []string{"mysql"}}.object(),
	)
	ns.awaitEvent("app",
		"rpc error: code = PermissionDenied ",
		"the role's trust policy does not accept the pod: role "+others.arn()+" (service account e2e-irsa-untrusted/app)",
		"it must allow sts:AssumeRoleWithWebIdentity to the cluster's OIDC provider, with subject system:serviceaccount:e2e-irsa-untrusted:app and audience sts.amazonaws.com",
	)

	// The trust policy is mended, and the pod starts by itself.
	addTo(t, "aws", object{"roles": []object{ns.reader().object()}})
	ns.ready("app")
	ns.expectFile("app", "/secrets/mysql/password", "hunter2")
}

func TestAServiceAccountWithoutARoleIsToldToHaveOne(t *testing.T) {
	parallel(t)
	needAWS(t)
	ns := newNamespace(t, "e2e-irsa-no-role")
	ns.apply(
		awsClass("mysql", map[string]string{"region": awsRegion, "objects": "- {objectName: e2e-irsa-no-role/mysql, objectType: secretsmanager, objectAlias: password}"}),
		pod{name: "app", classes: []string{"mysql"}}.object(),
	)
	ns.awaitEvent("app",
		"rpc error: code = FailedPrecondition ",
		"An IAM role must be associated with service account app (namespace: e2e-irsa-no-role)", "eks.amazonaws.com/role-arn",
	)
}

func TestADeniedSecretNamesRoleServiceAccountAndPermission(t *testing.T) {
	parallel(t)
	needAWS(t)
	ns := newNamespace(t, "e2e-irsa-denied")
	put(t, "secret", "payroll/salaries", "a secret of others")
	addTo(t, "aws", object{"roles": []object{ns.reader().object()}})
	ns.assume("app", ns.reader().arn())
	ns.apply(
		awsClass("upstream", map[string]string{"region": awsRegion, "objects": "- {objectName: payroll/salaries, objectType: secretsmanager, objectAlias: salaries}"}),
		secretProviderClass{name: "own", parameters: platformStore("aws-here", "- {name: payroll/salaries, file: salaries}")}.object(),
		pod{name: "upstream", classes: []string{"upstream"}}.object(),
		pod{name: "own", classes: []string{"own"}}.object(),
	)
	denied := "payroll/salaries: access denied: role " + ns.reader().arn() + " (service account e2e-irsa-denied/app) lacks secretsmanager:GetSecretValue, in eu-west-3"
	ns.awaitEvent("upstream", "rpc error: code = PermissionDenied ", denied,
		"Failed to fetch secret from all regions. Verify secret exists and required permissions are granted for: payroll/salaries")
	ns.awaitEvent("own", "rpc error: code = PermissionDenied ", "aws-here: "+denied)
}

func TestPodIdentityPodReadsItsFile(t *testing.T) {
	parallel(t)
	needAWS(t)
	if platform == "" {
		t.Skip("needs the fake AWS at the address of the EKS Pod Identity agent")
	}
	ns := newNamespace(t, "e2e-pod-identity")
	put(t, "secret", "e2e-pod-identity/mysql", "hunter2")
	addTo(t, "aws", object{
		"roles":        []object{ns.reader().object()},
		"associations": []object{{"namespace": ns.name, "serviceAccount": "app", "roleArn": ns.reader().arn()}},
	})
	ns.apply(
		object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": object{"name": "stranger"}},
		awsClass("mysql", map[string]string{"region": awsRegion, "usePodIdentity": "true", "objects": "- {objectName: e2e-pod-identity/mysql, objectType: secretsmanager, objectAlias: password}"}),
		pod{name: "app", classes: []string{"mysql"}}.object(),
		pod{name: "stranger", account: "stranger", classes: []string{"mysql"}}.object(),
	)
	ns.ready("app")
	ns.expectFile("app", "/secrets/mysql/password", "hunter2")
	ns.awaitEvent("stranger", "rpc error: code = PermissionDenied ", "the EKS Pod Identity agent gives service account e2e-pod-identity/stranger no credentials")
}

// One pod, two volumes, two roles: each is reached by the token of its own
// audience, and none may read what the other may.
func TestEachAudienceHasItsOwnToken(t *testing.T) {
	parallel(t)
	needAWS(t)
	if platform == "" {
		t.Skip("needs the fake AWS at the address of the EKS Pod Identity agent")
	}
	ns := newNamespace(t, "e2e-audiences")
	irsa, podIdentity := ns.reader(), ns.reader()
	irsa.name, irsa.on = "e2e-audiences-irsa", []string{"*:secret:e2e-audiences/irsa-*"}
	podIdentity.name, podIdentity.on = "e2e-audiences-pod-identity", []string{"*:secret:e2e-audiences/pod-identity-*"}
	put(t, "secret", "e2e-audiences/irsa", "for sts.amazonaws.com")
	put(t, "secret", "e2e-audiences/pod-identity", "for pods.eks.amazonaws.com")
	addTo(t, "aws", object{
		"roles":        []object{irsa.object(), podIdentity.object()},
		"associations": []object{{"namespace": ns.name, "serviceAccount": "app", "roleArn": podIdentity.arn()}},
	})
	ns.assume("app", irsa.arn())
	ns.apply(
		awsClass("irsa", map[string]string{"region": awsRegion, "objects": "- {objectName: e2e-audiences/irsa, objectType: secretsmanager, objectAlias: file}"}),
		awsClass("pod-identity", map[string]string{"region": awsRegion, "usePodIdentity": "true", "objects": "- {objectName: e2e-audiences/pod-identity, objectType: secretsmanager, objectAlias: file}"}),
		pod{name: "app", classes: []string{"irsa", "pod-identity"}}.object(),
	)
	ns.ready("app")
	ns.expectFile("app", "/secrets/irsa/file", "for sts.amazonaws.com")
	ns.expectFile("app", "/secrets/pod-identity/file", "for pods.eks.amazonaws.com")
}

func TestRegionIsTheNodesWhereNothingElseNamesOne(t *testing.T) {
	parallel(t)
	needAWS(t)
	if region, err := kubectl("get", "nodes", "-l", "kubernetes.io/hostname="+node, "-o", `jsonpath={.items[0].metadata.labels.topology\.kubernetes\.io/region}`); err != nil || region != awsRegion {
		t.Skipf("needs a node in region %s; it is in %q (%v)", awsRegion, region, err)
	}
	ns := newNamespace(t, "e2e-node-region")
	put(t, "secret", "e2e-node-region/mysql", "hunter2")
	addTo(t, "aws", object{"roles": []object{ns.reader().object()}})
	ns.assume("app", ns.reader().arn())
	ns.apply(
		awsClass("mysql", map[string]string{"objects": "- {objectName: e2e-node-region/mysql, objectType: secretsmanager, objectAlias: password}"}),
		pod{name: "app", classes: []string{"mysql"}}.object(),
	)
	ns.ready("app")
	ns.expectFile("app", "/secrets/mysql/password", "hunter2")
}

// exampleNamespace is the one that the examples name. It is a test's only once
// their test has run: a cluster may have its own.
const exampleNamespace = "shop"

var exampleRan bool

// The examples work as they stand: the values that Coffre is installed with
// here begin with manifests/examples/values.yaml, and nothing of the manifests
// is changed but the application's image.
func TestTheExamplesWorkAsTheyAre(t *testing.T) {
	parallel(t)
	needAWS(t)
	if left, err := kubectl("get", "namespace", exampleNamespace, "--ignore-not-found", "-o", "name"); err != nil || left != "" {
		t.Skipf("needs to make the namespace %s, and the cluster has one: %q (%v)", exampleNamespace, left, err)
	}
	exampleRan = true
	ns := newNamespace(t, exampleNamespace)
	put(t, "secret", "prod/mysql", `{"username": "shop", "password": "from the example"}`)
	addTo(t, "aws", object{"roles": []object{role{
		name: "shop", account: "shop:mysql-client",
		actions: []string{"secretsmanager:GetSecretValue"}, on: []string{"*:secret:prod/mysql-*"},
	}.object()}})
	files, err := filepath.Glob("../../manifests/examples/mysql/*.yaml")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("manifests/examples/mysql has no manifests")
	}
	images := regexp.MustCompile(`(?m)^( *image: ).*$`)
	for _, file := range files {
		manifest, err := os.ReadFile(file)
		must(t, err)
		_, err = command(images.ReplaceAllString(string(manifest), "${1}"+strings.ReplaceAll(busyboxImage, "$", "$$")), "kubectl", "apply", "-f", "-")
		must(t, err)
	}
	ns.kubectl("rollout", "status", "deployment/mysql-client", "--timeout="+patience.String())
	ns.expectFile("deployment/mysql-client", "/opt/mysql/database-password", "from the example")
	ns.awaitSecret("mysql", "password", "from the example")
	ns.expectEnv("deployment/mysql-client", "DATABASE_PASSWORD", "from the example")
}
