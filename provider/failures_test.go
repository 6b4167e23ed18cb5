package provider

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/cache"
	"github.com/coffre-csi/coffre/provider/dialect/coffre"
	"github.com/coffre-csi/coffre/provider/failures"
	"github.com/coffre-csi/coffre/provider/store"
)

// heard is what a Watch tells, and its clock.
type heard struct {
	mu      sync.Mutex
	now     time.Time
	reasons []string
	events  []string
}

func (h *heard) ClassFailed(namespace, class, reason string) {
	h.reasons = append(h.reasons, namespace+"/"+class+" "+reason)
}

func (h *heard) Warn(_ string, _ auth.Pod, reason, message string) {
	h.events = append(h.events, reason+": "+message)
}

func (h *heard) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// watched is a service of the shelf whose failures are watched.
func watched(t *testing.T, s *shelf) (*Service, *heard) {
	t.Helper()
	h := &heard{now: time.Now()}
	kinds := s.kinds()
	set := store.NewSet(store.Catalog{Kinds: kinds})
	if err := set.Load(`stores: {shelf: {kind: shelf, namespaces: [shop], refresh: 1m, maxStale: 1h}}`); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	p := &Provider{Name: "coffre", Dialect: coffre.Dialect{Kinds: kinds},
		Secrets:  cache.New(set, cache.Options{Now: h.clock}),
		Failures: failures.New(failures.Options{Now: h.clock, Metrics: h, Events: h})}
	return NewService(p, "test", 2*time.Second, &counts{}), h
}

// quietly keeps klog's lines, and gives them.
func quietly(t *testing.T) *bytes.Buffer {
	var log bytes.Buffer
	klog.SetSlogLogger(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(klog.ClearLogger)
	return &log
}

func TestEveryFailureHasItsReasonAndItsTextGoesToTheDriverEachTime(t *testing.T) {
	log := quietly(t)
	s := &shelf{values: map[string]string{"a": "1"}, fail: map[string]error{
		"denied": store.Errorf(store.Denied, "access denied"), "down": store.Errorf(store.Unavailable, "down"),
		"throttled": store.Errorf(store.Throttled, "slow down"), "precondition": store.Errorf(store.Precondition, "no key"),
	}}
	service, h := watched(t, s)
	for objects, want := range map[string]string{
		"[{name: denied}]": "denied", "[{name: down}]": "unavailable", "[{name: throttled}]": "throttled", "[{name: precondition}]": "precondition",
		"[{name: missing}]": "not_found", "[{nam: a}]": "invalid", "[{name: a, key: x}]": "invalid",
	} {
		h.reasons = nil
		var texts []string
		for range 2 {
			_, err := service.Mount(t.Context(), mountRequest(objects))
			texts = append(texts, status.Convert(err).Message())
		}
		if texts[0] == "" || texts[0] != texts[1] {
			t.Errorf("%s: %q", objects, texts)
		}
		if strings.Join(h.reasons, ",") != "shop/mysql "+want+",shop/mysql "+want {
			t.Errorf("%s: %q, want %s", objects, h.reasons, want)
		}
	}
	service.provider.Dialect = panicky{}
	h.reasons = nil
	if _, err := service.Mount(t.Context(), mountRequest("x")); err == nil || strings.Join(h.reasons, "") != "shop/mysql internal" {
		t.Errorf("got %v %v, which is not what this test promises", h.reasons, err)
	}
	if strings.Contains(log.String(), "works again") {
		t.Errorf(`got %v, where strings.Contains(log.String(), "works again") must not be so`, log)
	}
}

func TestARequestThatCannotBeReadIsLoggedWithItsPod(t *testing.T) {
	log := quietly(t)
	service, h := watched(t, &shelf{})
	in := mountRequest("[{name: a}]")
	in.Permission = "rwx"
	if _, err := service.Mount(t.Context(), in); err == nil {
		t.Fatal("mounted")
	}
	if !strings.Contains(log.String(), "pod=api-1") || !strings.Contains(log.String(), "secretProviderClass=mysql") || h.reasons[0] != "shop/mysql invalid" {
		t.Errorf("got %v %v, which is not what this test promises", log, h.reasons)
	}
}

func TestAnOutageIsToldOnceThoughMountsSucceed(t *testing.T) {
	log := quietly(t)
	s := &shelf{values: map[string]string{"a": "1"}, fail: map[string]error{}}
	service, h := watched(t, s)
	mount := func() {
		t.Helper()
		if _, err := service.Mount(t.Context(), mountRequest("[{name: a}]")); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		h.mu.Lock()
		h.now = h.now.Add(75 * time.Second)
		h.mu.Unlock()
	}
	mount()
	s.mu.Lock()
	s.fail["a"] = store.Errorf(store.Unavailable, "down")
	s.mu.Unlock()
	for range 10 {
		mount()
	}
	if len(h.events) != 1 || !strings.HasPrefix(h.events[0], "SecretsStale: SecretProviderClass mysql: out of reach: shelf;") {
		t.Errorf("got %v, which is not what this test promises", h.events)
	}
	s.mu.Lock()
	delete(s.fail, "a")
	s.mu.Unlock()
	h.mu.Lock()
	h.now = h.now.Add(time.Minute) // past the breaker's wait
	h.mu.Unlock()
	mount()
	if n := strings.Count(log.String(), "secrets are stale"); n != 1 || !strings.Contains(log.String(), "secrets are fresh again") {
		t.Errorf("got %v, which is not what this test promises", log)
	}
}
