package kubernetes

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/auth"
	fake "github.com/coffre-csi/coffre/test/fakes/kubernetes"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

// told counts what became of events.
type told struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *told) Told(result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[result]++
}

func (c *told) of(result string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[result]
}

var pod = auth.Pod{Name: "api-1", UID: "5f6c"}

// logged catches klog's lines.
func logged(t *testing.T) func() string {
	text := &lines{}
	klog.SetSlogLogger(slog.New(slog.NewTextHandler(text, nil)))
	t.Cleanup(klog.ClearLogger)
	return text.String
}

type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// fakeCluster is the fake API server, and options to reach it as the given token.
func fakeCluster(t *testing.T, token string) (*fake.Server, Options) {
	ca, err := serve.NewAuthority()
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	s := fake.New()
	l, err := serve.Start("127.0.0.1:0", s, ca)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	t.Cleanup(l.Close)
	files, err := fake.InCluster(t.TempDir(), token, "kube-system", l, ca)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	return s, Options{Kubeconfig: files.Kubeconfig, NodeName: "node-1"}
}

func TestAnEventReachesThePodAsTheAPIServerWantsIt(t *testing.T) {
	s, o := fakeCluster(t, "good")
	s.AddUser("good", "system:serviceaccount:kube-system:coffre", "events")
	counts := &told{counts: map[string]int{}}
	e := NewEvents(New(o), counts)
	long := auth.Pod{Name: strings.Repeat("a", 199) + "-" + strings.Repeat("b", 50), UID: "77"}
	e.Warn("shop", pod, "SecretsNotRefreshed", "paris: a: access denied")
	e.Warn("shop", long, "SecretsStale", strings.Repeat("ä", 1000))
	for range 2 {
		e.deliver(t.Context(), <-e.queue)
	}
	got := s.Events()
	if len(got) != 2 || counts.of("sent") != 2 {
		t.Fatalf(`got %v %v, where len(got) != 2 || counts.of("sent") != 2 must not be so`, got, counts.counts)
	}
	first := got[0]
	if first.InvolvedObject.Name != "api-1" || first.InvolvedObject.UID != "5f6c" || first.Metadata.Namespace != "shop" || first.Type != "Warning" ||
		first.Reason != "SecretsNotRefreshed" || first.Message != "paris: a: access denied" || first.Source.Component != "coffre" || first.Source.Host != "node-1" {
		t.Errorf("%+v", first)
	}
	if m := got[1].Message; len(m) > 1024 || len(m) < 1020 || !utf8.ValidString(m) || !strings.HasSuffix(m, "…") {
		t.Errorf("%d bytes", len(m))
	}
}

func TestARefusalIsLoggedOnceAndSaysWhatGrantsIt(t *testing.T) {
	s, o := fakeCluster(t, "poor")
	s.AddUser("poor", "system:serviceaccount:kube-system:coffre")
	text := logged(t)
	counts := &told{counts: map[string]int{}}
	e := NewEvents(New(o), counts)
	send := func() { e.deliver(t.Context(), newEvent("shop", pod, "SecretsStale", "x", "node-1", time.Now())) }
	for range 3 {
		send()
	}
	if got := text(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `cannot create resource \"events\" in API group \"\" in the namespace \"shop\" (the chart gives Coffre this permission with events.enabled)`) {
		t.Errorf("got %v, which is not what is expected here", got)
	}
	s.AddUser("poor", "system:serviceaccount:kube-system:coffre", "events")
	send()
	send()
	if got := text(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "events on pods are sent again") {
		t.Errorf("got %v, which is not what this test promises", got)
	}
	if counts.of("failed") != 3 || counts.of("sent") != 2 {
		t.Errorf(`got %v, where counts.of("failed") != 3 || counts.of("sent") != 2 must not be so`, counts.counts)
	}
}

func TestANamespaceThatIsNoneReachesNoPath(t *testing.T) {
	s, o := fakeCluster(t, "good")
	s.AddUser("good", "x", "events")
	c := New(o)
	for _, namespace := range []string{"", "..", "a/b", "a?b"} {
		if err := c.create(t.Context(), newEvent(namespace, pod, "SecretsStale", "x", "n", time.Now())); err == nil {
			t.Errorf(`got %v, where err == nil must not be so`, namespace)
		}
	}
	if len(s.Calls()) != 0 {
		t.Errorf(`got %v, where len(s.Calls()) != 0 must not be so`, s.Calls())
	}
}

func TestEventsNeverBlockAndLeaveAtABoundedPace(t *testing.T) {
	logged(t)
	synctest.Test(t, func(t *testing.T) {
		counts := &told{counts: map[string]int{}}
		e := NewEvents(New(Options{}), counts)
		hang := make(chan struct{})
		e.send = func(ctx context.Context, _ event) error {
			select {
			case <-hang:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go e.Run(ctx)
		synctest.Wait()
		for i := range 500 { // the API server hangs; nothing here waits for it
			e.Warn("shop", pod, "SecretsStale", fmt.Sprint(i))
			synctest.Wait()
		}
		if n := counts.of("dropped"); n != 500-maxWaiting-1 {
			t.Errorf("%d dropped", n)
		}
		time.Sleep(requestTimeout)
		synctest.Wait()
		if counts.of("failed") != 1 {
			t.Error("one hanging request is given up:", counts.counts)
		}
		close(hang)
		synctest.Wait()
		burst := counts.of("sent")
		if burst < eventBurst-2 || burst > eventBurst {
			t.Errorf("%d sent at once", burst)
		}
		time.Sleep(10 * eventEvery)
		synctest.Wait()
		if n := counts.of("sent") - burst; n < 9 || n > 11 {
			t.Errorf("%d sent in 10 s", n)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := counts.of("sent"); n != maxWaiting {
			t.Errorf("%d sent in all", n)
		}
	})
}

func TestEventsOutsideOfAClusterAreOneLineInTheLog(t *testing.T) {
	text := logged(t)
	e := NewEvents(New(Options{}), nil)
	for range 3 {
		e.deliver(t.Context(), newEvent("shop", pod, "SecretsStale", "x", "", time.Now()))
	}
	if got := text(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "does not run in a pod") {
		t.Errorf("got %v, which is not what this test promises", got)
	}
}
