package kubernetes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// cluster is an API server that knows what a test tells it.
type apiServer struct {
	*httptest.Server
	mu      sync.Mutex
	objects map[string]string // path to JSON
	status  int               // of every answer, where not 0
	message string
	gets    atomic.Int32
	token   string
	slow    chan struct{}
}

func newServer(t *testing.T) *apiServer {
	s := &apiServer{objects: map[string]string{}, token: "t1"}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.gets.Add(1)
		if s.slow != nil {
			<-s.slow
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		fail := func(code int, message string) {
			w.WriteHeader(code)
			json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "message": message})
		}
		if s.status != 0 {
			fail(s.status, s.message)
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+s.token {
			fail(401, "Unauthorized")
			return
		}
		text, ok := s.objects[r.URL.Path]
		if !ok {
			parts := strings.Split(r.URL.Path, "/")
			fail(404, fmt.Sprintf("%s %q not found", parts[len(parts)-2], parts[len(parts)-1]))
			return
		}
		fmt.Fprint(w, text)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *apiServer) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// options are those of a pod.
func (s *apiServer) options(t *testing.T) Options {
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		return path
	}
	u, _ := url.Parse(s.URL)
	return Options{Host: u.Hostname(), Port: u.Port(), TokenFile: write("token", []byte("t1\n")), CAFile: write("ca.crt", s.ca())}
}

const (
	account = "/api/v1/namespaces/default/serviceaccounts/sa-1"
	key     = "eks.amazonaws.com/role-arn"
)

func TestAnnotationIsReadOnceAMinute(t *testing.T) {
	s := newServer(t)
	s.objects[account] = `{"metadata":{"annotations":{"eks.amazonaws.com/role-arn":"r1"}}}`
	now := time.Now()
	o := s.options(t)
	o.Now = func() time.Time { return now }
	c := New(o)
	read := func() string {
		role, err := c.ServiceAccountAnnotation(t.Context(), "default", "sa-1", key)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		return role
	}
	for range 5 {
		if role := read(); role != "r1" {
			t.Errorf("got %v, want %v", role, "r1")
		}
	}
	if n := s.gets.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	s.objects[account] = `{"metadata":{}}`
	now = now.Add(fresh)
	if role := read(); role != "" {
		t.Errorf("got %v, want %v", role, "")
	}
	// Somebody adds the annotation: it need not wait for a minute.
	s.objects[account] = `{"metadata":{"annotations":{"eks.amazonaws.com/role-arn":"r2"}}}`
	now = now.Add(recheck)
	if role := read(); role != "r2" {
		t.Errorf("got %v, want %v", role, "r2")
	}
	// kubelet renews the token, and an API server that is down changes nothing.
	if err := os.WriteFile(o.TokenFile, []byte("t2"), 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	s.token = "t2"
	now = now.Add(fresh)
	read()
	s.status, s.message = 503, "down"
	now = now.Add(fresh)
	if role := read(); role != "r2" {
		t.Errorf("got %v, want %v", role, "r2")
	}
	now = now.Add(stale)
	if _, err := c.ServiceAccountAnnotation(t.Context(), "default", "sa-1", key); err == nil || !Unreachable(err) {
		t.Errorf(`got %v, where err == nil || !Unreachable(err) must not be so`, err)
	}
}

func TestConcurrentReadsOfOneObjectAreOneRequest(t *testing.T) {
	s := newServer(t)
	s.objects[account] = `{"metadata":{"annotations":{"eks.amazonaws.com/role-arn":"r1"}}}`
	s.slow = make(chan struct{})
	c := New(s.options(t))
	var all sync.WaitGroup
	first, cancel := context.WithCancel(t.Context())
	for i := range 100 {
		ctx := t.Context()
		if i == 0 {
			ctx = first
		}
		all.Go(func() {
			if role, err := c.ServiceAccountAnnotation(ctx, "default", "sa-1", key); i > 0 && (err != nil || role != "r1") {
				t.Errorf(`got %v %v, where i > 0 && (err != nil || role != "r1") must not be so`, role, err)
			}
		})
	}
	for s.gets.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	close(s.slow)
	all.Wait()
	if n := s.gets.Load(); n > 2 { // a reader that came when the first was done may have asked again
		t.Errorf("%d requests", n)
	}
}

func TestRefusalsKeepTheServersSentence(t *testing.T) {
	s := newServer(t)
	c := New(s.options(t))
	for _, r := range []struct {
		status        int
		message, want string
	}{
		{0, "", `failed to get service account default/sa-1: serviceaccounts "sa-1" not found`},
		{403, `serviceaccounts "sa-1" is forbidden: User "x" cannot get`, `failed to get service account default/sa-1: serviceaccounts "sa-1" is forbidden: User "x" cannot get (the chart gives Coffre this permission with rbac.serviceAccountAnnotations.enabled)`},
		{401, "Unauthorized", "failed to get service account default/sa-1: Unauthorized (the API server does not know Coffre's token"},
		{500, "", "failed to get service account default/sa-1: the API server answered 500 Internal Server Error"},
	} {
		s.status, s.message = r.status, r.message
		if _, err := c.ServiceAccountAnnotation(t.Context(), "default", "sa-1", key); err == nil || !strings.HasPrefix(err.Error(), r.want) {
			t.Errorf(`got %v, where err == nil || !strings.HasPrefix(err.Error(), r.want) must not be so`, err)
		}
	}
	before := s.gets.Load()
	for _, name := range []string{"", "..", "a/b", "a?b", "a%2fb"} {
		if _, err := c.ServiceAccountAnnotation(t.Context(), "default", name, key); err == nil {
			t.Errorf(`got %v, where err == nil must not be so`, name)
		}
	}
	if s.gets.Load() != before {
		t.Error("a name that is a path was sent")
	}
}

func TestRegionOfTheNode(t *testing.T) {
	const pod, node = "/api/v1/namespaces/default/pods/pod-1", "/api/v1/nodes/node-1"
	labelled := `{"metadata":{"labels":{"topology.kubernetes.io/region":"us-east-1"}}}`
	for _, c := range []struct {
		name    string
		objects map[string]string
		node    string
		want    string
		err     string
	}{
		{"by the pod", map[string]string{pod: `{"spec":{"nodeName":"node-1"}}`, node: labelled}, "", "us-east-1", ""},
		{"by NODE_NAME", map[string]string{node: labelled}, "node-1", "us-east-1", ""},
		{"no pod", nil, "", "", `failed to retrieve region from node. error pods "pod-1" not found`},
		{"no node", map[string]string{pod: `{"spec":{"nodeName":"node-1"}}`}, "", "", `failed to retrieve region from node. error nodes "node-1" not found`},
		{"old label only", map[string]string{pod: `{"spec":{"nodeName":"node-1"}}`, node: `{"metadata":{"labels":{"failure-domain.beta.kubernetes.io/region":"us-east-1"}}}`}, "", "", "failed to retrieve region from node. error Region not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			s.objects = c.objects
			o := s.options(t)
			o.NodeName = c.node
			client := New(o)
			for range 3 {
				region, err := client.Region(t.Context(), "default", "pod-1")
				if region != c.want || (c.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("%q %v", region, err)
				}
			}
			if n := int(s.gets.Load()); c.err == "" && n != len(c.objects) {
				t.Errorf("%d requests", n)
			}
		})
	}
	s := newServer(t)
	s.status, s.message = 403, "forbidden"
	o := s.options(t)
	o.NodeName = "node-1"
	if _, err := New(o).Region(t.Context(), "", ""); err == nil || !strings.Contains(err.Error(), "rbac.nodes.enabled") {
		t.Errorf("got %v, which is not what this test promises", err)
	}
}

func TestNothingIsRequiredBeforeTheFirstRead(t *testing.T) {
	for want, o := range map[string]Options{
		"this process does not run in a pod":                      {},
		"the pod has no token":                                    {Host: "10.0.0.1", Port: "443", TokenFile: "/nonexistent"},
		"kubeconfig: open /nonexistent/config: no such file":      {Kubeconfig: "/nonexistent/config"},
		"the API server at https://127.0.0.1:1 cannot be reached": {Host: "127.0.0.1", Port: "1"},
	} {
		if o.Port == "1" {
			s := newServer(t).options(t)
			o.TokenFile, o.CAFile = s.TokenFile, s.CAFile
		}
		_, err := New(o).ServiceAccountAnnotation(t.Context(), "default", "sa-1", key)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %s", err, want)
		}
	}
}

func TestKubeconfig(t *testing.T) {
	s := newServer(t)
	s.objects[account] = `{"metadata":{"annotations":{"eks.amazonaws.com/role-arn":"r1"}}}`
	dir := t.TempDir()
	for name, text := range map[string][]byte{"ca.crt": s.ca(), "token": []byte("t1")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
	}
	for _, c := range []struct{ cluster, user, err string }{
		{"certificate-authority: ca.crt", "token: t1", ""},
		{"certificate-authority-data: " + base64.StdEncoding.EncodeToString(s.ca()), "tokenFile: token", ""},
		{"insecure-skip-tls-verify: true", "token: t1", ""},
		{"tls-server-name: x", "token: t1", "cannot be reached"},
		{"certificate-authority-data: '%'", "token: t1", "certificate data is not base64"},
		{"certificate-authority: ca.crt", "exec: {command: aws}", "which Coffre never runs"},
		{"certificate-authority: ca.crt", "{client-certificate: ca.crt, client-key: token}", "are no pair"},
		{"certificate-authority: gone.crt", "token: t1", "no such file"},
	} {
		path := filepath.Join(dir, "config")
		if !strings.HasPrefix(c.user, "{") {
			c.user = "{" + c.user + "}"
		}
		text := fmt.Sprintf("current-context: here\ncontexts: [{name: here, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: %q, %s}}]\nusers: [{name: u, user: %s}]\n", s.URL, c.cluster, c.user)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		role, err := New(Options{Kubeconfig: path}).ServiceAccountAnnotation(t.Context(), "default", "sa-1", key)
		if c.err == "" && (err != nil || role != "r1") || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s, %s: %q %v", c.cluster, c.user, role, err)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	s := newServer(t)
	s.status, s.message = 0, ""
	c := New(s.options(t))
	for i := range maxObjects + 10 {
		c.keep(query{path: fmt.Sprint(i)}, "")
	}
	if n := len(c.cached); n > maxObjects {
		t.Errorf("%d objects are kept, want at most %d", n, maxObjects)
	}
}
