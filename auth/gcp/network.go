package gcp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/peer"
)

// NetworkOptions say how Google is reached. The zero options are the network,
// with the proxies of the environment and the system's roots.
type NetworkOptions struct {
	UserAgent string
	// Dial and TLS stand in for the network, where Dial is not nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	TLS  *tls.Config
}

// Network opens connections to Google's hosts. What it opens belongs to whoever
// asked.
type Network struct {
	opts NetworkOptions
	http *http.Client
}

// NewNetwork makes a Network; it opens nothing.
func NewNetwork(o NetworkOptions) *Network {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: o.Dial, TLSClientConfig: o.TLS, ForceAttemptHTTP2: true,
		MaxConnsPerHost: 16, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: 5 * time.Second, ReadBufferSize: buffer, WriteBufferSize: buffer,
	}
	if o.Dial == nil {
		transport.DialContext = (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	} else {
		transport.Proxy = nil
	}
	return &Network{opts: o, http: &http.Client{Transport: transport, CheckRedirect: peer.NoRedirect}}
}

// What a connection keeps in memory: answers are 64 KiB at most, or a MiB for a
// rendered parameter, and who may name locations decides how many connections
// there are.
const (
	buffer = 4 << 10
	// A connection that nothing comes over any more is given up: without it a
	// host that went away is waited for until the kernel gives up.
	ping, pong = time.Minute, 10 * time.Second
	idle       = 5 * time.Minute
	dialing    = 5 * time.Second
)

// reconnect is when a connection that broke is opened again. Who must not be
// asked is the breaker's to say: gRPC's own two minutes would keep a service
// that is back from everybody.
var reconnect = backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}

// Connect makes a connection to a host of Google's, over which every call
// brings the credential of its own identity. It is opened by the first call, or
// by its Connect.
func (n *Network) Connect(host string) (*grpc.ClientConn, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if n.opts.TLS != nil {
		config = n.opts.TLS.Clone()
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithUserAgent(n.opts.UserAgent),
		grpc.WithReadBufferSize(buffer), grpc.WithWriteBufferSize(buffer), grpc.WithSharedWriteBuffer(true),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: ping, Timeout: pong}), grpc.WithIdleTimeout(idle),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: dialing}),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
	}
	target := "dns:///" + host + ":443"
	if dial := n.opts.Dial; dial != nil {
		target = "passthrough:///" + host + ":443"
		options = append(options, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dial(ctx, "tcp", address)
		}))
	}
	return grpc.NewClient(target, options...)
}

// Close closes the connections of sign-ins that are idle.
func (n *Network) Close() { n.http.CloseIdleConnections() }

// Bearer gives one call the credential of its identity.
func Bearer(t auth.Token) grpc.CallOption { return grpc.PerRPCCredentials(bearer{t}) }

type bearer struct{ token auth.Token }

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if b.token.Reveal() == "" {
		return nil, errors.New("a call without a credential")
	}
	return map[string]string{"authorization": "Bearer " + b.token.Reveal()}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }
