package gcp

import (
	"context"
	"errors"
	"strings"

	"cloud.google.com/go/parametermanager/apiv1/parametermanagerpb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"

	gcpauth "github.com/coffre-csi/coffre/auth/gcp"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/ask"
)

// parameters is a store of kind gcp-parameter-manager.
type parameters struct{ *session }

// Fetch implements store.Store.
func (s *parameters) Fetch(ctx context.Context, refs []store.Ref) ([]store.Secret, error) {
	return s.FetchEach(ctx, refs, func(int, store.Secret) {})
}

// FetchEach implements store.Streamer.
func (s *parameters) FetchEach(ctx context.Context, refs []store.Ref, answered func(int, store.Secret)) ([]store.Secret, error) {
	return s.fetch(ctx, refs, answered, render)
}

// render reads one version with the secrets that it refers to put in
// (RenderParameterVersion). No version is pinned: those secrets may rotate.
func render(ctx context.Context, v *visit, r resource) ask.Result {
	need := need{"parametermanager.parameterVersions.render", "roles/parametermanager.parameterAccessor", "parameter"}
	if r.version == "" {
		var a *gcpauth.Answer
		if r.version, a = newest(ctx, v, r); a != nil {
			need.permission, need.role = "parametermanager.parameterVersions.list", "roles/parametermanager.parameterViewer"
			return ask.Result{Err: v.refused(ctx, a, r, need)}
		}
	}

	var got *parametermanagerpb.RenderParameterVersionResponse
	a := v.call(ctx, r.project, "RenderParameterVersion", func(ctx context.Context, as gax.CallOption) (err error) {
		got, err = v.host.parameters.RenderParameterVersion(ctx, &parametermanagerpb.RenderParameterVersionRequest{
			Name: r.prefix + r.parent() + "/parameters/" + r.object + "/versions/" + r.version,
		}, as)
		if err == nil && got.GetParameterVersion() == "" {
			err = errNoAnswer
		}
		return err
	})
	if a != nil {
		return ask.Result{Err: v.refused(ctx, a, r, need)}
	}
	return ask.Result{Secret: store.Secret{Value: got.GetRenderedPayload(), Version: got.GetParameterVersion()}}
}

// newestOf is among how many versions the newest that is enabled is looked for.
const newestOf = 20

// newest is the version that was made last and is enabled: Parameter Manager
// has no name for it.
func newest(ctx context.Context, v *visit, r resource) (version string, a *gcpauth.Answer) {
	a = v.call(ctx, r.project, "ListParameterVersions", func(ctx context.Context, as gax.CallOption) error {
		it := v.host.parameters.ListParameterVersions(ctx, &parametermanagerpb.ListParameterVersionsRequest{
			Parent: r.parent() + "/parameters/" + r.object, PageSize: newestOf, OrderBy: "create_time desc",
		}, as)
		for range newestOf {
			got, err := it.Next()
			if errors.Is(err, iterator.Done) {
				return nil
			}
			if err != nil {
				return err
			}
			if !got.GetDisabled() {
				version = got.GetName()[strings.LastIndex(got.GetName(), "/")+1:]
				return nil
			}
		}
		return nil
	})
	if a == nil && version == "" {
		return "", &gcpauth.Answer{Code: codes.NotFound, Text: "no version is enabled"}
	}
	return version, a
}

// List implements store.Lister.
func (s *parameters) List(ctx context.Context, f store.Filter, limit int) ([]store.Ref, error) {
	return s.list(ctx, f, limit, need{"parametermanager.parameters.list", "roles/parametermanager.parameterViewer", "project"}, "ListParameters",
		func(ctx context.Context, v *visit, parent, filter string, as gax.CallOption) lister {
			it := v.host.parameters.ListParameters(ctx, &parametermanagerpb.ListParametersRequest{Parent: parent, Filter: filter, PageSize: pageSize}, as)
			return func() (string, map[string]string, error) {
				got, err := it.Next()
				return got.GetName(), got.GetLabels(), err
			}
		})
}
