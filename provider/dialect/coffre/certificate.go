package coffre

import (
	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/provider/certificate"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/strict"
)

// password is a secret that holds one: a name, or a mapping that says more.
type password struct {
	Name    string `yaml:"name"`
	Store   string `yaml:"store"`
	Version string `yaml:"version"`
	Type    string `yaml:"type"`
	Key     string `yaml:"key"` // of the secret's value
}

// UnmarshalNode implements strict.NodeUnmarshaler.
func (p *password) UnmarshalNode(n *yaml.Node, path string, d *strict.Decoder) {
	if n.Kind == yaml.ScalarNode {
		d.Decode(n, path, &p.Name)
		return
	}
	type fields password
	d.Decode(n, path, (*fields)(p))
}

// passwords are the sources of the object's passwords.
func (r *reader) passwords(o object, field string, bad func(string, string, ...any)) []plan.Source {
	var sources []plan.Source
	add := func(p *password, name string, what plan.Password) {
		if p == nil {
			return
		}
		checkName(p.Name, name, bad)
		q := r.query(o, field+"."+name, secret{Name: p.Name, Store: p.Store, Version: p.Version, Type: p.Type}, bad)
		sources = append(sources, plan.Source{Query: q, Password: what, Key: p.Key})
	}

	add(o.SourcePassword, "sourcePassword", plan.OpensSource)
	add(o.Password, "password", plan.LocksFile)

	return sources
}

// checkCertificate holds the fields of certificates against the format.
func (o object) checkCertificate(bad func(string, string, ...any)) {
	f := plan.Format(o.Format)
	locked := f == plan.PFX || f == plan.JKS
	asIs := o.Format == "" && o.Key == "" && o.Keys == nil && o.Template == ""

	if f == plan.JKS && o.Password == nil {
		bad("password", "is missing: a Java keystore has one; name the secret that holds it")
	}
	if o.Password != nil && !locked {
		bad("password", "locks the file of the formats pfx and jks; to open what the store holds it is sourcePassword")
	}
	if o.SourcePassword != nil && asIs {
		bad("sourcePassword", "opens a certificate whose keys or format are asked for; this object writes the secret as it is")
	}
	switch {
	case o.Encryption == "":
	case f != plan.PFX:
		bad("encryption", "is that of the format pfx")
	case o.Encryption != certificate.Modern && o.Encryption != certificate.Legacy:
		bad("encryption", "%.40q is neither %s nor %s", o.Encryption, certificate.Modern, certificate.Legacy)
	}
	if f.Certificate() && o.Decode != "" {
		bad("decode", "cannot stand beside format %s: base64 is undone where there is any", f)
	}
}
