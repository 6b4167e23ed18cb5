package azure

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"github.com/coffre-csi/coffre/auth/peer"
)

// NetworkOptions say how Azure is reached. The zero options are the network,
// with the proxies of the environment and the system's roots.
type NetworkOptions struct {
	UserAgent string
	// Dial and TLS stand in for the network, where Dial is not nil; Transport for
	// all of it, where that is not nil.
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
	TLS       *tls.Config
	Transport http.RoundTripper
}

// Network is the connections to authorities and vaults, shared by all that asks.
type Network struct {
	userAgent     string
	entra, vaults *http.Client
}

// Connections to one host. A vault answers 50 secrets in one wave of requests;
// sign-ins at once are far fewer.
const (
	entraConnections = 8
	vaultConnections = 48
	maxIdle          = 128
	sessions         = 128 // of TLS, one a host
	buffer           = 4 << 10
)

// NewNetwork makes a Network; it opens nothing.
func NewNetwork(o NetworkOptions) *Network {
	return &Network{userAgent: o.UserAgent, entra: newClient(o, entraConnections), vaults: newClient(o, vaultConnections)}
}

func newClient(o NetworkOptions, connections int) *http.Client {
	if o.Transport != nil {
		return &http.Client{Transport: o.Transport, CheckRedirect: peer.NoRedirect}
	}

	config := o.TLS.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	// A vault's first mount opens many connections at once: all but the first
	// take its session up again, which costs half.
	config.ClientSessionCache = tls.NewLRUClientSessionCache(sessions)
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: o.Dial, TLSClientConfig: config, ForceAttemptHTTP2: true,
		MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections, MaxIdleConns: maxIdle, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: 5 * time.Second, ReadBufferSize: buffer, WriteBufferSize: buffer,
		MaxResponseHeaderBytes: 64 << 10,
	}
	if o.Dial == nil {
		transport.DialContext = (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	} else {
		transport.Proxy = nil
	}

	return &http.Client{Transport: transport, CheckRedirect: peer.NoRedirect}
}

// Vault makes a request of a vault.
func (n *Network) Vault(req *http.Request) (*http.Response, error) { return n.do(n.vaults, req) }

func (n *Network) do(c *http.Client, req *http.Request) (*http.Response, error) {
	if n.userAgent != "" {
		req.Header.Set("User-Agent", n.userAgent)
	}
	return c.Do(req)
}

// Close closes the connections that are idle.
func (n *Network) Close() {
	n.entra.CloseIdleConnections()
	n.vaults.CloseIdleConnections()
}

// local is how metadata servers of the node are reached. An address that does
// not exist on a node answers nothing at all.
func local() *http.Client { return peer.Local(5*time.Second, time.Second) }
