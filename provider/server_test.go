package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/cache"
	"github.com/coffre-csi/coffre/provider/dialect/coffre"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
)

// shelf is a store whose answers a test sets by name.
type shelf struct {
	mu     sync.Mutex
	values map[string]string
	fail   map[string]error
	hang   bool
}

func (s *shelf) Fetch(ctx context.Context, refs []store.Ref) ([]store.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	out, failed := make([]store.Secret, len(refs)), store.Errors{}
	for i, r := range refs {
		if err := s.fail[r.Name]; err != nil {
			if e := new(store.Error); errors.As(err, &e) {
				failed[i] = e
				continue
			}
			return nil, err
		}
		v, ok := s.values[r.Name]
		if !ok {
			failed[i] = store.Errorf(store.NotFound, "not found")
		}
		out[i] = store.Secret{Value: store.Value(v), Version: "v1"}
	}
	return out, failed.OrNil()
}

type noSettings struct{}

func (*noSettings) Check(bool) []store.Mistake { return nil }

func (s *shelf) kinds() store.Kinds {
	return store.Kinds{{Name: "shelf", Settings: func() store.Settings { return &noSettings{} },
		Open: func(context.Context, store.Config, auth.Identity) (store.Store, error) { return s, nil }}}
}

// panicky is a dialect with a fault.
type panicky struct{}

func (panicky) Plan(_ *budget.Budget, r request.Request) (plan.Plan, error) {
	var none map[string]string
	none[r.Parameters["objects"]] = "boom"
	return plan.Plan{}, nil
}

type counts struct {
	mu     sync.Mutex
	codes  []string
	panics int
}

func (c *counts) Mounted(_, code string, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.codes = append(c.codes, code)
}
func (c *counts) Panicked() { c.panics++ }

