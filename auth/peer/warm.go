package peer

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Warmer opens connections before there is a request for them: while a sign-in
// is under way, the connection to the store is made beside it, and a first read
// pays no handshake.
type Warmer struct {
	transport *http.Transport
	dial      func(ctx context.Context, network, addr string) (net.Conn, error)
	config    *tls.Config // our own: the transport changes its at its first request

	mu    sync.Mutex
	ready map[string]*ahead // by address
}

// ahead is a connection that was opened ahead, or is being opened.
type ahead struct {
	done chan struct{}
	conn net.Conn
	err  error
}

const (
	warmFor = 10 * time.Second // what nobody took by then is closed
	maxWarm = 64
)

// Warm makes a transport whose connections can be opened ahead. It belongs to
// the Warmer from then on.
func Warm(t *http.Transport) *Warmer {
	w := &Warmer{transport: t, dial: t.DialContext, config: t.TLSClientConfig.Clone(), ready: map[string]*ahead{}}
	if w.config == nil {
		w.config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if t.ForceAttemptHTTP2 && w.config.NextProtos == nil {
		w.config.NextProtos = []string{"h2", "http/1.1"}
	}
	if w.dial == nil {
		w.dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	t.DialTLSContext = w.take
	return w
}

// Transport is the one that takes what was opened.
func (w *Warmer) Transport() *http.Transport { return w.transport }

// Open opens a connection to the host of an https URL in the background, unless
// one is being opened or a proxy stands between.
func (w *Warmer) Open(u *url.URL) {
	if u == nil || u.Scheme != "https" || w.proxied(u) {
		return
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	addr := net.JoinHostPort(u.Hostname(), port)

	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ready[addr] != nil || len(w.ready) >= maxWarm {
		return
	}
	a := &ahead{done: make(chan struct{})}
	w.ready[addr] = a
	go w.open(addr, a)
}

func (w *Warmer) proxied(u *url.URL) bool {
	if w.transport.Proxy == nil {
		return false
	}
	via, err := w.transport.Proxy(&http.Request{URL: u})
	return via != nil || err != nil
}

func (w *Warmer) open(addr string, a *ahead) {
	ctx, cancel := context.WithTimeout(context.Background(), warmFor)
	defer cancel()
	a.conn, a.err = w.connect(ctx, "tcp", addr)
	close(a.done)

	time.AfterFunc(warmFor, func() {
		w.mu.Lock()
		unused := w.ready[addr] == a
		if unused {
			delete(w.ready, addr)
		}
		w.mu.Unlock()
		if unused && a.conn != nil {
			_ = a.conn.Close()
		}
	})
}

// take is the transport's way to a TLS connection: one that was opened ahead,
// or a new one.
func (w *Warmer) take(ctx context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	a := w.ready[addr]
	delete(w.ready, addr)
	w.mu.Unlock()
	if a == nil {
		return w.connect(ctx, network, addr)
	}

	select {
	case <-a.done:
	case <-ctx.Done():
		go func() {
			if <-a.done; a.conn != nil {
				_ = a.conn.Close()
			}
		}()

		return nil, ctx.Err()
	}

	if a.err != nil {
		return w.connect(ctx, network, addr) // its failure is nobody's answer
	}

	return a.conn, nil
}

func (w *Warmer) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	raw, err := w.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}

	config := w.config.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(addr)
	}
	conn := tls.Client(raw, config)
	if limit := w.transport.TLSHandshakeTimeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}

	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}

	return conn, nil
}
