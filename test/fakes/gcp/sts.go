package gcp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// maxForm bounds a request to a token endpoint.
const maxForm = 64 << 10

// oauthForm reads a form, or a JSON object of texts as GKE's clients send it,
// records it and disturbs it. ok is false where it has been answered.
func (s *Server) oauthForm(w http.ResponseWriter, r *http.Request, service, op string) (form url.Values, call *Call, ok bool) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxForm))
	if err != nil {
		panic(http.ErrAbortHandler) // the client went away
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		form, err = jsonForm(body)
	} else {
		form, err = url.ParseQuery(string(body))
	}

	c := Call{Service: service, Op: op}
	if claims, bad := oidc.Parse(form.Get("subject_token")); bad == nil {
		c.Caller = claims.Subject
	}
	if audience := form.Get("audience"); audience != "" {
		c.IDs = []string{audience}
	}
	call = s.Begin(c)
	answered := s.Disturb(w, r, call, func(outcome traffic.Outcome, f Fault) {
		if outcome == traffic.Throttle {
			f = Fault{Status: http.StatusTooManyRequests, Code: "rate_limit_exceeded", Message: "Quota exceeded"}
		}
		if f.Status == 0 {
			f.Status = http.StatusBadRequest
		}
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", fmt.Sprint(math.Ceil(f.RetryAfter.Seconds())))
		}
		s.refuseOAuth(w, call, f.Status, f.Code, f.Message)
	})
	switch {
	case answered:
		return nil, nil, false
	case r.Method != http.MethodPost || err != nil:
		s.refuseOAuth(w, call, http.StatusBadRequest, "invalid_request", "The request is not a form or a JSON object of texts.")
		return nil, nil, false
	}
	return form, call, true
}

// jsonForm reads both spellings of the fields: subjectToken and subject_token.
func jsonForm(body []byte) (url.Values, error) {
	var in map[string]string
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	form := url.Values{}
	for k, v := range in {
		var name strings.Builder
		for _, c := range k {
			if c >= 'A' && c <= 'Z' {
				name.WriteByte('_')
				c += 'a' - 'A'
			}
			name.WriteRune(c)
		}
		form.Set(name.String(), v)
	}
	return form, nil
}

const (
	tokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	jwtToken      = "urn:ietf:params:oauth:token-type:jwt"
	idToken       = "urn:ietf:params:oauth:token-type:id_token"
	accessToken   = "urn:ietf:params:oauth:token-type:access_token"
)

// serveSTS is the Security Token Service: RFC 8693, with the errors of the
// Security Token Service API reference.
func (s *Server) serveSTS(w http.ResponseWriter, r *http.Request) {
	form, call, ok := s.oauthForm(w, r, STS, "Token")
	if !ok {
		return
	}
	for _, field := range []struct {
		name string
		want []string
	}{
		{"grant_type", []string{tokenExchange}},
		{"requested_token_type", []string{accessToken}},
		{"subject_token_type", []string{jwtToken, idToken}},
	} {
		if !slices.Contains(field.want, form.Get(field.name)) {
			s.refuseOAuth(w, call, http.StatusBadRequest, "invalid_request", "Invalid value for \""+field.name+"\".")
			return
		}
	}
	if form.Get("scope") == "" {
		s.refuseOAuth(w, call, http.StatusBadRequest, "invalid_scope", "The request has no scope.")
		return
	}

	who, refusal := s.exchange(form.Get("audience"), form.Get("subject_token"))
	if refusal.code != "" {
		s.refuseOAuth(w, call, http.StatusBadRequest, refusal.code, refusal.text)
		return
	}
	s.Amend(call, func(c *Call) { c.Caller = who.principal })
	s.answerToken(w, call, who, time.Hour, accessToken)
}

// A refusal is an OAuth error; without a code there is none.
type refusal struct{ code, text string }

// exchange verifies a subject token for an audience.
func (s *Server) exchange(audience, token string) (caller, refusal) {
	s.identities.mu.RLock()
	p, ok := s.providers[audience]
	s.identities.mu.RUnlock()
	if s.opts.AcceptAnyToken {
		return caller{principal: "anybody"}, refusal{}
	}
	if !ok || p.Disabled {
		return caller{}, refusal{"invalid_target", `The target service indicated by the "audience" parameters is invalid. ` +
			`This might either be because the pool or provider is disabled or deleted or because it doesn't exist.`}
	}

	claims, err := s.VerifyToken(token)
	now := float64(s.opts.Now().Unix())
	switch {
	case errors.Is(err, oidc.ErrMalformed):
		return caller{}, refusal{"invalid_request", "Unable to parse the ID Token."}
	case claims.Issuer != p.Issuer:
		return caller{}, refusal{"invalid_grant", "The issuer in ID Token " + claims.Issuer + " does not match the expected ones: " + p.Issuer}
	case errors.Is(err, oidc.ErrIssuer):
		return caller{}, refusal{"invalid_grant", "Error connecting to the given credential's issuer."}
	case err != nil:
		return caller{}, refusal{"invalid_grant", "Invalid JWT: signature verification failed: " + err.Error()}
	case !slices.ContainsFunc(p.tokenAudiences(), func(a string) bool { return slices.Contains(claims.Audience, a) }):
		return caller{}, refusal{"invalid_grant",
			fmt.Sprintf("The audience in ID Token [%s] does not match the expected audience.", strings.Join(claims.Audience, ","))}
	case now >= claims.Expires:
		return caller{}, refusal{"invalid_grant", fmt.Sprintf("ID Token expired at %.0f; it is %.0f now.", claims.Expires, now)}
	case claims.NotBefore > now+60:
		return caller{}, refusal{"invalid_grant", "ID Token is not valid yet."}
	case len(p.Subjects) > 0 && !slices.Contains(p.Subjects, claims.Subject):
		return caller{}, refusal{"unauthorized_client", "The given credential is rejected by the attribute condition."}
	}
	return s.federated(p, claims), refusal{}
}

// answerToken issues a token; expires_in is a number.
func (s *Server) answerToken(w http.ResponseWriter, call *Call, who caller, lifetime time.Duration, kind string) {
	token, expires := s.issue(who, lifetime)
	out := map[string]any{
		"access_token": token, "token_type": "Bearer", "expires_in": int(math.Round(expires.Sub(s.opts.Now()).Seconds())),
	}
	if kind != "" {
		out["issued_token_type"] = kind
	}
	s.End(call, http.StatusOK, "")
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	json.NewEncoder(w).Encode(out)
}

func (s *Server) refuseOAuth(w http.ResponseWriter, call *Call, status int, code, text string) {
	s.End(call, status, code)
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": text})
}
