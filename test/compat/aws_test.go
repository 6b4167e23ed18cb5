// Package compat replays, through the real socket of the real program, what
// users of the four clouds' own providers rely on, against the fakes that
// speak the clouds' protocols. The program runs unmodified, in the environment
// that the original needs.
package compat

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/kubernetes"
	"github.com/coffre-csi/coffre/test/fakes/serve"
	"github.com/coffre-csi/coffre/test/program"
)

// awsCase is one fact: a SecretProviderClass, what the clouds held, and what
// the pod got. The file says what differs from the AWS provider on purpose.
type awsCase struct {
	Name       string            `json:"name"`
	Differs    string            `json:"differs"` // from the AWS provider, and why
	Parameters map[string]string `json:"parameters"`
	Tokens     *string           `json:"tokens"`
	Permission *string           `json:"permission"`
	NoTarget   bool              `json:"targetPathEmpty"`
	Steps      []json.RawMessage `json:"steps"`
	awsStep
}

// awsStep is one Mount.
type awsStep struct {
	Parameters map[string]string `json:"parameters"`
	Expect     awsExpect         `json:"expect"`
}

type awsExpect struct {
	Files    map[string]string `json:"files"`
	Modes    map[string]string `json:"modes"`
	Versions map[string]string `json:"versions"`
	Error    string            `json:"error"`
	Calls    []string          `json:"calls"` // a ceiling, a kind of call
}

