package kubernetes

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/auth/peer"
)

// connection is where the API server is and who asks.
type connection struct {
	server         string
	http           *http.Client
	token          string
	tokenFile      string // read for every request: kubelet renews it
	user, password string
}

func (c *connection) authorize(req *http.Request) error {
	token := c.token
	if c.tokenFile != "" {
		text, err := os.ReadFile(c.tokenFile)
		if err != nil {
			return fmt.Errorf("the API server cannot be asked: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}

	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	} else if c.user != "" {
		req.SetBasicAuth(c.user, c.password)
	}

	return nil
}

// connection is made by the first request that can make it.
func (c *Client) connection() (*connection, error) {
	c.connect.Lock()
	defer c.connect.Unlock()
	if c.conn != nil {
		return c.conn, nil
	}
	var conn *connection
	var err error
	if c.opts.Kubeconfig != "" {
		conn, err = fromKubeconfig(c.opts.Kubeconfig)
	} else {
		conn, err = inCluster(c.opts)
	}
	if err != nil {
		return nil, err
	}
	c.conn = conn

	return conn, nil
}

func client(t *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:     t,
			TLSHandshakeTimeout: 5 * time.Second,
			MaxIdleConnsPerHost: 4,
			MaxConnsPerHost:     16,
			IdleConnTimeout:     90 * time.Second,
			ForceAttemptHTTP2:   true,
		},
		// A token goes to the server that was named, and nowhere else.
		CheckRedirect: peer.NoRedirect,
	}
}

func inCluster(o Options) (*connection, error) {
	if o.Host == "" || o.Port == "" {
		return nil, errors.New("the API server cannot be asked: this process does not run in a pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set), and no --kubeconfig is given")
	}
	if _, err := os.Stat(o.TokenFile); err != nil {
		return nil, fmt.Errorf("the API server cannot be asked: the pod has no token (%w); the chart gives it one with rbac.serviceAccountAnnotations.enabled, rbac.nodes.enabled or events.enabled", err)
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("the API server cannot be asked: %w", err)
	}
	roots, err := pool(pem, o.CAFile)
	if err != nil {
		return nil, err
	}
	return &connection{
		server:    "https://" + net.JoinHostPort(o.Host, o.Port),
		http:      client(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}),
		tokenFile: o.TokenFile,
	}, nil
}

func pool(pem []byte, from string) (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the API server cannot be asked: %s holds no certificate", from)
	}
	return roots, nil
}

// kubeconfig is the part of a kubeconfig file that is used.
type kubeconfig struct {
	CurrentContext string `yaml:"current-context"`
	Contexts       []struct {
		Name    string `yaml:"name"`
		Context struct {
			Cluster string `yaml:"cluster"`
			User    string `yaml:"user"`
		} `yaml:"context"`
	} `yaml:"contexts"`
	Clusters []struct {
		Name    string  `yaml:"name"`
		Cluster cluster `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		Name string `yaml:"name"`
		User user   `yaml:"user"`
	} `yaml:"users"`
}

type cluster struct {
	Server     string `yaml:"server"`
	CA         string `yaml:"certificate-authority"`
	CAData     string `yaml:"certificate-authority-data"`
	Insecure   bool   `yaml:"insecure-skip-tls-verify"`
	ServerName string `yaml:"tls-server-name"`
	ProxyURL   string `yaml:"proxy-url"`
}

type user struct {
	Token     string `yaml:"token"`
	TokenFile string `yaml:"tokenFile"`
	Cert      string `yaml:"client-certificate"`
	CertData  string `yaml:"client-certificate-data"`
	Key       string `yaml:"client-key"`
	KeyData   string `yaml:"client-key-data"`
	Username  string `yaml:"username"`
	Password  string `yaml:"password"`
	Exec      any    `yaml:"exec"`
	Provider  any    `yaml:"auth-provider"`
}

func fromKubeconfig(path string) (*connection, error) {
	fail := func(format string, args ...any) (*connection, error) {
		return nil, fmt.Errorf("kubeconfig %s: "+format, append([]any{path}, args...)...)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	var k kubeconfig
	if yaml.Unmarshal(text, &k) != nil { // the reader's own text may quote a token
		return fail("is not the YAML of a kubeconfig")
	}
	if k.CurrentContext == "" {
		return fail("names no current-context")
	}
	var clusterName, userName string
	for _, c := range k.Contexts {
		if c.Name == k.CurrentContext {
			clusterName, userName = c.Context.Cluster, c.Context.User
		}
	}

	var cl *cluster
	for i := range k.Clusters {
		if k.Clusters[i].Name == clusterName {
			cl = &k.Clusters[i].Cluster
		}
	}

	if cl == nil || cl.Server == "" {
		return fail("context %q leads to no cluster with a server", k.CurrentContext)
	}
	var u user
	for _, each := range k.Users {
		if each.Name == userName {
			u = each.User
		}
	}

	if u.Exec != nil || u.Provider != nil {
		return fail("user %q logs in by another program (exec or auth-provider), which Coffre never runs; use a token, a tokenFile or a client certificate", userName)
	}
	server, err := url.Parse(cl.Server)
	if err != nil || server.Host == "" || (server.Scheme != "https" && server.Scheme != "http") {
		return fail("cluster %q has no server that is a URL", clusterName)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: cl.Insecure, ServerName: cl.ServerName}
	f := files{dir: filepath.Dir(path)}
	if ca := f.read(cl.CA, cl.CAData); ca != nil && f.err == nil {
		if t.RootCAs, err = pool(ca, "kubeconfig "+path); err != nil {
			return nil, err
		}
	}

	cert, key := f.read(u.Cert, u.CertData), f.read(u.Key, u.KeyData)
	if f.err != nil {
		return fail("%w", f.err)
	}
	if cert != nil || key != nil {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return fail("user %q: the client certificate and key are no pair", userName)
		}
		t.Certificates = []tls.Certificate{pair}
	}

	c := &connection{server: strings.TrimRight(cl.Server, "/"), http: client(t), token: u.Token, user: u.Username, password: u.Password}
	if u.TokenFile != "" {
		c.tokenFile = f.path(u.TokenFile)
	}
	if cl.ProxyURL != "" {
		proxy, err := url.Parse(cl.ProxyURL)
		if err != nil {
			return fail("cluster %q: proxy-url is no URL", clusterName)
		}
		c.http.Transport.(*http.Transport).Proxy = http.ProxyURL(proxy)
	}

	return c, nil
}

// files reads what a kubeconfig names: paths are relative to it, and data wins.
type files struct {
	dir string
	err error
}

func (f *files) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(f.dir, p)
}

func (f *files) read(path, data string) []byte {
	if f.err != nil || path == "" && data == "" {
		return nil
	}
	if data != "" {
		raw, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			f.err = errors.New("certificate data is not base64")
		}
		return raw
	}

	raw, err := os.ReadFile(f.path(path))
	if err != nil {
		f.err = err
	}

	return raw
}
