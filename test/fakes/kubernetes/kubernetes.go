// Package kubernetes is a fake of the little that Coffre asks of a Kubernetes
// API server: one ServiceAccount, one Pod or one Node by name, and to create an
// Event, with a bearer token. It refuses everything else. It is never linked
// into the product.
package kubernetes

import (
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/coffre-csi/coffre/test/fakes/serve"
)

// Server is the fake API server: an http.Handler, to be served over TLS. All
// methods are safe for concurrent use.
type Server struct {
	// Record, where set before the server is used, is called with every
	// request as it arrives ("kube:GET:serviceaccounts sa-1").
	Record func(call string)

	mu      sync.Mutex
	objects map[key]object
	users   map[string]user // by token
	calls   []string
	events  []Event
}

type key struct{ resource, namespace, name string }

type object = map[string]any

type user struct {
	name      string
	resources []string
}

// New makes a server that holds nothing and lets nobody in.
func New() *Server {
	return &Server{objects: map[key]object{}, users: map[string]user{}}
}

// AddUser lets a token in, to get the resources that are named
// ("serviceaccounts", "pods", "nodes") and to create "events"; name is what
// errors call its owner.
func (s *Server) AddUser(token, name string, resources ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[token] = user{name, resources}
}

// RemoveUser shuts a token out.
func (s *Server) RemoveUser(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.users, token)
}

// SetServiceAccount puts a service account with its annotations.
func (s *Server) SetServiceAccount(namespace, name string, annotations map[string]string) {
	s.set("serviceaccounts", "ServiceAccount", namespace, name, annotations, nil, nil)
}

// SetPod puts a pod on a node, run by a service account.
func (s *Server) SetPod(namespace, name, node, serviceAccount string) {
	s.set("pods", "Pod", namespace, name, nil, nil, object{"spec": object{"nodeName": node, "serviceAccountName": serviceAccount}})
}

// SetNode puts a node with its labels.
func (s *Server) SetNode(name string, labels map[string]string) {
	s.set("nodes", "Node", "", name, nil, labels, nil)
}

// Delete removes an object; namespace is empty for a node.
func (s *Server) Delete(resource, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key{resource, namespace, name})
}

func (s *Server) set(resource, kind, namespace, name string, annotations, labels map[string]string, rest object) {
	metadata := object{"name": name, "uid": "uid-of-" + name, "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}
	if namespace != "" {
		metadata["namespace"] = namespace
	}
	if len(annotations) > 0 {
		metadata["annotations"] = maps.Clone(annotations)
	}
	if len(labels) > 0 {
		metadata["labels"] = maps.Clone(labels)
	}
	o := object{"kind": kind, "apiVersion": "v1", "metadata": metadata}
	maps.Copy(o, rest)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key{resource, namespace, name}] = o
}

// Calls are the requests in order, in the notation of the observed cases.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Reset forgets the requests.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

