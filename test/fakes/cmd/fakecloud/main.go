// Command fakecloud runs the fake clouds of test/fakes as a process of its own:
// for end-to-end tests, and for running Coffre unmodified without a cloud. One
// address serves AWS, Google and Azure, told apart by the host name that the
// client asks for; what belongs to none of them is AWS's single endpoint.
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
	flag.StringVar(&o.listen, "listen", "http://127.0.0.1:8080",
		"where all services answer, metadata servers too, comma-separated: http://ADDR:PORT or https://ADDR:PORT")
	flag.StringVar(&o.agent, "agent-listen", "", "where the Pod Identity agent answers alone, comma-separated: http://169.254.170.23:80,http://[fd00:ec2::23]:80")
	flag.StringVar(&o.control, "control", "",
		"ADDR:PORT of the control endpoints /aws/…, /gcp/… and /azure/…; no authentication (see each Server.Control)")
	flag.StringVar(&o.tlsDir, "tls-dir", "", "directory for ca.crt and ca.key: read where they are there, made where not; needed for https")
	flag.StringVar(&o.data, "data", "", "JSON file: a World for each of aws, gcp and azure")
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
		fmt.Fprintln(os.Stderr, "fakecloud:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	c, err := o.clouds(ctx)
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
		start("clouds", o.listen, c),
		start("agent", o.agent, c.aws.PodIdentityAgent()),
		start("control", o.control, c.control()),
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
