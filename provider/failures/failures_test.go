package failures

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/provider/request"
)

// world is a Watch with its clock, its log and what it told.
type world struct {
	*Watch
	now    time.Time
	log    *bytes.Buffer
	counts map[string]int
	events []string
}

func newWorld(t *testing.T) *world {
	w := &world{now: time.Unix(1e9, 0), log: &bytes.Buffer{}, counts: map[string]int{}}
	klog.SetSlogLogger(slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
				return slog.Attr{}
			}
			return a
		}})))
	t.Cleanup(klog.ClearLogger)
	w.Watch = New(Options{Now: func() time.Time { return w.now }, Metrics: w, Events: w})
	return w
}

func (w *world) ClassFailed(namespace, class, reason string) {
	w.counts[namespace+"/"+class+" "+reason]++
}

func (w *world) Warn(namespace string, pod auth.Pod, reason, message string) {
	w.events = append(w.events, namespace+"/"+pod.Name+" "+reason+": "+message)
}

// lines are the log's new ones.
func (w *world) lines() []string {
	text := strings.TrimSpace(w.log.String())
	w.log.Reset()
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// says fails the test where the log's new lines do not hold want, one a line.
func (w *world) says(t *testing.T, want ...string) {
	t.Helper()
	got := w.lines()
	if len(got) != len(want) {
		t.Fatalf("logged %q, want %q", got, want)
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("logged %q, want %q", got[i], want[i])
		}
	}
}

func of(pod, class string) Mount {
	return Mount{Dialect: "coffre", Request: request.Request{Class: class, TargetPath: "/" + pod + "/" + class,
		Identity: auth.Identity{Namespace: "shop", ServiceAccount: "api", Pod: auth.Pod{Name: pod, UID: "u-" + pod}}}}
}

func denied(text string) Failure {
	return Failure{Code: "PermissionDenied", Reason: "denied", Text: text, Cause: text}
}

var mysql = of("api-1", "mysql")

func TestACauseIsLoggedOnceInTenMinutesWithHowOftenItCame(t *testing.T) {
	w := newWorld(t)
	w.Failed(mysql, denied("paris: a: access denied"))
	w.says(t, `msg="mount failed" dialect=coffre code=PermissionDenied reason=denied error="paris: a: access denied" namespace=shop pod=api-1 serviceAccount=api secretProviderClass=mysql`)
	for range 7 {
		w.now = w.now.Add(75 * time.Second)
		w.Failed(mysql, denied("paris: a: access denied"))
		w.says(t)
	}
	w.now = w.now.Add(75 * time.Second)
	w.Failed(mysql, denied("paris: a: access denied"))
	w.says(t, "notLogged=7 failingFor=10m0s")
	if w.counts["shop/mysql denied"] != 9 {
		t.Errorf(`got %v, where w.counts["shop/mysql denied"] != 9 must not be so`, w.counts)
	}
}

func TestAnotherCauseIsLoggedAtOnceAndAnotherPodOrClassIsAnother(t *testing.T) {
	w := newWorld(t)
	for _, m := range []Mount{mysql, of("api-2", "mysql"), of("api-1", "other")} {
		w.Failed(m, denied("access denied"))
		w.Failed(m, denied("not found"))
		w.Failed(m, denied("access denied"))
		w.says(t, "access denied", "not found")
	}
	again := mysql
	again.TargetPath = "/a second volume of the class"
	w.Failed(again, denied("access denied"))
	w.says(t, "access denied")
}

func TestTextsThatDifferInTimesAndRequestsAreOneCause(t *testing.T) {
	for _, details := range [][2]fault.Detail{
		{{Tries: 5, Next: 3 * time.Second}, {Tries: 12, Next: time.Minute}},
		{{Request: "11f9fabc-aa"}, {Request: "3b0c"}},
	} {
		w := newWorld(t)
		for _, d := range details {
			one := &fault.Error{Reason: fault.Denied, Store: "paris", Text: "access denied", Detail: d}
			err := fmt.Errorf("objects[0]: %w", errors.Join(one, errors.New("and more")))
			w.Failed(mysql, Failure{Code: "PermissionDenied", Reason: "denied", Text: err.Error(), Cause: fault.Same(err)})
		}
		w.says(t, "mount failed")
	}
	w := newWorld(t)
	w.Failed(mysql, denied("db1: not found"))
	w.Failed(mysql, denied("db2: not found"))
	w.says(t, "db1", "db2")
}

func TestATextThatNeverStaysTheSameIsNoFlood(t *testing.T) {
	w := newWorld(t)
	for i := range 1000 {
		w.Failed(mysql, denied(fmt.Sprint("nonce ", i)))
	}
	if n := len(w.lines()); n != maxCauses {
		t.Errorf("%d lines", n)
	}
	w.now = w.now.Add(quiet)
	w.Failed(mysql, denied("later"))
	w.says(t, "later")
}

