package serve_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/test/fakes/serve"
)

var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto+" "+r.Host) })

func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

func TestAnyHostNameIsServedOverHTTP11(t *testing.T) {
	ca, err := serve.NewAuthority()
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	l, err := serve.Start("127.0.0.1:0", hello, ca)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	defer l.Close()
	c := l.Client()
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + ".example"
	for url, want := range map[string]string{
		"https://secretsmanager.eu-west-3.amazonaws.com/": "HTTP/1.1 secretsmanager.eu-west-3.amazonaws.com",
		"https://" + long + "/":                           "HTTP/1.1 " + long,
		l.URL():                                           "HTTP/1.1 " + l.Addr(),
	} {
		if got := get(t, c, url); got != want {
			t.Errorf("%s: %q", url, got)
		}
		get(t, c, url) // on the connection that is open
	}
	if n := l.Connections(); n != 3 {
		t.Errorf("%d connections", n)
	}
}

type onGRPC struct{ http.HandlerFunc }

func (onGRPC) HTTP2(host string) bool { return host == "grpc.example" }

func TestHTTP2IsSpokenWhereTheHandlerWantsIt(t *testing.T) {
	ca, err := serve.NewAuthority()
	if err != nil {
		t.Fatalf("an authority: %v", err)
	}
	l, err := serve.Start("127.0.0.1:0", onGRPC{hello}, ca)
	if err != nil {
		t.Fatalf("a listener: %v", err)
	}
	defer l.Close()

	c := l.Client()
	c.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	for host, want := range map[string]string{"grpc.example": "HTTP/2.0 grpc.example", "json.example": "HTTP/1.1 json.example"} {
		if got := get(t, c, "https://"+host+"/"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestInClear(t *testing.T) {
	l, err := serve.Start("127.0.0.1:0", hello, nil)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if got := get(t, l.Client(), "http://sts.amazonaws.com/"); got != "HTTP/1.1 sts.amazonaws.com" {
		t.Errorf("got %s, want HTTP/1.1 under the name that was asked for", got)
	}
	l.Close()
	l.Close()
	if _, err := http.Get(l.URL()); err == nil {
		t.Error("it answers after Close")
	}
}

func TestAuthorityOutlivesTheProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	first, err := serve.LoadAuthority(dir)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	second, err := serve.LoadAuthority(dir)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	l, err := serve.Start("127.0.0.1:0", hello, second)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	defer l.Close()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: first.Pool()}}}
	get(t, c, l.URL())
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), nil, 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if _, err := serve.LoadAuthority(dir); err == nil {
		t.Error("a broken key was overlooked")
	}
}
