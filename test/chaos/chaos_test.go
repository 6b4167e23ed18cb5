// Package chaos takes thousands of random steps (stores that are down, slow,
// throttled or talk rubbish, access that comes and goes, values that change,
// clocks that jump, providers that are killed) through the real socket, and
// holds every answer against a simple model of what Coffre promises. A run is
// the same for the same -seed.
package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider"
	"github.com/coffre-csi/coffre/provider/cache"
	"github.com/coffre-csi/coffre/provider/dialect/coffre"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/node"
)

var (
	seed  = flag.Uint64("seed", 1, "of the random steps; 0 draws one")
	steps = flag.Int("steps", 5000, "to take on the store in this process; a fiftieth of it on the fakes of AWS, Azure and Vault")
)

const (
	refresh  = time.Minute
	maxStale = 10 * time.Minute
	// probe is the longest that a store which is back is not asked.
	probe = 30 * time.Second
)

// mode is what is wrong with the store.
type mode string

const (
	up        mode = "up"
	down      mode = "down"
	throttled mode = "throttled"
	rubbish   mode = "rubbish"
	slow      mode = "slow"
	half      mode = "half the regions are gone"
)

// A backend is a store and its faults.
type backend interface {
	kinds() store.Kinds
	stores() string // the platform's configuration
	modes() []mode
	set(name, value string) // "" deletes
	grant(sa string, yes bool)
	enter(mode)
	expire() // the credentials of everybody end
	tokens(sa string) auth.Tokens
	// whose says who a value was read for, where the backend marks it.
	whose(value string) string
	// object is a secret's entry in objects.
	object(name string) string
}

// A lender is a backend that issues credentials for a time, on the model's own
// clock. Its providers' clocks never go back, as Go's do not.
type lender interface {
	clock(now func() time.Time)
	// lent is a credential's entry in objects, with one file; judge says what is
	// wrong with a pod having it now, "" where nothing is.
	lent() (entry, file string)
	judge(sa, credential string) string
	// restarted says that what was issued is not known any more.
	restarted()
	// needless says which credentials were issued without need.
	needless() []string
}

// history remembers when what was so, on the model's clock.
type history[T comparable] struct {
	at     []time.Time
	values []T
}

func (h *history[T]) set(now time.Time, v T) {
	h.at, h.values = append(h.at, now), append(h.values, v)
}

func (h *history[T]) now() T { return h.values[len(h.values)-1] }

// within says whether v was so at some instant since a time.
func (h *history[T]) within(v T, since time.Time) bool {
	for i := len(h.at) - 1; i >= 0; i-- {
		if h.values[i] == v {
			return true
		}
		if h.at[i].Before(since) {
			return false
		}
	}
	return false
}

// world is the model: what is so, what was, and what each pod has.
type world struct {
	t    *testing.T
	back backend
	r    *rand.Rand
	log  []string // the last steps, for a failure

	clock   *fixture.Stopped
	jumped  time.Time // when the clock last went back
	mode    mode
	since   time.Time // of the mode
	expired time.Time // when credentials last ended
	slowly  int       // steps in mode slow
	values  map[string]*history[string]
	allowed map[string]*history[bool]
	refused map[string]bool // sa/secret: the provider has seen that it is denied
	absent  map[string]bool // sa/secret: the provider has seen that it is not there
	pods    map[string]map[string]string

	dir      string
	server   *grpc.Server
	conn     *grpc.ClientConn
	client   pb.CSIDriverProviderClient
	cache    *cache.Cache
	observed *observer
	counts   map[string]int
}

type observer struct {
	mu    sync.Mutex
	codes map[string]int
}

func (o *observer) Mounted(_, code string, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.codes[code]++
}
func (o *observer) Panicked() { o.Mounted("", "panic", 0) }

func (o *observer) failures() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for code, c := range o.codes {
		if code != "OK" {
			n += c
		}
	}
	return n
}

var (
	accounts = []string{"api", "web", "job"}
	secrets  = []string{"a", "b", "c", "d"}
)