func TestRecoveryIsLoggedOnce(t *testing.T) {
	w := newWorld(t)
	w.Served(mysql, nil)
	w.says(t)
	w.Failed(mysql, denied("denied"))
	w.now = w.now.Add(time.Minute)
	w.Failed(mysql, denied("denied"))
	w.Served(mysql, nil)
	w.says(t, "mount failed", `msg="mount works again" dialect=coffre failures=2 failedFor=1m0s namespace=shop pod=api-1`)
	w.Served(mysql, nil)
	w.says(t)
	// Up and down: the cause is not told again so soon, and neither is its end.
	w.Failed(mysql, denied("denied"))
	w.Served(mysql, nil)
	w.says(t)
}

func TestOnlyAPodThatWasServedBeforeGetsAnEvent(t *testing.T) {
	w := newWorld(t)
	w.Failed(mysql, denied("denied"))
	if len(w.events) != 0 {
		t.Error("kubelet has said so already:", w.events)
	}
	w.Served(mysql, nil)
	w.now = w.now.Add(2 * time.Hour) // a long rotationPollInterval
	for range 5 {
		w.Failed(mysql, denied("paris: a: access denied"))
	}
	if len(w.events) != 1 || w.events[0] != "shop/api-1 SecretsNotRefreshed: SecretProviderClass mysql: the files stay as they are: paris: a: access denied" {
		t.Errorf("got %v, which is not what this test promises", w.events)
	}
	w.Failed(of("api-1", "other"), denied("denied"))
	if len(w.events) != 1 {
		t.Error("of another class:", w.events)
	}
}

func TestStaleAnswersAreToldOnceAnOutage(t *testing.T) {
	w := newWorld(t)
	fresh := of("new", "mysql") // served stale before anything else: it starts from a last good value
	for range 20 {
		w.now = w.now.Add(75 * time.Second)
		w.Served(fresh, []string{"paris"})
	}
	w.says(t, `msg="secrets are stale: the store is out of reach, and its last good values are served" dialect=coffre stores=paris namespace=shop pod=new`)
	w.Served(fresh, []string{"paris", "milan"})
	w.says(t, `stores="paris, milan"`)
	w.Served(fresh, nil)
	w.says(t, "secrets are fresh again")
	w.Served(fresh, nil)
	w.says(t)
	w.Served(fresh, []string{"paris"})
	w.says(t, "secrets are stale")
	if len(w.events) != 3 || w.events[0] != "shop/new SecretsStale: SecretProviderClass mysql: out of reach: paris; the last good values are served while the store's maxStale allows" {
		t.Errorf("got %v, which is not what this test promises", w.events)
	}
	// Past maxStale the mount fails, and then works.
	w.Failed(fresh, denied("down"))
	w.Served(fresh, nil)
	w.says(t, "mount failed", "mount works again")
}

func TestFailingVolumesAreCountedUntilTheyWorkOrFallSilent(t *testing.T) {
	w := newWorld(t)
	w.Failed(mysql, denied("x"))
	w.Failed(mysql, denied("y"))
	w.Failed(of("api-2", "mysql"), denied("x"))
	w.Served(of("api-3", "mysql"), nil)
	if n := w.Failing(); n != 2 {
		t.Errorf("got %v, want %v", n, 2)
	}
	w.Served(mysql, nil)
	if n := w.Failing(); n != 1 {
		t.Errorf("got %v, want %v", n, 1)
	}
	w.now = w.now.Add(silence)
	if n := w.Failing(); n != 0 {
		t.Error("the pod is gone:", n)
	}
	w.Failed(of("api-2", "mysql"), denied("x"))
	if n := w.Failing(); n != 1 {
		t.Errorf("got %v, want %v", n, 1)
	}
}

func TestMemoryAndLabelsAreBounded(t *testing.T) {
	w := newWorld(t)
	for i := range maxVolumes + 100 {
		w.now = w.now.Add(time.Millisecond)
		w.Failed(of(fmt.Sprint("pod-", i), fmt.Sprint("class-", i)), denied("x"))
	}
	if len(w.volumes) != maxVolumes {
		t.Errorf("got %v, want %v", len(w.volumes), maxVolumes)
	}
	if w.counts["other/other denied"] != maxVolumes+100-maxSeries || len(w.counts) != maxSeries+1 {
		t.Error(len(w.counts), w.counts["other/other denied"])
	}
	// The newest are known still.
	w.lines()
	w.Failed(of(fmt.Sprint("pod-", maxVolumes+99), fmt.Sprint("class-", maxVolumes+99)), denied("x"))
	w.says(t)
	odd := of("p", strings.Repeat("ä", 400)+"\xff")
	odd.Identity.Namespace = "\xff"
	w2 := newWorld(t)
	w2.Failed(odd, denied("x"))
	for labels := range w2.counts {
		if len(labels) > 300 || strings.ToValidUTF8(labels, "") != labels {
			t.Errorf("%q", labels)
		}
	}
}

func TestManyMountsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.opts.Events, w.opts.Metrics = nil, nil
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 200 {
				w.Failed(mysql, denied(fmt.Sprint(n%3)))
				w.Served(of(fmt.Sprint(i), "c"), []string{"s"})
				w.Failing()
			}
		})
	}
	all.Wait()
}

func TestWithoutAWatchNothingIsWatched(t *testing.T) {
	var w *Watch
	w.Failed(mysql, denied("x"))
	w.Served(mysql, nil)
	New(Options{}).Failed(mysql, denied("x"))
}
