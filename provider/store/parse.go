package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/provider/strict"
)

// Refresh is a refresh time as it is written: a duration, or never.
type Refresh time.Duration

// MinRefresh keeps a slip of the pen (refresh: 1ms) from becoming a storm.
const MinRefresh = time.Second

// UnmarshalText reads "30s", "5m" or "never".
func (r *Refresh) UnmarshalText(text []byte) error {
	if string(text) == "never" {
		*r = Refresh(Never)
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d < MinRefresh {
		return fmt.Errorf("%.40q is no refresh time; write a duration of at least %s (30s, 5m, 1h), or never", text, MinRefresh)
	}
	*r = Refresh(d)
	return nil
}

// Duration is the refresh time as a duration; Never where there is none.
func (r Refresh) Duration() time.Duration { return time.Duration(r) }

// common are the fields that every kind has. In a platform's store all of them
// may stand; see inlineFields.
type common struct {
	Kind       string        `yaml:"kind"`
	Namespaces []string      `yaml:"namespaces"`
	Identity   string        `yaml:"identity"`
	Prefix     string        `yaml:"prefix"`
	Refresh    Refresh       `yaml:"refresh"`
	MaxStale   time.Duration `yaml:"maxStale"`
	Timeout    time.Duration `yaml:"timeout"`
	RateLimit  int           `yaml:"rateLimit"`

	AllowedRegions []string `yaml:"allowedRegions"`
}

// MaxTimeout keeps one Fetch well inside kubelet's two minutes for a mount.
const MaxTimeout = 90 * time.Second

// Kinds are the kinds of store that a configuration may name.
type Kinds []Kind

func (ks Kinds) find(name string) (Kind, bool) {
	i := slices.IndexFunc(ks, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{}, false
	}
	return ks[i], true
}

func (ks Kinds) names() []string {
	names := make([]string, len(ks))
	for i, k := range ks {
		names[i] = k.Name
	}
	return names
}

var storeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

// Close lets go of what the kinds keep.
func (ks Kinds) Close() {
	for _, k := range ks {
		if k.Close != nil {
			k.Close()
		}
	}
}

// Configuration is the platform's file, read.
type Configuration struct {
	Stores   map[string]*Config // nil for one that has a mistake
	Dialects map[string]*Policy
}

// Parse reads the platform's configuration: a mapping `stores` of name to
// store, and a mapping `dialects` of name to policy. All mistakes are reported,
// as strict.Errors; a store that has one is nil.
func (c Catalog) Parse(text string) (Configuration, error) {
	out := Configuration{Stores: map[string]*Config{}, Dialects: map[string]*Policy{}}
	root, err := strict.Parse(text, "")
	if err != nil {
		return out, strict.Errors{err.(strict.Error)}
	}
	if root == nil {
		return out, nil
	}

	var d strict.Decoder
	var file struct {
		Stores   mapping `yaml:"stores"`
		Dialects mapping `yaml:"dialects"`
	}
	d.Decode(root, "", &file)
	if file.Stores.Node != nil {
		out.Stores = c.Kinds.DecodeStores(&d, file.Stores.Node)
	}
	if file.Dialects.Node != nil {
		out.Dialects = c.DecodeDialects(&d, file.Dialects.Node)
	}

	return out, d.Errors.OrNil()
}

// DecodeStores reads the mapping of name to store, wherever it stands.
func (ks Kinds) DecodeStores(d *strict.Decoder, n *yaml.Node) map[string]*Config {
	var stores map[string]mapping
	d.Decode(n, "stores", &stores)
	configs := map[string]*Config{}
	for _, name := range slices.Sorted(maps.Keys(stores)) {
		at, node := strict.Join("stores", name), stores[name].Node
		if !storeName.MatchString(name) {
			d.Add(node, at, "is no store name: lower-case letters, digits, - and . only, at most 63")
		}
		if configs[name] = nil; node == nil { // empty: reported already
			continue
		}
		configs[name] = ks.decode(d, node, at, name, false)
	}

	return configs
}

// mapping keeps a node to be decoded later, once it is known what it is.
type mapping struct{ *yaml.Node }

// UnmarshalNode implements strict.NodeUnmarshaler.
func (m *mapping) UnmarshalNode(n *yaml.Node, path string, d *strict.Decoder) {
	if n.Kind != yaml.MappingNode {
		d.Add(n, path, "must be a mapping")
		n = &yaml.Node{Kind: yaml.MappingNode, Line: n.Line}
	}
	m.Node = n
}

// ParseInline reads a store written in a SecretProviderClass; path is the
// parameter's name.
func (ks Kinds) ParseInline(text, path string) (*Config, strict.Errors) {
	root, err := strict.Parse(text, path)
	if err != nil {
		return nil, strict.Errors{err.(strict.Error)}
	}
	if root == nil {
		return nil, strict.Errors{{Path: path, Text: "is empty"}}
	}
	var d strict.Decoder
	c := ks.decode(&d, root, path, "inline", true)
	return c, d.Errors
}

// decode reads one store: the common fields and its kind's own, from one mapping.
func (ks Kinds) decode(d *strict.Decoder, n *yaml.Node, at, name string, inline bool) *Config {
	// The kind is looked for first: it says which fields there are.
	kindName := scalarField(n, "kind")
	kind, ok := ks.find(kindName)
	if !ok {
		hint := "known kinds: " + strings.Join(ks.names(), ", ")
		if near := strict.Nearest(kindName, ks.names()); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		d.Add(n, strict.Join(at, "kind"), "%.40q is no kind of store; %s", kindName, hint)
		return nil
	}
	settings := kind.Settings()
	c := common{Timeout: defaultTimeout(settings)}
	before := len(d.Errors)
	d.Decode(n, at, &c, settings)
	bad := func(field, format string, args ...any) {
		d.Add(n, strict.Join(at, field), format, args...)
	}
	switch c.Identity {
	case "", "pod", "provider":
	default:
		bad("identity", "%.40q is neither pod nor provider", c.Identity)
	}
	if c.Timeout < time.Second || c.Timeout > MaxTimeout {
		bad("timeout", "must be from 1s to %s", MaxTimeout)
	}
	if c.RateLimit < 0 {
		bad("rateLimit", "must be a number of requests a second")
	}
	checkGlobs(bad, "allowedRegions", c.AllowedRegions)
	if inline {
		if c.AllowedRegions != nil {
			bad("allowedRegions", "cannot stand in an inline store: which regions may be used is the platform's word")
		}
		if c.Namespaces != nil {
			bad("namespaces", "cannot stand in an inline store: it belongs to the pod that mounts it")
		}
		if c.Identity == "provider" {
			bad("identity", "an inline store is always read as the pod; only the platform's stores may use the provider's identity")
		}
	} else {
		if len(c.Namespaces) == 0 {
			bad("namespaces", `is missing: name the namespaces that may use the store; ["*"] is all of them`)
		}
		checkGlobs(bad, "namespaces", c.Namespaces)
	}
	for _, m := range settings.Check(inline) {
		bad(m.Field, "%s", m.Text)
	}
	if len(d.Errors) > before {
		return nil
	}
	fingerprint, bytes := digest(name, kind.Name, c, settings)
	config := &Config{
		Name: name, Kind: kind.Name, Inline: inline,
		Namespaces: c.Namespaces, ProviderIdentity: c.Identity == "provider",
		Prefix: c.Prefix, Refresh: time.Duration(c.Refresh), MaxStale: c.MaxStale, Timeout: c.Timeout, RateLimit: c.RateLimit,
		Settings: settings, Digest: fingerprint, Bytes: bytes,
	}
	if inline {
		config.Dialect = OwnDialect
	} else {
		config.Refresh = cmp.Or(config.Refresh, DefaultRefresh)
		config.Policy = &Policy{field: at, AllowedRegions: c.AllowedRegions}
	}

	return config
}

// checkGlobs refuses what is no pattern.
func checkGlobs(bad func(field, format string, args ...any), field string, globs []string) {
	for i, glob := range globs {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			bad(fmt.Sprintf("%s[%d]", field, i), "%.60q is no pattern", glob)
		}
	}
}