func run(t *testing.T, back backend, steps int) {
	klog.SetLogger(logr.Discard())
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("%d steps; to take them again: go test ./test/chaos -run '^%s$' -steps %d -seed %d", steps, t.Name(), steps, s)
	dir, err := os.MkdirTemp("/dev/shm", "chaos-")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	defer os.RemoveAll(dir)
	w := &world{t: t, back: back, r: rand.New(rand.NewPCG(s, 1)), clock: fixture.StoppedAt(time.Unix(1_700_000_000, 0)), mode: up, dir: dir,
		values: map[string]*history[string]{}, allowed: map[string]*history[bool]{}, refused: map[string]bool{}, absent: map[string]bool{},
		pods: map[string]map[string]string{}, counts: map[string]int{}, observed: &observer{codes: map[string]int{}}}
	w.since, w.expired = w.clock.Now().Add(-time.Hour), w.clock.Now().Add(-time.Hour)
	lender, lends := back.(lender)
	if lends {
		lender.clock(w.clock.Now)
	}
	for _, n := range secrets {
		w.values[n] = &history[string]{}
		w.setValue(n, n+"-0")
	}
	for _, sa := range accounts {
		w.allowed[sa] = &history[bool]{}
		w.grant(sa, true)
	}
	back.enter(up)
	w.start(false)
	defer w.stop()
	for i := range steps {
		if w.step(i); t.Failed() {
			t.Fatalf("at step %d; the last ones:\n%s", i, strings.Join(w.log[max(len(w.log)-25, 0):], "\n"))
		}
	}
	t.Logf("%v, %d failures counted", w.counts, w.observed.failures())
	if lends {
		if needless := lender.needless(); needless != nil {
			t.Errorf("issued without need: %q", needless)
		}
	}
	for _, want := range []string{"fresh", "stale or fresh while " + string(down), "refused", "restart", "attack"} {
		if steps >= 300 && w.counts[want] == 0 {
			t.Errorf("no step was %q: the test proves nothing of it", want)
		}
	}
}

func (w *world) say(format string, args ...any) {
	w.log = append(w.log, w.clock.Now().Format("15:04:05 ")+fmt.Sprintf(format, args...))
}

func (w *world) setValue(name, value string) {
	w.back.set(name, value)
	w.values[name].set(w.clock.Now(), value)
}

func (w *world) grant(sa string, yes bool) {
	w.back.grant(sa, yes)
	w.allowed[sa].set(w.clock.Now(), yes)
	for _, n := range secrets {
		if yes {
			delete(w.refused, sa+"/"+n)
		}
	}
}

// step does one random thing. Most of them are mounts.
func (w *world) step(i int) {
	w.clock.Move(time.Duration(w.r.IntN(20_000)) * time.Millisecond)
	if w.mode == slow {
		if w.slowly++; w.slowly > 2 {
			w.mode, w.since = up, w.clock.Now()
			w.back.enter(up)
		}
	}
	switch n := w.r.IntN(100); {
	case n < 60:
		w.mount()
	case n < 62:
		w.attack()
	case n < 70:
		w.cache.Turn(context.Background())
		w.cache.Wait() // on the model's clock it took no time
		w.say("refresh ahead")
	case n < 78:
		name, value := secrets[w.r.IntN(len(secrets))], ""
		if w.r.IntN(6) > 0 {
			value = fmt.Sprintf("%s-%d", name, i)
		}
		w.setValue(name, value)
		for _, sa := range accounts {
			delete(w.absent, sa+"/"+name)
		}
		w.say("%s := %q", name, value)
	case n < 84:
		sa := accounts[w.r.IntN(len(accounts))]
		yes := w.r.IntN(3) > 0
		w.grant(sa, yes)
		w.say("%s may read: %v", sa, yes)
	case n < 92:
		modes := w.back.modes()
		m := up
		if w.r.IntN(2) == 0 {
			m = modes[w.r.IntN(len(modes))]
		}
		if m == slow && w.slowly > 2 { // each mount costs its timeout
			m = up
		}
		if m != w.mode {
			w.mode, w.since = m, w.clock.Now()
			w.back.enter(m)
			w.say("the store is %s", m)
		}
	case n < 94:
		w.back.expire()
		w.expired = w.clock.Now()
		w.say("credentials end")
	case n < 96:
		if _, lends := w.back.(lender); !lends && w.r.IntN(4) == 0 {
			w.cache.Turn(context.Background()) // as Run does, twice a second
			w.cache.Wait()
			back := time.Duration(w.r.IntN(7200)) * time.Second
			w.clock.Move(-back)
			w.shift(back)
			w.cache.Turn(context.Background())
			w.cache.Wait()
			w.counts["jump back"]++
			w.say("the clock goes back by %s", back)
			return
		}
		w.clock.Move(time.Duration(w.r.IntN(3600)) * time.Second)
		w.say("the clock goes on")
	default:
		kept := w.r.IntN(2) == 0
		w.stop()
		if l, lends := w.back.(lender); lends && !kept {
			l.restarted()
		}
		w.start(kept)
		w.counts["restart"]++
		w.say("the provider is killed, its cache kept: %v", kept)
	}
}

