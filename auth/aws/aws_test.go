package aws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

// cloud is the fake AWS without a network, so that time may be a bubble's. It
// takes any token for any role, and remembers what STS was asked.
type cloud struct {
	*aws.Server
	role    string
	roleErr error

	mu       sync.Mutex
	requests []url.Values
	hosts    []string
	signed   []string // Authorization headers
	keys     []string // issued, in order
	results  map[string]int
}

func newCloud() *cloud {
	return &cloud{Server: aws.New(aws.Options{AcceptAnyToken: true}), results: map[string]int{},
		role: "arn:aws:iam::123456789012:role/shop"}
}

func (c *cloud) ServiceAccountAnnotation(_ context.Context, _, _, key string) (string, error) {
	if key != RoleAnnotation {
		return "", nil
	}
	return c.role, c.roleErr
}

func (c *cloud) Exchanged(kind, result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.results[kind+" "+result]++
}

var issued = regexp.MustCompile(`<AccessKeyId>(\w+)</AccessKeyId>`)

func (c *cloud) RoundTrip(req *http.Request) (*http.Response, error) {
	raw, _ := io.ReadAll(req.Body)
	form, err := url.ParseQuery(string(raw))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.requests = append(c.requests, form)
	c.hosts = append(c.hosts, req.URL.Host)
	c.signed = append(c.signed, req.Header.Get("Authorization"))
	c.mu.Unlock()

	req.Body = io.NopCloser(bytes.NewReader(raw))
	res, err := serve.InMemory(c.Server).RoundTrip(req)
	if err != nil {
		return nil, err
	}
	text, _ := io.ReadAll(res.Body)
	res.Body = io.NopCloser(bytes.NewReader(text))
	if m := issued.FindSubmatch(text); m != nil {
		c.mu.Lock()
		c.keys = append(c.keys, string(m[1]))
		c.mu.Unlock()
	}
	return res, nil
}

// nth says which of the issued keys one is: 1 is the first, 0 none.
func (c *cloud) nth(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Index(c.keys, key) + 1
}

// refuse makes STS answer an error until the returned function is called.
func (c *cloud) refuse(status int, code string) (restore func()) {
	return c.AddFault(aws.Fault{Service: aws.STS, Status: status, Code: code, Message: "BODY-TEXT"})
}

func (c *cloud) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.requests)
}

func (c *cloud) broker() *Broker {
	return New(Options{SDK: NewSDK(SDKOptions{Version: "1", Transport: c}), ServiceAccounts: c, Metrics: c})
}

func pod(name string) auth.Identity {
	return auth.Identity{Namespace: "shop", ServiceAccount: "api", Pod: auth.Pod{Name: name}, Tokens: auth.Tokens{
		AudienceIRSA:        auth.NewToken("irsa-token", time.Time{}),
		AudiencePodIdentity: auth.NewToken("agent-token", time.Time{}),
	}}
}

func open(t testing.TB, b *Broker, id auth.Identity, l Login) *Session {
	t.Helper()
	s, err := b.Open(t.Context(), id, l)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	return s
}

func TestHundredPodsOfOneServiceAccountLogInOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud()
		c.SetLatency("", 20*time.Millisecond)
		b := c.broker()
		impatient, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i := range 100 {
			ctx := t.Context()
			if i == 0 {
				ctx = impatient // the one that began it goes away
			}
			all.Go(func() {
				got, err := open(t, b, pod(fmt.Sprint("api-", i)), Login{Method: IRSA}).Credentials(ctx, "eu-west-3")
				if i > 0 && (err != nil || c.nth(got.AccessKeyID) != 1) {
					t.Errorf("got %v %v, which is not what this test promises", got.AccessKeyID, err)
				}
			})
		}
		time.Sleep(time.Millisecond)
		cancel()
		all.Wait()
		if n := c.count(); n != 1 {
			t.Errorf("%d calls", n)
		}
		form := c.requests[0]
		if c.hosts[0] != "sts.eu-west-3.amazonaws.com" || form.Get("RoleSessionName") != "coffre-shop-api" || form.Get("WebIdentityToken") != "irsa-token" || form.Get("RoleArn") != c.role || c.signed[0] != "" {
			t.Errorf("got %v %v %v, which is not what this test promises", c.hosts, form, c.signed)
		}
		if c.results["irsa ok"] != 1 {
			t.Errorf(`got %v, where c.results["irsa ok"] != 1 must not be so`, c.results)
		}
	})
}

// From ten to five minutes before they end credentials are renewed, while the
// old ones still serve.
func TestCredentialsAreRenewedBeforeTheyExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud()
		b := c.broker()
		get := func() int {
			got, err := open(t, b, pod("a"), Login{Method: IRSA}).Credentials(t.Context(), "eu-west-3")
			if err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			return c.nth(got.AccessKeyID)
		}
		get()
		time.Sleep(49 * time.Minute)
		get()
		synctest.Wait()
		if n := c.count(); n != 1 {
			t.Fatalf("%d calls after 49 minutes", n)
		}
		time.Sleep(6*time.Minute + time.Second)
		if key := get(); key != 1 {
			t.Errorf("got key %d, want the first: renewal made a mount wait", key)
		}
		synctest.Wait()
		if key := get(); key != 2 || c.count() != 2 {
			t.Errorf("got key %d after %d calls, want the second after two", key, c.count())
		}
		// STS fails: what is there serves until a minute before its end, and no longer.
		c.refuse(500, "InternalFailure")
		time.Sleep(58 * time.Minute)
		if key := get(); key != 2 {
			t.Errorf("got key %d, want the second", key)
		}
		time.Sleep(61 * time.Second)
		if _, err := open(t, b, pod("a"), Login{Method: IRSA}).Credentials(t.Context(), "eu-west-3"); err == nil {
			t.Error("credentials at their end")
		}
	})
}

func TestTheNewestTokenIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud()
		b := c.broker()
		with := func(raw string, life time.Duration) *Session {
			id := pod("a")
			id.Tokens[AudienceIRSA] = auth.NewToken(raw, time.Now().Add(life))
			return open(t, b, id, Login{Method: IRSA})
		}
		for _, s := range []*Session{with("old", time.Hour), with("new", 2*time.Hour), with("older", time.Minute)} {
			if _, err := s.Credentials(t.Context(), "eu-west-3"); err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
		}
		last := with("last", time.Minute)
		known, _ := b.keeper.Known(last.key)
		last.Forget(known)
		if _, err := last.Credentials(t.Context(), "eu-west-3"); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		if got := c.requests[1].Get("WebIdentityToken"); got != "new" {
			t.Errorf("got %v, want %v", got, "new")
		}
	})
}

func TestFailedLoginIsNotRepeatedForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud()
		restore := c.refuse(403, "AccessDenied")
		b := c.broker()
		try := func(id auth.Identity) error {
			_, err := open(t, b, id, Login{Method: IRSA}).Credentials(t.Context(), "eu-west-3")
			return err
		}
		for range 50 {
			if err := try(pod("a")); err == nil {
				t.Fatal("no error")
			}
		}
		if n := c.count(); n != 1 {
			t.Errorf("%d calls", n)
		}
		other := pod("b")
		other.ServiceAccount = "other"
		_ = try(other)
		if n := c.count(); n != 2 {
			t.Errorf("another identity waits for this one: %d calls", n)
		}
		restore()
		time.Sleep(time.Second)
		if err := try(pod("a")); err != nil {
			t.Errorf("got the error %v, want none", err)
		}
	})
}

// A region whose STS hangs holds up nobody who asks another, and credentials
// of one region serve in all.
func TestRegionsAreIndependentAndCredentialsAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud()
		c.AddFault(aws.Fault{Region: "us-east-1", Hang: true})
		s := open(t, c.broker(), pod("a"), Login{Method: IRSA})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := s.Credentials(ctx, "us-east-1")
		if e := new(fault.Error); !errors.As(err, &e) || e.Reason != fault.Unavailable {
			t.Errorf(`got %v, where !errors.As(err, &e) || e.Reason != fault.Unavailable must not be so`, err)
		}
		if _, err := s.Credentials(t.Context(), "eu-west-1"); err != nil {
			t.Errorf("got the error %v, want none", err)
		}
		if _, err := s.Credentials(t.Context(), "us-east-1"); err != nil {
			t.Errorf("got the error %v, want none", err)
		}
		time.Sleep(time.Minute)
	})
}

