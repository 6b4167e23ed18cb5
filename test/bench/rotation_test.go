package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/auth"
	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/provider"
	"github.com/coffre-csi/coffre/provider/cache"
	"github.com/coffre-csi/coffre/provider/dialect/coffre"
	"github.com/coffre-csi/coffre/provider/store"
	awsstore "github.com/coffre-csi/coffre/provider/store/aws"
	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
	"github.com/coffre-csi/coffre/test/node"
)

// The load of the rotation benchmark: one node.
const (
	pods            = 100
	serviceAccounts = 5
	secretsAPod     = 10
	republish       = 75 * time.Second // kubelet's, as observed
	refresh         = 5 * time.Minute
	storeLatency    = 20 * time.Millisecond
	region          = "eu-west-3"
)

// cloud is the fake AWS behind the SDK's own transport, in this process: time
// is the bubble's, so that an hour takes seconds.
type cloud struct {
	*aws.Server
	mu    sync.Mutex
	calls map[string]int
	reads []time.Time // one a secret that was read
}

func (c *cloud) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(storeLatency)
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body.Close()
	}
	in := r.Clone(r.Context())
	in.Body = io.NopCloser(bytes.NewReader(body))
	res, err := serve.InMemory(c.Server).RoundTrip(in)
	c.mu.Lock()
	defer c.mu.Unlock()
	op := r.Header.Get("X-Amz-Target")
	if op == "" {
		op = "sts.AssumeRoleWithWebIdentity"
	}
	c.calls[op]++
	secrets := 0
	switch {
	case strings.HasSuffix(op, "BatchGetSecretValue"):
		var q struct{ SecretIdList []string }
		_ = json.Unmarshal(body, &q)
		secrets = len(q.SecretIdList)
	case strings.HasSuffix(op, "GetSecretValue"):
		secrets = 1
	}
	for range secrets {
		c.reads = append(c.reads, time.Now())
	}
	return res, err
}

// hour is what a simulated hour cost.
type hour struct {
	start   time.Time
	calls   map[string]int
	reads   []time.Time
	mounts  int
	errors  int
	waited  []time.Duration // for the store, in simulated time, a republish
	worked  []time.Duration // in Coffre, in real time, a republish
	initial int             // secrets read before the first republish
	over    func()          // fills in what the store counted
}

func monotonic() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // the kernel's, not the bubble's
	return time.Duration(ts.Nano())
}

// rotated is what an hour is simulated of: a store, and the volume of every pod.
type rotated struct {
	kinds      store.Kinds
	stores     string // the platform's configuration
	audience   string
	parameters map[string]string

	begun   func()                             // the pods have started, the hour begins
	mounted func(pod int, r *pb.MountResponse) // after every mount; nil for nothing
}

// amazon is a secret each that is read for five service accounts.
func amazon(_ *testing.T, issuer *oidc.Issuer, h *hour) rotated {
	c := &cloud{Server: aws.New(aws.Options{}), calls: map[string]int{}}
	c.AddIssuer(issuer.URL, issuer.Keys())
	const role = "arn:aws:iam::123456789012:role/shop"
	c.AddRole(aws.Role{ARN: role, Subjects: []string{"system:serviceaccount:shop:*"}, Permissions: aws.AllowAll})
	var objects strings.Builder
	for i := range secretsAPod {
		c.SetSecretValue(region, fmt.Sprintf("secret-%d", i), "value")
		fmt.Fprintf(&objects, "- {name: secret-%d}\n", i)
	}
	sdk := awsauth.NewSDK(awsauth.SDKOptions{Transport: c})
	text := fmt.Sprintf("stores: {aws-paris: {kind: aws-secrets-manager, region: %s, roleARN: %q, namespaces: [shop], refresh: %s}}", region, role, refresh)
	return rotated{
		kinds: awsstore.Kinds(awsstore.Options{SDK: sdk, Broker: awsauth.New(awsauth.Options{SDK: sdk})}), stores: text,
		audience: "sts.amazonaws.com", parameters: map[string]string{"store": "aws-paris", "objects": objects.String()},
		begun: func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			h.initial, h.start = len(c.reads), time.Now()
			c.reads, c.calls = nil, map[string]int{}
			h.over = func() { h.reads, h.calls = c.reads, c.calls }
		},
	}
}

