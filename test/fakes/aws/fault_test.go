package aws_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/coffre-csi/coffre/test/fakes/aws"
)

func TestFaultsMatchWhatTheyName(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetSecret(region, "a", aws.Text("x"))
	w.SetSecret(region, "b", aws.Text("x"))
	w.SetParameter(region, "p", param("x"))
	cfg := w.asShop(t)
	c, p := secretsmanager.NewFromConfig(cfg), ssm.NewFromConfig(cfg)
	get := func(id string) error {
		_, err := c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id, VersionStage: str("AWSCURRENT")})
		return err
	}
	remove := w.AddFault(aws.Fault{Service: aws.SecretsManager, Region: region, Op: "GetSecretValue", ID: "a", Status: 503, Code: "ServiceUnavailable", Message: "boom", RetryAfter: 1500 * time.Millisecond})
	err := get("a")
	wantCode(t, err, "ServiceUnavailable", "boom")
	var res *awshttp.ResponseError
	if !errors.As(err, &res) || res.HTTPStatusCode() != 503 || res.Response.Header.Get("Retry-After") != "2" {
		t.Errorf("%v", err)
	}
	if err := get("b"); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
	if _, err := p.GetParameter(ctx, &ssm.GetParameterInput{Name: str("p")}); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
	remove()
	if err := get("a"); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
	w.AddFault(aws.Fault{Service: aws.SecretsManager, Code: "InternalServiceError", Times: 2})
	wantCode(t, get("a"), "InternalServiceError", "")
	wantCode(t, get("b"), "InternalServiceError", "")
	if err := get("a"); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
	w.AddFault(aws.Fault{Region: "us-east-1", Code: "x"})
	if err := get("a"); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
	w.ClearFaults()
}

func TestGarbageDropsAndOutages(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetSecret(region, "a", aws.Text("x"))
	c := w.secrets(t)
	get := func() error {
		_, err := c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("a")})
		return err
	}
	remove := w.AddFault(aws.Fault{Garbage: true})
	if get() == nil {
		t.Error("garbage was read")
	}
	remove()
	remove = w.AddFault(aws.Fault{Drop: true})
	if get() == nil {
		t.Error("a dropped connection answered")
	}
	remove()
	restore := w.TakeDown(region)
	if get() == nil {
		t.Error("the region was down")
	}
	restore()
	if err := get(); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
}

func TestHangEndsWithTheClientOrTheFault(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetSecret(region, "a", aws.Text("x"))
	c := w.secrets(t)
	remove := w.AddFault(aws.Fault{Hang: true})
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := c.GetSecretValue(short, &secretsmanager.GetSecretValueInput{SecretId: str("a")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got the error %v, want the client's own deadline", err)
	}
	time.AfterFunc(20*time.Millisecond, remove)
	if _, err := c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("a")}); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
}

func TestThrottling(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetSecret(region, "a", aws.Text("x"))
	cfg := w.asShop(t)
	c := secretsmanager.NewFromConfig(cfg)
	w.SetLimit(aws.Limit{Service: aws.SecretsManager, PerSecond: 1, Burst: 2})
	w.SetLimit(aws.Limit{Service: aws.STS, PerSecond: 1, Burst: 1})
	get := func() error {
		_, err := c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("a")})
		return err
	}
	if err := errors.Join(get(), get()); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
	wantCode(t, get(), "ThrottlingException", "Rate exceeded")
	w.clock.Move(time.Second)
	if err := get(); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
	wantCode(t, get(), "ThrottlingException", "")
	w.SetLimit(aws.Limit{Service: aws.SecretsManager})
	if err := get(); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
	s := sts.NewFromConfig(cfg)
	s.GetCallerIdentity(ctx, nil)
	_, err := s.GetCallerIdentity(ctx, nil)
	wantCode(t, err, "Throttling", "Rate exceeded")
}

func TestLatencyIsAService(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetSecret(region, "a", aws.Text("x"))
	c := w.secrets(t)
	w.SetLatency("", time.Hour)
	w.SetLatency(aws.SecretsManager, 30*time.Millisecond)
	begin := time.Now()
	ok[*secretsmanager.GetSecretValueOutput](t)(c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("a")}))
	if d := time.Since(begin); d < 30*time.Millisecond || d > 10*time.Second {
		t.Errorf("got an answer after %s, want it after 30ms", d)
	}
}

