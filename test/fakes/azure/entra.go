package azure

import (
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// An aadsts is an error of Entra: "Microsoft Entra authentication and
// authorization error codes".
type aadsts struct {
	status  int
	code    int
	oauth   string
	message string
}

func entraError(status, code int, oauth, format string, args ...any) *aadsts {
	return &aadsts{status, code, oauth, fmt.Sprintf(format, args...)}
}

func (s *Server) refuseEntra(w http.ResponseWriter, call *Call, e *aadsts) {
	s.End(call, e.status, fmt.Sprintf("AADSTS%d", e.code))
	trace, correlation := requestID(), requestID()
	at := s.opts.Now().UTC().Format("2006-01-02 15:04:05Z")
	writeJSON(w, e.status, map[string]any{
		"error": e.oauth,
		"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s",
			e.code, e.message, trace, correlation, at),
		"error_codes": []int{e.code}, "timestamp": at, "trace_id": trace, "correlation_id": correlation,
		"error_uri": fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", e.code),
	})
}

var tokenPath = regexp.MustCompile(`^/([A-Za-z0-9.-]+)/oauth2/v2\.0/token$`)
var discoveryPath = regexp.MustCompile(`^/([A-Za-z0-9.-]+)/v2\.0/\.well-known/openid-configuration$`)

// serveEntra is an authority, or the token proxy in front of one.
func (s *Server) serveEntra(w http.ResponseWriter, r *http.Request, service string) {
	op, tenant := "", ""
	if m := tokenPath.FindStringSubmatch(r.URL.Path); m != nil {
		op, tenant = "Token", m[1]
	} else if m := discoveryPath.FindStringSubmatch(r.URL.Path); m != nil {
		op, tenant = "OpenIDConfiguration", m[1]
	} else if r.URL.Path == "/common/discovery/instance" {
		op = "InstanceDiscovery"
	}

	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		panic(http.ErrAbortHandler) // the client went away
	}
	form, err := url.ParseQuery(string(body))
	c := Call{Service: service, Op: op, Caller: form.Get("client_id")}
	if op == "Token" {
		c.IDs, c.Note = []string{form.Get("client_id")}, "("+credential(form)+")"
	}
	call := s.Begin(c)
	if s.Disturb(w, r, call, func(outcome traffic.Outcome, f Fault) { s.disturbedEntra(w, call, outcome, f) }) {
		return
	}

	switch {
	case op == "InstanceDiscovery":
		s.End(call, http.StatusOK, "")
		writeJSON(w, http.StatusOK, instances(hostname(r.Host)))
	case op == "" || err != nil || op == "Token" && r.Method != http.MethodPost:
		s.End(call, http.StatusNotFound, "")
		http.Error(w, "not found", http.StatusNotFound)
	case !s.hasTenant(tenant):
		s.refuseEntra(w, call, entraError(http.StatusBadRequest, 90002, "invalid_request", "Tenant '%s' not found. Check to make sure "+
			"you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, "+
			"this may happen if there are no active subscriptions for the tenant.", tenant))
	case op == "OpenIDConfiguration":
		s.End(call, http.StatusOK, "")
		writeJSON(w, http.StatusOK, configuration(authorityOf(r), tenant))
	default:
		s.serveToken(w, call, service, tenant, form, authorityOf(r))
	}
}

// authorityOf is the authority that the request is for; the proxy's own name is
// none.
func authorityOf(r *http.Request) string {
	if host := hostname(r.Host); isAuthority(host) {
		return host
	}
	return clouds[0].authority
}

func (s *Server) disturbedEntra(w http.ResponseWriter, call *Call, outcome traffic.Outcome, f Fault) {
	e := &aadsts{status: f.Status, oauth: "temporarily_unavailable", message: f.Message}
	e.code, _ = strconv.Atoi(strings.TrimPrefix(f.Code, "AADSTS"))
	if f.Code == "" {
		e.code, e.message = 90033, cmp.Or(f.Message, "A transient error has occurred. Please try again.")
	}
	if outcome == traffic.Throttle {
		e = entraError(http.StatusTooManyRequests, 50196, "temporarily_unavailable", "The server terminated an operation because it "+
			"encountered a client request loop. Please contact your app vendor.")
		f.RetryAfter = time.Second
	}
	if e.status == 0 {
		e.status = http.StatusServiceUnavailable
	}
	retryAfter(w, f.RetryAfter)
	s.refuseEntra(w, call, e)
}

