package aws

import (
	"context"
	"slices"
	"strconv"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/provider/store"
)

// getSize is GetParameters' limit.
const getSize = 10

// parameterStore is a store of kind aws-parameter-store.
type parameterStore struct{ *session }

// Fetch implements store.Store.
func (s *parameterStore) Fetch(ctx context.Context, refs []store.Ref) ([]store.Secret, error) {
	return s.fetch(ctx, ParameterStore, refs, readParameters)
}

// parameter is one name as GetParameters takes it: base, and a selector that is
// ":VERSION" or ":LABEL" or nothing.
type parameter struct {
	base, selector string
	ref            store.Ref
}

func (p parameter) id() string { return p.base + p.selector }

// canonical is what is the same of a parameter's name, with or without its
// first slash, and its ARN.
func canonical(base string) string {
	if strings.HasPrefix(base, "arn:") {
		if parts := strings.SplitN(base, ":", 6); len(parts) == 6 {
			base = strings.TrimPrefix(parts[5], "parameter")
		}
	}
	return strings.TrimPrefix(base, "/")
}

func parameterOf(ref store.Ref) (parameter, *store.Error) {
	p := parameter{base: ref.Name, ref: ref}
	head, resource := "", ref.Name
	if strings.HasPrefix(ref.Name, "arn:") {
		parts := strings.SplitN(ref.Name, ":", 6)
		resource = parts[len(parts)-1]
		head = strings.TrimSuffix(ref.Name, resource)
	}
	if base, selector, ok := strings.Cut(resource, ":"); ok {
		p.base, p.selector = head+base, ":"+selector
	}
	switch {
	case ref.Version != "" && ref.Label != "":
		return p, store.Errorf(store.Invalid, "a parameter is read by its version or by a label, and both are given")
	case p.selector != "" && ref.Version+ref.Label != "":
		return p, store.Errorf(store.Invalid, "the name says a version or a label already (%s), and another is given", p.selector)
	case p.selector == "" && ref.Version+ref.Label != "":
		p.selector = ":" + ref.Version + ref.Label
	}
	return p, nil
}

func readParameters(ctx context.Context, r *regional, refs []store.Ref) []result {
	out := make([]result, len(refs))
	places := map[string][]int{}
	var wanted []parameter
	for i, ref := range refs {
		err := r.checkName(ref.Name, "ssm")
		var p parameter
		if err == nil {
			p, err = parameterOf(ref)
		}
		if err != nil {
			out[i].err = err
			continue
		}
		if places[p.id()] = append(places[p.id()], i); len(places[p.id()]) == 1 {
			wanted = append(wanted, p)
		}
	}
	groups := apart(wanted)
	answers := make([]map[string]result, len(groups))
	each(len(groups), func(i int) { answers[i] = r.parameters(ctx, groups[i]) })
	for _, answer := range answers {
		for id, res := range answer {
			for _, i := range places[id] {
				out[i] = res
			}
		}
	}
	return out
}

// apart groups parameters by tens so that no group has one parameter twice,
// under two versions or two spellings: an answer's entry is then of one only.
func apart(wanted []parameter) [][]parameter {
	var groups [][]parameter
	var bases []map[string]bool
	for _, p := range wanted {
		key := canonical(p.base)
		at := slices.IndexFunc(bases, func(b map[string]bool) bool { return !b[key] && len(b) < getSize })
		if at < 0 {
			groups, bases = append(groups, nil), append(bases, map[string]bool{})
			at = len(groups) - 1
		}
		groups[at] = append(groups[at], p)
		bases[at][key] = true
	}
	return groups
}

// parameters reads one group. AWS refuses a group as a whole where one of it is
// refused: it is cut in two then, until it is known which one that is.
func (r *regional) parameters(ctx context.Context, group []parameter) map[string]result {
	in := &ssm.GetParametersInput{WithDecryption: sdk.Bool(true)}
	for _, p := range group {
		in.Names = append(in.Names, p.id())
	}
	var got *ssm.GetParametersOutput
	d := r.call(ctx, "GetParameters", func(ctx context.Context) (err error) {
		got, err = r.clients.parameters.GetParameters(ctx, in, r.asParameters)
		return err
	})
	out := make(map[string]result, len(group))
	switch {
	case d == nil:
		for _, p := range group {
			out[p.id()] = r.parameter(p, got.Parameters)
		}
	case d.Throttled || d.Transient || d.Expired() || len(group) == 1:
		for _, p := range group {
			out[p.id()] = result{err: r.refused(d, p.ref, "ssm:GetParameters")}
		}
	default:
		halves := [][]parameter{group[:len(group)/2], group[len(group)/2:]}
		answers := make([]map[string]result, 2)
		each(2, func(i int) { answers[i] = r.parameters(ctx, halves[i]) })
		for _, answer := range answers {
			for id, res := range answer {
				out[id] = res
			}
		}
	}
	return out
}

