// Command fakeaws runs the fake AWS of test/fakes/aws as a process of its own:
// for end-to-end tests, and for running Coffre unmodified without AWS.
//
// With -listen https://… it serves every host name under a certificate of its
// own authority, whose ca.crt it writes into -tls-dir for SSL_CERT_FILE. It
// must never be reachable from anywhere that holds real secrets' consumers:
// -control has no authentication.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

type options struct {
	listen, agent, control string
	tlsDir, data           string
	issuer                 string
	jwksURL, jwksFile      string
	jwksCA, jwksToken      string
	latency                time.Duration
	region                 string
	lax                    bool
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "http://127.0.0.1:8080", "where all services answer, comma-separated: http://ADDR:PORT or https://ADDR:PORT")
	flag.StringVar(&o.agent, "agent-listen", "", "where the Pod Identity agent answers alone, comma-separated: http://169.254.170.23:80,http://[fd00:ec2::23]:80")
	flag.StringVar(&o.control, "control", "", "ADDR:PORT of the control endpoint; no authentication (see Server.Control)")
	flag.StringVar(&o.tlsDir, "tls-dir", "", "directory for ca.crt and ca.key: read where they are there, made where not; needed for https")
	flag.StringVar(&o.data, "data", "", "JSON file: secrets, faults, roles, associations, limits")
	flag.StringVar(&o.issuer, "issuer", "", "URL of the OIDC issuer whose tokens are accepted")
	flag.StringVar(&o.jwksURL, "jwks-url", "", "where the issuer's keys are: https://kubernetes.default.svc/openid/v1/jwks")
	flag.StringVar(&o.jwksFile, "jwks-file", "", "file with the issuer's keys")
	flag.StringVar(&o.jwksCA, "jwks-ca", "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt", "authority of -jwks-url, where the file is there")
	flag.StringVar(&o.jwksToken, "jwks-token", "/var/run/secrets/kubernetes.io/serviceaccount/token", "bearer token for -jwks-url, where the file is there")
	flag.DurationVar(&o.latency, "latency", 0, "delay of every answer")
	flag.StringVar(&o.region, "default-region", "us-east-1", "region of an unsigned STS call that says none")
	flag.BoolVar(&o.lax, "accept-any-token", false, "take any text for a token and any name for a role")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fakeaws:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	s, err := o.server(ctx)
	if err != nil {
		return err
	}
	var ca *serve.Authority
	if o.tlsDir != "" {
		if ca, err = serve.LoadAuthority(o.tlsDir); err != nil {
			return err
		}
	}
	var open []*serve.Listener
	defer func() {
		for _, l := range open {
			l.Close()
		}
	}()
	start := func(name, urls string, h http.Handler) error {
		for _, url := range strings.FieldsFunc(urls, func(r rune) bool { return r == ',' }) {
			l, err := listen(url, h, ca)
			if err != nil {
				return fmt.Errorf("%s %s: %w", name, url, err)
			}
			open = append(open, l)
			fmt.Fprintln(out, name, l.URL())
		}
		return nil
	}
	if o.control != "" {
		o.control = "http://" + o.control
	}
	err = errors.Join(
		start("aws", o.listen, s),
		start("agent", o.agent, s.PodIdentityAgent()),
		start("control", o.control, s.Control()),
	)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "ready")
	<-ctx.Done()
	return nil
}

func listen(url string, h http.Handler, ca *serve.Authority) (*serve.Listener, error) {
	if addr, ok := strings.CutPrefix(url, "http://"); ok {
		return serve.Start(addr, h, nil)
	}
	addr, ok := strings.CutPrefix(url, "https://")
	switch {
	case !ok:
		return nil, errors.New("must start with http:// or https://")
	case ca == nil:
		return nil, errors.New("https needs -tls-dir")
	}
	return serve.Start(addr, h, ca)
}

// server is the fake, loaded with data and keys.
func (o options) server(ctx context.Context) (*aws.Server, error) {
	s := aws.New(aws.Options{AcceptAnyToken: o.lax, DefaultRegion: o.region})
	s.SetLatency("", o.latency)
	if o.data != "" {
		data, err := os.ReadFile(o.data)
		if err != nil {
			return nil, err
		}
		world, err := aws.LoadCompat(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.data, err)
		}
		s.Load(world)
	}
	if o.issuer == "" {
		if o.jwksURL != "" || o.jwksFile != "" {
			return nil, errors.New("-jwks-url and -jwks-file need -issuer")
		}
		return s, nil
	}
	data, err := o.jwks(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := oidc.ParseJWKS(data)
	if err != nil {
		return nil, err
	}
	s.AddIssuer(o.issuer, keys)
	return s, nil
}

func (o options) jwks(ctx context.Context) ([]byte, error) {
	if (o.jwksURL == "") == (o.jwksFile == "") {
		return nil, errors.New("-issuer needs -jwks-url or -jwks-file")
	}
	if o.jwksFile != "" {
		return os.ReadFile(o.jwksFile)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.jwksURL, nil)
	if err != nil {
		return nil, err
	}
	if token, err := os.ReadFile(o.jwksToken); err == nil {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	client := &http.Client{}
	if pem, err := os.ReadFile(o.jwksCA); err == nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate", o.jwksCA)
		}
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", o.jwksURL, res.Status)
	}
	return body, err
}
