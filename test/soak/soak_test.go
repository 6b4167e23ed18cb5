package soak

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/node"
	"github.com/coffre-csi/coffre/test/program"
)

var (
	minutes = flag.Float64("minutes", 0, "how long to run; without it nothing runs")
	seed    = flag.Uint64("seed", 1, "of what happens; 0 draws one")
)

const (
	region     = "eu-west-3"
	audience   = "sts.amazonaws.com"
	namespaces = 6
	identities = 60
	names      = 30
	pods       = 250
	dialectAge = 2 * time.Minute // of what a first mount in the aws dialect may be given
)

// A shop is a store as the soak's configuration has it.
type shop struct {
	name              string // "" is the aws dialect's
	parameter         bool
	refresh, maxStale time.Duration
}

var shops = []shop{
	{"quick", false, 2 * time.Second, 20 * time.Second},
	{"strict", false, 5 * time.Second, 0},
	{"slow", false, 10 * time.Second, 30 * time.Second},
	{"params", true, 3 * time.Second, 20 * time.Second},
	{"kept", false, 4 * time.Second, 10 * time.Second},
	{"", false, 0, 20 * time.Second},
}

const stores = `stores:
  quick: {kind: aws-secrets-manager, region: eu-west-3, namespaces: ["team-*"], refresh: 2s, maxStale: 20s, timeout: 8s}
  strict: {kind: aws-secrets-manager, region: eu-west-3, namespaces: ["team-*"], refresh: 5s, timeout: 8s}
  slow: {kind: aws-secrets-manager, region: eu-west-3, namespaces: ["team-*"], refresh: 10s, maxStale: 30s, timeout: 8s}
  params: {kind: aws-parameter-store, region: eu-west-3, namespaces: ["team-*"], refresh: 3s, maxStale: 20s, timeout: 8s}
  kept: {kind: aws-secrets-manager, region: eu-west-3, namespaces: ["team-*"], refresh: 4s, maxStale: 10s, timeout: 8s, rateLimit: 200}
dialects:
  aws: {maxStale: 20s}
`

// world is the cloud, the node, the program on it, and who judges.
type world struct {
	t      *testing.T
	r      *rand.Rand
	node   *node.Node
	aws    *aws.Server
	group  *program.Cgroup
	binary string
	env    []string
	dir    string

	mu      sync.Mutex // of all below
	oracle  *Oracle
	next    map[string]int
	allowed map[string]bool
	broken  []string
	counts  map[string]int

	killed  atomic.Bool  // the process is gone under running mounts, which end with their connection
	running sync.RWMutex // held for reading by a mount
	process *program.Process
	coffre  pb.CSIDriverProviderClient
	conn    *grpc.ClientConn
	metrics string
	peak    float64
	logs    []*program.Process
}

func identity(i int) (namespace, account string) {
	return fmt.Sprintf("team-%d", i%namespaces), fmt.Sprintf("api-%d", i)
}

func roleOf(account string) string { return "arn:aws:iam::123456789012:role/" + account }

func TestSoak(t *testing.T) {
	if *minutes == 0 {
		t.Skip("runs with -minutes N, as root: make soak")
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("again with: make soak MINUTES=%v SEED=%d", *minutes, *seed)
	w := begin(t)
	w.start()

	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(*minutes*float64(time.Minute)))
	defer cancel()
	var all sync.WaitGroup
	for i := range pods {
		r := rand.New(rand.NewPCG(*seed, uint64(i+1)))
		all.Go(func() { w.pod(ctx, i, r) })
	}
	all.Go(func() { w.upset(ctx) })
	all.Wait()
	w.end()
}

func begin(t *testing.T) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(*seed, 0)), node: node.New(t), aws: aws.New(aws.Options{}), group: program.NewCgroup(t),
		binary: "", dir: t.TempDir(), oracle: &Oracle{Cloud: NewCloud(), Slack: 2 * time.Second},
		next: map[string]int{}, allowed: map[string]bool{}, counts: map[string]int{}}
	w.aws.AddIssuer(w.node.Issuer.URL, w.node.Issuer.Keys())
	cloud := fixture.Serve(t, "", w.aws, w.node.CA)
	w.aws.SetLatency("", 20*time.Millisecond)
	w.binary = w.group.Wrap(t, program.Build(t))
	w.env = []string{"AWS_ENDPOINT_URL=" + cloud.URL(), "AWS_ENDPOINT_URL_STS=" + cloud.URL(), fmt.Sprintf("GOMEMLIMIT=%d", program.GoMemLimit)}

	w.oracle.Cloud.Trouble = []Fact[bool]{{time.Now(), false}}
	for n := range names {
		w.change(fmt.Sprintf("secret-%d", n))
	}
	for i := range identities {
		namespace, account := identity(i)
		w.node.Kube.SetServiceAccount(namespace, account, map[string]string{"eks.amazonaws.com/role-arn": roleOf(account)})
		for n := range names {
			w.allowed[account+" "+fmt.Sprintf("secret-%d", n)] = w.r.IntN(4) > 0
		}
		w.grant(i)
	}
	kept, err := os.MkdirTemp("/dev/shm", "coffre-soak-")
	if err != nil {
		t.Fatalf("no folder in memory: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(kept) })
	w.dir = kept
	w.configure(stores)

	return w
}

func (w *world) configure(text string) {
	path := filepath.Join(w.dir, "stores.yaml")
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		w.t.Errorf("the stores are not written: %v", err)
	}
	_ = os.Rename(path+".new", path)
}

