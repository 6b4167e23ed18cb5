package store

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/provider/strict"
)

// OwnDialect is Coffre's own schema, whose inline stores have a policy like the
// dialects of other providers.
const OwnDialect = "coffre"

// Catalog is what a configuration may name: the kinds of store, and the
// dialects whose classes the platform may grant something.
type Catalog struct {
	Kinds    Kinds
	Dialects []DialectPolicy
}

// DialectPolicy says what a dialect's entry of `dialects` may hold.
type DialectPolicy struct {
	Name string
	// Settings makes an empty struct for the fields that only this dialect has;
	// nil where it has none.
	Settings func() Settings
}

// Policy is the platform's word on a store: for the stores that classes of a
// dialect make, what all of them may do. A nil Policy grants nothing.
type Policy struct {
	AllowedRegions    []string // globs; nil allows all
	AllowedAddresses  []string // globs; servers that classes may name
	APIServerToken    []string // namespaces whose token of the API server's own audience may be sent
	ProviderIdentity  []string // namespaces that may be read as the node's provider
	NodePublishSecret []string // namespaces that may bring credentials of their own
	Refresh, MaxStale time.Duration
	RateLimit         int
	Settings          Settings // the dialect's own; nil for none

	field string // where it stands: "dialects.gcp"
}

// govern is a class's store as the platform lets it be.
func (p *Policy) govern(c Config) Config {
	if p == nil {
		p = &Policy{field: strict.Join("dialects", c.Dialect)}
	}
	c.Policy = p
	c.MaxStale, c.RateLimit = p.MaxStale, cmp.Or(p.RateLimit, c.RateLimit)
	if c.Refresh == 0 && p.Refresh != 0 {
		c.Refresh, c.Paced = p.Refresh, true
	}
	c.Refresh = cmp.Or(c.Refresh, DefaultRefresh)

	return c
}

// CheckRegion refuses a region in which the platform wants nothing read. Kinds
// that have regions call it before any request.
func (c Config) CheckRegion(region string) *Error {
	if c.Policy == nil || c.Policy.AllowedRegions == nil || matchesAny(c.Policy.AllowedRegions, region) {
		return nil
	}
	return Errorf(Denied, "region %s is not allowed: the platform lists the regions that are in %s", region, strict.Join(c.Policy.field, "allowedRegions"))
}

// CheckAddress refuses a server that a class names and the platform has not
// allowed: it would be sent a token. The address must be checked and in its
// shortest form. A star in a pattern stops at a slash; "*" alone allows all.
func (c Config) CheckAddress(address string) *Error {
	at := strict.Join("dialects", c.Dialect)
	if c.Policy != nil {
		at = cmp.Or(c.Policy.field, at)
		if slices.Contains(c.Policy.AllowedAddresses, "*") || matchesAny(c.Policy.AllowedAddresses, address) {
			return nil
		}
	}
	return Errorf(Denied, "the address %s is not allowed: the platform lists those that are in %s", address, strict.Join(at, "allowedAddresses"))
}

// TakesAPIServerToken says whether the platform lets a namespace's token of the
// API server's own audience be sent to a server.
func (c Config) TakesAPIServerToken(namespace string) bool {
	return c.Policy != nil && matchesAny(c.Policy.APIServerToken, namespace)
}

// CheckProviderIdentity refuses to read as the node's provider where the
// platform has not said that this namespace may.
func (c Config) CheckProviderIdentity(namespace string) *Error {
	if c.ProviderIdentity && !c.Inline {
		return nil
	}
	return c.granted("providerIdentity", namespace, func(p *Policy) []string { return p.ProviderIdentity },
		"reads as the node's provider, whose rights are everybody's")
}

// CheckNodePublishSecret refuses credentials that a class brings by itself
// where the platform has not said that this namespace may. A store that the
// platform configured so has said it, and so has Coffre's own schema unless a
// policy says otherwise.
func (c Config) CheckNodePublishSecret(namespace string) *Error {
	own := c.Dialect == OwnDialect && (c.Policy == nil || c.Policy.NodePublishSecret == nil)
	if !c.Inline || own {
		return nil
	}
	return c.granted("nodePublishSecret", namespace, func(p *Policy) []string { return p.NodePublishSecret },
		"signs in with the Secret of nodePublishSecretRef")
}