// InlineOptions are what a SecretProviderClass of another provider says beside
// its settings. What is zero has its default.
type InlineOptions struct {
	Dialect string // required
	Prefix  string
	Refresh time.Duration
	Timeout time.Duration
}

// NewInline makes the store of a SecretProviderClass whose own syntax says what
// an inline store would say. Its settings are checked as an inline store's are.
func NewInline(kind, name string, settings Settings, o InlineOptions) (*Config, []Mistake) {
	if mistakes := settings.Check(true); len(mistakes) > 0 {
		return nil, mistakes
	}

	c := &Config{
		Name: name, Kind: kind, Inline: true, Dialect: o.Dialect, Prefix: o.Prefix,
		Refresh: o.Refresh, Timeout: cmp.Or(o.Timeout, defaultTimeout(settings)),
		Settings: settings,
	}

	c.Digest, c.Bytes = digest(name, kind, common{Prefix: o.Prefix}, settings)

	return c, nil
}

// digest covers what decides which value a name has; who may ask and how fresh
// it must be may change without losing what is cached.
//
// It also says how many bytes the configuration keeps alive.
func digest(name, kind string, c common, settings Settings) (text string, bytes int64) {
	written, err := yaml.Marshal(settings)
	if err != nil {
		panic("store: settings of " + kind + " cannot be written: " + err.Error())
	}

	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %s", name, kind, c.Identity, c.Prefix, written)
	const overhead = 512

	return hex.EncodeToString(h.Sum(nil)[:16]), int64(len(written)+len(c.Prefix)) + overhead
}

func scalarField(n *yaml.Node, key string) string {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return ""
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key && n.Content[i+1].Kind == yaml.ScalarNode {
			return n.Content[i+1].Value
		}
	}

	return ""
}
