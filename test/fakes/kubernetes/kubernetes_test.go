package kubernetes_test

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/test/fakes/kubernetes"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

const metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

type answer struct {
	Kind, APIVersion, Message, Reason string
	Code                              int
	Metadata                          struct {
		Name, Namespace     string
		Annotations, Labels map[string]string
	}
	Spec *struct{ NodeName, ServiceAccountName string }
}

func start(t *testing.T) (*kubernetes.Server, *serve.Listener, *serve.Authority, func(method, path, token, accept string) (int, answer)) {
	ca, err := serve.NewAuthority()
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	s := kubernetes.New()
	s.Replace(kubernetes.DefaultWorld())
	s.AddUser("good", "system:serviceaccount:kube-system:coffre", "serviceaccounts", "pods", "nodes")
	s.AddUser("poor", "system:serviceaccount:kube-system:poor")
	l, err := serve.Start("127.0.0.1:0", s, ca)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	t.Cleanup(l.Close)
	client := l.Client()
	return s, l, ca, func(method, path, token, accept string) (int, answer) {
		t.Helper()
		req, _ := http.NewRequest(method, l.URL()+path, nil)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		req.Header.Set("Accept", accept)
		res, err := client.Do(req)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		defer res.Body.Close()
		var a answer
		if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		return res.StatusCode, a
	}
}

func TestObjectsAndTheirMetadata(t *testing.T) {
	s, _, _, get := start(t)
	const sa = "/api/v1/namespaces/default/serviceaccounts/sa-1"
	for _, accept := range []string{"", "application/json", "application/vnd.kubernetes.protobuf, application/json", "*/*"} {
		if code, a := get("GET", sa, "good", accept); code != 200 || a.Kind != "ServiceAccount" || a.Metadata.Annotations["eks.amazonaws.com/role-arn"] != "r" {
			t.Errorf("%s: %d %+v", accept, code, a)
		}
	}
	if _, a := get("GET", sa, "good", metadataOnly); a.Kind != "PartialObjectMetadata" || a.APIVersion != "meta.k8s.io/v1" || a.Metadata.Name != "sa-1" {
		t.Errorf("%+v", a)
	}
	if _, a := get("GET", "/api/v1/namespaces/default/pods/pod-1", "good", ""); a.Spec == nil || a.Spec.NodeName != "node-1" || a.Spec.ServiceAccountName != "sa-1" {
		t.Errorf("%+v", a)
	}
	if _, a := get("GET", "/api/v1/namespaces/default/pods/pod-1", "good", metadataOnly); a.Spec != nil {
		t.Errorf("%+v", a)
	}
	if _, a := get("GET", "/api/v1/nodes/node-1", "good", ""); a.Metadata.Labels["topology.kubernetes.io/region"] != "us-east-1" || a.Metadata.Namespace != "" {
		t.Errorf("%+v", a)
	}
	if got := s.Calls(); !slices.Contains(got, "kube:GET:serviceaccounts sa-1") || !slices.Contains(got, "kube:GET:nodes node-1") {
		t.Errorf("%q", got)
	}
}

func TestRefusals(t *testing.T) {
	s, _, _, get := start(t)
	s.Delete("serviceaccounts", "default", "sa-1")
	for _, tc := range []struct {
		method, path, token, accept string
		code                        int
		reason, message             string
	}{
		{"GET", "/api/v1/namespaces/default/serviceaccounts/sa-1", "good", "", 404, "NotFound", `serviceaccounts "sa-1" not found`},
		{"GET", "/api/v1/nodes/x", "good", metadataOnly, 404, "NotFound", `nodes "x" not found`},
		{"GET", "/api/v1/nodes/node-1", "", "", 401, "Unauthorized", "Unauthorized"},
		{"GET", "/api/v1/nodes/node-1", "bad", "", 401, "Unauthorized", "Unauthorized"},
		{"GET", "/api/v1/namespaces/default/serviceaccounts/x", "poor", "", 403, "Forbidden",
			`serviceaccounts "x" is forbidden: User "system:serviceaccount:kube-system:poor" cannot get resource "serviceaccounts" in API group "" in the namespace "default"`},
		{"GET", "/api/v1/nodes/n", "poor", "", 403, "Forbidden",
			`nodes "n" is forbidden: User "system:serviceaccount:kube-system:poor" cannot get resource "nodes" in API group "" at the cluster scope`},
		{"GET", "/api/v1/namespaces/default/secrets/x", "good", "", 404, "NotFound", "the server could not find the requested resource"},
		{"GET", "/api/v1/namespaces/default/serviceaccounts", "good", "", 404, "NotFound", ""},
		{"GET", "/api/v1/namespaces//serviceaccounts/x", "good", "", 404, "NotFound", ""},
		{"POST", "/api/v1/namespaces/default/serviceaccounts/sa-1/token", "good", "", 404, "NotFound", ""},
		{"DELETE", "/api/v1/nodes/node-1", "good", "", 405, "MethodNotAllowed", ""},
		{"GET", "/api/v1/nodes/node-1", "good", "application/vnd.kubernetes.protobuf", 406, "NotAcceptable", ""},
	} {
		code, a := get(tc.method, tc.path, tc.token, tc.accept)
		if code != tc.code || a.Kind != "Status" || a.Code != code || a.Reason != tc.reason || tc.message != "" && a.Message != tc.message {
			t.Errorf("%s %s: %d %+v", tc.method, tc.path, code, a)
		}
	}
	s.RemoveUser("good")
	if code, _ := get("GET", "/api/v1/nodes/node-1", "good", ""); code != 401 {
		t.Errorf("got %d, want 401 for a token that was shut out", code)
	}
}

func TestWorldsOfTheCases(t *testing.T) {
	s, _, _, get := start(t)
	w, err := kubernetes.LoadCompat([]byte(`{"name": "x", "kube": {"serviceAccountAnnotations": {"a": "b"}, "nodeLabels": {}, "noPod": true}}`))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	s.Replace(w)
	if _, a := get("GET", "/api/v1/namespaces/default/serviceaccounts/sa-1", "good", ""); a.Metadata.Annotations["a"] != "b" {
		t.Errorf("%+v", a)
	}
	if code, a := get("GET", "/api/v1/namespaces/default/pods/pod-1", "good", ""); code != 404 || a.Message != `pods "pod-1" not found` {
		t.Errorf("%+v", a)
	}
	if w, err := kubernetes.LoadCompat([]byte(`{}`)); err != nil || w.NodeLabels["topology.kubernetes.io/region"] != "us-east-1" {
		t.Errorf("%+v %v", w, err)
	}
}

func TestWhatAPodFinds(t *testing.T) {
	_, l, ca, _ := start(t)
	f, err := kubernetes.InCluster(t.TempDir(), "good", "kube-system", l, ca)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	host, port, _ := strings.Cut(l.Addr(), ":")
	if !slices.Equal(f.Env, []string{"KUBERNETES_SERVICE_HOST=" + host, "KUBERNETES_SERVICE_PORT=" + port}) {
		t.Errorf("%q", f.Env)
	}
	if token, _ := os.ReadFile(f.Dir + "/token"); string(token) != "good" {
		t.Errorf("%q", token)
	}
	text, _ := os.ReadFile(f.Kubeconfig)
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string
				CA     string `yaml:"certificate-authority"`
			}
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil || config.Clusters[0].Cluster.Server != l.URL() || config.Clusters[0].Cluster.CA != f.Dir+"/ca.crt" {
		t.Errorf("%+v %v", config, err)
	}
}
