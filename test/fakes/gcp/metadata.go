package gcp

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// metadata is what the metadata server answers below /computeMetadata/v1/.
type metadata struct {
	mu     sync.RWMutex
	values map[string]string
	email  string // the node's service account
}

func (m *metadata) init() { m.values = map[string]string{} }

// SetMetadata sets what the metadata server answers for a path such as
// "project/project-id" or "instance/attributes/cluster-name"; "" makes it a 404.
func (s *Server) SetMetadata(path, value string) {
	s.metadata.mu.Lock()
	defer s.metadata.mu.Unlock()
	if value == "" {
		delete(s.values, path)
		return
	}
	s.values[path] = value
}

// SetNode tells the metadata server of a GKE node: its project, location and
// cluster, and the service account that it runs as ("" for none).
func (s *Server) SetNode(project, location, cluster, email string) {
	for path, value := range map[string]string{
		"project/project-id":                   project,
		"project/numeric-project-id":           s.number(project),
		"instance/attributes/cluster-name":     cluster,
		"instance/attributes/cluster-location": location,
	} {
		s.SetMetadata(path, value)
	}
	s.metadata.mu.Lock()
	defer s.metadata.mu.Unlock()
	s.email = email
}

// serveMetadata follows Compute Engine's "About VM metadata": the header
// Metadata-Flavor is due in both directions, and X-Forwarded-For is refused.
func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request) {
	path, below := strings.CutPrefix(r.URL.Path, "/computeMetadata/v1/")
	call := s.Begin(Call{Service: Metadata, Op: strings.TrimSuffix(path, "/")})
	refuse := func(status int, text string) {
		s.End(call, status, "")
		http.Error(w, text, status)
	}
	if s.Disturb(w, r, call, func(outcome traffic.Outcome, f Fault) {
		if outcome == traffic.Throttle {
			f.Status = http.StatusTooManyRequests
		}
		if f.Status == 0 {
			f.Status = http.StatusInternalServerError
		}
		refuse(f.Status, f.Message)
	}) {
		return
	}

	w.Header().Set("Metadata-Flavor", "Google")
	w.Header().Set("Server", "Metadata Server for VM")
	switch {
	case r.URL.Path == "/":
		s.End(call, http.StatusOK, "")
		io.WriteString(w, "computeMetadata/\n")
		return
	case r.Method != http.MethodGet:
		refuse(http.StatusMethodNotAllowed, "method not allowed")
		return
	case !below:
		refuse(http.StatusNotFound, "not found")
		return
	case r.Header.Get("Metadata-Flavor") != "Google" || r.Header.Get("X-Forwarded-For") != "":
		refuse(http.StatusForbidden, "Missing Metadata-Flavor:Google header.")
		return
	}
	text, ok := s.metadataValue(strings.TrimSuffix(path, "/"))
	if !ok {
		refuse(http.StatusNotFound, "not found")
		return
	}
	s.End(call, http.StatusOK, "")
	w.Header().Set("Content-Type", "application/text")
	if strings.HasPrefix(text, "{") {
		w.Header().Set("Content-Type", "application/json")
	}
	io.WriteString(w, text)
}

func (s *Server) metadataValue(path string) (string, bool) {
	s.metadata.mu.RLock()
	value, ok := s.values[path]
	email := s.email
	s.metadata.mu.RUnlock()
	if ok || email == "" {
		return value, ok
	}

	of, name := "", ""
	if rest, found := strings.CutPrefix(path, "instance/service-accounts/"); found {
		of, name, _ = strings.Cut(rest, "/")
	}
	if of != "default" && of != email {
		return "", false
	}
	switch name {
	case "email":
		return email, true
	case "scopes":
		return "https://www.googleapis.com/auth/cloud-platform\n", true
	case "token":
		token, expires := s.issue(asAccount(email), time.Hour)
		b, _ := json.Marshal(map[string]any{"access_token": token, "token_type": "Bearer",
			"expires_in": int(math.Round(expires.Sub(s.opts.Now()).Seconds()))})
		return string(b), true
	}
	return "", false
}
