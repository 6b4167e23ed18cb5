package gcp

import (
	"net/http"
	"strconv"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// A World is what the fake holds, as JSON.
type World struct {
	Secrets         map[string]Secret    `json:"secretmanager"`
	Parameters      map[string]Parameter `json:"parametermanager"`
	Answers         map[string]Answer    `json:"secrets"` // of the observed cases
	Providers       []Provider           `json:"providers"`
	Projects        map[string]string    `json:"projects"` // id to number
	ServiceAccounts []string             `json:"serviceAccountEmails"`
	Grants          []Grant              `json:"grants"`
	Metadata        map[string]string    `json:"metadataServer"` // path to text
	Node            string               `json:"nodeServiceAccount"`
	Faults          []Fault              `json:"faults"`
	Limits          []Limit              `json:"limits"`
}

// LoadCompat reads a case, or a step of one: its fields that are a World's. The
// others are passed over; inside a World's an unknown field is an error.
func LoadCompat(data []byte) (World, error) {
	var w World
	err := traffic.ReadFields(data, map[string]any{
		"secretmanager": &w.Secrets, "parametermanager": &w.Parameters, "secrets": &w.Answers,
		"providers": &w.Providers, "projects": &w.Projects, "serviceAccountEmails": &w.ServiceAccounts, "grants": &w.Grants,
		"metadataServer": &w.Metadata, "nodeServiceAccount": &w.Node, "faults": &w.Faults, "limits": &w.Limits,
	})
	if err != nil {
		return World{}, err
	}
	return w, nil
}

// Load adds a world to what is there.
func (s *Server) Load(w World) {
	for id, number := range w.Projects {
		s.AddProject(id, number)
	}
	for name, secret := range w.Secrets {
		s.SetSecret(name, secret)
	}
	for name, p := range w.Parameters {
		s.SetParameter(name, p)
	}
	for name, a := range w.Answers {
		s.SetAnswer(name, a)
	}
	for _, p := range w.Providers {
		s.AddProvider(p)
	}
	for _, email := range w.ServiceAccounts {
		s.AddServiceAccount(email)
	}
	for _, g := range w.Grants {
		s.Grant(g.Resource, g.Role, g.Member)
	}
	for path, text := range w.Metadata {
		s.SetMetadata(path, text)
	}
	if w.Node != "" {
		s.metadata.mu.Lock()
		s.email = w.Node
		s.metadata.mu.Unlock()
	}
	for _, f := range w.Faults {
		s.AddFault(f)
	}
	for _, l := range w.Limits {
		s.SetLimit(l)
	}
}

// Replace puts a world's secrets, parameters, metadata and faults in the place
// of those that are there. Who may do what is added to.
func (s *Server) Replace(w World) {
	s.mu.Lock()
	clear(s.secrets)
	clear(s.parameters)
	clear(s.answers)
	s.mu.Unlock()
	s.metadata.mu.Lock()
	clear(s.values)
	s.metadata.mu.Unlock()
	s.ClearFaults()
	s.Load(w)
}

// Control is what traffic.Control has, and:
//
//	POST   /world                                a World in JSON, added
//	PUT    /world                                a World in JSON, in place of what is there
//	PUT    /secret?name=projects/P/secrets/S     the body is a new version
//	DELETE /secret?name=projects/P/secrets/S
//	PUT    /parameter?name=…&version=V           the body is the version's text
//	DELETE /grants?resource=R                    all of a resource
//	PUT    /lifetime?duration=15m                of the tokens issued from now on
//	DELETE /sessions                             revokes all tokens
func (s *Server) Control() http.Handler {
	c := s.Gate.Control()
	traffic.World(c, LoadCompat, s.Load, s.Replace)

	c.Named("PUT /secret", []string{"name"}, func(value string, of ...string) string {
		return strconv.Itoa(s.SetSecretValue(of[0], value))
	})
	c.Named("DELETE /secret", []string{"name"}, func(_ string, of ...string) string { s.DeleteSecret(of[0]); return "" })
	c.Named("PUT /parameter", []string{"name", "version"}, func(value string, of ...string) string {
		s.SetParameterValue(of[0], of[1], value)
		return of[1]
	})
	c.Named("DELETE /grants", []string{"resource"}, func(_ string, of ...string) string { s.Revoke(of[0]); return "" })

	c.Timed("PUT /lifetime", func(_ *http.Request, d time.Duration) { s.SetLifetime(d) })
	c.Do("DELETE /sessions", s.RevokeAll)
	return c
}
