// Package vault reads SecretProviderClasses written for the providers of
// HashiCorp Vault (v1.7) and of OpenBao (v2.0) unchanged: their parameters, file
// names, path spellings, encodings, error sentences and, where the key of their
// object versions is given, those versions. Where those providers have a fault
// (a crash on an empty answer, objects that take each other's reply, a
// misspelt field that is ignored) this dialect has an error that says so.
// Fields that their users asked for are added (docs/vault.md).
package vault

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	vaultauth "github.com/coffre-csi/coffre/auth/vault"
	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
	vaultstore "github.com/coffre-csi/coffre/provider/store/vault"
	"github.com/coffre-csi/coffre/provider/strict"
)

// Names of the dialects: of their sockets, and of spec.provider. Each is the
// name of its kind of store, too.
const (
	Vault   = vaultstore.Vault
	OpenBao = vaultstore.OpenBao
)

// Dialect reads the syntax of one of the two providers.
type Dialect struct {
	Provider string // Vault or OpenBao
	// VersionKey is the key of that provider's object versions; nil where it is
	// not known.
	VersionKey store.Value
}

// reader reads one SecretProviderClass.
type reader struct {
	Dialect
	req     request.Request
	budget  *budget.Budget
	errors  strict.Errors
	config  *store.Config
	refresh store.Refresh
	force   string
}

func (r *reader) bad(path, format string, args ...any) {
	r.errors = append(r.errors, strict.Error{Path: path, Text: fmt.Sprintf(format, args...)})
}

// Plan reads a request's parameters. Unknown parameters are ignored, as those
// providers ignore them: a pod's volumeAttributes are among them.
func (d Dialect) Plan(b *budget.Budget, req request.Request) (plan.Plan, error) {
	r := &reader{Dialect: d, req: req, budget: b}
	settings := r.settings()
	r.common()
	list := r.list(req.Parameters["objects"])
	if settings.Role == "" && needsRole(settings.Auth) {
		r.bad("", "missing 'roleName' in SecretProviderClass definition")
	}
	if len(list) == 0 && len(r.errors) == 0 {
		r.bad("", "no secrets configured - the provider will not read any secret material")
	}
	r.unique(list)
	if len(r.errors) == 0 {
		r.store(settings)
	}

	p := plan.Plan{AsListed: true}
	for _, o := range list {
		if r.budget.Err() != nil || len(r.errors) >= strict.MaxErrors {
			break // said already
		}
		if planned, ok := r.plan(o); ok {
			p.Objects = append(p.Objects, planned)
		}
	}
	if len(r.errors) > 0 {
		return plan.Plan{}, r.errors
	}
	return p, nil
}

func needsRole(m vaultauth.Method) bool {
	return m == "" || m == vaultauth.Kubernetes || m == vaultauth.JWT
}

// parameter is one that each provider prefixes in its own ways: the first
// prefix that is there wins, even with nothing behind it.
func (r *reader) parameter(name string) (value string, present bool) {
	for _, prefix := range r.prefixes() {
		if v, ok := r.req.Parameters[prefix+name]; ok {
			return v, true
		}
	}
	return "", false
}

func (r *reader) text(name string) string {
	v, _ := r.parameter(name)
	return v
}

func (r *reader) settings() vaultstore.Settings {
	s := vaultstore.Settings{
		Address: r.text("Address"), VaultNamespace: strings.Trim(r.text("Namespace"), "/"), Auth: vaultauth.Method(r.text("AuthMethod")),
		Role: r.role(), Audience: r.req.Parameters["audience"], TLSServerName: r.text("TLSServerName"),
		Files: vaultstore.Files{
			CACert: r.text("CACertPath"), CADirectory: r.text("CADirectory"),
			ClientCert: r.text("TLSClientCertPath"), ClientKey: r.text("TLSClientKeyPath"),
		},
	}
	if (s.Files.ClientCert == "") != (s.Files.ClientKey == "") {
		r.bad("", "both client cert and client key must be provided")
	}

	mount, both := r.parameter("AuthMountPath")
	legacy, ok := r.parameter("KubernetesMountPath")
	if ok && both {
		r.bad("", "cannot set both %[1]sKubernetesMountPath and %[1]sAuthMountPath", r.Provider)
	}
	if !both {
		mount = legacy
	}
	s.AuthMount = strings.Trim(mount, "/")

	if text, ok := r.parameter("SkipTLSVerify"); ok {
		var err error
		if s.SkipTLSVerify, err = strconv.ParseBool(text); err != nil {
			r.bad("", "%s", err)
		}
	}
	return s
}

