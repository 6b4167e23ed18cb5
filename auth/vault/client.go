package vault

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/peer"
)

// Server is how a Vault is reached. It is comparable: equal servers share a
// client and its connections.
type Server struct {
	// Address is https://HOST[:PORT][/PREFIX], http for an agent on the node, or
	// unix:///PATH. Whoever calls has checked who may name which.
	Address string

	CACert     string // PEM
	CACertFile string
	CACertDir  string
	ServerName string // of the server's certificate
	// ClientCertFile and ClientKeyFile are shown to the server.
	ClientCertFile, ClientKeyFile string
	Insecure                      bool // takes any certificate
}

// maxAnswer bounds one answer; Vault's own limit on a request is 32 MiB, the
// driver's on a volume 4 MiB.
const maxAnswer = 8 << 20

// Call is one request.
type Call struct {
	Method    string
	Path      string // below /v1/
	Query     url.Values
	Namespace string
	Token     string
	Body      []byte // JSON; nil for none
}

// Refused is what Vault itself answered: the Cause of every error that came
// from it.
type Refused struct {
	Status     int
	Errors     []string // Vault's own words; nil where the answer was not Vault's
	Foreign    bool     // the answer was no answer of Vault's: a proxy's page, say
	Login      bool     // to a sign-in
	RetryAfter time.Duration
	// Data is of a 404 that says more: a version that was deleted.
	Data map[string]any
}

// Error says the status and Vault's words, which name no secret.
func (r *Refused) Error() string {
	words := strings.Join(r.Errors, "; ")
	if r.Foreign || words == "" {
		return fmt.Sprintf("Code: %d", r.Status)
	}
	return fmt.Sprintf("Code: %d. Errors: %s", r.Status, words)
}

// Reason of a status. Only Vault's own words are a refusal.
func (r *Refused) Reason() fault.Reason {
	switch {
	case r.Status == http.StatusTooManyRequests:
		return fault.Throttled
	case r.Foreign || r.Status >= 500 || r.Status == http.StatusPreconditionFailed || r.Status < 400:
		return fault.Unavailable
	case r.Status == http.StatusForbidden || r.Status == http.StatusUnauthorized:
		return fault.Denied
	case r.Status == http.StatusNotFound:
		return fault.NotFound
	default:
		return fault.Invalid
	}
}

// client asks one server.
type client struct {
	api       *api.Client
	transport *http.Transport
	host      string
}

// client is one of the server's, over connections of its own where over is nil.
func (s Server) client(over http.RoundTripper) (*client, error) {
	transport, address, err := s.transport()
	if err != nil {
		return nil, err
	}
	if over == nil {
		over = transport
	}
	config := &api.Config{
		Address: address,
		HttpClient: &http.Client{
			Transport:     bounded{over},
			CheckRedirect: peer.NoRedirect,
		},
		DisableRedirects: true,
	}
	c, err := api.NewClient(config)
	if err != nil {
		return nil, fault.Errorf(fault.Invalid, "no client of Vault can be made: %v", err)
	}

	// The environment of the process is nobody's: VAULT_TOKEN would be every
	// pod's, and VAULT_WRAP_TTL would wrap every answer.
	c.ClearToken()
	c.ClearNamespace()
	c.SetHeaders(http.Header{"X-Vault-Request": {"true"}})
	c.SetWrappingLookupFunc(func(string, string) string { return "" })
	config.MaxRetries = 0 // attempts are package ask's

	u, _ := url.Parse(address)
	return &client{api: c, transport: transport, host: u.Host}, nil
}

func (s Server) transport() (*http.Transport, string, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   16,
		MaxConnsPerHost:       128,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
	}
	if socket, ok := strings.CutPrefix(s.Address, "unix://"); ok {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", socket)
		}
		return t, "http://localhost", nil
	}

	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName, InsecureSkipVerify: s.Insecure}
	if err := s.trust(config); err != nil {
		return nil, "", err
	}
	if s.ClientCertFile != "" {
		pair, err := tls.LoadX509KeyPair(s.ClientCertFile, s.ClientKeyFile)
		if err != nil {
			return nil, "", fault.Errorf(fault.Precondition, "the client certificate for Vault cannot be read: %s", plain(err))
		}
		config.Certificates = []tls.Certificate{pair}
	}
	t.TLSClientConfig = config
	return t, s.Address, nil
}

