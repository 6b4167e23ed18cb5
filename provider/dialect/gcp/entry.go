package gcp

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
	gcpstore "github.com/coffre-csi/coffre/provider/store/gcp"
	"github.com/coffre-csi/coffre/provider/template"
)

// entry is one of the list. The fields from DecodeBase64 on are Coffre's; the
// Google provider ignores them.
type entry struct {
	ResourceName   string `yaml:"resourceName"`
	FileName       string `yaml:"fileName"`
	Path           string `yaml:"path"`
	Mode           *int32 `yaml:"mode"`
	ExtractJSONKey string `yaml:"extractJSONKey"`
	ExtractYAMLKey string `yaml:"extractYAMLKey"`

	DecodeBase64 bool              `yaml:"decodeBase64"` // after the key was taken out
	Key          string            `yaml:"key"`          // as in Coffre's schema: a path, and any scalar
	Keys         string            `yaml:"keys"`         // "*": every key becomes a file below path
	Template     string            `yaml:"template"`
	Labels       map[string]string `yaml:"labels"` // with a * in the name: only secrets that have them
	Optional     bool              `yaml:"optional"`
	Refresh      string            `yaml:"refresh"`
}

// field names the entry as the Google provider does.
func (e *entry) field() string {
	return fmt.Sprintf("{%s %s %s}", e.ResourceName, e.FileName, e.Path)
}

// named is the grammar of the Google provider. That one takes anything before
// projects/; here only what Google's full resource names have there.
var named = regexp.MustCompile(`^((?://[a-z]+manager\.googleapis\.com/)?projects/[^/]+/(?:locations/([^/]+)/)?(secrets|parameters)/([^/]+))/versions/([^/]+)$`)

// maxLocation is as long as a location may be for the Google provider.
const maxLocation = 30

// object turns an entry into its planned form; nil where something is wrong
// with it, which is noted then.
func (r *reader) object(e *entry) (*plan.Object, error) {
	if err := r.budget.Queries(1); err != nil {
		return nil, invalid("%s", err)
	}
	bad := func(format string, args ...any) { r.failed.add(e.field(), codes.Unknown, fmt.Sprintf(format, args...)) }
	before := len(r.failed.lines)
	m := named.FindStringSubmatch(e.ResourceName)
	if m == nil || m[3] == "parameters" && m[2] == "" || len(e.ResourceName) > 2048 {
		bad("unknown resource type")
		return nil, nil
	}
	if !r.located(e, m[2], m[3]) {
		return nil, nil
	}

	at := place{gcpstore.SecretManager, m[2]}
	if m[3] == "parameters" {
		at.kind = gcpstore.ParameterManager
	}
	if at.location == "global" {
		at.location = ""
	}
	config, err := r.store(at)
	if err != nil {
		bad("%s", err)
		return nil, nil
	}
	q := plan.Query{Field: e.field(), Store: store.Selector{Inline: config}, Optional: e.Optional, Force: r.force,
		Ref: store.Ref{Name: m[1], Version: m[5]}, Refresh: r.refresh.Duration()}
	r.fresh(e, &q, bad)
	o := plan.Object{Field: e.field(), Sources: []plan.Source{{}}, Output: r.output(e, bad)}
	if strings.Contains(m[4], "*") {
		r.search(e, &q, &o, m[5], bad)
	} else if len(e.Labels) > 0 {
		bad("labels: go with a * in the name, which says where to look for secrets that have them")
	}
	if o.Sources[0].Query = q; len(r.failed.lines) > before {
		return nil, nil
	}
	return &o, nil
}

// located refuses a location that is none, in the words of the Google provider.
// It goes into a host name, which that provider does not mind.
func (r *reader) located(e *entry, location, collection string) bool {
	if location == "" || gcpstore.ValidLocation(location) {
		return true
	}
	said := "Invalid location: " + location
	switch {
	case len(location) <= maxLocation:
		said += ", which holds more than lower-case letters, digits and -"
	case collection == "secrets":
		said += ", location length exceeds limit"
	}
	r.failed.lines = append(r.failed.lines, line{
		text: fmt.Sprintf("%s: rpc error: code = InvalidArgument desc = %s", e.field(), said), code: codes.InvalidArgument, said: said,
	})
	return false
}

