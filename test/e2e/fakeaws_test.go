//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/coffre-csi/coffre/test/fakes/serve"
)

// AWS is test/fakes/cmd/fakecloud: a pod on the node's own network, because a
// cluster without kube-proxy has no other address that lasts, and because the
// agent of EKS Pod Identity is such a pod too. It trusts the cluster as an IAM
// OIDC provider does, by issuer and keys, and lets in nobody but the roles'
// subjects, for nothing but their permissions.
const (
	awsPort     = 18443 // also in values/coffre.yaml
	controlPort = 18481
	awsRegion   = "eu-west-3"
)

// awsIdentity is the Secret that the fake has in common with the cluster: the
// authority of its certificates, which Coffre trusts, and the keys that the
// cluster signs tokens with.
func awsIdentity() (object, error) {
	dir, err := os.MkdirTemp("", "coffre-e2e-aws-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if _, err := serve.LoadAuthority(dir); err != nil { // makes one
		return nil, err
	}
	files := object{}
	for _, name := range []string{"ca.crt", "ca.key"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files[name] = string(content)
	}
	if files["jwks.json"], err = kubectl("get", "--raw", "/openid/v1/jwks"); err != nil {
		return nil, err
	}
	return object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": awsName, "namespace": system}, "stringData": files}, nil
}

// startAWS starts the fake, which then holds nothing and trusts nobody.
func startAWS() error {
	if fakeCloudImage == "" {
		return nil
	}
	args := []string{fmt.Sprintf("-listen=https://0.0.0.0:%d", awsPort), "-default-region=" + awsRegion}
	if platform != "" { // elsewhere the address is the real agent's, or nobody's
		args = append(args, "-agent-listen=http://169.254.170.23:80")
	}
	return startFake(awsName, object{"hostNetwork": true}, args...)
}

// startFake starts fake clouds that let in whom the cluster's tokens name. spec
// is what their pod has beside its container.
func startFake(name string, spec object, args ...string) error {
	issuer, err := clusterIssuer()
	if err != nil {
		return err
	}
	args = append(args, fmt.Sprintf("-control=0.0.0.0:%d", controlPort), "-tls-dir=/identity", "-issuer="+issuer, "-jwks-file=/identity/jwks.json")
	maps.Copy(spec, object{
		"nodeSelector":                  object{"kubernetes.io/hostname": node},
		"automountServiceAccountToken":  false,
		"terminationGracePeriodSeconds": 0,
		"containers": []object{{
			"name": "clouds", "image": fakeCloudImage, "imagePullPolicy": "IfNotPresent", "args": args,
			"readinessProbe": object{"httpGet": object{"path": "/healthz", "port": controlPort}, "periodSeconds": 1},
			"volumeMounts":   []object{{"name": "identity", "mountPath": "/identity", "readOnly": true}},
		}},
		"volumes": []object{{"name": "identity", "secret": object{"secretName": awsName}}},
	})
	if err := apply(object{"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": name, "namespace": system}, "spec": spec}); err != nil {
		return err
	}
	_, err = kubectl("-n", system, "wait", "--for=condition=Ready", "pod/"+name, "--timeout="+patience.String())
	return err
}

// stopAWS makes every request to AWS meet a closed port. What the fake held,
// and whom it had let in, is gone with it.
func stopAWS() error {
	_, err := kubectl("-n", system, "delete", "pod", awsName, "--timeout="+patience.String())
	return err
}

func needAWS(t *testing.T) {
	if fakeCloudImage == "" {
		t.Skip("needs the fake AWS: push test/fakes/cmd/fakecloud as an image and name it in COFFRE_E2E_FAKECLOUD_IMAGE")
	}
}

// control sends a body to a fake cloud's control endpoint, by way of the API
// server, and reads what it answers. verb is kubectl's word for the method.
func control(cloud, verb, path, body string, into any) error {
	pod := awsName
	if cloud != "aws" {
		pod = cloudsName
	}
	out, err := command(body, "kubectl", verb, "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:%d/proxy/%s/%s", system, pod, controlPort, cloud, path), "-f", "-")
	if err == nil && into != nil {
		err = json.Unmarshal([]byte(out), into)
	}
	return err
}

// put gives a secret ("secret") or a parameter ("parameter") a new value, and
// returns the version that AWS calls it by.
func put(t *testing.T, kind, name, value string) string {
	t.Helper()
	var answer struct{ Version any }
	must(t, control("aws", "replace", kind+"?"+url.Values{"region": {awsRegion}, "name": {name}}.Encode(), value, &answer))
	return fmt.Sprint(answer.Version)
}

// A role is an IAM role with one ServiceAccount in its trust policy.
type role struct {
	name    string
	account string   // of the ServiceAccount, as namespace:name
	actions []string // nothing, where there are none
	on      []string // what they are allowed on
}

func (r role) arn() string { return "arn:aws:iam::123456789012:role/" + r.name }

func (r role) object() object {
	o := object{"arn": r.arn(), "subjects": []string{"system:serviceaccount:" + r.account}}
	if len(r.actions) > 0 {
		o["permissions"] = []object{{"actions": r.actions, "resources": r.on}}
	}
	return o
}

// reader is the role of a namespace's ServiceAccount app, for the secrets and
// the parameters that begin with the namespace's name.
func (ns namespace) reader() role {
	return role{
		name: ns.name, account: ns.name + ":app",
		actions: []string{"secretsmanager:GetSecretValue", "ssm:GetParameters"},
		on:      []string{"*:secret:" + ns.name + "/*", "*:parameter/" + ns.name + "/*"},
	}
}

// assume annotates a ServiceAccount with a role, as IRSA wants it.
func (ns namespace) assume(account, roleARN string) {
	ns.t.Helper()
	ns.apply(object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": object{
		"name": account, "annotations": object{"eks.amazonaws.com/role-arn": roleARN},
	}})
}
