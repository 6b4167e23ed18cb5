package azure

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/peer"
)

const (
	attempts    = 3
	attemptTime = 5 * time.Second
	maxBody     = 64 << 10
	maxAfter    = 3 * time.Second // of a Retry-After that a sign-in waits for
	bearerJWT   = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	adfs        = "adfs"
)

// again tries until it works, or will not; try says how long its peer wants to
// be left alone.
func again(ctx context.Context, try func(context.Context) (auth.Token, time.Duration, error)) (t auth.Token, err error) {
	for n := range attempts {
		var after time.Duration
		attempt, cancel := context.WithTimeout(ctx, attemptTime)
		t, after, err = try(attempt)
		cancel()
		if err == nil || !fault.ReasonOf(err).Transient() || n == attempts-1 {
			break
		}

		select {
		case <-time.After(max(min(after, maxAfter), rand.N(200*time.Millisecond<<n))):
		case <-ctx.Done():
			return t, err
		}
	}
	return t, err
}

// assert is workload identity: the pod's token for one of Entra's.
func (s *Session) assert(ctx context.Context, t auth.Token, resource string) (auth.Token, error) {
	if err := s.id.CheckExpiry(t, TokenExchangeAudience, s.broker.opts.Now()); err != nil {
		return auth.Token{}, err
	}
	out, err := s.ask(ctx, s.broker.entra, s.tokenEndpoint(), s.form(resource, "client_assertion", t.Reveal()), t)
	auth.Tried(s.broker.opts.Metrics, "azure-entra", err)
	return out, err
}

// prove is a service principal's secret or certificate.
func (s *Session) prove(ctx context.Context, _ auth.Token, resource string) (auth.Token, error) {
	field, proof := "client_secret", s.service.secret
	if s.service.certificate != nil {
		var err error
		field = "client_assertion"
		if proof, err = s.service.assertion(s.tokenEndpoint(), s.broker.opts.Now()); err != nil {
			return auth.Token{}, setup(fault.Invalid, "the key of clientcertificate does not sign")
		}
	}

	out, err := s.ask(ctx, s.broker.entra, s.tokenEndpoint(), s.form(resource, field, proof), auth.Token{})
	auth.Tried(s.broker.opts.Metrics, "azure-entra", err)
	return out, err
}

func (b *Broker) entra(req *http.Request) (*http.Response, error) {
	return b.opts.Network.do(b.opts.Network.entra, req)
}

// tokenEndpoint is Entra's, or that of Active Directory Federation Services.
func (s *Session) tokenEndpoint() string {
	if strings.EqualFold(s.login.Tenant, adfs) {
		return strings.TrimSuffix(s.login.Cloud.Authority, "/"+adfs) + "/" + adfs + "/oauth2/token"
	}
	return s.login.Cloud.Authority + "/" + s.login.Tenant + "/oauth2/v2.0/token"
}

// form is the client credentials grant, with one proof.
func (s *Session) form(resource, field, proof string) url.Values {
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {s.login.Client}, "scope": {resource + "/.default"}, field: {proof},
	}
	if field == "client_assertion" {
		form.Set("client_assertion_type", bearerJWT)
	}
	return form
}

type doer func(*http.Request) (*http.Response, error)

// ask posts a form to a token endpoint; t is the pod's token in it.
func (s *Session) ask(ctx context.Context, do doer, endpoint string, form url.Values, t auth.Token) (auth.Token, error) {
	return again(ctx, func(ctx context.Context) (auth.Token, time.Duration, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
		if err != nil {
			return auth.Token{}, 0, setup(fault.Invalid, "the authority of cloud %s is no URL", s.login.Cloud.Name)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Accept", "application/json")
		return s.askOnce(do, req, t)
	})
}

func (s *Session) askOnce(do doer, req *http.Request, t auth.Token) (auth.Token, time.Duration, error) {
	host := req.URL.Host
	res, err := do(req)
	if err != nil {
		return auth.Token{}, 0, refused(fault.Unavailable, &Answer{}, "", "%s cannot be reached: %s", host, peer.Unreached(err))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return auth.Token{}, 0, refused(fault.Unavailable, &Answer{}, "", "%s broke off its answer", host)
	}
	if res.StatusCode != http.StatusOK {
		return auth.Token{}, RetryAfter(res.Header), s.entraRefused(host, res.StatusCode, body, t)
	}

	out, ok := readToken(body, s.broker.opts.Now())
	if !ok {
		return auth.Token{}, 0, refused(fault.Unavailable, &Answer{Status: res.StatusCode}, "", "%s answered without a token", host)
	}
	return out, 0, nil
}

// unsaid is how long a token is used whose life its issuer does not say.
const unsaid = 5 * time.Minute

// readToken reads an answer of Entra or of a metadata server, where numbers are
// texts.
func readToken(body []byte, now time.Time) (t auth.Token, ok bool) {
	var answer struct {
		Token string      `json:"access_token"`
		In    json.Number `json:"expires_in"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Token == "" {
		return t, false
	}
	life := unsaid
	if n, err := strconv.ParseInt(answer.In.String(), 10, 32); err == nil && n > 0 {
		life = time.Duration(n) * time.Second
	}
	return auth.NewToken(answer.Token, now.Add(life)), true
}

// RetryAfter is how many seconds an answer asks to be left alone; 0 for nothing.
func RetryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(n) * time.Second
}