// start serves the shelf on a socket and returns the driver's side of it.
func start(t *testing.T, s *shelf, change func(*Service)) (pb.CSIDriverProviderClient, *counts) {
	t.Helper()
	kinds := s.kinds()
	set := store.NewSet(store.Catalog{Kinds: kinds})
	if err := set.Load(`stores: {shelf: {kind: shelf, namespaces: [shop]}}`); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	seen := &counts{}
	service := NewService(&Provider{Name: "coffre", Dialect: coffre.Dialect{Kinds: kinds}, Secrets: cache.New(set, cache.Options{})},
		"test", 2*time.Second, seen)
	if change != nil {
		change(service)
	}
	socket, err := Listen(t.TempDir(), "coffre")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	g := NewServer(service)
	go g.Serve(socket)
	t.Cleanup(g.Stop)
	conn, err := grpc.NewClient("unix:"+socket.Path(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	t.Cleanup(func() { conn.Close() })
	return pb.NewCSIDriverProviderClient(conn), seen
}

func mountRequest(objects string) *pb.MountRequest {
	a, _ := json.Marshal(map[string]string{"store": "shelf", "objects": objects, "secretProviderClass": "mysql",
		"csi.storage.k8s.io/pod.name": "api-1", "csi.storage.k8s.io/pod.namespace": "shop", "csi.storage.k8s.io/serviceAccount.name": "api"})
	return &pb.MountRequest{Attributes: string(a), Secrets: "null", TargetPath: "/t", Permission: "420"}
}

func TestVersionAnswersAsTheDriverExpects(t *testing.T) {
	client, _ := start(t, &shelf{}, nil)
	v, err := client.Version(t.Context(), &pb.VersionRequest{Version: "v1alpha1"})
	if err != nil || v.GetVersion() != "v1alpha1" || v.GetRuntimeName() != "coffre" || v.GetRuntimeVersion() != "test" {
		t.Errorf("got %v %v, which is not what this test promises", v, err)
	}
}

func TestASocketAnswersHealthChecksAndNoWatch(t *testing.T) {
	g := NewServer(NewService(&Provider{Name: "azure"}, "test", time.Second, &counts{}))
	socket, err := Listen(t.TempDir(), "azure")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	go g.Serve(socket)
	t.Cleanup(g.Stop)
	conn, err := grpc.NewClient("unix:"+socket.Path(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	t.Cleanup(func() { conn.Close() })

	client := healthpb.NewHealthClient(conn)
	got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("got %v and the error %v, want SERVING", got, err)
	}
	if _, err := client.List(t.Context(), &healthpb.HealthListRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("List: got %v, want Unimplemented", err)
	}
}

func TestMountAnswersFilesAndVersions(t *testing.T) {
	client, seen := start(t, &shelf{values: map[string]string{"b": "2", "a": "1"}}, nil)
	r, err := client.Mount(t.Context(), mountRequest(`[{name: b, file: d/b, mode: "0400"}, {name: a}]`))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	got := ""
	for i, f := range r.GetFiles() {
		got += fmt.Sprintf("%s %o %s %s=%s;", f.GetPath(), f.GetMode(), f.GetContents(), r.GetObjectVersion()[i].GetId(), r.GetObjectVersion()[i].GetVersion())
	}
	if got != "a 644 1 a=v1;d/b 400 2 d/b=v1;" {
		t.Errorf("got %v, want %v", got, "a 644 1 a=v1;d/b 400 2 d/b=v1;")
	}
	if strings.Join(seen.codes, " ") != "OK" {
		t.Errorf(`got %v, where strings.Join(seen.codes, " ") != "OK" must not be so`, seen.codes)
	}
}

// anonymous is a dialect whose provider asks for no service account.
type anonymous struct{ coffre.Dialect }

func (anonymous) Anonymous() {}

func TestAPodWithoutAServiceAccountIsRefusedWhereTheDialectNeedsOne(t *testing.T) {
	s := &shelf{values: map[string]string{"a": "1"}}
	nameless := mountRequest("[{name: a}]")
	nameless.Attributes = strings.Replace(nameless.Attributes, `"csi.storage.k8s.io/serviceAccount.name":"api"`, `"csi.storage.k8s.io/serviceAccount.name":""`, 1)
	client, _ := start(t, s, nil)
	if _, err := client.Mount(t.Context(), nameless); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "names no csi.storage.k8s.io/serviceAccount.name") {
		t.Errorf("got %v, want the attribute that is missing", err)
	}

	client, _ = start(t, s, func(service *Service) { service.provider.Dialect = anonymous{coffre.Dialect{Kinds: s.kinds()}} })
	if r, err := client.Mount(t.Context(), nameless); err != nil || len(r.GetFiles()) != 1 {
		t.Errorf("a dialect that needs none: got the error %v and %d files, want one", err, len(r.GetFiles()))
	}
}

// The codes that leave a pod with an empty volume are never answered, whatever
// happens (contracts: driver, rotation 2).
func TestNoAnswerLeavesAPodWithAnEmptyVolume(t *testing.T) {
	s := &shelf{values: map[string]string{"huge": strings.Repeat("x", 5<<20), "a": "1"}, fail: map[string]error{
		"denied": store.Errorf(store.Denied, "access denied"), "down": store.Errorf(store.Unavailable, "down"), "throttled": store.Errorf(store.Throttled, "slow down"),
		"invalid": store.Errorf(store.Invalid, "wrong"), "precondition": store.Errorf(store.Precondition, "no key"),
		"raw": errors.New("raw"), "status": status.Error(codes.Unavailable, "x"), "exhausted": status.Error(codes.ResourceExhausted, "x"),
		"cancelled": context.Canceled, "deadline": context.DeadlineExceeded,
	}}
	client, _ := start(t, s, nil)
	for objects, want := range map[string]codes.Code{
		"[{name: denied}]": codes.PermissionDenied, "[{name: down}]": codes.Internal, "[{name: throttled}]": codes.Internal,
		"[{name: invalid}]": codes.InvalidArgument, "[{name: precondition}]": codes.FailedPrecondition, "[{name: missing}]": codes.NotFound,
		"[{name: raw}]": codes.Internal, "[{name: status}]": codes.Internal, "[{name: exhausted}]": codes.Internal,
		"[{name: cancelled}]": codes.Internal, "[{name: deadline}]": codes.Internal,
		"[{name: huge}]": codes.InvalidArgument, "[{name: a, key: x}]": codes.InvalidArgument, "[{nam: a}]": codes.InvalidArgument,
		"[{name: a, store: other}]": codes.FailedPrecondition,
	} {
		fresh, _ := start(t, s, nil) // whose breaker has seen nothing yet
		_, err := fresh.Mount(t.Context(), mountRequest(objects))
		if status.Code(err) != want {
			t.Errorf("%s: %v, want %s", objects, err, want)
		}
	}
	other := mountRequest("[{name: a}]")
	other.Attributes = strings.ReplaceAll(other.Attributes, `"shop"`, `"bank"`)
	if _, err := client.Mount(t.Context(), other); status.Code(err) != codes.PermissionDenied {
		t.Errorf(`got %v, where status.Code(err) != codes.PermissionDenied must not be so`, err)
	}
	s.mu.Lock()
	s.hang = true
	s.mu.Unlock()
	began := time.Now()
	if _, err := client.Mount(t.Context(), mountRequest("[{name: x}]")); status.Code(err) != codes.Internal || time.Since(began) > 30*time.Second {
		t.Errorf("a hanging store: %v after %s", err, time.Since(began))
	}
}

func TestManySmallFilesStayUnderTheDriversLimit(t *testing.T) {
	value := map[string]string{}
	for i := range 1900 {
		value[fmt.Sprintf("%s%d", strings.Repeat("k", 120), i)] = strings.Repeat("v", 300)
	}
	raw, _ := json.Marshal(value)
	client, _ := start(t, &shelf{values: map[string]string{"a": string(raw)}}, nil)
	r, err := client.Mount(t.Context(), mountRequest(`[{name: a, keys: "*"}]`))
	if err != nil || len(r.GetFiles()) != 1900 {
		t.Fatalf(`got %v, where err != nil || len(r.GetFiles()) != 1900 must not be so`, err)
	}
	for i := range 1900 {
		value[fmt.Sprintf("%s%d", strings.Repeat("k", 120), i)] = strings.Repeat("v", 450)
	}
	raw, _ = json.Marshal(value)
	client, _ = start(t, &shelf{values: map[string]string{"a": string(raw)}}, nil)
	if _, err = client.Mount(t.Context(), mountRequest(`[{name: a, keys: "*", file: `+strings.Repeat("long/", 40)+`}]`)); status.Code(err) != codes.InvalidArgument {
		t.Errorf(`got %v, where status.Code(err) != codes.InvalidArgument must not be so`, err)
	}
}

func TestAPanicEndsItsMountOnly(t *testing.T) {
	client, seen := start(t, &shelf{}, func(s *Service) { s.provider.Dialect = panicky{} })
	for range 2 {
		_, err := client.Mount(t.Context(), mountRequest("hunter2"))
		if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "boom") {
			t.Errorf("got %v, which is not what this test promises", err)
		}
	}
	if seen.panics != 2 {
		t.Errorf("got %v, want %v", seen.panics, 2)
	}
}

func TestOptionalSecretsThatAreAllMissingLeaveNoStaleFile(t *testing.T) {
	client, _ := start(t, &shelf{}, nil)
	r, err := client.Mount(t.Context(), mountRequest("[{name: a, optional: true}]"))
	if err != nil || len(r.GetFiles()) != 1 || r.GetFiles()[0].GetPath() != EmptyFile || len(r.GetObjectVersion()) != 1 {
		t.Errorf("got %v %v, which is not what this test promises", r, err)
	}
}

func TestErrorTextsAreOneLineEach(t *testing.T) {
	client, _ := start(t, &shelf{values: map[string]string{"a": "1"}, fail: map[string]error{"b": store.Errorf(store.Denied, "access denied: role r lacks x:Read")}}, nil)
	for objects, want := range map[string]string{
		"[{name: b}, {name: c}]":                   "shelf: b: access denied: role r lacks x:Read; shelf: c: not found",
		"[{name: a}, {name: a, file: ../x}]":       `objects[1].file: "../x" leaves the volume`,
		"[{name: a}, {name: x, nmae: y, file: a}]": `objects[1].nmae: unknown field; did you mean "name"?`,
		"[{name: a, key: password}]":               "objects[0]: shelf: a: has no keys: its value is no JSON object, no YAML mapping and no dotenv text",
	} {
		_, err := client.Mount(t.Context(), mountRequest(objects))
		if got := status.Convert(err).Message(); !strings.HasPrefix(got, want) {
			t.Errorf("%s\n got %s\nwant %s", objects, got, want)
		}
	}
}

func TestSocketIsItsOwnersOnly(t *testing.T) {
	dir := t.TempDir()
	s, err := Listen(dir, "coffre")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	defer s.Close()
	info, err := os.Stat(filepath.Join(dir, "coffre.sock"))
	if err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != os.ModeSocket {
		t.Errorf("got %v %v, which is not what this test promises", info, err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if len(left) != 0 {
		t.Error("left behind:", left)
	}
}

func TestStaleSocketIsReplacedAndAServedOneIsNot(t *testing.T) {
	dir := t.TempDir()
	first, err := Listen(dir, "coffre")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if _, err := Listen(dir, "coffre"); err == nil || !strings.Contains(err.Error(), "is served by another process") {
		t.Fatalf("got %v, which is not what this test promises", err)
	}
	first.Close() // the file stays, as after a SIGKILL
	if _, err := os.Lstat(first.Path()); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	second, err := Listen(dir, "coffre")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	defer second.Close()
	// The first, stopping late, leaves the second's file alone.
	if err := first.Unlink(); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	conn, err := net.Dial("unix", second.Path())
	if err != nil {
		t.Fatal("the second's socket is gone:", err)
	}
	conn.Close()
	if err := second.Unlink(); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if _, err := os.Lstat(second.Path()); !os.IsNotExist(err) {
		t.Error("not unlinked")
	}
}

func TestAFileThatIsNoSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coffre.sock")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if _, err := Listen(filepath.Dir(path), "coffre"); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf(`got %v, where err == nil || !strings.Contains(err.Error(), "is no socket") must not be so`, err)
	}
}

func TestHealthSeesADeadSocket(t *testing.T) {
	dir := t.TempDir()
	socket, err := Listen(dir, "coffre")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	g := NewServer(NewService(&Provider{Name: "coffre"}, "test", time.Second, &counts{}))
	go g.Serve(socket)
	h, err := NewHealth([]string{socket.Path()})
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if code, _ := probe(h, "/healthz"); code != 200 {
		t.Error("healthz", code)
	}
	if code, _ := probe(h, "/readyz"); code != 503 {
		t.Error("ready too soon")
	}
	h.SetReady(true)
	if code, _ := probe(h, "/readyz"); code != 200 {
		t.Error("not ready")
	}
	g.Stop()
	if code, text := probe(h, "/healthz"); code != 503 || !strings.Contains(text, "coffre.sock") {
		t.Error("healthz of a dead socket", code, text)
	}
}

// FuzzMount sends what a tenant controls through the whole way of a Mount.
func FuzzMount(f *testing.F) {
	s := &shelf{values: map[string]string{"a": `{"k":"v","n":[1,{"x":"y"}]}`, "b": "K=1\nL=2", "c": "plain"}}
	kinds := s.kinds()
	set := store.NewSet(store.Catalog{Kinds: kinds})
	if err := set.Load(`stores: {shelf: {kind: shelf, namespaces: ["*"]}}`); err != nil {
		f.Fatal(err)
	}
	seen := &counts{}
	service := NewService(&Provider{Name: "coffre", Dialect: coffre.Dialect{Kinds: kinds}, Secrets: cache.New(set, cache.Options{})},
		"test", 10*time.Second, seen)
	f.Add(mountRequest("[{name: a, key: k}]").Attributes, "null")
	f.Add(mountRequest(`[{name: a, keys: "*", rewrite: {regexp: k, with: ../x}}]`).Attributes, `{"a":"b"}`)
	f.Add(mountRequest("[{name: b, format: yaml, file: f}, {name: c, optional: true}, {name: d, optional: true}]").Attributes, "{}")
	f.Add(mountRequest("[{name: a, template: '{{ range $k, $v := . }}{{ $k }}{{ end }}'}]").Attributes, "")
	f.Fuzz(func(t *testing.T, attributes, secrets string) {
		r, err := service.Mount(context.Background(), &pb.MountRequest{Attributes: attributes, Secrets: secrets, TargetPath: "/t", Permission: "420"})
		if seen.panics > 0 {
			t.Fatal("panic")
		}
		switch status.Code(err) {
		case codes.OK:
			if len(r.GetObjectVersion()) == 0 || len(r.GetFiles()) == 0 {
				t.Error("an answer with nothing in it")
			}
		case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.ResourceExhausted, codes.Aborted, codes.Unknown:
			t.Errorf("code %s", status.Code(err))
		}
	})
}

func probe(h *Health, path string) (int, string) {
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}
