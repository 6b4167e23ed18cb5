// Package failures makes visible what the driver masks. It tells kubelet that
// a republish went well whatever the provider answered, and the pod keeps the
// files that it has: nobody hears of a role that lost its permission or a
// SecretProviderClass that was edited into an error until the next pod fails
// to start. So every Mount's end comes here, and becomes a count by
// SecretProviderClass, a log line a cause, and where that is switched on an
// Event on the pod.
//
// What it holds is bounded, whatever pods do; it never delays a Mount, and it
// never sees a value.
package failures

import (
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/request"
)

const (
	// quiet is how long the same cause of the same volume is not told again.
	quiet = 10 * time.Minute
	// silence is how long a volume may not be heard of before it counts as gone
	// with its pod. Kubelet tries a failing mount at least every two minutes and
	// republishes about every 75 s.
	silence = 10 * time.Minute
	// maxVolumes is far above the 110 pods that a node has by default.
	maxVolumes = 4096
	// maxCauses is how many different causes of one volume are told in a quiet
	// time. More are no news but a text that never stays the same.
	maxCauses = 5
	// maxSeries bounds the label sets of the metric: who may write a
	// SecretProviderClass can make any number of them.
	maxSeries = 500
)

// Reasons of the Events.
const (
	NotRefreshed = "SecretsNotRefreshed" // a republish failed
	ServedStale  = "SecretsStale"        // last good values stand in for a store out of reach
	LeaseLost    = "SecretLeaseLost"     // a credential ended, and nothing could be issued in its place
	OutOfTime    = "SecretOutOfTime"     // delivered, though its store says that its time is over or yet to come
)

// Events tell the owner of a pod. Warn is called in the middle of a Mount: it
// must not block, and what it cannot send it drops.
type Events interface {
	Warn(namespace string, pod auth.Pod, reason, message string)
}

// Metrics count failures. Labels are valid and few.
type Metrics interface {
	ClassFailed(namespace, class, reason string)
}

// Options of a Watch.
type Options struct {
	Now     func() time.Time // time.Now where nil
	Metrics Metrics          // nil for none
	Events  Events           // nil for none
}

// Mount says whose mount ended.
type Mount struct {
	Dialect string
	request.Request
}

// Failure is what a Mount is answered with. Text is what the driver gets, Cause
// the same without what differs from one try to the next.
type Failure struct{ Code, Reason, Text, Cause string }

// Watch is told how every Mount ended. It is safe for concurrent use, and a nil
// Watch watches nothing.
type Watch struct {
	opts Options
	seed maphash.Seed

	mu      sync.Mutex
	volumes map[uint64]*volume
	series  map[[3]string]struct{}
}

// New makes a Watch.
func New(o Options) *Watch {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Watch{opts: o, seed: maphash.MakeSeed(), volumes: map[uint64]*volume{}, series: map[[3]string]struct{}{}}
}

// volume is one SecretProviderClass in one pod. It holds hashes for texts.
type volume struct {
	heard  time.Time
	served bool // this process has answered it

	failingSince time.Time // zero where the last Mount worked
	failures     int       // since then
	told         bool      // of this row of failures there is a line in the log

	stale     uint64 // the stores out of reach that it is served without; 0 for none
	staleTold bool

	causes []cause
}

// cause is one text that was told.
type cause struct {
	text uint64
	at   time.Time
	more int // not told, since then
}

// Failed takes note of a Mount that failed.
//
// The Event is for a pod that this process has served before: the first mount
// of a pod that starts fails with kubelet's own FailedMount event, which says
// the same. Whether a Mount is a republish its request does not say; after a
// restart of the provider a pod counts as new until it has been answered once.
func (w *Watch) Failed(m Mount, f Failure) {
	if w == nil {
		return
	}
	w.count(m, f.Reason)
	now := w.opts.Now()
	w.mu.Lock()
	v := w.volume(m, now)
	if v.failingSince.IsZero() {
		v.failingSince = now
	}
	v.failures++
	more, tell := v.tell(maphash.String(w.seed, f.Cause), now)
	v.told = v.told || tell
	served, since := v.served, v.failingSince
	w.mu.Unlock()

	if !tell {
		return
	}
	fields := []any{"dialect", m.Dialect, "code", f.Code, "reason", f.Reason, "error", f.Text}
	if more > 0 {
		fields = append(fields, "notLogged", more, "failingFor", now.Sub(since).Round(time.Second).String())
	}
	klog.ErrorS(nil, "mount failed", append(fields, who(m)...)...)
	if served {
		w.warn(m, NotRefreshed, "SecretProviderClass "+m.Class+": the files stay as they are: "+f.Text)
	}
}

// Served takes note of a Mount that was answered; stale are the stores out of
// reach whose last good values are in the answer.
func (w *Watch) Served(m Mount, stale []string) {
	if w == nil {
		return
	}
	now := w.opts.Now()
	stores := strings.Join(stale, ", ")
	w.mu.Lock()
	v := w.volume(m, now)
	v.served = true
	failures, since, mended := v.failures, v.failingSince, v.told
	v.failures, v.failingSince, v.told = 0, time.Time{}, false
	tellStale, fresh := v.servedBy(stores, maphash.String(w.seed, "stale "+stores), now)
	w.mu.Unlock()

	switch {
	case mended:
		klog.InfoS("mount works again", append([]any{"dialect", m.Dialect, "failures", failures, "failedFor", now.Sub(since).Round(time.Second).String()}, who(m)...)...)
	case fresh:
		klog.InfoS("secrets are fresh again", append([]any{"dialect", m.Dialect}, who(m)...)...)
	}
	if tellStale {
		klog.ErrorS(nil, "secrets are stale: the store is out of reach, and its last good values are served", append([]any{"dialect", m.Dialect, "stores", stores}, who(m)...)...)
		w.warn(m, ServedStale, "SecretProviderClass "+m.Class+": out of reach: "+stores+"; the last good values are served while the store's maxStale allows")
	}
}

