package aws

import "github.com/coffre-csi/coffre/test/fakes/traffic"

// A World is what the fake holds, as JSON in the form of the observed cases
// (fields secrets and faults), with roles and associations added.
type World struct {
	Secrets      Data          `json:"secrets"`
	Faults       []Fault       `json:"faults"`
	Roles        []Role        `json:"roles"`
	Associations []Association `json:"associations"`
	Limits       []Limit       `json:"limits"`
}

// Data is region to name to what it is.
type Data struct {
	SecretsManager map[string]map[string]Secret    `json:"secretsmanager"`
	SSM            map[string]map[string]Parameter `json:"ssm"`
}

// LoadCompat reads a case, or a step of one: its fields that are a World's.
// The others (parameters, expect, …) are not the fake's and are passed over;
// inside secrets, faults, roles and associations an unknown field is an error.
func LoadCompat(data []byte) (World, error) {
	var w World
	err := traffic.ReadFields(data, map[string]any{
		"secrets": &w.Secrets, "faults": &w.Faults, "limits": &w.Limits,
		"roles": &w.Roles, "associations": &w.Associations,
	})
	if err != nil {
		return World{}, err
	}
	return w, nil
}

// Load adds a world to what is there.
func (s *Server) Load(w World) {
	for region, secrets := range w.Secrets.SecretsManager {
		for name, secret := range secrets {
			s.SetSecret(region, name, secret)
		}
	}
	for region, params := range w.Secrets.SSM {
		for name, p := range params {
			s.SetParameter(region, name, p)
		}
	}
	for _, r := range w.Roles {
		s.AddRole(r)
	}
	for _, a := range w.Associations {
		s.Associate(a)
	}
	for _, f := range w.Faults {
		s.AddFault(f)
	}
	for _, l := range w.Limits {
		s.SetLimit(l)
	}
}

// Replace puts a world's secrets and faults in the place of those that are
// there, as a step of a case demands. Roles and associations are added.
func (s *Server) Replace(w World) {
	s.mu.Lock()
	clear(s.secrets)
	clear(s.params)
	s.mu.Unlock()
	s.ClearFaults()
	s.Load(w)
}