func (r *regional) asParameters(o *ssm.Options) { o.Credentials = r.provider() }

func (r *regional) parameter(p parameter, answered []types.Parameter) result {
	key := canonical(p.base)
	for _, a := range answered {
		if canonical(sdk.ToString(a.Name)) != key && canonical(sdk.ToString(a.ARN)) != key {
			continue
		}
		if a.Value == nil {
			break
		}
		return result{secret: store.Secret{Value: store.Value(*a.Value), Version: strconv.FormatInt(a.Version, 10)}}
	}
	d := awsauth.Item(r.region, "ssm", "GetParameters", "InvalidParameters", "")
	d.Fault = smithy.FaultClient
	text := "there is no such parameter in " + r.region
	if p.selector != "" {
		text += ", or it has no version or label " + p.selector[1:]
	}
	return result{err: &store.Error{Reason: store.NotFound, Ref: p.ref, Text: text, Cause: d}}
}

// List implements store.Lister. A prefix that is a path is looked up as one,
// which needs ssm:GetParametersByPath; any other, and tags, need
// ssm:DescribeParameters.
func (s *parameterStore) List(ctx context.Context, f store.Filter, limit int) ([]store.Ref, error) {
	if strings.HasPrefix(f.Prefix, "/") && f.Tags == "" {
		return s.list(ctx, ParameterStore, f, limit, listByPath)
	}
	return s.list(ctx, ParameterStore, f, limit, listDescribed)
}

func listByPath(ctx context.Context, r *regional, f finder) *store.Error {
	path := f.prefix[:strings.LastIndex(f.prefix, "/")]
	if path == "" {
		path = "/"
	}
	// The values come with the names, encrypted still: they are read afterwards,
	// a name's value with its version.
	in := &ssm.GetParametersByPathInput{Path: sdk.String(path), Recursive: sdk.Bool(true), MaxResults: sdk.Int32(10)}
	for {
		var got *ssm.GetParametersByPathOutput
		if d := r.call(ctx, "GetParametersByPath", func(ctx context.Context) (err error) {
			got, err = r.clients.parameters.GetParametersByPath(ctx, in, r.asParameters)
			return err
		}); d != nil {
			return r.refused(d, store.Ref{}, "ssm:GetParametersByPath on "+path+", which find needs")
		}
		for _, p := range got.Parameters {
			if !f.take(sdk.ToString(p.Name), nil) {
				return nil
			}
		}
		if in.NextToken = got.NextToken; sdk.ToString(in.NextToken) == "" {
			return nil
		}
	}
}

func listDescribed(ctx context.Context, r *regional, f finder) *store.Error {
	f.tagged = true
	in := &ssm.DescribeParametersInput{MaxResults: sdk.Int32(50)}
	if f.prefix != "" {
		in.ParameterFilters = append(in.ParameterFilters, types.ParameterStringFilter{Key: sdk.String("Name"), Option: sdk.String("BeginsWith"), Values: []string{f.prefix}})
	}
	for _, t := range f.tags {
		in.ParameterFilters = append(in.ParameterFilters, types.ParameterStringFilter{Key: sdk.String("tag:" + t.key), Values: []string{t.value}})
	}
	for {
		var got *ssm.DescribeParametersOutput
		if d := r.call(ctx, "DescribeParameters", func(ctx context.Context) (err error) {
			got, err = r.clients.parameters.DescribeParameters(ctx, in, r.asParameters)
			return err
		}); d != nil {
			return r.refused(d, store.Ref{}, "ssm:DescribeParameters, which find needs for tags, and for a prefix that does not begin with /")
		}
		for _, p := range got.Parameters {
			if !f.take(sdk.ToString(p.Name), nil) {
				return nil
			}
		}
		if in.NextToken = got.NextToken; sdk.ToString(in.NextToken) == "" {
			return nil
		}
	}
}
