package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// finding is one thing that lint has to say.
type finding struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Severity string `json:"severity"` // error or warning
	Object   string `json:"object"`   // SecretProviderClass shop/mysql
	Field    string `json:"field,omitempty"`
	Message  string `json:"message"`
}

func lint(_ context.Context, args []string, std stdio) error {
	fs := newFlags("lint", std, "[--output text|json] FILE…")
	output := fs.String("output", "text", "text or json")
	var files list
	fs.Var(&files, "f", "a file, as an argument is; - is standard input")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	files = append(files, rest...)
	if len(files) == 0 || *output != "text" && *output != "json" {
		return usageError(fs, "name files, and --output text or json")
	}
	set, err := manifest.Read(files, std.in)
	if err != nil {
		return err
	}
	env := environment()
	l := linter{kinds: provider.Kinds(env)}
	l.dialects = provider.Dialects(env, l.kinds)
	l.check(set)
	slices.SortStableFunc(l.findings, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	if err := l.print(std.out, *output); err != nil {
		return err
	}
	if slices.ContainsFunc(l.findings, func(f finding) bool { return f.Severity == "error" }) {
		return errReported
	}
	return nil
}

type linter struct {
	kinds    store.Kinds
	dialects map[string]provider.Dialect
	findings []finding
	checked  int
}

func (l *linter) say(severity string, at manifest.Place, object, field, format string, args ...any) {
	l.findings = append(l.findings, finding{at.File, at.Line, severity, object, field, fmt.Sprintf(format, args...)})
}

func (l *linter) check(set manifest.Set) {
	for _, s := range set.Stores {
		l.stores(s)
	}
	for _, c := range set.Classes {
		l.class(c)
	}
	for _, m := range set.Mounts {
		l.mount(set, m)
	}
	if l.checked == 0 {
		l.say("warning", manifest.Place{}, "", "", "nothing to check: no SecretProviderClass of a dialect that this build has, no workload that mounts one, no stores")
	}
}

func (l *linter) stores(s manifest.Stores) {
	l.checked++
	var d strict.Decoder
	l.kinds.DecodeStores(&d, s.Node)
	for _, m := range d.Errors {
		l.say("error", manifest.Place{File: s.File, Line: m.Line}, "stores", m.Path, "%s", m.Text)
	}
}

// class runs the dialect on a SecretProviderClass as it would run on a Mount,
// and looks whether the Secrets to be synced have their files.
func (l *linter) class(c manifest.Class) {
	object := "SecretProviderClass " + c.Namespace + "/" + c.Name
	dialect, ok := l.dialects[c.Provider]
	if !ok {
		names := slices.Sorted(maps.Keys(l.dialects))
		if near := strict.Nearest(c.Provider, names); near != "" {
			l.say("error", c.Place, object, "spec.provider", "%q is no provider; did you mean %q?", c.Provider, near)
		}
		return
	}
	l.checked++
	p, err := dialect.Plan(budget.New(context.Background(), nil, ""), request.Request{
		Class: c.Name, Parameters: c.Parameters, Mode: 0o644,
		Identity: auth.Identity{Namespace: c.Namespace, ServiceAccount: "default"},
	})
	if mistakes := (strict.Errors{}); errors.As(err, &mistakes) {
		for _, m := range mistakes {
			parameter, _, _ := strings.Cut(m.Path, "[")
			parameter, _, _ = strings.Cut(parameter, ".")
			l.say("error", manifest.Place{File: c.File, Line: c.LineIn(parameter, m.Line)}, object, m.Path, "%s", m.Text)
		}
		return
	} else if err != nil {
		l.say("error", c.Place, object, "", "%s", err)
		return
	}
	l.secretObjects(c, object, p)
}

// secretObjects checks that each file that a Secret is made of is made by an
// object; objects that make several files are known at mount time only.
func (l *linter) secretObjects(c manifest.Class, object string, p plan.Plan) {
	var files, folders []string
	for _, o := range p.Objects {
		if o.Several() {
			folders = append(folders, o.Output.File)
		} else {
			files = append(files, o.Output.File)
		}
	}
	for _, so := range c.SecretObjects {
		for _, name := range so.Objects {
			below := func(folder string) bool { return strings.HasPrefix(name, folder) }
			if slices.Contains(files, name) || slices.ContainsFunc(folders, below) {
				continue
			}
			hint := "files: " + strings.Join(files, ", ")
			if near := strict.Nearest(name, files); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			l.say("error", so.Place, object, "secretObjects", "Secret %s: no object makes the file %q; %s", so.Name, name, hint)
		}
	}
}

// mount checks what the driver and kubelet would make of a workload's volume.
func (l *linter) mount(set manifest.Set, m manifest.Mount) {
	l.checked++
	object := m.Workload + " volume " + m.Volume
	if !m.ReadOnly {
		l.say("error", m.Place, object, "csi.readOnly", "must be true: the driver refuses the volume otherwise")
	}
	if m.Class == "" {
		l.say("error", m.Place, object, "csi.volumeAttributes.secretProviderClass", "is missing")
		return
	}
	for _, at := range m.SubPaths {
		l.say("warning", at, object, "subPath", "a file mounted by subPath never sees a new value; mount the folder")
	}
	class, err := findClass(set, m)
	if err != nil {
		var near []string
		for _, c := range set.Classes {
			if c.Namespace == m.Namespace {
				near = append(near, c.Name)
			}
		}
		if guess := strict.Nearest(m.Class, near); guess != "" {
			l.say("error", m.Place, object, "secretProviderClass", "%q is not in these files; did you mean %q?", m.Class, guess)
		}
		return
	}
	dialect, ok := l.dialects[class.Provider]
	if !ok || !m.NonRoot {
		return
	}
	p, err := dialect.Plan(budget.New(context.Background(), nil, ""), request.Request{Class: class.Name, Parameters: class.Parameters, Mode: 0o644})
	if err != nil {
		return
	}
	for _, o := range p.Objects {
		if o.Output.Mode&0o004 == 0 {
			l.say("warning", m.Place, object, o.Field+".mode", "%04o: the file is root's, and the driver applies no fsGroup, so that this pod's user cannot read it", o.Output.Mode)
		}
	}
}

func (l *linter) print(out io.Writer, format string) error {
	if format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if l.findings == nil {
			l.findings = []finding{}
		}
		return enc.Encode(l.findings)
	}
	errs := 0
	for _, f := range l.findings {
		if f.Severity == "error" {
			errs++
		}
		where := f.Object
		if f.Field != "" {
			where += ": " + f.Field
		}
		if f.File == "" {
			fmt.Fprintf(out, "%s: %s\n", f.Severity, f.Message)
			continue
		}
		fmt.Fprintf(out, "%s:%d: %s: %s: %s\n", f.File, f.Line, f.Severity, where, f.Message)
	}
	_, err := fmt.Fprintf(out, "%d checked, %d errors, %d warnings\n", l.checked, errs, len(l.findings)-errs)
	return err
}
