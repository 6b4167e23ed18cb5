package aws

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

// world is the fake AWS without a network, so that time may be a bubble's. It
// takes any token; wire is the strict one.
type world struct {
	*aws.Server
	roles map[string]string // annotation by namespace/name

	mu        sync.Mutex
	requested map[string]int
	exchanged map[string]int
}

func newWorld() *world {
	return &world{
		Server:    aws.New(aws.Options{AcceptAnyToken: true, PageSize: 2}),
		roles:     map[string]string{"shop/api": shopRole},
		requested: map[string]int{}, exchanged: map[string]int{},
	}
}

func (w *world) transport() http.RoundTripper { return serve.InMemory(w.Server) }

func (w *world) Requested(kind, op, code string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requested[kind+" "+op+" "+code]++
}

func (w *world) Exchanged(kind, result string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exchanged[kind+" "+result]++
}

func (w *world) ServiceAccountAnnotation(_ context.Context, namespace, name, key string) (string, error) {
	return w.roles[namespace+"/"+name], nil
}

// count is how often a call was made: "secretsmanager:us-east-1:GetSecretValue".
func (w *world) count(call string) int { return w.total(call) }

// total is how often calls were made whose service, region and operation end so.
func (w *world) total(suffix string) (n int) {
	for _, c := range w.Calls() {
		if strings.HasSuffix(c.Service+":"+c.Region+":"+c.Op, suffix) {
			n++
		}
	}
	return n
}

// put puts a secret with versions.
func (w *world) put(region, name string, versions ...aws.SecretVersion) {
	w.SetSecret(region, name, aws.Secret{Versions: versions})
}

func current(value string) []aws.SecretVersion {
	return []aws.SecretVersion{{ID: "11111111-2222-3333-4444-555555555555", Stages: []string{"AWSCURRENT"}, String: &value}}
}

func to(text string) *string { return &text }

var requestIDs = regexp.MustCompile(`request [0-9a-f-]{36}`)

// plainly is an error's text with the same request id in all of them.
func plainly(err error) string { return requestIDs.ReplaceAllString(err.Error(), "request rq-1") }

func identity() auth.Identity {
	return auth.Identity{Namespace: "shop", ServiceAccount: "api", Pod: auth.Pod{Name: "api-0", UID: "u"},
		Tokens: auth.Tokens{awsauth.AudienceIRSA: auth.NewToken("pod-token", time.Time{})}}
}

func (w *world) kinds() store.Kinds {
	sdk := awsauth.NewSDK(awsauth.SDKOptions{Version: "test", Transport: w.transport()})
	return Kinds(Options{SDK: sdk, Metrics: w, Broker: awsauth.New(awsauth.Options{SDK: sdk, ServiceAccounts: w, Metrics: w})})
}

// opener opens stores of one process.
func (w *world) opener(t testing.TB) func(kind string, s Settings, timeout time.Duration) store.Store {
	kinds := w.kinds()
	return func(kind string, s Settings, timeout time.Duration) store.Store {
		t.Helper()
		if s.Region == "" {
			s.Region = "us-east-1"
		}
		config, errs := Inline(kind, "test", s, store.InlineOptions{Dialect: store.OwnDialect, Timeout: timeout})
		if errs != nil {
			t.Fatalf("got the error %v, want none", errs)
		}
		for _, k := range kinds {
			if k.Name == kind {
				opened, err := k.Open(t.Context(), *config, identity())
				if err != nil {
					t.Fatalf("got the error %v, want none", err)
				}
				return opened
			}
		}
		panic(kind)
	}
}

func (w *world) open(t testing.TB, kind string, s Settings) store.Store {
	t.Helper()
	return w.opener(t)(kind, s, 0)
}

// node is a node's region, or why it is not known.
type node struct {
	region string
	err    error
}

func (n node) Region(context.Context, string, string) (string, error) { return n.region, n.err }
