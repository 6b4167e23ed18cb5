// Package serve puts a fake's handler on a socket, in clear or behind TLS of a
// private authority that is made at test time and can stand for any host name.
// Every fake server of the project's tests listens through it. It is never
// linked into the product.
package serve

import (
	"context"
	"crypto/tls"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A Listener is one handler on one address.
type Listener struct {
	server   *http.Server
	listener net.Listener
	scheme   string
	ca       *Authority
	accepted atomic.Int64
	open     atomic.Int64
	close    sync.Once
}

// A SpeaksHTTP2 is a handler that wants HTTP/2 for some host names, as gRPC
// needs it. Every other handler gets HTTP/1.1 alone, with keep-alive, as the
// clouds' JSON and query endpoints speak it.
type SpeaksHTTP2 interface{ HTTP2(host string) bool }

// Start serves h on addr ("127.0.0.1:0" for a free port) until Close: over TLS
// where there is an authority, in clear where it is nil.
func Start(addr string, h http.Handler, ca *Authority) (*Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return On(l, h, ca), nil
}

// On is Start on a listener that is there, such as one in memory.
func On(l net.Listener, h http.Handler, ca *Authority) *Listener {
	s := &Listener{listener: l, scheme: "http", ca: ca}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	s.server = &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: time.Minute,
		ConnState:         s.count,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ErrorLog:          log.New(discard{}, "", 0), // a client that distrusts the CA is a test's business
	}
	if ca != nil {
		s.scheme = "https"
		l = tls.NewListener(l, tlsConfig(ca, h))
	}
	go s.server.Serve(l)
	return s
}

// tlsConfig offers HTTP/2 where the handler speaks it.
func tlsConfig(ca *Authority, h http.Handler) *tls.Config {
	config := ca.TLSConfig()
	speaks, ok := h.(SpeaksHTTP2)
	if !ok {
		return config
	}

	both := config.Clone()
	both.NextProtos = []string{"h2", "http/1.1"}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if speaks.HTTP2(hello.ServerName) {
			return both, nil
		}
		return nil, nil
	}
	return config
}

type connKey struct{}

// Drop closes the connection that a request came on, with all that is under way
// on it, and does not return.
func Drop(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		c.Close()
	}
	panic(http.ErrAbortHandler)
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func (s *Listener) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.accepted.Add(1)
		s.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.open.Add(-1)
	}
}

// Addr is the host and port listened on.
func (s *Listener) Addr() string { return s.listener.Addr().String() }

// URL is where the handler answers: scheme, address, no path.
func (s *Listener) URL() string { return s.scheme + "://" + s.Addr() }

// Connections is how many TCP connections were accepted since the start.
func (s *Listener) Connections() int { return int(s.accepted.Load()) }

// Open is how many TCP connections are open now.
func (s *Listener) Open() int { return int(s.open.Load()) }

// Close ends the listener and every connection to it. It does not wait for
// handlers.
func (s *Listener) Close() { s.close.Do(func() { s.server.Close() }) }

// DialContext connects to the listener whatever host is asked for. In a
// client's transport it stands for the DNS entries of the real host names.
func (s *Listener) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.Addr())
}

// Client reaches the listener under every host name and trusts its authority.
func (s *Listener) Client() *http.Client {
	t := &http.Transport{DialContext: s.DialContext, MaxIdleConnsPerHost: 1000, IdleConnTimeout: time.Minute}
	if s.ca != nil {
		t.TLSClientConfig = &tls.Config{RootCAs: s.ca.Pool()}
	}
	return &http.Client{Transport: t}
}
