// Package aws reads SecretProviderClasses written for the AWS provider (v3)
// unchanged: its parameters, its file names, its object versions and its error
// sentences. Where that provider has a fault (a crash, a file that silently
// takes another's place), this dialect has an error that says so; fields that
// its users asked for are added, each switched on by naming it (docs/aws.md).
package aws

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	yaml3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
	awsstore "github.com/coffre-csi/coffre/provider/store/aws"
	"github.com/coffre-csi/coffre/provider/strict"
)

// Name of the dialect: of its socket, and of spec.provider.
const Name = "aws"

// Dialect reads the syntax of the AWS provider.
type Dialect struct {
	// DefaultRegion is what AWS_REGION said; empty where the node's is asked.
	DefaultRegion string
}

// reader reads one SecretProviderClass.
type reader struct {
	req         request.Request
	budget      *budget.Budget
	errors      strict.Errors
	regions     []string // the first may be "", for the node's
	translation string   // what "/" becomes in a file's name; "" where it stays
	refresh     store.Refresh
	force       string

	secrets, parameters *store.Config
}

func (r *reader) bad(path, format string, args ...any) {
	r.errors = append(r.errors, strict.Error{Path: path, Text: fmt.Sprintf(format, args...)})
}

// Plan reads a request's parameters. Unknown parameters are ignored, as the
// AWS provider ignores them.
func (d Dialect) Plan(b *budget.Budget, req request.Request) (plan.Plan, error) {
	r := &reader{req: req, budget: b}
	settings := d.settings(r)
	r.translation = r.pathTranslation()
	r.common()
	if len(r.errors) == 0 {
		r.stores(settings)
	}
	p := plan.Plan{Objects: r.objects(req.Parameters["objects"])}
	if len(r.errors) > 0 {
		return plan.Plan{}, r.errors
	}

	return p, nil
}

// settings are those of both stores.
func (d Dialect) settings(r *reader) awsstore.Settings {
	p := r.req.Parameters
	s := awsstore.Settings{Region: p["region"], Auth: awsauth.IRSA}
	if s.Region == "" {
		s.Region = d.DefaultRegion
	}
	r.regions = []string{s.Region}
	for region := range strings.SplitSeq(p["failoverRegion"], ",") {
		if region = strings.TrimSpace(region); region == "" {
			continue
		}
		if slices.Contains(r.regions, region) {
			r.bad("failoverRegion", "%s: failover region cannot be the same as the primary region", region)
		}
		r.regions = append(r.regions, region)
		s.FailoverRegions = append(s.FailoverRegions, region)
	}

	if text := p["usePodIdentity"]; text != "" {
		on, err := strconv.ParseBool(text)
		if err != nil {
			r.bad("", "failed to parse usePodIdentity value, error: %s", err)
		}
		if on {
			s.Auth = awsauth.PodIdentity
		}
	}

	switch strings.ToLower(p["preferredAddressType"]) {
	case "ipv4":
		s.PodIdentityAddress = awsauth.IPv4
	case "ipv6":
		s.PodIdentityAddress = awsauth.IPv6
	}

	return s
}

// pathTranslation is what stands for "/" in file names.
func (r *reader) pathTranslation() string {
	switch text := r.req.Parameters["pathTranslation"]; {
	case text == "":
		return "_"
	case strings.EqualFold(text, "false"):
		return ""
	case len(text) == 1:
		return text
	default:
		r.bad("", "pathTranslation must be either 'False' or a single character string; it is %.40q", text)
		return "_"
	}
}

// common reads the parameters that Coffre adds to the dialect.
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

// stores makes the two stores that the objects may stand in, one of each kind,
// shared by all objects so that each is opened once a Mount.
func (r *reader) stores(s awsstore.Settings) {
	var mistakes []store.Mistake
	o := store.InlineOptions{Dialect: Name}
	r.secrets, mistakes = awsstore.Inline(awsstore.SecretsManager, secretsManager, s, o)
	if mistakes == nil {
		r.parameters, mistakes = awsstore.Inline(awsstore.ParameterStore, ssmParameter, s, o)
	}
	for _, m := range mistakes {
		r.bad(parameterOf(m.Field), "%s", m.Text)
	}
}

// parameterOf is the parameter that a store's setting was made from.
func parameterOf(setting string) string {
	if strings.HasPrefix(setting, "failoverRegions") {
		return "failoverRegion"
	}
	return setting
}

// maxObjects is a bound of Coffre's own.
const maxObjects = plan.MaxObjects

// objects reads the list as the AWS provider does: keys in any letter case,
// unknown ones ignored, scalars as text by YAML 1.1, the first document only.
func (r *reader) objects(text string) []plan.Object {
	if len(text) > strict.MaxBytes {
		r.bad("objects", "is %d bytes; the limit is %d", len(text), strict.MaxBytes)
		return nil
	}
	if err := strict.ChargeReadTwice(r.budget, text); err != nil {
		r.bad("objects", "%s", err)
		return nil
	}

	var list []*descriptor
	if err := unmarshal(text, &list); err != nil {
		r.bad("objects", "Failed to load SecretProviderClass: %s", unreadable(text, err))
		return nil
	}
	if len(list) > maxObjects {
		r.bad("objects", "lists %d objects; the limit is %d", len(list), maxObjects)
		return nil
	}
	var objects []plan.Object
	names := names{reader: r}
	for i, d := range list {
		field := fmt.Sprintf("objects[%d]", i)
		if d == nil {
			r.bad(field, "Empty descriptor entry in SecretProviderClass")
			continue
		}
		if r.budget.Err() != nil || len(r.errors) >= strict.MaxErrors {
			break // said already
		}

		before := len(r.errors)
		d.check(r, field)
		names.add(field, d)
		if err := r.budget.Queries(1 + len(d.JMESPath)); err != nil {
			r.bad(field, "%s", err)
		}
		if len(r.errors) == before {
			objects = append(objects, d.plan(r, field)...)
		}
	}

	return objects
}

// unreadable says why objects could not be read in words of YAML: the parser's
// speak of Go.
func unreadable(text string, err error) string {
	root, syntax := strict.Parse(text, "")
	switch {
	case syntax != nil:
		return syntax.Error()
	case root == nil:
		return err.Error()
	case root.Kind == yaml3.MappingNode && len(root.Content) > 0 && root.Content[0].Value == "array":
		return "array: is the Azure provider's form; list the objects themselves, each begun by a dash and objectName"
	case root.Kind != yaml3.SequenceNode:
		return "objects must be a list: begin each object with a dash"
	}
	for i, entry := range root.Content {
		if entry.Kind != yaml3.MappingNode {
			return fmt.Sprintf("objects[%d] must be a mapping of fields, such as objectName: prod/mysql", i)
		}
	}

	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Sprintf("%s cannot be a %s", wrong.Field, wrong.Value)
	}

	return "a field holds another kind of value than it takes (a list or a mapping for a text, or the other way round)"
}

// unmarshal keeps a fault of the parser from being more than an error.
func unmarshal(text string, into *[]*descriptor) (err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("objects is no YAML that can be read")
		}
	}()
	return yaml.Unmarshal([]byte(text), into)
}