// ServeHTTP answers as the API server does: 401 before all, 403 before 404.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k, ok := parsePath(r.URL.Path)
	s.record(r.Method, k, r.URL.Path)
	who, known := s.authenticate(r)
	switch {
	case !known:
		fail(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized", key{})
	case !ok:
		fail(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource", key{})
	case k.resource == "events" && r.Method == http.MethodPost:
		s.createEvent(w, r, who, k)
	case r.Method != http.MethodGet || k.resource == "events":
		fail(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "the server does not allow this method on the requested resource", k)
	case !slices.Contains(who.resources, k.resource):
		fail(w, http.StatusForbidden, "Forbidden", forbidden(who.name, "get", k), k)
	default:
		s.get(w, r, k)
	}
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, k key) {
	s.mu.Lock()
	o, ok := s.objects[k]
	s.mu.Unlock()
	metadata, acceptable := negotiate(r.Header.Get("Accept"))
	switch {
	case !acceptable:
		fail(w, http.StatusNotAcceptable, "NotAcceptable", "only the following media types are accepted: application/json", k)
		return
	case !ok:
		fail(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", k.resource, k.name), k)
		return
	case metadata:
		o = object{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": o["metadata"]}
	}
	write(w, http.StatusOK, o)
}

// parsePath reads /api/v1/namespaces/NS/RESOURCE/NAME, /api/v1/nodes/NAME and
// /api/v1/namespaces/NS/events.
func parsePath(path string) (key, bool) {
	parts := strings.Split(path, "/")
	if slices.Contains(parts[1:], "") {
		return key{}, false
	}
	switch {
	case len(parts) == 7 && strings.HasPrefix(path, "/api/v1/namespaces/") && (parts[5] == "serviceaccounts" || parts[5] == "pods"):
		return key{parts[5], parts[4], parts[6]}, true
	case len(parts) == 6 && strings.HasPrefix(path, "/api/v1/namespaces/") && parts[5] == "events":
		return key{"events", parts[4], ""}, true
	case len(parts) == 5 && strings.HasPrefix(path, "/api/v1/nodes/"):
		return key{"nodes", "", parts[4]}, true
	}
	return key{}, false
}

func (s *Server) authenticate(r *http.Request) (user, bool) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	defer s.mu.Unlock()
	who, known := s.users[token]
	return who, ok && known
}

func (s *Server) record(method string, k key, path string) {
	call := strings.TrimSpace("kube:" + method + ":" + k.resource + " " + k.name)
	if k.resource == "" {
		call = "kube:" + method + ":" + path
	}
	if s.Record != nil {
		s.Record(call)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
}

// negotiate reads an Accept header: the first form that the fake has wins.
// Kubernetes API concepts, "Receiving resources as Tables" and "Metadata-only
// fetches".
func negotiate(accept string) (metadataOnly, ok bool) {
	if accept == "" {
		return false, true
	}
	for part := range strings.SplitSeq(accept, ",") {
		media, params, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil || media != "application/json" && media != "application/*" && media != "*/*" {
			continue
		}
		switch {
		case params["as"] == "":
			return false, true
		case params["as"] == "PartialObjectMetadata" && params["g"] == "meta.k8s.io" && params["v"] == "v1":
			return true, true
		}
	}
	return false, false
}

func forbidden(who, verb string, k key) string {
	where := "at the cluster scope"
	if k.namespace != "" {
		where = fmt.Sprintf("in the namespace %q", k.namespace)
	}
	what := k.resource
	if k.name != "" {
		what = fmt.Sprintf("%s %q", k.resource, k.name)
	}
	return fmt.Sprintf("%s is forbidden: User %q cannot %s resource %q in API group \"\" %s", what, who, verb, k.resource, where)
}

// fail writes a Status.
func fail(w http.ResponseWriter, code int, reason, message string, k key) {
	status := object{"kind": "Status", "apiVersion": "v1", "metadata": object{}, "status": "Failure",
		"message": message, "reason": reason, "code": code}
	if k.resource != "" {
		status["details"] = object{"name": k.name, "kind": k.resource}
	}
	write(w, code, status)
}

func write(w http.ResponseWriter, code int, o object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(o)
}

// World is the field kube of an observed case.
type World struct {
	ServiceAccountAnnotations map[string]string `json:"serviceAccountAnnotations"`
	NodeLabels                map[string]string `json:"nodeLabels"`
	NoServiceAccount          bool              `json:"noServiceAccount"`
	NoPod                     bool              `json:"noPod"`
	NoNode                    bool              `json:"noNode"`
}

// DefaultWorld is that of a case without the field.
func DefaultWorld() World {
	return World{
		ServiceAccountAnnotations: map[string]string{"eks.amazonaws.com/role-arn": "r"},
		NodeLabels:                map[string]string{"topology.kubernetes.io/region": "us-east-1"},
	}
}

// LoadCompat reads the field kube of a case; the default world where the case
// has none.
func LoadCompat(data []byte) (World, error) {
	var c struct {
		Kube *World `json:"kube"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return World{}, err
	}
	if c.Kube == nil {
		return DefaultWorld(), nil
	}
	return *c.Kube, nil
}

// Replace makes the server hold a case's world: the pod default/pod-1 on
// node-1, run by sa-1.
func (s *Server) Replace(w World) {
	s.mu.Lock()
	clear(s.objects)
	s.mu.Unlock()
	if !w.NoServiceAccount {
		s.SetServiceAccount("default", "sa-1", w.ServiceAccountAnnotations)
	}
	if !w.NoPod {
		s.SetPod("default", "pod-1", "node-1", "sa-1")
	}
	if !w.NoNode {
		s.SetNode("node-1", w.NodeLabels)
	}
}

// Files is what a client needs to find and trust the server.
type Files struct {
	Dir        string   // token, ca.crt, namespace: as in /var/run/secrets/kubernetes.io/serviceaccount
	Kubeconfig string   // for --kubeconfig
	Env        []string // KUBERNETES_SERVICE_HOST and _PORT, for os/exec
}

// InCluster writes what a pod finds: a token, the authority and the namespace.
// Clients read those under /var/run/secrets/kubernetes.io/serviceaccount only,
// so a test that cannot mount them there uses the kubeconfig.
func InCluster(dir, token, namespace string, l *serve.Listener, ca *serve.Authority) (Files, error) {
	host, port, err := net.SplitHostPort(l.Addr())
	if err != nil {
		return Files{}, err
	}
	f := Files{Dir: dir, Kubeconfig: filepath.Join(dir, "kubeconfig"),
		Env: []string{"KUBERNETES_SERVICE_HOST=" + host, "KUBERNETES_SERVICE_PORT=" + port}}
	config := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: fake
clusters:
- name: fake
  cluster: {server: %q, certificate-authority: %q}
users:
- name: fake
  user: {tokenFile: %q}
contexts:
- name: fake
  context: {cluster: fake, user: fake, namespace: %q}
`, l.URL(), filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token"), namespace)
	for name, text := range map[string]string{"token": token, "namespace": namespace, "kubeconfig": config, "ca.crt": string(ca.PEM())} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return Files{}, err
		}
	}
	return f, nil
}