func TestEveryRefusalOfSTSIsOneSentence(t *testing.T) {
	const role = "role arn:aws:iam::123456789012:role/shop (service account shop/api)"
	for _, c := range []struct {
		status int
		code   string
		reason fault.Reason
		want   string
	}{
		{403, "AccessDenied", fault.Denied, "the role's trust policy does not accept the pod: " + role + ": it must allow sts:AssumeRoleWithWebIdentity to the cluster's OIDC provider, with subject system:serviceaccount:shop:api and audience sts.amazonaws.com; and the role must exist"},
		{400, "InvalidIdentityToken", fault.Denied, "the role's trust policy does not accept the pod's token: " + role + ": the role's account needs an IAM OIDC provider"},
		{400, "ExpiredTokenException", fault.Precondition, `STS says that the token of service account shop/api for audience "sts.amazonaws.com" has expired`},
		{400, "ValidationError", fault.Invalid, "STS does not understand the request for " + role + ": ValidationError; is that a role's ARN?"},
		{403, "RegionDisabledException", fault.Precondition, "STS is not switched on in eu-west-3"},
		{400, "Throttling", fault.Throttled, "throttled: STS in eu-west-3 answers Throttling"},
		{500, "InternalFailure", fault.Unavailable, "STS in eu-west-3 failed: InternalFailure"},
		{0, "hang", fault.Unavailable, "STS in eu-west-3 cannot be reached: no answer in time"},
		{403, "New", fault.Denied, "STS in eu-west-3 refused " + role + ": New"},
	} {
		synctest.Test(t, func(t *testing.T) {
			cloud := newCloud()
			if c.code == "hang" {
				cloud.AddFault(aws.Fault{Hang: true})
			} else {
				cloud.refuse(c.status, c.code)
			}
			_, err := open(t, cloud.broker(), pod("a"), Login{Method: IRSA}).Credentials(t.Context(), "eu-west-3")
			e := new(fault.Error)
			if !errors.As(err, &e) || e.Reason != c.reason || !strings.HasPrefix(e.Text, c.want) {
				t.Errorf("%v", err)
			}
			for _, secret := range []string{"BODY-TEXT", "irsa-token"} {
				if strings.Contains(fmt.Sprintf("%v %+v", err, e), secret) {
					t.Errorf("%s is in %v", secret, err)
				}
			}
		})
	}
}

func TestExpiredTokenIsNeverSent(t *testing.T) {
	c := newCloud()
	id := pod("a")
	for _, audience := range []string{AudienceIRSA, AudiencePodIdentity} {
		id.Tokens[audience] = auth.NewToken("x", time.Now().Add(-time.Minute))
	}
	for _, m := range []Method{IRSA, PodIdentity} {
		_, err := open(t, c.broker(), id, Login{Method: m}).Credentials(t.Context(), "eu-west-3")
		if err == nil || !strings.Contains(err.Error(), "expired at ") {
			t.Errorf(`got %v, where err == nil || !strings.Contains(err.Error(), "expired at ") must not be so`, err)
		}
	}
	if c.count() != 0 {
		t.Error("it was sent")
	}
}

func TestRoleChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud()
		b := c.broker()
		chain := Chain{RoleARN: "arn:aws:iam::210987654321:role/far", ExternalID: "x-1", Tags: map[string]string{"team": "shop", "a": "b"}}
		c.AddRole(aws.Role{ARN: chain.RoleARN, AssumableBy: []string{c.role}, ExternalID: "x-1", RequiredTags: map[string]string{"team": "shop"}})
		s := open(t, b, pod("a"), Login{Method: IRSA, Chain: chain})
		for range 2 {
			got, err := s.Credentials(t.Context(), "eu-west-3")
			if err != nil || c.nth(got.AccessKeyID) != 2 {
				t.Fatalf("got key %d and the error %v, want the second", c.nth(got.AccessKeyID), err)
			}
		}
		form := c.requests[1]
		if len(c.requests) != 2 || form.Get("Action") != "AssumeRole" || form.Get("ExternalId") != "x-1" || form.Get("RoleArn") != chain.RoleARN ||
			form.Get("Tags.member.2.Key") != "team" || form.Get("RoleSessionName") != "coffre-shop-api" || !strings.Contains(c.signed[1], c.keys[0]+"/") {
			t.Errorf("got %v %v, which is not what is expected here", form, c.signed)
		}
		if s.Who() != "role arn:aws:iam::210987654321:role/far (service account shop/api)" || s.Account() != "210987654321" {
			t.Errorf("got %v %v, which is not what this test promises", s.Who(), s.Account())
		}
		// Other tags are another principal.
		chain.Tags = map[string]string{"team": "ops"}
		other := open(t, b, pod("a"), Login{Method: IRSA, Chain: chain})
		if other.Principal() == s.Principal() {
			t.Error("one principal")
		}
		c.AddRole(aws.Role{ARN: chain.RoleARN, AssumableBy: []string{"arn:aws:iam::123456789012:role/somebody"}})
		_, err := other.Credentials(t.Context(), "eu-west-3")
		want := "access denied: role arn:aws:iam::123456789012:role/shop (service account shop/api) may not assume role arn:aws:iam::210987654321:role/far: its own policy and that role's trust policy must both allow sts:AssumeRole, with the store's externalID, and sts:TagSession"
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf(`got %v, where err == nil || !strings.HasPrefix(err.Error(), want) must not be so`, err)
		}
	})
}

func TestFIPSIsHonouredAtSTS(t *testing.T) {
	c := newCloud()
	if _, err := open(t, c.broker(), pod("a"), Login{Method: IRSA, UseFIPS: true}).Credentials(t.Context(), "us-east-1"); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	t.Setenv("AWS_USE_FIPS_ENDPOINT", "true")
	if _, err := open(t, c.broker(), pod("a"), Login{Method: IRSA}).Credentials(t.Context(), "us-west-2"); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if fmt.Sprint(c.hosts) != "[sts-fips.us-east-1.amazonaws.com sts-fips.us-west-2.amazonaws.com]" {
		t.Errorf("got %v, which is not what this test promises", c.hosts)
	}
}

func TestEndpointVariablesAreHonoured(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL", "http://everything.test:1")
	c := newCloud()
	if _, err := open(t, c.broker(), pod("a"), Login{Method: IRSA}).Credentials(t.Context(), "us-east-1"); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	t.Setenv("AWS_ENDPOINT_URL_STS", "http://sts.test:2")
	if _, err := open(t, c.broker(), pod("a"), Login{Method: IRSA}).Credentials(t.Context(), "cn-north-1"); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if fmt.Sprint(c.hosts) != "[everything.test:1 sts.test:2]" {
		t.Errorf(`got %v, where fmt.Sprint(c.hosts) != "[everything.test:1 sts.test:2]" must not be so`, c.hosts)
	}
}

func TestPartitionsHaveTheirOwnSTS(t *testing.T) {
	c := newCloud()
	if _, err := open(t, c.broker(), pod("a"), Login{Method: IRSA}).Credentials(t.Context(), "cn-north-1"); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if c.hosts[0] != "sts.cn-north-1.amazonaws.com.cn" {
		t.Errorf(`got %v, where c.hosts[0] != "sts.cn-north-1.amazonaws.com.cn" must not be so`, c.hosts)
	}
}

