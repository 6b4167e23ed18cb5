// Package gcp reads SecretProviderClasses written for the Google provider
// (v1.15) unchanged: its parameters, file modes, object versions, gRPC codes and
// error sentences. Where that provider has a fault (a crash, a wrong key that is
// found after a paid read, random content for equal entries) this dialect has an
// error that says so, or the sane result; fields that its users asked for are
// added, each switched on by naming it (docs/gcp.md).
package gcp

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc/codes"

	gcpauth "github.com/coffre-csi/coffre/auth/gcp"
	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
	gcpstore "github.com/coffre-csi/coffre/provider/store/gcp"
	"github.com/coffre-csi/coffre/provider/strict"
)

// Name of the dialect: of its socket, and of spec.provider.
const Name = gcpstore.Dialect

// Dialect reads the syntax of the Google provider.
type Dialect struct{}

// reader reads one SecretProviderClass.
type reader struct {
	req     request.Request
	budget  *budget.Budget
	auth    gcpauth.Method
	refresh store.Refresh
	force   string

	stores map[place]*store.Config
	failed failure
}

// place is one service in one location: what fails as one, and is one store.
type place struct{ kind, location string }

// Plan reads a request's parameters. Unknown parameters and fields are ignored,
// as the Google provider ignores them.
func (Dialect) Plan(b *budget.Budget, req request.Request) (plan.Plan, error) {
	r := &reader{req: req, budget: b, stores: map[place]*store.Config{}}
	switch text := req.Parameters["auth"]; text {
	case "":
	case "pod-adc":
		r.auth = gcpauth.WorkloadIdentity
	case "provider-adc":
		r.auth = gcpauth.Provider
	default:
		return plan.Plan{}, invalid("unknown auth configuration: %q", text)
	}
	text, ok := req.Parameters["secrets"]
	if !ok {
		return plan.Plan{}, invalid("missing required 'secrets' attribute")
	}
	if err := r.common(); err != nil {
		return plan.Plan{}, err
	}
	entries, err := r.entries(text)
	if err != nil {
		return plan.Plan{}, err
	}

	var p plan.Plan
	for i, e := range entries {
		if e == nil {
			return plan.Plan{}, invalid("secrets[%d] is null: begin each entry with resourceName", i)
		}
		o, err := r.object(e)
		if err != nil {
			return plan.Plan{}, err
		}
		if o != nil {
			p.Objects = append(p.Objects, *o)
		}
	}
	if len(r.failed.lines) > 0 {
		return plan.Plan{}, &r.failed
	}
	return p, nil
}

// common reads the parameters that Coffre adds.
func (r *reader) common() error {
	if text := r.req.Parameters["refresh"]; text != "" {
		if err := r.refresh.UnmarshalText([]byte(text)); err != nil {
			return invalid("refresh: %s", err)
		}
	}
	if text := r.req.Parameters["forceRefresh"]; text != "" {
		r.force = r.req.Class + "\x00" + text
	}
	return nil
}

// entries reads the list, paid for before anything parses it. Texts of the
// parser speak of the type that the Google provider has.
func (r *reader) entries(text string) (list []*entry, err error) {
	const what = "failed to unmarshal secrets attribute: "
	if len(text) > strict.MaxBytes {
		return nil, invalid(what+"%d bytes; the limit is %d", len(text), strict.MaxBytes)
	}
	if err := strict.Charge(r.budget, text); err != nil {
		return nil, invalid(what+"%s", err)
	}
	defer func() {
		if recover() != nil {
			list, err = nil, invalid(what+"it is no YAML that can be read")
		}
	}()

	var root yaml.Node
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		return nil, invalid(what+"%s", err)
	}
	if len(root.Content) == 0 {
		return nil, nil
	}
	if err := strict.ChargeExpanded(r.budget, root.Content[0]); err != nil {
		return nil, invalid(what+"%s", err)
	}
	if err := root.Content[0].Decode(&list); err != nil {
		return nil, invalid(what+"%s", strings.ReplaceAll(err.Error(), "gcp.entry", "config.Secret"))
	}
	if len(list) > plan.MaxObjects {
		return nil, invalid("secrets lists %d objects; the limit is %d", len(list), plan.MaxObjects)
	}
	return list, nil
}

// store is that of a place, shared by all its objects.
func (r *reader) store(at place) (*store.Config, error) {
	if c := r.stores[at]; c != nil {
		return c, nil
	}
	name := "secretmanager"
	if at.kind == gcpstore.ParameterManager {
		name = "parametermanager"
	}
	c, mistakes := gcpstore.Inline(at.kind, name, gcpstore.Settings{Location: at.location, Auth: r.auth}, store.InlineOptions{Dialect: Name})
	if mistakes != nil {
		return nil, mistakes[0]
	}
	r.stores[at] = c
	return c, nil
}

// invalid is a class that cannot be read at all.
func invalid(format string, args ...any) error {
	return &failure{code: codes.InvalidArgument, lines: []line{{text: fmt.Sprintf(format, args...)}}}
}