// servedBy says whether stale values are news, and whether their end is.
func (v *volume) servedBy(stores string, id uint64, now time.Time) (tell, fresh bool) {
	switch {
	case stores == "":
		fresh = v.staleTold
		v.stale, v.staleTold = 0, false
	case v.stale != id: // an outage that began, or another store's too
		v.stale = id
		_, tell = v.tell(id, now)
		v.staleTold = v.staleTold || tell
	}

	return tell, fresh
}

// LeaseLost tells the pod that used it last of a credential that could not be
// renewed and not be issued anew before its end; the cache has logged it.
func (w *Watch) LeaseLost(id auth.Identity, store, secret string) {
	if w == nil || w.opts.Events == nil || id.Pod.Name == "" {
		return
	}
	message := "the lease of " + secret + " in the store " + store + " ended, and nothing could be issued in its place"
	w.opts.Events.Warn(id.Namespace, id.Pod, LeaseLost, message)
}

// OutOfTime tells a pod of a secret that it got outside of the secret's time; the
// store has logged it.
func (w *Watch) OutOfTime(id auth.Identity, message string) {
	if w == nil || w.opts.Events == nil || id.Pod.Name == "" {
		return
	}
	w.opts.Events.Warn(id.Namespace, id.Pod, OutOfTime, message)
}

// Failing is how many volumes failed when they were last heard of, those aside
// that have been silent for so long that their pod must be gone.
func (w *Watch) Failing() int {
	now := w.opts.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, v := range w.volumes {
		if !v.failingSince.IsZero() && now.Sub(v.heard) < silence {
			n++
		}
	}

	return n
}

// volume finds a volume, or makes it in the place of the one that was silent
// longest. One that works is kept however long it is silent: with a long
// rotationPollInterval it may be an hour until the driver asks again, and a
// failure is a republish's even then. The caller locks.
func (w *Watch) volume(m Mount, now time.Time) *volume {
	// A pod may mount one class twice, with other parameters: the path tells
	// them apart.
	key := maphash.Comparable(w.seed, [5]string{m.Identity.Namespace, m.Identity.Pod.Name, m.Identity.Pod.UID, m.Class, m.TargetPath})
	v := w.volumes[key]
	if v == nil {
		if len(w.volumes) >= maxVolumes {
			w.forgetOne()
		}
		v = &volume{}
		w.volumes[key] = v
	}

	v.heard = now

	return v
}

func (w *Watch) forgetOne() {
	var oldest uint64
	var at time.Time
	for key, v := range w.volumes {
		if at.IsZero() || v.heard.Before(at) {
			oldest, at = key, v.heard
		}
	}
	delete(w.volumes, oldest)
}

// tell says whether a cause is news, and how often it came untold since it was
// told last.
func (v *volume) tell(text uint64, now time.Time) (more int, yes bool) {
	for i := range v.causes {
		c := &v.causes[i]
		if c.text != text {
			continue
		}
		if now.Sub(c.at) < quiet {
			c.more++
			return 0, false
		}
		more = c.more
		c.at, c.more = now, 0
		return more, true
	}

	if len(v.causes) < maxCauses {
		v.causes = append(v.causes, cause{text: text, at: now})
		return 0, true
	}
	for i := range v.causes {
		if now.Sub(v.causes[i].at) >= quiet {
			v.causes[i] = cause{text: text, at: now}
			return 0, true
		}
	}

	return 0, false
}

// count counts a failure, under "other" where too many classes have failed.
func (w *Watch) count(m Mount, reason string) {
	if w.opts.Metrics == nil {
		return
	}
	labels := [3]string{label(m.Identity.Namespace), label(m.Class), reason}
	w.mu.Lock()
	if _, known := w.series[labels]; !known {
		if len(w.series) < maxSeries {
			w.series[labels] = struct{}{}
		} else {
			labels[0], labels[1] = "other", "other"
		}
	}

	w.mu.Unlock()
	w.opts.Metrics.ClassFailed(labels[0], labels[1], labels[2])
}

// label keeps a name to what Kubernetes allows one to be.
func label(name string) string {
	const longest = 253
	if len(name) > longest {
		name = name[:longest]
	}
	return strings.ToValidUTF8(name, "_")
}

func (w *Watch) warn(m Mount, reason, message string) {
	if w.opts.Events != nil && m.Identity.Pod.Name != "" {
		w.opts.Events.Warn(m.Identity.Namespace, m.Identity.Pod, reason, message)
	}
}

func who(m Mount) []any {
	return []any{"namespace", m.Identity.Namespace, "pod", m.Identity.Pod.Name, "serviceAccount", m.Identity.ServiceAccount, "secretProviderClass", m.Class}
}
