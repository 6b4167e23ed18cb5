package peer

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"

	"net"
)

func TestAConnectionThatWasOpenedAheadIsTheOneThatIsUsed(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.StartTLS()
	defer server.Close()

	trusting := server.Client().Transport.(*http.Transport).Clone()
	trusting.ForceAttemptHTTP2 = true
	w := Warm(trusting)
	u, _ := url.Parse(server.URL)
	w.Open(u)
	w.Open(u) // one is enough
	client := &http.Client{Transport: w.Transport()}
	for range 3 {
		res, err := client.Get(server.URL)
		if err != nil {
			t.Fatalf("no answer over a connection opened ahead: %v", err)
		}
		res.Body.Close()
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections were made, want 1", n)
	}
}

func TestNothingIsOpenedAheadThroughAProxy(t *testing.T) {
	transport := &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse("http://127.0.0.1:1") }}
	w := Warm(transport)
	u, _ := url.Parse("https://example.com")
	w.Open(u)
	if len(w.ready) != 0 {
		t.Error("a connection past the proxy was opened")
	}
}