// trust sets the authorities that the server's certificate may come from: the
// text, else the file, else the folder, else the system's.
func (s Server) trust(config *tls.Config) error {
	texts := []string{s.CACert}
	var files []string
	switch {
	case s.CACert != "":
	case s.CACertFile != "":
		files = []string{s.CACertFile}
	case s.CACertDir != "":
		files, _ = filepath.Glob(filepath.Join(s.CACertDir, "*"))
	default:
		return nil
	}

	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil && s.CACertDir == "" {
			return fault.Errorf(fault.Precondition, "the authority of Vault's certificate cannot be read: %s", plain(err))
		}
		texts = append(texts, string(raw))
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM([]byte(strings.Join(texts, "\n"))) {
		return fault.Errorf(fault.Precondition, "the authority of Vault's certificate is no PEM of a certificate: see caCert and caCertFile")
	}
	return nil
}

// plain is an error of reading a file without what it read.
func plain(err error) string {
	var at *os.PathError
	if errors.As(err, &at) {
		return at.Error()
	}
	return "it is no PEM of a certificate and its key"
}

// bounded cuts answers that are longer than any that can be used.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		res.Body = &limited{res.Body, maxAnswer}
	}
	return res, err
}

type limited struct {
	io.ReadCloser
	left int
}

var errTooLong = errors.New("the answer is too long")

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLong
	}
	n, err := l.ReadCloser.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// do makes one request. The answer is nil where Vault has nothing to say (204).
func (c *client) do(ctx context.Context, call Call) (*api.Secret, error) {
	res, err := c.send(ctx, call, nil)
	if res != nil {
		defer res.Body.Close()
	}
	if err != nil {
		return nil, c.judged(res, err)
	}
	if res.StatusCode >= 300 {
		return nil, &Refused{Status: res.StatusCode, Foreign: true}
	}

	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusNoContent || len(bytes.TrimSpace(raw)) == 0 && len(raw) == 0 && res.ContentLength == 0 {
		return nil, nil
	}
	if !json.Valid(raw) {
		return nil, &Refused{Status: res.StatusCode, Foreign: true}
	}
	secret, err := api.ParseSecret(bytes.NewReader(raw))
	if err != nil || secret == nil {
		return nil, &Refused{Status: res.StatusCode, Foreign: true}
	}
	return secret, nil
}

// send follows one redirect, as a standby gives it, where it stays on the host:
// a token goes nowhere else.
func (c *client) send(ctx context.Context, call Call, to *url.URL) (*api.Response, error) {
	asking := c.api
	if call.Namespace != "" {
		asking = c.api.WithNamespace(call.Namespace)
	}
	r := asking.NewRequest(call.Method, "/v1/"+call.Path)
	r.ClientToken, r.BodyBytes = call.Token, call.Body
	if call.Query != nil {
		r.Params = call.Query
	}
	if to != nil {
		r.URL = to
	}

	res, err := asking.RawRequestWithContext(ctx, r) //nolint:staticcheck // the only one that takes any method and path
	if err != nil || to != nil || res.StatusCode < 300 || res.StatusCode > 399 {
		return res, err
	}
	next, err := res.Location()
	if err != nil || next.Host != r.URL.Host || next.Scheme != r.URL.Scheme {
		return res, nil
	}
	res.Body.Close()
	return c.send(ctx, call, next)
}

// judged is a failed request: Vault's own words, or that there were none.
func (c *client) judged(res *api.Response, err error) error {
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return err
	}
	out := &Refused{Status: answer.StatusCode, Foreign: answer.RawError}
	if res != nil {
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		out.RetryAfter = time.Duration(seconds) * time.Second
		if answer.StatusCode == http.StatusNotFound && !answer.RawError {
			if s, err := api.ParseSecret(res.Body); err == nil && s != nil {
				out.Data = s.Data
			}
		}
	}
	if !answer.RawError {
		out.Errors = cut(answer.Errors)
	}
	return out
}

// cut keeps Vault's words to what fits an event.
func cut(words []string) []string {
	const most, longest = 5, 300
	var out []string
	for _, w := range words[:min(len(words), most)] {
		w = strings.TrimPrefix(strings.Join(strings.Fields(w), " "), "1 error occurred: * ")
		out = append(out, strings.ToValidUTF8(w[:min(len(w), longest)], ""))
	}
	return out
}