// simulate runs one node's pods for a while, each republished every 75 s.
func simulate(t *testing.T, length time.Duration, begin func(*testing.T, *oidc.Issuer, *hour) rotated) (h hour) {
	klog.SetLogger(logr.Discard())
	synctest.Test(t, func(t *testing.T) {
		issuer, err := oidc.NewIssuer("https://oidc.example")
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		of := begin(t, issuer, &h)
		set := store.NewSet(store.Catalog{Kinds: of.kinds})
		if err := set.Load(of.stores); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		secrets := cache.New(set, cache.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { secrets.Run(ctx) })
		service := provider.NewService(&provider.Provider{Name: "coffre", Dialect: coffre.Dialect{Kinds: of.kinds}, Secrets: secrets, Audit: provider.AuditLog("coffre", "node")}, "bench", time.Minute, provider.NewMetrics("bench"))

		type issued struct {
			token string
			at    time.Time
		}
		last := map[int]issued{} // kubelet keeps a token until it is nearly over
		mount := func(pod int) error {
			sa := fmt.Sprintf("sa-%d", pod%serviceAccounts)
			if time.Since(last[pod].at) > 45*time.Minute {
				last[pod] = issued{issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: sa, Pod: fmt.Sprintf("pod-%d", pod), Audiences: []string{of.audience}, Issued: time.Now()}), time.Now()}
			}
			v := node.Pod{ServiceAccount: sa, Name: fmt.Sprintf("pod-%d", pod)}.
				Volume(maps.Clone(of.parameters))
			v.Identity.Tokens = auth.Tokens{of.audience: auth.NewToken(last[pod].token, time.Now().Add(time.Hour))}
			req := v.MountRequest()
			began, simulated := monotonic(), time.Now()
			answer, err := service.Mount(ctx, req)
			h.waited, h.worked = append(h.waited, time.Since(simulated)), append(h.worked, monotonic()-began)
			if err == nil && of.mounted != nil {
				of.mounted(pod, answer)
			}
			return err
		}
		// Pods start within the first 75 seconds; the hour begins then. One
		// runs at a time, so that the real time of a Mount is its own.
		turn := make(chan struct{}, 1) // not a mutex, whose waiters would hold the bubble's time up
		var all sync.WaitGroup
		offsets := make([]time.Duration, pods)
		for i := range offsets {
			offsets[i] = rand.N(republish)
		}
		began := time.Now()
		for pod := range pods {
			all.Go(func() {
				time.Sleep(offsets[pod])
				turn <- struct{}{}
				if err := mount(pod); err != nil {
					t.Errorf("got the error %v, want none", err)
				}
				<-turn
				for {
					time.Sleep(republish)
					if time.Since(began) > length+republish {
						return
					}
					turn <- struct{}{}
					h.mounts++
					if err := mount(pod); err != nil {
						h.errors++
						t.Errorf("a republish: got the error %v, want none", err)
					}
					<-turn
				}
			})
		}
		time.Sleep(republish)
		of.begun()
		turn <- struct{}{}
		h.waited, h.worked, h.mounts = nil, nil, 0
		<-turn
		all.Wait()
		cancel()
		running.Wait()
		synctest.Wait()
		h.over()
	})
	slices.Sort(h.waited)
	slices.Sort(h.worked)
	return h
}

func percentile(d []time.Duration, p int) time.Duration { return d[min(len(d)*p/100, len(d)-1)] }

// TestAnHourOfRotationReadsEachSecretOnceARefresh is the rotation benchmark;
// `make bench-rotation` prints it.
func TestAnHourOfRotationReadsEachSecretOnceARefresh(t *testing.T) {
	h := simulate(t, time.Hour, amazon)
	distinct := serviceAccounts * secretsAPod
	target := distinct * int(time.Hour/refresh)
	naive := pods * secretsAPod * int(time.Hour/republish)
	calls := 0
	for op, n := range h.calls {
		if !strings.HasPrefix(op, "sts.") {
			calls += n
		}
	}
	p99 := percentile(h.waited, 99) + percentile(h.worked, 99)
	fmt.Fprintf(os.Stdout, `a simulated hour of %d pods, %d secrets each, %d service accounts, republished every %s, refresh %s
  republishes             %7d
  secrets read            %7d   target: at most %d; reading everything each time: %d (%.0f times as many)
  calls that took         %7d   sign-ins: %d
  a republish, median     %7s   of which waiting for the store %s
  a republish, p99        %7s   of which waiting for the store %s; target: under 2ms
`, pods, secretsAPod, serviceAccounts, republish, refresh, h.mounts, len(h.reads), target, naive, float64(naive)/float64(len(h.reads)), calls,
		h.calls["sts.AssumeRoleWithWebIdentity"],
		(percentile(h.worked, 50) + percentile(h.waited, 50)).Round(time.Microsecond), percentile(h.waited, 50), p99.Round(time.Microsecond), percentile(h.waited, 99))
	if len(h.reads) > target+distinct/10 {
		t.Errorf("%d secrets were read; one read a secret and refresh is %d", len(h.reads), target)
	}
	if h.initial != distinct {
		t.Errorf("%d secrets were read to start with, not %d", h.initial, distinct)
	}
	if percentile(h.waited, 99) > 0 {
		t.Errorf("one republish in a hundred waited %s for the store", percentile(h.waited, 99))
	}
}