// retryAfter sets the header, in whole seconds.
func retryAfter(w http.ResponseWriter, d time.Duration) {
	if d > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((d+time.Second-1)/time.Second)))
	}
}

// credential says what a token request brings.
func credential(form url.Values) string {
	switch {
	case form.Get("client_assertion") != "":
		return "assertion"
	case form.Get("client_secret") != "":
		return "secret"
	}
	return "nothing"
}

func instances(host string) map[string]any {
	var metadata []map[string]any
	for _, c := range clouds {
		metadata = append(metadata, map[string]any{
			"preferred_network": c.authority, "preferred_cache": c.authority, "aliases": []string{c.authority},
		})
	}
	return map[string]any{
		"tenant_discovery_endpoint": "https://" + host + "/common/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1", "metadata": metadata,
	}
}

func configuration(host, tenant string) map[string]any {
	base := "https://" + host + "/" + tenant
	return map[string]any{
		"issuer": base + "/v2.0", "token_endpoint": base + "/oauth2/v2.0/token",
		"authorization_endpoint": base + "/oauth2/v2.0/authorize", "jwks_uri": base + "/discovery/v2.0/keys",
	}
}

// serveToken is the client credentials grant: "Microsoft identity platform and
// the OAuth 2.0 client credentials flow".
func (s *Server) serveToken(w http.ResponseWriter, call *Call, service, tenant string, form url.Values, authority string) {
	a, known := s.app(form.Get("client_id"))
	resource, scoped := strings.CutSuffix(form.Get("scope"), "/.default")
	if first, _, several := strings.Cut(form.Get("scope"), " "); several {
		resource, scoped = strings.CutSuffix(first, "/.default")
	}
	switch {
	case form.Get("grant_type") != "client_credentials":
		s.refuseEntra(w, call, entraError(400, 70003, "unsupported_grant_type",
			"The app requested an unsupported grant type '%s'.", form.Get("grant_type")))
		return
	case !known || a.Tenant != tenant && !s.opts.AcceptAnyToken:
		s.refuseEntra(w, call, entraError(400, 700016, "unauthorized_client", "Application with identifier '%s' was not found in the "+
			"directory '%s'. This can happen if the application has not been installed by the administrator of the tenant or "+
			"consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.",
			form.Get("client_id"), tenant))
		return
	case !scoped:
		s.refuseEntra(w, call, entraError(400, 1002012, "invalid_scope", "The provided value for scope %s is not valid. Client "+
			"credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).",
			form.Get("scope")))
		return
	}
	if e := s.verify(a, service, form, "https://"+authority+"/"+tenant+"/oauth2/v2.0/token"); e != nil {
		s.refuseEntra(w, call, e)
		return
	}

	token, lifetime := s.issue(a, resource)
	s.End(call, http.StatusOK, "")
	writeJSON(w, http.StatusOK, map[string]any{
		"token_type": "Bearer", "access_token": token,
		"expires_in": int(lifetime.Seconds()), "ext_expires_in": int(lifetime.Seconds()),
	})
}