// shift moves the model's past with a clock that goes back: what happened,
// happened as long ago as before.
func (w *world) shift(back time.Duration) {
	for _, h := range w.values {
		for i := range h.at {
			h.at[i] = h.at[i].Add(-back)
		}
	}
	for _, h := range w.allowed {
		for i := range h.at {
			h.at[i] = h.at[i].Add(-back)
		}
	}
	w.since, w.jumped = w.since.Add(-back), w.clock.Now()
}

func (w *world) start(restore bool) {
	if !restore {
		_ = os.RemoveAll(w.dir + "/kept")
	}
	journal, err := cache.OpenJournal(w.dir + "/kept")
	if err != nil {
		w.t.Fatalf("no journal: %v", err)
	}
	set := store.NewSet(store.Catalog{Kinds: w.back.kinds()})
	if err := set.Load(w.back.stores()); err != nil {
		w.t.Fatalf("got the error %v, want none", err)
	}
	w.cache = cache.New(set, cache.Options{Now: w.clock.Now, Gather: -1, Journal: journal})
	if restore {
		if _, err := w.cache.Restore(); err != nil {
			w.t.Fatalf("got the error %v, want none", err)
		}
	}
	socket, err := provider.Listen(w.dir, "coffre")
	if err != nil {
		w.t.Fatalf("got the error %v, want none", err)
	}
	p := &provider.Provider{Name: "coffre", Dialect: coffre.Dialect{}, Secrets: w.cache}
	w.server = provider.NewServer(provider.NewService(p, "chaos", 30*time.Second, w.observed))
	go w.server.Serve(socket)
	if w.conn, err = grpc.NewClient("unix:"+socket.Path(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost")); err != nil {
		w.t.Fatalf("got the error %v, want none", err)
	}
	w.client = pb.NewCSIDriverProviderClient(w.conn)
}

// stop ends the provider as SIGKILL would: the socket file stays.
func (w *world) stop() {
	w.conn.Close()
	w.server.Stop()
}

// mount mounts some secrets for a pod, and holds the answer against the model.
func (w *world) mount() {
	sa := accounts[w.r.IntN(len(accounts))]
	pod := fmt.Sprintf("%s-%d", sa, w.r.IntN(3))
	var names []string
	for _, n := range secrets {
		if w.r.IntN(3) == 0 {
			names = append(names, n)
		}
	}
	if names == nil {
		names = secrets[:1]
	}
	var entries []string
	for _, n := range names {
		entries = append(entries, w.back.object(n))
	}
	if l, lends := w.back.(lender); lends && w.r.IntN(2) == 0 {
		entry, _ := l.lent()
		entries = append(entries, entry)
	}
	volume := node.Pod{ServiceAccount: sa, Name: pod}.
		Volume(map[string]string{"store": "chaos", "objects": "[" + strings.Join(entries, ", ") + "]"})
	volume.Identity.Tokens = w.back.tokens(sa)
	before := w.observed.failures()
	answer, err := w.client.Mount(context.Background(), volume.MountRequest())
	if err != nil {
		w.say("%s asks for %v: %v", pod, names, err)
		if w.observed.failures() == before {
			w.t.Error("a failure that nobody can see")
		}
		w.failed(sa, names, err)
		return
	}
	w.say("%s asks for %v: OK", pod, names)
	w.delivered(sa, pod, names, answer)
}

// attack is a hostile tenant's mount among the others: whatever it is answered,
// it is a code that is good for kubelet, holds nothing of the others' stores, and
// comes soon; the model knows nothing of it, so that what it changed would show.
func (w *world) attack() {
	attacks := []map[string]string{
		{"store": "chaos", "objects": "[{name: a, file: f}]"}, // not its store
		{"inlineStore": "{kind: " + strings.Repeat("[", 10_000) + "}", "objects": "- {name: a, file: f}"},
		{"store": "chaos", "objects": "[" + strings.Repeat("a,", 100_000) + "a]"},
		{"store": "chaos", "objects": "- {find: {regexp: '" + strings.Repeat("(x{900})", 60) + "'}, file: d/}"},
		{"store": "chaos", "objects": "- {file: f, secrets: {a: a}, template: '" + strings.Repeat(`{{ $x := repeat 100000 "a" }}`, 100) + "'}"},
		{"store": "chaos", "forceRefresh": strings.Repeat("x", 100_000), "objects": "- {name: ../a, file: ../../f}"},
	}
	volume := node.Pod{Namespace: "hostile", ServiceAccount: "api", Name: "hostile-0"}.Volume(attacks[w.r.IntN(len(attacks))])
	began := time.Now()
	answer, err := w.client.Mount(context.Background(), volume.MountRequest())
	w.counts["attack"]++
	w.say("a hostile tenant asks: %v", status.Code(err))

	switch status.Code(err) {
	case codes.InvalidArgument, codes.PermissionDenied:
	default:
		w.t.Errorf("a hostile mount gets %v and %d files, want a refusal", err, len(answer.GetFiles()))
	}
	if took := time.Since(began); took > 10*time.Second {
		w.t.Errorf("a hostile mount took %s", took)
	}
}

// calm says whether the store has been up for so long that nothing excuses an
// old value or an error any more.
func (w *world) calm() bool {
	now, works := w.clock.Now(), w.mode == up || w.mode == half
	signsIn := now.Sub(w.expired) > time.Minute // how often a token that is refused is replaced, with Vault
	return works && signsIn && now.Sub(w.since) > max(probe, refresh)+time.Second && !now.Before(w.jumped)
}

func (w *world) delivered(sa, pod string, names []string, answer *pb.MountResponse) {
	got := map[string]string{}
	for _, f := range answer.GetFiles() {
		got[f.GetPath()] = string(f.GetContents())
	}
	if l, lends := w.back.(lender); lends {
		w.borrowed(l, sa, got)
	}
	if len(got) != len(names) || len(answer.GetObjectVersion()) == 0 {
		w.t.Errorf("%s asked for %v and got %d files: a pod would lose some", pod, names, len(got))
	}
	bound := refresh
	if w.mode != up && w.mode != half {
		bound += maxStale
		w.counts["stale or fresh while "+string(w.mode)]++
	} else if w.clock.Now().Sub(w.since) <= probe {
		bound += maxStale // the breaker may hold the request back still
	} else {
		w.counts["fresh"]++
	}
	since := w.clock.Now().Add(-bound)
	for _, n := range names {
		value := got[n]
		if who := w.back.whose(value); who != "" && who != sa {
			w.t.Errorf("%s got %s's value of %s", sa, who, n)
		}
		value, _, _ = strings.Cut(value, "@")
		if value == "" || !w.values[n].within(value, since) {
			w.t.Errorf("%s got %q for %s, which it was not in the last %s", pod, value, n, bound)
		}
		if w.refused[sa+"/"+n] {
			w.t.Errorf("%s got %s after it had been refused", pod, n)
		}
		if w.absent[sa+"/"+n] {
			w.t.Errorf("%s got %s after it was told that it is not there", pod, n)
		}
	}
	if !w.allowed[sa].within(true, since) {
		w.t.Errorf("%s was served, and may not read for longer than %s", sa, bound)
	}
	w.pods[pod] = got
}

// borrowed holds a credential among the files against what its lender says.
func (w *world) borrowed(l lender, sa string, got map[string]string) {
	_, file := l.lent()
	credential, ok := got[file]
	if !ok {
		return
	}
	delete(got, file)
	w.counts["credentials"]++
	if wrong := l.judge(sa, credential); wrong != "" {
		w.t.Errorf("%s was given %s, %s", sa, credential, wrong)
	}
}

func (w *world) failed(sa string, names []string, err error) {
	allowed := w.allowed[sa].now()
	exist := true
	for _, n := range names {
		exist = exist && w.values[n].now() != ""
	}
	switch code := status.Code(err); code {
	case codes.PermissionDenied:
		w.counts["refused"]++
		if allowed && w.calm() {
			w.t.Errorf("%s may read, and is denied", sa)
		}
		for _, n := range names {
			if !allowed && denied(err, n) {
				w.refused[sa+"/"+n] = true
			}
		}
	case codes.NotFound:
		w.counts["missing"]++
		if exist && w.calm() {
			w.t.Errorf("%v are all there: %v", names, err)
		}
		for _, n := range names {
			if absent(err, n) {
				w.absent[sa+"/"+n] = true
			}
		}
	case codes.Internal:
		w.counts["unavailable"]++
		if w.calm() && (exist || w.mode != half) { // what the second region lacks, the first may have
			w.t.Errorf("the store has been up for %s: %v", w.clock.Now().Sub(w.since), err)
		}
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		w.t.Errorf("%s leaves the pod with an empty volume", code)
	default:
		w.t.Errorf("unexpected: %v", err)
	}
	for _, text := range []string{"-0@", "hunter2"} {
		if strings.Contains(err.Error(), text) {
			w.t.Errorf("a value is in the error: %v", err)
		}
	}
}

// denied says whether the line says it of the secret, in any store's words.
func denied(err error, secret string) bool { return says(err, secret, "access denied", "Code: 403") }

func absent(err error, secret string) bool {
	return says(err, secret, "not found", "there is no such secret", "Code: 404")
}

func says(err error, secret string, words ...string) bool {
	for _, w := range words {
		if strings.Contains(err.Error(), secret+": "+w) {
			return true
		}
	}
	return false
}