func TestSessionNamesAreLegalAndTellIdentitiesApart(t *testing.T) {
	legal := regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	seen := map[string]string{}
	for _, id := range [][2]string{
		{"shop", "api"}, {"a", "b"}, {"team.a", "svc:x"},
		{strings.Repeat("n", 63), strings.Repeat("s", 253)}, {strings.Repeat("n", 63), strings.Repeat("s", 252)},
		{"short", strings.Repeat("s", 253)}, {strings.Repeat("n", 63), "short"},
	} {
		name := SessionName(id[0], id[1])
		if !legal.MatchString(name) || name != SessionName(id[0], id[1]) || seen[name] != "" {
			t.Errorf("%v: %s", id, name)
		}
		seen[name] = id[0]
	}
	if name := SessionName("short", strings.Repeat("s", 253)); !strings.HasPrefix(name, "coffre-short-sss") || len(name) != 64 {
		t.Errorf(`got %v, where !strings.HasPrefix(name, "coffre-short-sss") || len(name) != 64 must not be so`, name)
	}
}

func TestStaticKeysInAnySpelling(t *testing.T) {
	for _, keys := range [][3]string{{"access_key_id", "secret_access_key", "session_token"}, {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}, {"accessKeyID", "secretAccessKey", "sessionToken"}} {
		id := pod("a")
		id.Secrets = auth.Secrets{keys[0]: "AKIA", keys[1]: "the-secret", keys[2]: "tok"}
		s := open(t, newCloud().broker(), id, Login{Method: Static})
		got, err := s.Credentials(t.Context(), "eu-west-3")
		if err != nil || got.AccessKeyID != "AKIA" || got.SecretAccessKey != "the-secret" || got.SessionToken != "tok" {
			t.Errorf("got %v, which is not what this test promises", err)
		}
		if strings.Contains(s.Principal(), "the-secret") || strings.Contains(s.Who(), "AKIA") {
			t.Errorf("got %v %v, which is not what this test promises", s.Principal(), s.Who())
		}
	}
}

func TestRoleOfTheAnnotation(t *testing.T) {
	c := newCloud()
	c.role = ""
	_, err := c.broker().Open(t.Context(), pod("a"), Login{Method: IRSA})
	if err == nil || !strings.HasPrefix(err.Error(), "An IAM role must be associated with service account api (namespace: shop)") {
		t.Errorf("got %v, which is not what this test promises", err)
	}
	c.roleErr = errors.New(`failed to get service account shop/api: serviceaccounts "api" not found`)
	if _, err = c.broker().Open(t.Context(), pod("a"), Login{Method: IRSA}); err == nil || err.Error() != c.roleErr.Error() {
		t.Errorf(`got %v, where err == nil || err.Error() != c.roleErr.Error() must not be so`, err)
	}
	s := open(t, c.broker(), pod("a"), Login{Method: IRSA, RoleARN: "arn:aws:iam::1:role/store"})
	if s.Principal() != "arn:aws:iam::1:role/store" {
		t.Errorf("got %v, want %v", s.Principal(), "arn:aws:iam::1:role/store")
	}
}

