package azure

import (
	"net/http"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// A World is what the fake holds, as JSON. Its secrets are in the form of the
// observed cases: vault ("*" for every one) to kind to name to versions.
type World struct {
	Objects map[string]map[string]map[string][]Version `json:"secrets"`
	Vaults  map[string]Vault                           `json:"vaults"`
	Apps    []App                                      `json:"apps"`
	Grants  []Grant                                    `json:"grants"`
	Node    Node                                       `json:"node"`
	Faults  []Fault                                    `json:"faults"`
	Limits  []Limit                                    `json:"limits"`
}

// A Node is what IMDS knows: client ids.
type Node struct {
	System   string   `json:"system"`
	Assigned []string `json:"assigned"`
}

// LoadCompat reads a case, or a step of one: its fields that are a World's. The
// others are passed over; inside a World's an unknown field is an error.
func LoadCompat(data []byte) (World, error) {
	var w World
	err := traffic.ReadFields(data, map[string]any{
		"secrets": &w.Objects, "vaults": &w.Vaults, "apps": &w.Apps, "grants": &w.Grants, "node": &w.Node,
		"faults": &w.Faults, "limits": &w.Limits,
	})
	if err != nil {
		return World{}, err
	}
	return w, nil
}

// Load adds a world to what is there.
func (s *Server) Load(w World) {
	for name, v := range w.Vaults {
		s.AddVault(name, v)
	}
	for vault, kinds := range w.Objects {
		s.ensure(vault)
		for kind, objects := range kinds {
			for name, versions := range objects {
				s.SetObject(vault, kind, name, versions...)
			}
		}
	}
	for _, a := range w.Apps {
		s.AddApp(a)
	}
	for _, g := range w.Grants {
		s.Grant(g.Scope, g.Role, g.ClientID)
	}
	if w.Node.System != "" || w.Node.Assigned != nil {
		s.SetNode(w.Node.System, w.Node.Assigned...)
	}
	for _, f := range w.Faults {
		s.AddFault(f)
	}
	for _, l := range w.Limits {
		s.SetLimit(l)
	}
}

// Replace puts a world's vaults and faults in the place of those that are there.
// Who may do what is added to.
func (s *Server) Replace(w World) {
	s.mu.Lock()
	clear(s.vaults)
	s.mu.Unlock()
	s.ClearFaults()
	s.Load(w)
}

// Control is what traffic.Control has, and:
//
//	POST   /world                          a World in JSON, added
//	PUT    /world                          a World in JSON, in place of what is there
//	PUT    /secret?vault=V&name=N          the body is the new current value
//	DELETE /secret?vault=V&name=N          soft-deletes it
//	DELETE /grants?scope=S                 all of a vault or an object
//	PUT    /lifetime?duration=15m          of the tokens issued from now on
//	DELETE /sessions                       revokes all tokens
func (s *Server) Control() http.Handler {
	c := s.Gate.Control()
	traffic.World(c, LoadCompat, s.Load, s.Replace)

	in := []string{"vault", "name"}
	c.Named("PUT /secret", in, func(value string, of ...string) string { return s.SetSecretValue(of[0], of[1], value) })
	c.Named("DELETE /secret", in, func(_ string, of ...string) string { s.DeleteObject(of[0], Secrets, of[1]); return "" })
	c.Named("DELETE /grants", []string{"scope"}, func(_ string, of ...string) string { s.Revoke(of[0]); return "" })

	c.Timed("PUT /lifetime", func(_ *http.Request, d time.Duration) { s.SetLifetime(d) })
	c.Do("DELETE /sessions", s.RevokeAll)
	return c
}
