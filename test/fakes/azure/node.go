package azure

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// serveIMDS is the instance metadata service: "How to use managed identities for
// Azure resources on an Azure VM to acquire an access token". Numbers are texts.
func (s *Server) serveIMDS(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	call := s.Begin(Call{Service: IMDS, Op: "Token", IDs: []string{query.Get("resource")}, Caller: query.Get("client_id")})
	refuse := func(status int, code, text string) {
		s.End(call, status, code)
		writeJSON(w, status, map[string]string{"error": code, "error_description": text})
	}
	if s.Disturb(w, r, call, func(outcome traffic.Outcome, f Fault) {
		if outcome == traffic.Throttle {
			f = Fault{Status: http.StatusTooManyRequests, Code: "too_many_requests", RetryAfter: time.Second}
		}
		if f.Status == 0 {
			f.Status = http.StatusInternalServerError
		}
		retryAfter(w, f.RetryAfter)
		refuse(f.Status, f.Code, f.Message)
	}) {
		return
	}

	switch {
	case r.URL.Path != "/metadata/identity/oauth2/token":
		refuse(http.StatusNotFound, "not_found", "The requested resource does not exist.")
		return
	case r.Header.Get("Metadata") != "true" || r.Header.Get("X-Forwarded-For") != "":
		refuse(http.StatusBadRequest, "invalid_request", "Required metadata header not specified")
		return
	case query.Get("api-version") == "" || query.Get("resource") == "":
		refuse(http.StatusBadRequest, "invalid_request", "Required query variable is missing")
		return
	}
	a, problem := s.nodeIdentity(query.Get("client_id"))
	if problem != "" {
		refuse(http.StatusBadRequest, "invalid_request", problem)
		return
	}
	s.Amend(call, func(c *Call) { c.Caller = a.ClientID })
	s.End(call, http.StatusOK, "")
	writeJSON(w, http.StatusOK, s.managed(a, query.Get("resource")))
}

// nodeIdentity is the identity that a node's caller means.
func (s *Server) nodeIdentity(clientID string) (App, string) {
	s.identities.mu.RLock()
	system, assigned := s.system, s.assigned
	s.identities.mu.RUnlock()
	switch {
	case clientID == "" && system != "":
		clientID = system
	case clientID == "" && len(assigned) == 1:
		clientID = assigned[0]
	case clientID == "" && len(assigned) > 1:
		return App{}, "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"
	}
	a, ok := s.app(clientID)
	if !ok || clientID != system && !slices.Contains(assigned, clientID) {
		return App{}, "Identity not found"
	}
	return a, ""
}

// managed is the answer with a managed identity's token.
func (s *Server) managed(a App, resource string) map[string]string {
	token, lifetime := s.issue(a, resource)
	now := s.opts.Now()
	return map[string]string{
		"access_token": token, "token_type": "Bearer", "resource": resource, "client_id": a.ClientID,
		"expires_in":     strconv.Itoa(int(lifetime.Seconds())),
		"ext_expires_in": strconv.Itoa(int(lifetime.Seconds())),
		"expires_on":     strconv.FormatInt(now.Add(lifetime).Unix(), 10),
		"not_before":     strconv.FormatInt(now.Unix(), 10),
	}
}

// NMI is the node managed identity server of AAD Pod Identity, which listens on
// localhost:2579.
func (s *Server) NMI() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pod := r.Header.Get("podns") + "/" + r.Header.Get("podname")
		resource := r.URL.Query().Get("resource")
		call := s.Begin(Call{Service: NMI, Op: "Token", IDs: []string{resource}, Caller: pod})
		refuse := func(status int, text string) {
			s.End(call, status, "")
			http.Error(w, text, status)
		}
		if s.Disturb(w, r, call, func(_ traffic.Outcome, f Fault) {
			refuse(max(f.Status, http.StatusInternalServerError), f.Message)
		}) {
			return
		}

		s.identities.mu.RLock()
		clientID, ok := s.pods[pod]
		s.identities.mu.RUnlock()
		a, known := s.app(clientID)
		switch {
		case r.URL.Path != "/host/token/" || resource == "":
			refuse(http.StatusNotFound, "404 page not found")
		case !ok || !known:
			refuse(http.StatusNotFound, "no azure identity found for request clientID ")
		default:
			s.End(call, http.StatusOK, "")
			writeJSON(w, http.StatusOK, map[string]any{"token": s.managed(a, resource), "clientid": clientID})
		}
	})
}