// verify checks the credential of a request.
func (s *Server) verify(a App, service string, form url.Values, endpoint string) *aadsts {
	assertion, secret := form.Get("client_assertion"), form.Get("client_secret")
	claims, bad := oidc.Parse(assertion)
	switch {
	case s.opts.AcceptAnyToken:
		return nil
	case service == TokenProxy && assertion == "":
		return entraError(400, 900144, "invalid_request", "The request body must contain the following parameter: 'client_assertion'.")
	case secret != "" && slices.Contains(a.Secrets, secret):
		return nil
	case secret != "":
		return entraError(401, 7000215, "invalid_client", "Invalid client secret provided. Ensure the secret being sent in the request "+
			"is the client secret value, not the client secret ID, for a secret added to app '%s'.", a.ClientID)
	case assertion == "":
		return entraError(401, 7000218, "invalid_client", "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
	case form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || bad != nil:
		return entraError(401, 50027, "invalid_request", "JWT token is invalid or malformed.")
	case claims.Issuer == a.ClientID:
		return s.verifyCertificate(a, assertion, endpoint)
	}
	return s.verifyFederated(a, service, assertion, claims)
}

// verifyFederated finds the federated identity credential that a token is of. A
// token of an identity binding is the proxy's to judge.
func (s *Server) verifyFederated(a App, service, assertion string, claims oidc.Claims) *aadsts {
	federated := a.Federated
	if service == TokenProxy {
		federated = []Federated{{a.Binding, claims.Subject, IdentityBinding}}
	}
	if len(federated) == 0 {
		return entraError(401, 70025, "invalid_client", "The client '%s' has no configured federated identity credentials.", a.ClientID)
	}
	const remedy = "Check your federated identity credential Subject, Audience and Issuer against the presented assertion. " +
		"https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
	matches := func(is func(Federated) bool) bool { return slices.ContainsFunc(federated, is) }
	ofIssuer := func(f Federated) bool { return f.Issuer == claims.Issuer }
	ofSubject := func(f Federated) bool { return ofIssuer(f) && f.Subject == claims.Subject }
	ofAudience := func(f Federated) bool { return ofSubject(f) && slices.Contains(claims.Audience, f.Audience) }
	switch {
	case !matches(ofIssuer):
		return entraError(401, 700211, "invalid_client", "No matching federated identity record found for presented assertion issuer '%s'. %s",
			claims.Issuer, remedy)
	case !matches(ofSubject):
		return entraError(401, 700213, "invalid_client", "No matching federated identity record found for presented assertion subject '%s'. %s",
			claims.Subject, remedy)
	case !matches(ofAudience):
		return entraError(401, 700212, "invalid_client", "No matching federated identity record found for presented assertion audience '%s'. %s",
			strings.Join(claims.Audience, ","), remedy)
	}

	_, err := s.VerifyToken(assertion)
	switch {
	case errors.Is(err, oidc.ErrIssuer):
		return entraError(400, 50166, "invalid_request", "Request to External OIDC endpoint failed.")
	case err != nil:
		return entraError(401, 50013, "invalid_client", "Assertion failed signature validation. [Reason - The key was not found.]")
	}
	return s.inTime(claims.NotBefore, claims.Expires)
}

func (s *Server) inTime(notBefore, expires float64) *aadsts {
	now := s.opts.Now()
	if at := float64(now.Unix()); at < expires && at+300 >= notBefore {
		return nil
	}
	const layout = "2006-01-02T15:04:05.0000000Z"
	return entraError(401, 700024, "invalid_client", "Client assertion is not within its valid time range. Current time: %s, "+
		"expiry time of assertion %s. Review the documentation at "+
		"https://learn.microsoft.com/entra/identity-platform/certificate-credentials .",
		now.UTC().Format(layout), time.Unix(int64(expires), 0).UTC().Format(layout))
}

// verifyCertificate checks an assertion that the application signed with its own
// certificate: "Microsoft identity platform application authentication
// certificate credentials".
func (s *Server) verifyCertificate(a App, assertion, endpoint string) *aadsts {
	parser := jwt.NewParser(jwt.WithoutClaimsValidation(), jwt.WithValidMethods([]string{"PS256", "RS256"}))
	_, err := parser.Parse(assertion, func(t *jwt.Token) (any, error) {
		for _, c := range a.Certificates {
			one, two := sha1.Sum(c.Raw), sha256.Sum256(c.Raw)
			if isThumbprint(t.Header["x5t"], one[:]) || isThumbprint(t.Header["x5t#S256"], two[:]) {
				return c.PublicKey, nil
			}
		}
		return nil, errors.New("the key was not found")
	})
	if err != nil {
		return entraError(401, 700027, "invalid_client", "The certificate with identifier used to sign the client assertion is not "+
			"registered on application. [Reason - The key was not found.]")
	}
	claims, _ := oidc.Parse(assertion)
	if claims.Subject != a.ClientID || !slices.Contains(claims.Audience, endpoint) {
		return entraError(401, 700023, "invalid_client", "Client assertion audience claim does not match Realm issuer.")
	}
	return s.inTime(claims.NotBefore, claims.Expires)
}

// isThumbprint reads a header in base64url, as RFC 7515 has it, and in padded
// base64, as Microsoft's own library sends it.
func isThumbprint(header any, sum []byte) bool {
	return header == base64.RawURLEncoding.EncodeToString(sum) || header == base64.StdEncoding.EncodeToString(sum)
}

// IdentityBindings is the token proxy of a cluster's identity bindings. It is
// reached under the API server's authority and a server name of its own, and
// answers no other name.
func (s *Server) IdentityBindings(serverName string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || r.TLS.ServerName != serverName {
			c := s.Begin(Call{Service: TokenProxy, Op: "WrongServerName"})
			s.End(c, http.StatusMisdirectedRequest, "")
			http.Error(w, "misdirected request", http.StatusMisdirectedRequest)
			return
		}
		s.serveEntra(w, r, TokenProxy)
	})
}
