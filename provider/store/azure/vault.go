package azure

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/time/rate"

	"github.com/coffre-csi/coffre/auth"
	azureauth "github.com/coffre-csi/coffre/auth/azure"
	"github.com/coffre-csi/coffre/provider/pace"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/ask"
)

// A vault takes 4,000 reads in ten seconds ("Azure Key Vault service limits"),
// from everybody together. A node makes no more than that by itself: burst, and
// perSecond for ten seconds. What other nodes take is found out by the pacer.
const (
	burst     = 1000
	perSecond = 300
	// inFlight is as many reads as there are connections, and some that wait.
	inFlight = 64
)

// vault is what the process knows of one, whoever asks.
type vault struct {
	host  string
	pacer *pace.Pacer
	limit *rate.Limiter
	asks  chan struct{} // holds one: who asks for the challenge

	mu        sync.Mutex
	challenge challenge
}

// challenge is a vault's own word on whose tokens it takes; zero where it was
// not asked yet.
type challenge struct{ resource, tenant string }

func hostOf(name string, c azureauth.Cloud) string { return strings.ToLower(name) + "." + c.Suffix }

func (c *cloud) at(host string) (*vault, func(), error) {
	return c.vaults.Use(host, func() (*vault, error) {
		return &vault{
			host: host, asks: make(chan struct{}, 1),
			pacer: pace.New(pace.Options{MaxInFlight: inFlight}), limit: rate.NewLimiter(perSecond, burst),
		}, nil
	})
}

func (v *vault) known() challenge {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.challenge
}

func (v *vault) learn(c challenge) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.challenge = c
}

// visit is a session at one vault, with a token for it.
type visit struct {
	*session
	*vault
	last bool
	as   ask.Credential[bearer]
}

// bearer is a token, and what it is for.
type bearer struct {
	resource string
	token    auth.Token
}

// enter gets ready to ask the nth vault. Of a vault that nobody asked yet the
// challenge is fetched beside the sign-in, which opens the connection too.
func (s *session) enter(ctx context.Context, n int) (*visit, func(), *store.Error) {
	vault, leave, err := s.cloud.at(s.host(n))
	if err != nil {
		return nil, nil, store.Errorf(store.Unavailable, "%s cannot be asked", s.host(n))
	}
	v := &visit{session: s, vault: vault, last: n == len(s.names)-1}
	v.as.Hold(bearer{resource: cmp.Or(vault.known().resource, s.azure.Resource())})

	if failed := v.ready(ctx); failed != nil {
		leave()
		return nil, nil, failed
	}
	return v, leave, nil
}

func (v *visit) ready(ctx context.Context) *store.Error {
	if v.vault.known().resource != "" {
		if failed := v.checkTenant(); failed != nil {
			return failed
		}
		return v.signIn(ctx)
	}

	var asked, signed *store.Error
	ask.Each(2, func(i int) {
		if i == 0 {
			asked = v.askChallenge(ctx)
		} else {
			signed = v.signIn(ctx)
		}
	})
	if asked == nil {
		return v.answerChallenge(ctx, signed)
	}
	if signed != nil && !signed.Reason.Transient() {
		return signed
	}
	return asked
}

// answerChallenge keeps what a sign-in gave where it was for what the vault says.
func (v *visit) answerChallenge(ctx context.Context, signed *store.Error) *store.Error {
	if failed := v.checkTenant(); failed != nil {
		return failed
	}
	if theirs := v.vault.known().resource; v.as.Held().resource != theirs {
		v.as.Hold(bearer{resource: theirs})
		return v.signIn(ctx)
	}
	return signed
}

func (v *visit) signIn(ctx context.Context) *store.Error {
	as, err := v.signInFor(ctx, v.as.Held().resource)
	if err != nil {
		return signInFailed(err)
	}
	v.as.Hold(as)
	return nil
}

func (v *visit) signInFor(ctx context.Context, resource string) (bearer, error) {
	t, err := v.login.Token(ctx, resource)
	return bearer{resource, t}, err
}