func TestSecretProviderClassesOfTheAWSProviderWorkUnchanged(t *testing.T) {
	path := program.Build(t)
	raw, err := os.ReadFile(filepath.Join("testdata", "aws.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []json.RawMessage
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	for _, raw := range cases {
		var c awsCase
		if err := json.Unmarshal(raw, &c); err != nil {
			t.Fatal(err)
		}
		t.Run(c.Name, func(t *testing.T) { c.run(t, path, raw) })
	}
}

func (c awsCase) run(t *testing.T, path string, raw json.RawMessage) {
	n := startNode(t, path, "aws", aws.Options{AcceptAnyToken: true, DefaultRegion: "us-east-1"})
	steps := c.Steps
	if steps == nil {
		steps = []json.RawMessage{raw}
	}
	for i, rawStep := range steps {
		var step awsStep
		if err := json.Unmarshal(rawStep, &step); err != nil {
			t.Fatal(err)
		}
		n.world(t, raw, rawStep)
		parameters := maps.Clone(c.Parameters)
		maps.Copy(parameters, step.Parameters)
		n.aws.Reset()
		response, err := n.mount(t, c, parameters)
		check(t, fmt.Sprintf("step %d", i+1), step.Expect, response, err, n)
	}
}

func check(t *testing.T, step string, want awsExpect, response *pb.MountResponse, err error, n *node) {
	t.Helper()
	if want.Error != "" {
		if got := status.Convert(err).Message(); err == nil || !strings.Contains(got, want.Error) {
			t.Errorf("%s: error\n got %s\nwant %s", step, got, want.Error)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", step, err)
		return
	}
	files, modes, versions := map[string]string{}, map[string]string{}, map[string]string{}
	for _, f := range response.GetFiles() {
		files[f.GetPath()] = string(f.GetContents())
		modes[f.GetPath()] = fmt.Sprintf("%04o", f.GetMode())
	}
	for _, v := range response.GetObjectVersion() {
		versions[v.GetId()] = v.GetVersion()
	}
	if want.Files != nil && !maps.Equal(files, want.Files) {
		t.Errorf("%s: files\n got %q\nwant %q", step, files, want.Files)
	}
	for path, mode := range want.Modes {
		if modes[path] != mode {
			t.Errorf("%s: mode of %s is %s, not %s", step, path, modes[path], mode)
		}
	}
	if len(versions) == 0 {
		t.Errorf("%s: no object version, which the driver refuses", step)
	}
	if len(want.Versions) > 0 && !maps.Equal(versions, want.Versions) {
		t.Errorf("%s: versions\n got %q\nwant %q", step, versions, want.Versions)
	}
	if want.Calls != nil {
		ceiling, made := byKind(want.Calls), byKind(n.aws.Notation())
		for kind, n := range made {
			if n > ceiling[kind] {
				t.Errorf("%s: %d calls of %s; the AWS provider makes %d", step, n, kind, ceiling[kind])
			}
		}
	}
}

// byKind counts calls by service. A read is a read: DescribeSecret and
// GetSecretValue are counted together.
func byKind(calls []string) map[string]int {
	counts := map[string]int{}
	for _, c := range calls {
		service, _, _ := strings.Cut(c, ":")
		counts[service]++
	}
	return counts
}

// node is a provider with the clouds around it.
type node struct {
	aws    *aws.Server
	kube   *kubernetes.Server
	client pb.CSIDriverProviderClient
}

const kubeToken = "provider-token"

func ok[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// startNode starts the fakes and, in the environment that the AWS provider
// would find there, the program.
func startNode(t *testing.T, path, dialect string, options aws.Options) *node {
	t.Helper()
	n := &node{aws: aws.New(options), kube: kubernetes.New()}
	n.kube.AddUser(kubeToken, "system:serviceaccount:kube-system:coffre", "serviceaccounts", "pods", "nodes")
	ca := ok[*serve.Authority](t)(serve.NewAuthority())
	cloud := ok[*serve.Listener](t)(serve.Start("127.0.0.1:0", n.aws, ca))
	agent := ok[*serve.Listener](t)(serve.Start(agentAddress+":80", n.aws, nil))
	api := ok[*serve.Listener](t)(serve.Start("127.0.0.1:0", n.kube, ca))
	for _, l := range []*serve.Listener{cloud, agent, api} {
		t.Cleanup(l.Close)
	}
	dir := t.TempDir()
	cluster := ok[kubernetes.Files](t)(kubernetes.InCluster(dir, kubeToken, "kube-system", api, ca))
	env := append([]string{"AWS_ENDPOINT_URL=" + cloud.URL(), "SSL_CERT_FILE=" + filepath.Join(dir, "ca.crt")}, cluster.Env...)
	n.client = program.Serve(t, path, dialect, env, "--kubeconfig", cluster.Kubeconfig)
	return n
}

// world makes the clouds hold what a case, or a step of it, says.
func (n *node) world(t *testing.T, c, step json.RawMessage) {
	t.Helper()
	n.aws.Replace(ok[aws.World](t)(aws.LoadCompat(step)))
	n.kube.Replace(ok[kubernetes.World](t)(kubernetes.LoadCompat(c)))
}

func (n *node) mount(t *testing.T, c awsCase, parameters map[string]string) (*pb.MountResponse, error) {
	attributes := maps.Clone(parameters)
	maps.Copy(attributes, map[string]string{
		"csi.storage.k8s.io/pod.name": "pod-1", "csi.storage.k8s.io/pod.namespace": "default", "csi.storage.k8s.io/pod.uid": "uid-1",
		"csi.storage.k8s.io/serviceAccount.name": "sa-1", "csi.storage.k8s.io/ephemeral": "true", "secretProviderClass": "class",
		"csi.storage.k8s.io/serviceAccount.tokens": `{"sts.amazonaws.com":{"token":"irsa-token","expirationTimestamp":"2099-01-01T00:00:00Z"},"pods.eks.amazonaws.com":{"token":"pod-token","expirationTimestamp":"2099-01-01T00:00:00Z"}}`,
	})
	if c.Tokens != nil {
		attributes["csi.storage.k8s.io/serviceAccount.tokens"] = *c.Tokens
		if *c.Tokens == "" {
			delete(attributes, "csi.storage.k8s.io/serviceAccount.tokens")
		}
	}
	raw, err := json.Marshal(attributes)
	if err != nil {
		t.Fatal(err)
	}
	req := &pb.MountRequest{Attributes: string(raw), Secrets: "{}", TargetPath: "/var/lib/kubelet/pods/uid-1/volumes/kubernetes.io~csi/v/mount", Permission: "420"}
	if c.Permission != nil {
		req.Permission = *c.Permission
	}
	if c.NoTarget {
		req.TargetPath = ""
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return n.client.Mount(ctx, req)
}