// fresh is how old the value may get. The Google provider reads on every
// republish; so does this dialect, unless somebody chose a refresh time. A
// number names one value for ever.
func (r *reader) fresh(e *entry, q *plan.Query, bad func(string, ...any)) {
	if e.Refresh != "" {
		var own store.Refresh
		if err := own.UnmarshalText([]byte(e.Refresh)); err != nil {
			bad("refresh: %s", err)
		}
		q.Refresh = own.Duration()
	}
	if q.Refresh == 0 {
		q.Volume = r.req.Class + "\x00" + r.req.TargetPath
	}
}

func (r *reader) output(e *entry, bad func(string, ...any)) plan.Output {
	out := plan.Output{
		File: cmp.Or(e.Path, e.FileName), Mode: r.req.Mode, Key: e.Key, ID: e.ResourceName, StoreVersion: true, Overlaid: true,
	}
	if e.Mode != nil {
		out.Mode = *e.Mode
	}
	if e.DecodeBase64 {
		out.Decode = plan.Base64
	}
	if e.ExtractJSONKey != "" && e.ExtractYAMLKey != "" {
		bad("both ExtractJSONKey and ExtractYAMLKey can't be simultaneously non empty strings")
	}
	if key := cmp.Or(e.ExtractJSONKey, e.ExtractYAMLKey); key != "" {
		out.Extract = &plan.Extract{Format: plan.ExtractJSON, Key: key}
		if e.ExtractJSONKey == "" {
			out.Extract.Format = plan.ExtractYAML
		}
	}
	shapes := 0
	for _, given := range []bool{out.Extract != nil, e.Key != "", e.Keys != "", e.Template != ""} {
		if given {
			shapes++
		}
	}
	if shapes > 1 {
		bad("extractJSONKey, extractYAMLKey, key, keys and template cannot stand beside each other: each says what the file holds")
	}
	if e.Keys != "" {
		if e.Keys != "*" {
			bad(`keys: %.40q must be "*"`, e.Keys)
		}
		out.Keys, out.ID = &plan.Keys{All: true}, ""
		if out.File != "" {
			out.File = strings.TrimSuffix(out.File, "/") + "/"
		}
	}
	if e.Template != "" {
		t, err := template.Parse(r.budget, e.Template)
		if err != nil {
			bad("template: %s", err)
		}
		out.Template = t
	}
	return out
}

// listed is how often a search looks again where nobody chose a refresh time:
// lists count against a quota of 600 reads a minute and project.
const listed = 5 * time.Minute

// search makes an entry with a * in its name one that finds.
func (r *reader) search(e *entry, q *plan.Query, o *plan.Object, version string, bad func(string, ...any)) {
	if version != "latest" {
		bad("a * finds any number of secrets, of which the latest version is read: end the name in /versions/latest")
	}
	if e.Template != "" {
		bad("template: cannot stand beside a * in the name")
	}
	for k, v := range e.Labels {
		if strings.ContainsAny(k+v, ",=") {
			bad("labels: %.40q: commas and equals signs cannot be searched for", k)
		}
	}

	base := q.Ref.Name
	parts := strings.Split(base, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	var tags []string
	for _, k := range slices.Sorted(maps.Keys(e.Labels)) {
		tags = append(tags, k+"="+e.Labels[k])
	}
	q.Find = &store.Filter{Prefix: base[:strings.Index(base, "*")], Regexp: "^" + strings.Join(parts, "[^/]*") + "$", Tags: strings.Join(tags, ",")}
	q.Ref = store.Ref{}
	if q.Volume != "" {
		q.Volume, q.Refresh = "", listed
	}

	o.Output.ID = ""
	if o.Output.File != "" {
		o.Output.File = strings.TrimSuffix(o.Output.File, "/") + "/"
	}
	compiled, err := r.budget.Compile(`^(//[^/]+/)?projects/[^/]+/(locations/[^/]+/)?(secrets|parameters)/`)
	if err != nil {
		bad("%s", err)
	}
	o.Output.Rewrite = &plan.Rewrite{Regexp: compiled}
}