func (c Config) granted(field, namespace string, of func(*Policy) []string, what string) *Error {
	at := strict.Join("dialects", c.Dialect)
	if c.Policy != nil {
		at = cmp.Or(c.Policy.field, at)
		if matchesAny(of(c.Policy), namespace) {
			return nil
		}
	}
	return Errorf(Denied, "%s, which the platform has not allowed to namespace %q: it would in %s.namespaces", what, namespace, strict.Join(at, field))
}

// Grant is one entry of a policy that names namespaces, as globs.
type Grant struct {
	Namespaces []string `yaml:"namespaces"`
}

// Allows says whether a namespace is among them.
func (g Grant) Allows(namespace string) bool { return matchesAny(g.Namespaces, namespace) }

// policyFields are those that every dialect has.
type policyFields struct {
	AllowedRegions    []string      `yaml:"allowedRegions"`
	AllowedAddresses  []string      `yaml:"allowedAddresses"`
	APIServerToken    Grant         `yaml:"apiServerToken"`
	ProviderIdentity  Grant         `yaml:"providerIdentity"`
	NodePublishSecret Grant         `yaml:"nodePublishSecret"`
	Refresh           Refresh       `yaml:"refresh"`
	MaxStale          time.Duration `yaml:"maxStale"`
	RateLimit         int           `yaml:"rateLimit"`
}

// DecodeDialects reads the mapping of dialect to policy, wherever it stands.
func (c Catalog) DecodeDialects(d *strict.Decoder, n *yaml.Node) map[string]*Policy {
	var policies map[string]mapping
	d.Decode(n, "dialects", &policies)
	names := c.dialectNames()
	out := map[string]*Policy{}

	for _, name := range slices.Sorted(maps.Keys(policies)) {
		at, node := strict.Join("dialects", name), policies[name].Node
		i := slices.Index(names, name)
		switch {
		case node == nil: // reported already
		case i < 0:
			hint := fmt.Sprintf("known: %v", names)
			if near := strict.Nearest(name, names); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			d.Add(node, at, "is no dialect; %s", hint)
		default:
			out[name] = c.Dialects[i].decode(d, node, at)
		}
	}

	return out
}

func (c Catalog) dialectNames() []string {
	names := make([]string, len(c.Dialects))
	for i, p := range c.Dialects {
		names[i] = p.Name
	}
	return names
}

// decode reads one policy; nil where it has a mistake, which grants nothing.
func (p DialectPolicy) decode(d *strict.Decoder, n *yaml.Node, at string) *Policy {
	before := len(d.Errors)
	var fields policyFields
	out := &Policy{field: at}
	bad := func(field, format string, args ...any) { d.Add(n, strict.Join(at, field), format, args...) }

	if p.Settings == nil {
		d.Decode(n, at, &fields)
	} else {
		out.Settings = p.Settings()
		d.Decode(n, at, &fields, out.Settings)
		for _, m := range out.Settings.Check(false) {
			bad(m.Field, "%s", m.Text)
		}
	}

	checkGlobs(bad, "allowedRegions", fields.AllowedRegions)
	checkGlobs(bad, "allowedAddresses", fields.AllowedAddresses)
	checkGlobs(bad, "apiServerToken.namespaces", fields.APIServerToken.Namespaces)
	checkGlobs(bad, "providerIdentity.namespaces", fields.ProviderIdentity.Namespaces)
	checkGlobs(bad, "nodePublishSecret.namespaces", fields.NodePublishSecret.Namespaces)
	if fields.MaxStale < 0 {
		bad("maxStale", "must be a duration, such as 1h")
	}
	if fields.RateLimit < 0 {
		bad("rateLimit", "must be a number of requests a second")
	}
	if len(d.Errors) > before {
		return nil
	}

	out.AllowedRegions, out.AllowedAddresses = fields.AllowedRegions, fields.AllowedAddresses
	out.APIServerToken = fields.APIServerToken.Namespaces
	out.ProviderIdentity, out.NodePublishSecret = fields.ProviderIdentity.Namespaces, fields.NodePublishSecret.Namespaces
	out.Refresh, out.MaxStale, out.RateLimit = fields.Refresh.Duration(), fields.MaxStale, fields.RateLimit

	return out
}
