package aws

import (
	"bytes"
	"encoding/json"
	"fmt"
)

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
	var fields struct{ Secrets, Faults, Roles, Associations, Limits json.RawMessage }
	if err := json.Unmarshal(data, &fields); err != nil {
		return World{}, err
	}
	var w World
	for _, f := range []struct {
		name string
		from json.RawMessage
		to   any
	}{
		{"secrets", fields.Secrets, &w.Secrets}, {"faults", fields.Faults, &w.Faults},
		{"roles", fields.Roles, &w.Roles}, {"associations", fields.Associations, &w.Associations},
		{"limits", fields.Limits, &w.Limits},
	} {
		if len(f.from) == 0 {
			continue
		}
		d := json.NewDecoder(bytes.NewReader(f.from))
		d.DisallowUnknownFields()
		if err := d.Decode(f.to); err != nil {
			return World{}, fmt.Errorf("%s: %w", f.name, err)
		}
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