// renew signs in anew, after a vault has refused a token: what it said then may
// be another challenge.
func (v *visit) renew(ctx context.Context, refused bearer) error {
	return v.as.Renew(refused, func() (bearer, error) {
		v.login.Forget(refused.resource, refused.token)
		return v.signInFor(ctx, v.vault.known().resource)
	})
}

var identifier = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// checkTenant refuses a token that no vault of another directory takes.
func (v *visit) checkTenant() *store.Error {
	theirs, ours := v.vault.known().tenant, v.login.Tenant()
	comparable := identifier.MatchString(theirs) && identifier.MatchString(ours)
	if !comparable || strings.EqualFold(theirs, ours) {
		return nil
	}
	return &store.Error{Reason: store.Invalid, Cause: &azureauth.Answer{Setup: true},
		Text: fmt.Sprintf("%s belongs to tenant %s, and tokens of tenant %s are good for nothing there: set tenantID to %s", v.vault.host, theirs, ours, theirs)}
}

// askChallenge asks without a token, to be told for what a token must be. Of
// those who would ask at once, one does.
func (v *visit) askChallenge(ctx context.Context) *store.Error {
	select {
	case v.vault.asks <- struct{}{}:
		defer func() { <-v.vault.asks }()
	case <-ctx.Done():
		return store.Errorf(store.Unavailable, "%s did not answer in time", v.vault.host)
	}
	if v.vault.known().resource != "" {
		return nil
	}

	at := &url.URL{Scheme: "https", Host: v.vault.host, Path: "/secrets"}
	err := v.do(ctx, "Challenge", func(ctx context.Context, _ auth.Token) error {
		_, err := v.get(ctx, at, auth.Token{})
		if a := answerOf(err); a != nil && a.Status == http.StatusUnauthorized && v.vault.known().resource != "" {
			return nil
		}
		return err
	})
	if err != nil {
		return v.refused(err, object{})
	}
	return nil
}

// challengeParts are those of RFC 6750 that Key Vault writes.
var challengeParts = regexp.MustCompile(`(authorization|authorization_uri|resource|scope)="([^"]*)"`)

// readChallenge reads the header of a 401. What a token is for must be this vault
// or a domain above it: who answers in a vault's place must not say whose tokens
// it is sent.
func readChallenge(header, host string) (c challenge, ok bool) {
	if !strings.HasPrefix(header, "Bearer ") {
		return c, false
	}
	for _, m := range challengeParts.FindAllStringSubmatch(header, -1) {
		switch m[1] {
		case "authorization", "authorization_uri":
			if u, err := url.Parse(m[2]); err == nil {
				c.tenant, _, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
			}
		case "resource", "scope":
			c.resource = strings.TrimSuffix(strings.TrimSuffix(m[2], "/.default"), "/")
		}
	}

	u, err := url.Parse(c.resource)
	bare := err == nil && u.Scheme == "https" && u.Host != "" && u.Host == u.Hostname() && u.Path == "" && u.RawQuery == ""
	if !bare || !strings.Contains(u.Host, ".") {
		return challenge{}, false
	}
	above := strings.EqualFold(u.Host, host) || strings.HasSuffix(strings.ToLower(host), "."+strings.ToLower(u.Host))
	return c, above
}

// do makes one request until it is answered, with the visit's token.
func (v *visit) do(ctx context.Context, operation string, fn func(context.Context, auth.Token) error) error {
	if err := v.vault.limit.Wait(ctx); err != nil {
		return &failed{limited: true}
	}
	var used bearer
	caller := ask.Caller{
		Pacer: v.vault.pacer, Tenant: v.id.Namespace, Last: v.last, Judge: judge, Count: v.count,
		Renew: func(ctx context.Context) error { return v.renew(ctx, used) },
	}
	throttled, err := caller.Do(ctx, operation, func(ctx context.Context) error {
		used = v.as.Held()
		return fn(ctx, used.token)
	})
	if err == nil {
		return nil
	}
	f := failureOf(err)
	f.limited = f.limited || throttled
	return f
}

func (v *visit) count(operation, answer string) {
	if m := v.cloud.opts.Metrics; m != nil {
		m.Requested(Kind, operation, answer)
	}
}
