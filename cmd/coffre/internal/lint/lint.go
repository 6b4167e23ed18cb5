// Package lint says what is wrong with the files that bring a secret to a pod,
// before anything is applied: it reads SecretProviderClasses, stores, pods and
// Secrets together, as the API server, the driver and the provider will, and
// joins what they say of each other. The rules stand in one table, rules.go.
//
// coffre lint calls it. It reads no file, contacts nobody and changes nothing;
// what the provider itself decides is asked of the provider's own code.
package lint

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/cmd/coffre/internal/manifest"
	"github.com/coffre-csi/coffre/provider"
	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/strict"
)

// Finding is one mistake.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Line     int      `json:"line"` // from 1; 0 is the file as a whole
	Object   string   `json:"object"`
	Field    string   `json:"field,omitempty"`
	Message  string   `json:"message"`
	Happens  string   `json:"happens,omitempty"`
	Remedy   string   `json:"remedy,omitempty"`
}

// Report is what was found in a set.
type Report struct {
	Findings []Finding
	Checked  int // SecretProviderClasses, volumes and stores that were looked at
	// Unreadable says that the system did not give a file.
	Unreadable bool
}

// Count is the number of findings of a severity.
func (r Report) Count(s Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Linter knows what the provider takes.
type Linter struct {
	Catalog  store.Catalog
	Dialects map[string]provider.Dialect
}

// ignorer is a dialect that can say what it takes without effect.
type ignorer interface {
	Ignored(parameters map[string]string) strict.Errors
}

// Check looks at all that was read.
func (l Linter) Check(set manifest.Set) Report {
	c := &check{Linter: l, set: set, stores: map[string][]*store.Config{}, plans: map[int]plan.Plan{}}
	c.problems()
	for _, s := range set.Stores {
		c.configuration(s)
	}
	for i, class := range set.Classes {
		c.class(i, class)
	}
	c.twice()
	for _, m := range set.Mounts {
		c.mount(m)
	}
	for _, r := range set.References {
		c.reference(r)
	}
	c.outside()
	if c.report.Checked == 0 && len(c.report.Findings) == 0 {
		c.say(nothingToCheck, manifest.Place{}, "", "", "nothing to check: no SecretProviderClass, no workload that mounts one, no stores")
	}
	slices.SortStableFunc(c.report.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})

	return c.report
}

// check is one run.
type check struct {
	Linter
	set    manifest.Set
	report Report

	stores    map[string][]*store.Config // by name; nil for one with a mistake
	plans     map[int]plan.Plan          // of the classes that have no mistake
	elsewhere map[string]manifest.Place  // stores that classes name and no file has, where there is no configuration
}

// say adds a finding; a remedy in the text is better than the rule's.
func (c *check) say(id string, at manifest.Place, object, field, format string, args ...any) {
	r := rule(id)
	c.report.Findings = append(c.report.Findings, Finding{
		Rule: id, Severity: r.Severity, File: at.File, Line: at.Line, Object: object, Field: field,
		Message: fmt.Sprintf(format, args...), Happens: r.Happens, Remedy: r.Remedy,
	})
}

// remedy is of the finding that was said last.
func (c *check) remedy(format string, args ...any) {
	c.report.Findings[len(c.report.Findings)-1].Remedy = fmt.Sprintf(format, args...)
}

func (c *check) problems() {
	rules := map[manifest.Trouble]string{
		manifest.Unreadable: fileUnreadable, manifest.TooLarge: fileTooLarge, manifest.NoYAML: yamlSyntax,
		manifest.Unrendered: helmTemplate, manifest.OfChart: helmChart, manifest.KeyTwice: yamlKeyTwice,
	}
	for _, p := range c.set.Problems {
		c.say(rules[p.Trouble], p.Place, p.Object, p.Field, "%s", p.Text)
		c.report.Unreadable = c.report.Unreadable || p.Trouble == manifest.Unreadable
	}
}

// configuration checks stores, and keeps them to hold classes against.
func (c *check) configuration(s manifest.Stores) {
	c.report.Checked++
	var d strict.Decoder
	for name, config := range c.Catalog.Kinds.DecodeStores(&d, s.Node) {
		c.stores[name] = append(c.stores[name], config)
	}
	if s.Dialects != nil {
		c.Catalog.DecodeDialects(&d, s.Dialects)
	}
	object := "stores"
	if s.In != "values" {
		object = s.In + " stores"
	}
	for _, m := range d.Errors {
		line := m.Line
		if below, ok := strings.CutPrefix(m.Path, "stores."); ok {
			line = manifest.LineOf(s.Node, below)
		} else if below, ok := strings.CutPrefix(m.Path, "dialects."); ok {
			line = manifest.LineOf(s.Dialects, below)
		}
		c.say(storesRefused, manifest.Place{File: s.File, Line: line}, object, m.Path, "%s", m.Text)
	}
}

// held holds a planned class against the platform's stores.
func (c *check) held(class manifest.Class, object string, p plan.Plan) {
	said := map[string]bool{}
	for _, q := range p.Queries() {
		name := q.Store.Name
		if name == "" || said[name] {
			continue
		}
		said[name] = true
		at, field := class.At("store", 0), "store"
		if class.Parameters["store"] != name {
			field = q.Field + ".store"
			at = class.At(field, 0)
		}
		c.storeOf(class, object, name, field, at)
	}
}

func (c *check) storeOf(class manifest.Class, object, name, field string, at manifest.Place) {
	configs, known := c.stores[name]
	switch {
	case len(c.set.Stores) == 0:
		if c.elsewhere == nil {
			c.elsewhere = map[string]manifest.Place{}
		}
		if _, ok := c.elsewhere[name]; !ok {
			c.elsewhere[name] = at
		}
	case !known:
		names := slices.Sorted(maps.Keys(c.stores))
		hint := "there are: " + list(names)
		if near := strict.Nearest(name, names); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		c.say(storeUnknown, at, object, field, "no store %q is in the stores beside it; %s", name, hint)
	case class.Namespace != "" && !slices.ContainsFunc(configs, func(s *store.Config) bool { return s == nil || s.Allows(class.Namespace) }):
		c.say(storeNamespace, at, object, field, "store %q does not let namespace %q in: its namespaces are %s", name, class.Namespace, list(configs[0].Namespaces))
	}
}

// outside says once what the files cannot tell.
func (c *check) outside() {
	if len(c.elsewhere) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(c.elsewhere))
	c.say(storesOutside, c.elsewhere[names[0]], "stores", "", "%s: in none of the files", list(names))
}

// plan is what the dialect makes of parameters.
func (c *check) plan(class manifest.Class, namespace string, parameters map[string]string) (plan.Plan, error) {
	return c.Dialects[class.Provider].Plan(budget.New(context.Background(), nil, ""), request.Request{
		Class: class.Name, Parameters: parameters, Mode: 0o644,
		Identity: auth.Identity{Namespace: cmp.Or(namespace, "default"), ServiceAccount: "default"},
	})
}

func list(names []string) string {
	const most = 12
	text := ""
	for i, n := range names {
		if i == most {
			return text + fmt.Sprintf(" and %d more", len(names)-most)
		}
		if i > 0 {
			text += ", "
		}
		text += n
	}

	if text == "" {
		return "none"
	}

	return text
}