func TestFaultsInTheFormOfTheCases(t *testing.T) {
	var got []aws.Fault
	err := json.Unmarshal([]byte(`[
		{"service": "secretsmanager", "region": "us-east-1", "op": "", "status": 500, "code": "InternalServiceError", "message": "boom", "times": 2},
		{"service": "sts", "hang": true, "latency": "20ms", "retryAfter": "3s"}]`), &got)
	want := []aws.Fault{
		{Service: "secretsmanager", Region: "us-east-1", Status: 500, Code: "InternalServiceError", Message: "boom", Times: 2},
		{Service: "sts", Hang: true, Latency: 20 * time.Millisecond, RetryAfter: 3 * time.Second},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{`{"service": "x", "sevice": "y"}`, `{"latency": "soon"}`} {
		if json.Unmarshal([]byte(bad), new(aws.Fault)) == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

func TestManyConnectionsAndChangesAtOnce(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetSecret(region, "a", aws.Text("x"))
	c := w.secrets(t)
	w.SetLatency("", 5*time.Millisecond)
	var clients sync.WaitGroup
	for range 100 {
		clients.Go(func() {
			for range 5 {
				if _, err := c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("a")}); err != nil {
					t.Errorf("got the error %v, want none", err)
				}
			}
		})
	}
	for range 50 {
		w.SetSecretValue(region, "a", "y")
		w.SetParameterValue(region, "p", "z")
		w.AddFault(aws.Fault{Service: aws.SSM, Code: "x"})()
		w.Calls()
	}
	clients.Wait()
	if n := w.Count("GetSecretValue"); n != 500 {
		t.Errorf("%d calls", n)
	}
	before := w.listen.Connections()
	for range 20 {
		ok[*secretsmanager.GetSecretValueOutput](t)(c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("a")}))
	}
	if n := w.listen.Connections() - before; n != 0 {
		t.Errorf("%d new connections for one call after the other: keep-alive is not kept", n)
	}
}

func TestControl(t *testing.T) {
	w := start(t, aws.Options{})
	control := httptest.NewServer(w.Control())
	defer control.Close()
	do := func(method, path, body string) (int, string) {
		req, _ := http.NewRequest(method, control.URL+path, strings.NewReader(body))
		res := ok[*http.Response](t)(http.DefaultClient.Do(req))
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	for _, r := range [][3]string{
		{"GET", "/healthz", ""},
		{"PUT", "/world", `{"secrets": {"ssm": {"eu-west-3": {"p": {"versions": [{"version": 1, "value": "v"}]}}}}}`},
		{"POST", "/world", `{"faults": [{"service": "ssm", "code": "x"}]}`},
		{"DELETE", "/faults", ""},
		{"PUT", "/secret?region=eu-west-3&name=a/b", "one"},
		{"PUT", "/secret?region=eu-west-3&name=a/b", "two"},
		{"PUT", "/parameter?region=eu-west-3&name=p", "w"},
		{"PUT", "/latency?service=sts&duration=1ms", ""},
		{"PUT", "/lifetime?duration=15m", ""},
	} {
		if status, body := do(r[0], r[1], r[2]); status != 200 {
			t.Errorf("%s %s: %d %s", r[0], r[1], status, body)
		}
	}
	cfg := w.asShop(t)
	out := ok[*secretsmanager.GetSecretValueOutput](t)(secretsmanager.NewFromConfig(cfg).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("a/b")}))
	got := ok[*ssm.GetParametersOutput](t)(ssm.NewFromConfig(cfg).GetParameters(ctx, &ssm.GetParametersInput{Names: []string{"p", "p:1"}}))
	if *out.SecretString != "two" || len(got.Parameters) != 2 || got.Parameters[0].Version != 2 {
		t.Errorf("%v %v", out, got)
	}
	if _, body := do("GET", "/calls", ""); !strings.Contains(body, `"secretsmanager:eu-west-3:GetSecretValue a/b"`) {
		t.Errorf("got %s, want the call to a/b in it", body)
	}
	for _, r := range [][3]string{{"PUT", "/world", `{"secrets": {"smm": {}}}`}, {"PUT", "/secret?name=x", ""}, {"PUT", "/latency", ""}} {
		if status, _ := do(r[0], r[1], r[2]); status != 400 {
			t.Errorf("%s %s: %d", r[0], r[1], status)
		}
	}
	do("DELETE", "/sessions", "")
	do("DELETE", "/calls", "")
	if w.Count("") != 0 {
		t.Error("calls were kept")
	}
}

func BenchmarkGetSecretValue(b *testing.B) {
	w := start(b, aws.Options{})
	w.SetSecret(region, "a", aws.Text("x"))
	c := w.secrets(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ok[*secretsmanager.GetSecretValueOutput](b)(c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("a")}))
		}
	})
}

// BenchmarkUnderLatency is the load of the project's benchmarks: hundreds of
// callers, and answers that take as long as the cloud's.
func BenchmarkUnderLatency(b *testing.B) {
	w := start(b, aws.Options{})
	w.SetSecret(region, "a", aws.Text("x"))
	c := w.secrets(b)
	w.SetLatency("", 20*time.Millisecond)
	b.SetParallelism(200)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("a")}); err != nil {
				b.Errorf("got the error %v, want none", err)
			}
		}
	})
}