// agentAt serves a Pod Identity agent on a loopback address.
func agentAt(t *testing.T, addr string, h http.HandlerFunc) string {
	l, err := net.Listen("tcp", addr)
	if err != nil && strings.HasPrefix(addr, "[::1]") { // no IPv6 here: another address does as well
		l, err = net.Listen("tcp", "127.0.0.2:0")
	}
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

func granted(calls *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if r.Header.Get("Authorization") != "agent-token" || r.URL.Path != "/v1/credentials" {
			w.WriteHeader(400)
			return
		}
		fmt.Fprintf(w, `{"AccessKeyId":"ASIA","SecretAccessKey":"the-secret","Token":"tok","AccountId":"123456789012","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}
}

func TestPodIdentityFallsBackToIPv6AndRemembersIt(t *testing.T) {
	var calls, dead atomic.Int32
	v6 := agentAt(t, "[::1]:0", granted(&calls))
	v4 := agentAt(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		dead.Add(1)
		c, _, _ := w.(http.Hijacker).Hijack()
		c.Close()
	})
	b := New(Options{SDK: NewSDK(SDKOptions{}), AgentIPv4: v4, AgentIPv6: v6})
	for i := range 3 {
		id := pod("a")
		id.ServiceAccount = fmt.Sprint("sa-", i)
		got, err := open(t, b, id, Login{Method: PodIdentity, Address: Auto}).Credentials(t.Context(), "")
		if err != nil || got.AccessKeyID != "ASIA" {
			t.Fatalf(`got %v, where err != nil || got.AccessKeyID != "ASIA" must not be so`, err)
		}
	}
	if calls.Load() != 3 || dead.Load() > 2 { // net/http itself may try a GET again
		t.Errorf("%d calls, %d of them at the dead address", calls.Load(), dead.Load())
	}
	id := pod("b")
	id.ServiceAccount = "v4"
	if _, err := open(t, b, id, Login{Method: PodIdentity, Address: IPv4}).Credentials(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "the EKS Pod Identity agent at "+v4+" cannot be reached") {
		t.Errorf("got %v, which is not what this test promises", err)
	}
}

func TestPodIdentityRefusals(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		reason fault.Reason
		want   string
	}{
		{404, "[x]: (ResourceNotFoundException): BODY-TEXT, fault: client", fault.Denied, "the EKS Pod Identity agent gives service account shop/api no credentials: HTTP 404 ResourceNotFoundException: is there a pod identity association"},
		{403, "AccessDeniedException", fault.Denied, "the EKS Pod Identity agent gives service account shop/api no credentials: HTTP 403 AccessDeniedException"},
		{400, "ExpiredTokenException", fault.Precondition, "the EKS Pod Identity agent says that the token of service account shop/api has expired"},
		{500, "", fault.Unavailable, "the EKS Pod Identity agent failed: HTTP 500"},
		{429, "", fault.Throttled, "throttled: the EKS Pod Identity agent answers HTTP 429"},
		{200, "{}", fault.Unavailable, "the EKS Pod Identity agent's answer holds no credentials"},
	} {
		base := agentAt(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		})
		b := New(Options{SDK: NewSDK(SDKOptions{}), AgentIPv4: base})
		_, err := open(t, b, pod("a"), Login{Method: PodIdentity}).Credentials(t.Context(), "")
		if e := new(fault.Error); !errors.As(err, &e) || e.Reason != c.reason || !strings.HasPrefix(e.Text, c.want) || strings.Contains(e.Text, "BODY-TEXT") {
			t.Errorf("%d: %v", c.status, err)
		}
	}
}

func TestPodIdentityTimeoutIsTheConfiguredOne(t *testing.T) {
	done := make(chan struct{})
	base := agentAt(t, "127.0.0.1:0", func(http.ResponseWriter, *http.Request) { <-done })
	defer close(done)
	b := New(Options{SDK: NewSDK(SDKOptions{}), AgentIPv4: base, AgentIPv6: base, PodIdentityTimeout: 20 * time.Millisecond})
	_, err := open(t, b, pod("a"), Login{Method: PodIdentity}).Credentials(t.Context(), "")
	if err == nil || !strings.Contains(err.Error(), "the EKS Pod Identity agent cannot be reached at") {
		t.Errorf("got %v, which is not what this test promises", err)
	}
}

func TestNodesOwnIdentityIsTheSDKsDefaultChain(t *testing.T) {
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for _, v := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(v, "")
	}
	nobody := auth.Identity{Namespace: "shop", ServiceAccount: "api"}
	_, err := open(t, newCloud().broker(), nobody, Login{Method: Provider}).Credentials(t.Context(), "eu-west-3")
	if err == nil || !strings.HasPrefix(err.Error(), "the node's own identity has no AWS credentials") {
		t.Errorf("got %v, which is not what this test promises", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIANODE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
	got, err := open(t, newCloud().broker(), nobody, Login{Method: Provider}).Credentials(t.Context(), "eu-west-3")
	if err != nil || got.AccessKeyID != "AKIANODE" {
		t.Errorf(`got %v, where err != nil || got.AccessKeyID != "AKIANODE" must not be so`, err)
	}
}
