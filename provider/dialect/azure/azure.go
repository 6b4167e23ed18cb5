// Package azure reads SecretProviderClasses written for the Azure provider
// (v1.8) unchanged: its parameters, the order of its checks, its file names,
// histories, object versions and error sentences. Where that provider has a
// fault (a crash, one version too many, a file mode that nobody checked, empty
// files beside a PFX) this dialect has the sane result, or an error that says
// so; fields that its users asked for are added, each switched on by naming it
// (docs/azure.md). It does no I/O.
package azure

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	azureauth "github.com/coffre-csi/coffre/auth/azure"
	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
	azurestore "github.com/coffre-csi/coffre/provider/store/azure"
)

// Name of the dialect: of its socket, and of spec.provider.
const Name = azurestore.Dialect

// Dialect reads the syntax of the Azure provider. Its fields are that
// provider's flags.
type Dialect struct {
	// VaultOrder leaves the certificates of a PFX that becomes PEM in the order
	// of the vault, as --construct-pem-chain=false does.
	VaultOrder bool
	// SeparateFiles writes the certificates and the key of every secret that is
	// a certificate beside it, as --write-cert-and-key-in-separate-files does.
	SeparateFiles bool
}

// reader reads one SecretProviderClass.
type reader struct {
	dialect  Dialect
	req      request.Request
	budget   *budget.Budget
	settings azurestore.Settings
	refresh  store.Refresh
	force    string

	stores map[string]*store.Config // by vault
	files  map[string]string        // path → the object that makes it, where two may not
	lines  []string                 // mistakes of objects
}

// Parameters that Coffre adds to the dialect.
const (
	paramRefresh  = "refresh"
	paramForce    = "forceRefresh"
	paramFailover = "failoverVault"
	paramInTime   = "refuseOutOfTime"
)

// Anonymous implements provider.Anonymous: the Azure provider asks for no service
// account.
func (Dialect) Anonymous() {}

// Plan reads a request's parameters. Unknown parameters and fields are ignored,
// as the Azure provider ignores them. The first mistake of the parameters is
// told, and all of the objects.
func (d Dialect) Plan(b *budget.Budget, req request.Request) (plan.Plan, error) {
	r := &reader{dialect: d, req: req, budget: b, stores: map[string]*store.Config{}}
	if err := r.parameters(); err != nil {
		return plan.Plan{}, err
	}
	entries, err := r.entries(strings.TrimSpace(req.Parameters["objects"]))
	if err != nil {
		return plan.Plan{}, err
	}
	if len(entries) == 0 {
		return plan.Plan{AsListed: true}, nil // no vault is named then, and none is needed
	}

	p := plan.Plan{AsListed: true}
	for i := range entries {
		p.Objects = append(p.Objects, r.object(i, &entries[i])...)
		if b.Err() != nil || len(r.lines) >= maxMistakes {
			break // said already
		}
	}
	if len(r.lines) > 0 {
		return plan.Plan{}, failed("%s", strings.Join(r.lines, "; "))
	}

	return p, nil
}

// maxMistakes is how many are told of.
const maxMistakes = 100

// parameter is one without the white space around it.
func (r *reader) parameter(name string) string { return strings.TrimSpace(r.req.Parameters[name]) }

// parameters reads all but the objects, in the order of the Azure provider's
// checks.
func (r *reader) parameters() error {
	modes, err := r.modes()
	if err != nil {
		return err
	}
	s := &r.settings
	s.Vault, s.FailoverVault = r.parameter("keyvaultName"), r.parameter(paramFailover)
	if s.Vault == "" {
		return failed("keyvaultName is not provided")
	}
	if s.TenantID = r.parameter("tenantID"); s.TenantID == "" {
		s.TenantID = r.parameter("tenantId")
	}
	annotated := !modes[modePod] && !modes[modeVM] && r.parameter("objects") != ""
	if s.TenantID == "" && !annotated {
		return failed("tenantId is not provided")
	}
	s.CloudName, s.CloudEnvironmentFile = r.parameter("cloudName"), r.parameter("cloudEnvFileName")
	if !azureauth.KnownCloud(s.CloudName) {
		const unknown = "autorest/azure: There is no cloud environment matching the name %q; there are %s"
		return failed("cloudName %.60s is not valid, error: "+unknown, s.CloudName, strings.ToUpper(s.CloudName), azureauth.CloudNames)
	}
	if err := r.signIn(modes); err != nil {
		return err
	}

	return r.own()
}

// own reads the parameters that Coffre adds.
func (r *reader) own() error {
	if text := r.parameter(paramRefresh); text != "" {
		if err := r.refresh.UnmarshalText([]byte(text)); err != nil {
			return failed("%s: %s", paramRefresh, err)
		}
	}
	if text := r.req.Parameters[paramForce]; text != "" {
		r.force = r.req.Class + "\x00" + text
	}
	if text := r.parameter(paramInTime); text != "" {
		on, err := strconv.ParseBool(text)
		if err != nil {
			return failed("failed to parse %s flag, error: %s", paramInTime, err)
		}
		r.settings.RefuseOutOfTime = on
	}

	return nil
}

// failure is a Mount that failed, in the words and with the code that users of
// the Azure provider know.
type failure struct {
	text string
	err  error
}

// failed is a failure by a mistake of the class.
func failed(format string, args ...any) error {
	return &failure{text: "failed to mount objects, error: " + fmt.Sprintf(format, args...)}
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

// GRPCStatus is the answer to the driver: the Azure provider has one code.
func (f *failure) GRPCStatus() *status.Status { return status.New(codes.Unknown, f.text) }
