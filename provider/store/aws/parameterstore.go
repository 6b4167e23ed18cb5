package aws

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/ask"
)

// getSize is GetParameters' limit.
const getSize = 10

// parameterStore is a store of kind aws-parameter-store.
type parameterStore struct{ *session }

// Fetch implements store.Store.
func (s *parameterStore) Fetch(ctx context.Context, refs []store.Ref) ([]store.Secret, error) {
	return s.FetchEach(ctx, refs, func(int, store.Secret) {})
}

// FetchEach implements store.Streamer.
func (s *parameterStore) FetchEach(ctx context.Context, refs []store.Ref, answered func(int, store.Secret)) ([]store.Secret, error) {
	return s.fetch(ctx, refs, answered, readParameters)
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
	version, label := named(ref)
	switch {
	case version != "" && label != "":
		return p, store.Errorf(store.Invalid, "a parameter is read by its version or by a label, and both are given")
	case p.selector != "" && version+label != "":
		return p, store.Errorf(store.Invalid, "the name says a version or a label already (%s), and another is given", p.selector)
	case version+label != "":
		p.selector = ":" + version + label
	}

	return p, nil
}

func readParameters(ctx context.Context, r *regional, refs []store.Ref, told func(int, store.Secret)) []ask.Result {
	out := make([]ask.Result, len(refs))
	places := map[string][]int{}
	var wanted []parameter
	for i, ref := range refs {
		err := r.checkName(ref.Name, "ssm")
		var p parameter
		if err == nil {
			p, err = parameterOf(ref)
		}
		if err != nil {
			out[i].Err = err
			continue
		}
		if places[p.id()] = append(places[p.id()], i); len(places[p.id()]) == 1 {
			wanted = append(wanted, p)
		}
	}

	groups := apart(wanted)
	var mu sync.Mutex
	ask.Each(len(groups), func(i int) {
		answer := r.parameters(ctx, groups[i])
		mu.Lock()
		defer mu.Unlock()
		for id, res := range answer {
			for _, i := range places[id] {
				out[i] = res
				if res.Err == nil {
					told(i, res.Secret)
				}
			}
		}
	})

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
func (r *regional) parameters(ctx context.Context, group []parameter) map[string]ask.Result {
	in := &ssm.GetParametersInput{WithDecryption: sdk.Bool(true)}
	for _, p := range group {
		in.Names = append(in.Names, p.id())
	}
	var got *ssm.GetParametersOutput
	d := r.call(ctx, "GetParameters", func(ctx context.Context) (err error) {
		got, err = r.clients.parameters.GetParameters(ctx, in, r.asParameters)
		return err
	})
	out := make(map[string]ask.Result, len(group))
	switch {
	case d == nil:
		for _, p := range group {
			out[p.id()] = r.parameter(p, got.Parameters)
		}
	case d.Throttled || d.Transient || d.Expired() || len(group) == 1:
		for _, p := range group {
			out[p.id()] = ask.Result{Err: r.refused(d, p.ref, "ssm:GetParameters")}
		}
	default:
		halves := [][]parameter{group[:len(group)/2], group[len(group)/2:]}
		answers := make([]map[string]ask.Result, 2)
		ask.Each(2, func(i int) { answers[i] = r.parameters(ctx, halves[i]) })
		for _, answer := range answers {
			for id, res := range answer {
				out[id] = res
			}
		}
	}

	return out
}

func (r *regional) asParameters(o *ssm.Options) { o.Credentials = r.provider() }

func (r *regional) parameter(p parameter, answered []types.Parameter) ask.Result {
	key := canonical(p.base)
	for _, a := range answered {
		if canonical(sdk.ToString(a.Name)) != key && canonical(sdk.ToString(a.ARN)) != key {
			continue
		}
		if a.Value == nil {
			break
		}
		return ask.Result{Secret: store.Secret{Value: store.Value(*a.Value), Version: strconv.FormatInt(a.Version, 10)}}
	}

	d := awsauth.Item(r.region, "ssm", "GetParameters", "InvalidParameters", "")
	d.Fault = smithy.FaultClient
	text := "there is no such parameter in " + r.region
	if p.selector != "" {
		text += ", or it has no version or label " + p.selector[1:]
	}

	return ask.Result{Err: &store.Error{Reason: store.NotFound, Object: p.ref.String(), Text: text, Cause: d}}
}

// List implements store.Lister. A prefix that is a path is looked up as one,
// which needs ssm:GetParametersByPath; any other, and tags, need
// ssm:DescribeParameters.
func (s *parameterStore) List(ctx context.Context, f store.Filter, limit int) ([]store.Ref, error) {
	if strings.HasPrefix(f.Prefix, "/") && f.Tags == "" {
		return s.list(ctx, f, limit, listByPath)
	}
	return s.list(ctx, f, limit, listDescribed)
}

func listByPath(ctx context.Context, r *regional, f *store.Finder) *store.Error {
	path := f.Prefix[:strings.LastIndex(f.Prefix, "/")]
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
			if !f.TakeTagged(sdk.ToString(p.Name)) {
				return nil
			}
		}

		if in.NextToken = got.NextToken; sdk.ToString(in.NextToken) == "" {
			return nil
		}
	}
}

func listDescribed(ctx context.Context, r *regional, f *store.Finder) *store.Error {
	in := &ssm.DescribeParametersInput{MaxResults: sdk.Int32(50)}
	if f.Prefix != "" {
		in.ParameterFilters = append(in.ParameterFilters, types.ParameterStringFilter{Key: sdk.String("Name"), Option: sdk.String("BeginsWith"), Values: []string{f.Prefix}})
	}
	for _, t := range f.Tags {
		in.ParameterFilters = append(in.ParameterFilters, types.ParameterStringFilter{Key: sdk.String("tag:" + t.Key), Values: []string{t.Value}})
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
			if !f.TakeTagged(sdk.ToString(p.Name)) {
				return nil
			}
		}

		if in.NextToken = got.NextToken; sdk.ToString(in.NextToken) == "" {
			return nil
		}
	}
}