// change gives a secret its next value. The oracle is told before the cloud.
func (w *world) change(secret string) {
	w.mu.Lock()
	w.next[secret]++
	n := w.next[secret]
	w.oracle.Cloud.Values[secret] = append(w.oracle.Cloud.Values[secret], Fact[int]{time.Now(), n})
	w.mu.Unlock()
	w.aws.SetSecretValue(region, secret, Text(secret, n))
	w.aws.SetParameterValue(region, secret, Text(secret, n))
}

// grant tells the cloud what an identity may read now.
func (w *world) grant(i int) {
	namespace, account := identity(i)
	w.mu.Lock()
	role := aws.Role{ARN: roleOf(account), Subjects: []string{"system:serviceaccount:" + namespace + ":" + account}}
	rule := aws.Rule{Actions: []string{"secretsmanager:GetSecretValue", "ssm:GetParameters"}}
	for n := range names {
		secret := fmt.Sprintf("secret-%d", n)
		key := namespace + "/" + account + " " + secret
		is := w.allowed[account+" "+secret]
		if facts := w.oracle.Cloud.Allowed[key]; len(facts) == 0 || facts[len(facts)-1].What != is {
			w.oracle.Cloud.Allowed[key] = append(facts, Fact[bool]{time.Now(), is})
		}
		if is {
			rule.Resources = append(rule.Resources, "*:secret:"+secret+"-??????", "*:parameter/"+secret)
		}
	}
	w.mu.Unlock()
	role.Permissions = []aws.Rule{rule, {Actions: []string{"secretsmanager:BatchGetSecretValue"}}}
	w.aws.AddRole(role)
}

// start runs the program; the caller holds running, or nobody mounts yet.
func (w *world) start() {
	w.process = w.node.Serve(w.t, w.binary, "aws", w.env, "--stores", filepath.Join(w.dir, "stores.yaml"), "--cache-persist", filepath.Join(w.dir, "kept"),
		"--stores-poll-interval=500ms", "--metrics-addr=127.0.0.1:0", "--shutdown-timeout=5s")
	conn, err := grpc.NewClient("unix:"+filepath.Join(filepath.Dir(w.process.Socket()), "coffre.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		w.t.Fatalf("no client: %v", err)
	}
	w.conn, w.coffre = conn, pb.NewCSIDriverProviderClient(conn)
	w.logs = append(w.logs, w.process)
}

// pod mounts and is republished until the end.
func (w *world) pod(ctx context.Context, i int, r *rand.Rand) {
	namespace, account := identity(r.IntN(identities))
	at := shops[i%len(shops)]
	var asked []string
	for _, n := range r.Perm(names)[:1+r.IntN(4)] {
		asked = append(asked, fmt.Sprintf("secret-%d", n))
	}
	v := w.node.Volume(node.Pod{Namespace: namespace, ServiceAccount: account, Name: fmt.Sprintf("pod-%d", i)}, at.parameters(asked), audience)
	var last time.Time
	for ctx.Err() == nil {
		w.mount(at, v, asked, &last)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(500+r.IntN(3000)) * time.Millisecond):
		}
	}
}

func (s shop) parameters(asked []string) map[string]string {
	var list strings.Builder
	for _, secret := range asked {
		if s.name == "" {
			fmt.Fprintf(&list, "- {objectName: %s, objectType: secretsmanager}\n", secret)
		} else {
			fmt.Fprintf(&list, "- {name: %s}\n", secret)
		}
	}
	if s.name == "" {
		return map[string]string{"region": region, "objects": list.String()}
	}
	return map[string]string{"store": s.name, "objects": list.String()}
}