func (r *reader) role() string {
	if r.Provider == OpenBao {
		if role, ok := r.parameter("RoleName"); ok {
			return role
		}
	}
	return r.req.Parameters["roleName"]
}

// common reads the parameters that Coffre adds to the dialects.
func (r *reader) common() {
	if text := r.req.Parameters["refresh"]; text != "" {
		if err := r.refresh.UnmarshalText([]byte(text)); err != nil {
			r.bad("refresh", "%s", err)
		}
	}
	if text := r.req.Parameters["forceRefresh"]; text != "" {
		r.force = r.req.Class + "\x00" + text
	}
}

// store makes the one store that all objects stand in.
func (r *reader) store(s vaultstore.Settings) {
	config, mistakes := store.NewInline(r.Provider, r.Provider, &s, store.InlineOptions{Dialect: r.Provider})
	for _, m := range mistakes {
		r.bad(r.parameterOf(m.Field), "%s", m.Text)
	}
	r.config = config
}

// parameterOf is the parameter that a store's setting was made from.
func (r *reader) parameterOf(setting string) string {
	names := map[string]string{
		"address": "Address", "vaultNamespace": "Namespace", "authMount": "AuthMountPath", "auth": "AuthMethod",
	}
	if name, ok := names[setting]; ok {
		return r.Provider + name
	}
	return setting
}

// unique refuses names that stand twice.
func (r *reader) unique(list []*object) {
	seen := map[string]bool{}
	var twice []string
	for _, o := range list {
		if seen[o.ObjectName] {
			twice = append(twice, o.ObjectName)
		}
		seen[o.ObjectName] = true
	}
	if twice != nil {
		r.bad("", "each `objectName` within a SecretProviderClass must be unique, but the following keys were duplicated: %s", strings.Join(twice, ", "))
	}
}

// plan makes a checked object of an entry.
func (r *reader) plan(o *object) (plan.Object, bool) {
	before := len(r.errors)
	out := o.output(r)
	query := o.query(r)
	if err := r.budget.Queries(1); err != nil {
		r.bad(o.field, "%s", err)
	}
	if len(r.errors) > before || r.config == nil {
		return plan.Object{}, false
	}
	return plan.Object{Field: o.field, Sources: []plan.Source{{Query: query}}, Output: out}, true
}

func (o *object) query(r *reader) plan.Query {
	q := plan.Query{
		Field: o.field, Object: o.ObjectName, Store: store.Selector{Inline: r.config}, Force: r.force, Optional: o.Optional,
		Ref: o.ref(r), Refresh: r.refresh.Duration(),
	}
	if o.Refresh != "" {
		var own store.Refresh
		if err := own.UnmarshalText([]byte(o.Refresh)); err != nil {
			r.bad(strict.Join(o.field, "refresh"), "%s", err)
		}
		q.Refresh = own.Duration()
	}
	if q.Refresh == 0 {
		// Those providers read on every republish; so does this dialect, unless
		// somebody chose a refresh time.
		q.Volume = r.req.Class + "\x00" + r.req.TargetPath
	}
	return q
}

// methods that read, or that make what is then read.
func methods() []string { return []string{"", "GET", "LIST", "POST", "PUT", "PATCH"} }

// ref is the request that the entry names, in one spelling.
func (o *object) ref(r *reader) store.Ref {
	text, query, _ := strings.Cut(o.SecretPath, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		r.bad(o.field, "failed to parse query parameters from secretPath %q for objectName %q: %s", o.SecretPath, o.ObjectName, err)
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "/"), "v1/")
	if slices.Contains(strings.Split(text, "/"), "..") {
		r.bad(strict.Join(o.field, "secretPath"), "%.120q leaves its place by ..", o.SecretPath)
	}
	if strings.Trim(text, "/") == "" {
		r.bad(strict.Join(o.field, "secretPath"), "is missing, such as secret/data/NAME (upstream asked for \"/v1\", which is a 404)")
	}
	if method := strings.ToUpper(o.Method); !slices.Contains(methods(), method) {
		r.bad(strict.Join(o.field, "method"), "%.20q neither reads nor makes a secret; there are GET, LIST, POST, PUT and PATCH", o.Method)
	}
	args, err := o.args()
	if err != nil {
		r.bad(strict.Join(o.field, "secretArgs"), "%s", err)
	}

	ref := store.Ref{
		Name:  strings.TrimPrefix(path.Clean("/"+text), "/"),
		Extra: vaultstore.Extra{Method: strings.ToUpper(o.Method), Args: args}.String(),
	}
	if len(values) > 0 {
		ref.Name += "?" + values.Encode()
	}
	return ref
}
