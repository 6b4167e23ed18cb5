package azure

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/peer"
)

// Binding is where an AKS cluster's identity bindings are exchanged.
type Binding struct {
	URL        string // default https://kubernetes.default.svc.cluster.local, at the API server's port
	ServerName string // default computed from the API server's certificate
	Port       string // of the API server; default 443
	CAFile     string // the cluster's authority, read at every handshake; "" or absent: the system's
}

const (
	apiServer = "kubernetes.default.svc.cluster.local"
	dialTime  = 5 * time.Second
)

// proxy is the way to the token proxy: made when it is first needed.
type proxy struct {
	binding Binding
	opening chan struct{} // holds one: who finds out the server name

	mu     sync.Mutex
	client *http.Client
}

func newProxy(b Binding) *proxy { return &proxy{binding: b, opening: make(chan struct{}, 1)} }

// askProxy is an identity binding: the pod's token for one of Entra's, by the
// proxy that the cluster has for it.
func (s *Session) askProxy(ctx context.Context, t auth.Token, resource string) (auth.Token, error) {
	if err := s.id.CheckExpiry(t, IdentityBindingAudience, s.broker.opts.Now()); err != nil {
		return auth.Token{}, err
	}
	client, err := s.broker.proxy.open(ctx)
	if err != nil {
		return auth.Token{}, refused(fault.Unavailable, &Answer{}, "", "proxy transport not available: %s", err)
	}

	at, err := s.proxyEndpoint()
	if err != nil {
		return auth.Token{}, setup(fault.Precondition, "--azure-token-proxy-url is no https URL")
	}
	out, err := s.ask(ctx, client.Do, at, s.form(resource, "client_assertion", t.Reveal()), t)
	auth.Tried(s.broker.opts.Metrics, "azure-proxy", err)
	return out, err
}

// proxyEndpoint is the authority's own path, at the proxy.
func (s *Session) proxyEndpoint() (string, error) {
	base, err := url.Parse(s.broker.proxy.url())
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return "", errors.New("no https URL")
	}
	own, err := url.Parse(s.tokenEndpoint())
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(base.String(), "/") + own.EscapedPath(), nil
}

func (p *proxy) url() string {
	if p.binding.URL != "" {
		return p.binding.URL
	}
	return "https://" + net.JoinHostPort(apiServer, p.port())
}

func (p *proxy) port() string {
	if p.binding.Port == "" {
		return "443"
	}
	return p.binding.Port
}

func (p *proxy) opened() *http.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.client
}

// open makes the client, once its server name is known. Of those who would find
// it out at once, one does; the others wait no longer than they have time.
func (p *proxy) open(ctx context.Context) (*http.Client, error) {
	select {
	case p.opening <- struct{}{}:
		defer func() { <-p.opening }()
	case <-ctx.Done():
		return nil, fmt.Errorf("compute SNI name: %w", ctx.Err())
	}
	if client := p.opened(); client != nil {
		return client, nil
	}

	name := p.binding.ServerName
	if name == "" {
		id, err := p.clusterID(ctx)
		if err != nil {
			return nil, fmt.Errorf("compute SNI name: %w", err)
		}
		name = serverName(id)
	}
	client := &http.Client{CheckRedirect: peer.NoRedirect, Transport: &http.Transport{
		DialTLSContext: p.dialAs(name), MaxConnsPerHost: entraConnections, MaxIdleConnsPerHost: entraConnections,
		IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
	}}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client = client

	return client, nil
}

// serverName is what AKS calls the proxy of a cluster.
func serverName(clusterID string) string {
	sum := sha256.Sum256([]byte("identity-binding" + clusterID))
	text := base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:])
	return "a" + strings.ToLower(text) + ".ests.aks"
}

func (p *proxy) dialAs(name string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		roots, err := p.roots()
		if err != nil {
			return nil, err
		}
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTime}, Config: &tls.Config{
			ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		}}
		return d.DialContext(ctx, network, addr)
	}
}

// roots are the cluster's, as they are now; nil for the system's.
func (p *proxy) roots() (*x509.CertPool, error) {
	if p.binding.CAFile == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(p.binding.CAFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(raw) {
		return nil, errors.New("the cluster's authority cannot be read")
	}
	return pool, nil
}

var clusterName = regexp.MustCompile(`^hcp-kubernetes\.([a-zA-Z0-9-]{1,63})\.svc\.cluster\.local$`)

// clusterID stands in the API server's certificate.
func (p *proxy) clusterID(ctx context.Context) (string, error) {
	roots, err := p.roots()
	if err != nil {
		return "", err
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTime}, Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(apiServer, p.port()))
	if err != nil {
		return "", fmt.Errorf("the API server %s: %s", apiServer, peer.Unreached(err))
	}
	defer conn.Close()

	for _, name := range conn.(*tls.Conn).ConnectionState().PeerCertificates[0].DNSNames {
		if m := clusterName.FindStringSubmatch(name); m != nil {
			return m[1], nil
		}
	}
	return "", errors.New("the API server's certificate names no cluster of AKS (hcp-kubernetes.ID.svc.cluster.local): set --azure-sni-name")
}

func (p *proxy) close() {
	if client := p.opened(); client != nil {
		client.CloseIdleConnections()
	}
}