func (w *world) mount(at shop, v request.Volume, asked []string, last *time.Time) {
	w.running.RLock()
	defer w.running.RUnlock()
	client := w.coffre
	if at.name == "" {
		client = w.process.CSIDriverProviderClient
	}
	ctx, cancel := context.WithTimeout(context.Background(), 65*time.Second)
	defer cancel()
	a := Answer{Identity: v.Identity.Namespace + "/" + v.Identity.ServiceAccount, Volume: v.Identity.Pod.Name, Began: time.Now(),
		Refresh: at.refresh, MaxStale: at.maxStale, Asked: asked, Files: map[string]string{}, Versions: map[string]string{}}
	out, err := client.Mount(ctx, v.MountRequest())
	if err != nil && w.killed.Load() {
		return
	}
	a.Ended, a.Code = time.Now(), status.Code(err).String()
	for _, f := range out.GetFiles() {
		a.Files[f.Path] = string(f.Contents)
	}
	if at.name == "" {
		if a.Refresh, a.Full = dialectAge, dialectAge; !last.IsZero() {
			a.Refresh = a.Began.Sub(*last)
		}
	}
	if err == nil {
		*last = a.Ended
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts["mounts "+a.Code]++
	w.counts["values"] += len(a.Files)
	w.broken = append(w.broken, w.oracle.Judge(a)...)
}

// upset is everything that goes wrong.
func (w *world) upset(ctx context.Context) {
	for step := 0; ctx.Err() == nil; step++ {
		time.Sleep(100 * time.Millisecond)
		w.change(fmt.Sprintf("secret-%d", w.r.IntN(names)))
		switch n := w.r.IntN(300); {
		case n < 60:
			i := w.r.IntN(identities)
			_, account := identity(i)
			key := account + " " + fmt.Sprintf("secret-%d", w.r.IntN(names))
			w.mu.Lock()
			w.allowed[key] = !w.allowed[key]
			w.mu.Unlock()
			w.grant(i)
			w.aws.RevokeAll() // sessions keep what they were given
		case n < 66:
			w.trouble(ctx)
		case n < 69:
			w.configure(stores + "# an edit\n")
		case n < 70:
			w.configure("stores: {quick: {kind: nonsense}}\n")
		case n < 72:
			w.restart(w.r.IntN(2) == 0)
		}
		if rss := w.memory(); rss > w.peak {
			w.peak = rss
		}
	}
}

func (w *world) memory() float64 { return w.process.Memory(w.t, "VmRSS") }

// trouble is an outage of one of many kinds.
func (w *world) trouble(ctx context.Context) {
	kinds := []aws.Fault{
		{Service: aws.SecretsManager, Status: 400, Code: "ThrottlingException", Message: "Rate exceeded"},
		{Hang: true}, {Drop: true}, {Garbage: true}, {Cut: true},
		{Service: aws.SecretsManager, Status: 503, Code: "ServiceUnavailable"},
		{Service: aws.SecretsManager, ID: "secret-1", Hang: true},
	}
	kind := kinds[w.r.IntN(len(kinds))]
	w.told(true)
	remove := w.aws.AddFault(kind)
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(1+w.r.IntN(8)) * time.Second):
	}
	remove()
	time.Sleep(5 * time.Second) // to recover in
	w.told(false)
	w.mu.Lock()
	w.counts["troubles"]++
	w.mu.Unlock()
}

func (w *world) told(trouble bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.oracle.Cloud.Trouble = append(w.oracle.Cloud.Trouble, Fact[bool]{time.Now(), trouble})
}

// restart ends the program, hard or as kubelet does, and starts the next.
func (w *world) restart(hard bool) {
	if hard {
		w.killed.Store(true)
		w.process.Stop()
		w.running.Lock()
		w.killed.Store(false)
	} else {
		w.running.Lock()
		w.process.Signal(w.t, syscall.SIGTERM)
	}
	defer w.running.Unlock()
	w.process.Stop()
	_ = w.conn.Close()
	w.start()
	w.mu.Lock()
	w.counts[map[bool]string{true: "kill -9", false: "SIGTERM"}[hard]]++
	w.mu.Unlock()
}

// end looks at what is left, and says what was seen.
func (w *world) end() {
	t := w.t
	if n := w.group.Kills(t); n > 0 {
		t.Errorf("the kernel killed the program %d times", n)
	}
	for _, p := range w.logs {
		if log := p.Log(); strings.Contains(log, "s3cr3t-") {
			t.Errorf("%s\n\tin a log line", Silent)
		}
	}
	if text, ok := scrape(w.logs[len(w.logs)-1]); !ok || strings.Contains(text, "s3cr3t-") {
		t.Errorf("%s\n\tin a metric, or no metrics: %d bytes", Silent, len(text))
	}
	if w.peak > 100 {
		t.Errorf("%.1f MiB at the peak, want under 100", w.peak)
	}
	for i, b := range w.broken {
		if i == 20 {
			t.Errorf("and %d more", len(w.broken)-i)
			break
		}
		t.Errorf("got %v, which is not what is expected here", b)
	}
	if w.counts["mounts OK"] == 0 {
		t.Error("nothing was mounted")
	}
	t.Logf("%v; %d requests to the cloud; %.1f MiB at the peak; %d promises broken", w.counts, len(w.aws.Calls()), w.peak, len(w.broken))
}

// scrape reads the metrics of the program, whose address its log says.
func scrape(p *program.Process) (string, bool) {
	_, rest, ok := strings.Cut(p.Log(), `what="metrics" address="`)
	if !ok {
		return "", false
	}
	address, _, _ := strings.Cut(rest, `"`)
	res, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return "", false
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err == nil
}
