// Package node is a Kubernetes node as a provider sees it, for the tests and
// benchmarks that ask Coffre for Mounts: an issuer of service account tokens,
// an API server, an authority that certifies the clouds' host names, and the
// MountRequests that the driver would send. It is never linked into the
// product.
package node

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/kubernetes"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
	"github.com/coffre-csi/coffre/test/program"
)

// providerToken is the token of the provider's own service account.
const providerToken = "provider-token"

// A Node is what surrounds the program. The API server lets the provider read
// service accounts, pods and nodes.
type Node struct {
	Kube   *kubernetes.Server
	Issuer *oidc.Issuer
	CA     *serve.Authority

	Env  []string // of the program: SSL_CERT_FILE and the API server's address
	Args []string // of the program: --kubeconfig

	mu     sync.Mutex
	tokens map[string]auth.Token // by audience and service account
}

// New starts a node without any cloud; Cloud adds one.
func New(t testing.TB) *Node {
	t.Helper()
	n := &Node{
		Kube:   kubernetes.New(),
		Issuer: fixture.Issuer(t, "https://oidc.example"),
		CA:     fixture.Authority(t),
		tokens: map[string]auth.Token{},
	}
	n.Kube.AddUser(providerToken, "system:serviceaccount:kube-system:coffre", "serviceaccounts", "pods", "nodes")

	dir := t.TempDir()
	api := fixture.Serve(t, "", n.Kube, n.CA)
	cluster := fixture.OK[kubernetes.Files](t)(kubernetes.InCluster(dir, providerToken, "kube-system", api, n.CA))
	n.Env = append([]string{"SSL_CERT_FILE=" + filepath.Join(dir, "ca.crt")}, cluster.Env...)
	n.Args = []string{"--kubeconfig", cluster.Kubeconfig}
	return n
}

// Serve runs the program on the node; env and args are added to the node's own.
func (n *Node) Serve(t testing.TB, path, dialect string, env []string, args ...string) *program.Process {
	t.Helper()
	env = append(append([]string(nil), n.Env...), env...)
	args = append(append([]string(nil), n.Args...), args...)
	return program.Serve(t, path, dialect, env, args...)
}

// Token is the token of a service account for an audience, the same one each
// time, as kubelet keeps it while it lasts.
func (n *Node) Token(audience, namespace, serviceAccount string) auth.Token {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := audience + " " + namespace + "/" + serviceAccount
	if _, ok := n.tokens[key]; !ok {
		raw := n.Issuer.Token(oidc.Request{Namespace: namespace, ServiceAccount: serviceAccount, Audiences: []string{audience}})
		n.tokens[key] = auth.NewToken(raw, oidc.Expiry(raw))
	}
	return n.tokens[key]
}

// Volume is a volume of a pod of the namespace shop, with a token for each
// audience.
func (n *Node) Volume(p Pod, parameters map[string]string, audiences ...string) request.Volume {
	v := p.Volume(parameters)
	for _, a := range audiences {
		if v.Identity.Tokens == nil {
			v.Identity.Tokens = auth.Tokens{}
		}
		v.Identity.Tokens[a] = n.Token(a, v.Identity.Namespace, v.Identity.ServiceAccount)
	}
	return v
}

// A Pod names a pod. What is left empty is shop, api and the service account's
// name with -0.
type Pod struct{ Namespace, ServiceAccount, Name string }

// Volume is a volume of the pod without tokens, of the class "class".
func (p Pod) Volume(parameters map[string]string) request.Volume {
	if p.Namespace == "" {
		p.Namespace = "shop"
	}
	if p.ServiceAccount == "" {
		p.ServiceAccount = "api"
	}
	if p.Name == "" {
		p.Name = p.ServiceAccount + "-0"
	}
	return request.Volume{
		Class:      "class",
		Parameters: parameters,
		Identity: auth.Identity{
			Namespace: p.Namespace, ServiceAccount: p.ServiceAccount,
			Pod: auth.Pod{Name: p.Name, UID: "uid-of-" + p.Name},
		},
	}
}
