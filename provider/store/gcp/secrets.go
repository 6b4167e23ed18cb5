package gcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/iterator"

	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/ask"
)

// secrets is a store of kind gcp-secret-manager.
type secrets struct{ *session }

// Fetch implements store.Store.
func (s *secrets) Fetch(ctx context.Context, refs []store.Ref) ([]store.Secret, error) {
	return s.FetchEach(ctx, refs, func(int, store.Secret) {})
}

// FetchEach implements store.Streamer.
func (s *secrets) FetchEach(ctx context.Context, refs []store.Ref, answered func(int, store.Secret)) ([]store.Secret, error) {
	return s.fetch(ctx, refs, answered, access)
}

// Pinned implements store.Pinner: a number names one value for ever, an alias
// may be moved.
func (s *secrets) Pinned(ref store.Ref) bool { return decimal.MatchString(ref.Version) }

// access reads one version (AccessSecretVersion). The answer's name is the
// version: it has the number, whatever was asked for.
func access(ctx context.Context, v *visit, r resource) ask.Result {
	name := r.prefix + r.parent() + "/secrets/" + r.object + "/versions/" + cmp.Or(r.version, latest)
	var got *secretmanagerpb.AccessSecretVersionResponse
	a := v.call(ctx, r.project, "AccessSecretVersion", func(ctx context.Context, as gax.CallOption) (err error) {
		got, err = v.host.secrets.AccessSecretVersion(ctx, &secretmanagerpb.AccessSecretVersionRequest{Name: name}, as)
		if err == nil && !whole(got) {
			err = errNoAnswer
		}
		return err
	})
	if a != nil {
		return ask.Result{Err: v.refused(ctx, a, r, need{"secretmanager.versions.access", "roles/secretmanager.secretAccessor", "secret"})}
	}
	return ask.Result{Secret: store.Secret{Value: got.GetPayload().GetData(), Version: got.GetName()}}
}

// whole says whether an answer holds a version, a payload, and the checksum of
// that payload (data_crc32c: the polynomial of Castagnoli).
func whole(got *secretmanagerpb.AccessSecretVersionResponse) bool {
	p := got.GetPayload()
	if p == nil || got.GetName() == "" {
		return false
	}
	return p.DataCrc32C == nil || p.GetDataCrc32C() == int64(crc32.Checksum(p.GetData(), crc32.MakeTable(crc32.Castagnoli)))
}

// History implements store.Historian.
func (s *secrets) History(ctx context.Context, ref store.Ref, limit int) ([]store.Ref, error) {
	r, err := s.name(ref)
	if err != nil {
		return nil, err
	}
	v, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()

	var refs []store.Ref
	a := v.call(ctx, r.project, "ListSecretVersions", func(ctx context.Context, as gax.CallOption) error {
		refs = nil
		begun := ref.Version == "" // the newest comes first
		it := v.host.secrets.ListSecretVersions(ctx, &secretmanagerpb.ListSecretVersionsRequest{
			Parent: r.parent() + "/secrets/" + r.object, PageSize: int32(limit), Filter: "state:ENABLED",
		}, as)
		for len(refs) < limit {
			got, err := it.Next()
			if errors.Is(err, iterator.Done) {
				return nil
			}
			if err != nil {
				return err
			}
			number := got.GetName()[strings.LastIndex(got.GetName(), "/")+1:]
			if begun = begun || number == ref.Version; !begun {
				continue
			}
			refs = append(refs, store.Ref{Name: ref.Name, Version: number})
		}
		return nil
	})
	if a != nil {
		return nil, v.refused(ctx, a, r, need{"secretmanager.versions.list", "roles/secretmanager.viewer", "secret"})
	}
	if refs == nil && ref.Version != "" {
		return nil, store.RefErrorf(store.NotFound, ref, "is no version that is enabled")
	}
	return refs, nil
}

// pageSize keeps a page of names with their labels and annotations under what
// gRPC takes at once, and lists few pages: each is a read of a small quota.
const pageSize = 1000

// List implements store.Lister.
func (s *secrets) List(ctx context.Context, f store.Filter, limit int) ([]store.Ref, error) {
	return s.list(ctx, f, limit, need{"secretmanager.secrets.list", "roles/secretmanager.viewer", "project"}, "ListSecrets",
		func(ctx context.Context, v *visit, parent, filter string, as gax.CallOption) lister {
			it := v.host.secrets.ListSecrets(ctx, &secretmanagerpb.ListSecretsRequest{Parent: parent, Filter: filter, PageSize: pageSize}, as)
			return func() (string, map[string]string, error) {
				got, err := it.Next()
				return got.GetName(), got.GetLabels(), err
			}
		})
}

// lister gives the next of what a service lists.
type lister func() (name string, labels map[string]string, err error)

// list finds names in the store's project. A prefix that begins with projects/
// finds in that one.
func (s *session) list(
	ctx context.Context, f store.Filter, limit int, n need, op string,
	begin func(ctx context.Context, v *visit, parent, filter string, as gax.CallOption) lister,
) ([]store.Ref, error) {
	r, before, err := s.searched(f.Prefix)
	if err != nil {
		return nil, err
	}
	v, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()

	var found *store.Finder
	var invalid *store.Error
	a := v.call(ctx, r.project, op, func(ctx context.Context, as gax.CallOption) error {
		found, invalid = store.NewFinder(f, limit)
		if invalid != nil {
			return nil
		}
		next := begin(ctx, v, r.parent(), filterOf(r.object, found.Tags), as)
		for {
			name, labels, err := next()
			if errors.Is(err, iterator.Done) {
				return nil
			}
			if err != nil {
				return err
			}
			if !found.Take(before+name[strings.LastIndex(name, "/")+1:], labels) {
				return nil
			}
		}
	})
	switch {
	case a != nil:
		r.object = ""
		return nil, v.refused(ctx, a, r, n)
	case invalid != nil:
		return nil, invalid
	}
	return found.Refs()
}

// searched is where to look for a prefix: the project and location, what stands
// before each name that is found, and the prefix of names there.
func (s *session) searched(prefix string) (r resource, before string, _ *store.Error) {
	r = resource{project: s.settings.Project, location: s.location, object: prefix}
	if i := strings.LastIndex(prefix, "/"); i >= 0 {
		before, r.object = prefix[:i+1], prefix[i+1:]
		m := full.FindStringSubmatch(before + "x")
		if m == nil || m[4] != s.collection() || cmp.Or(m[3], global) != cmp.Or(s.location, global) {
			return r, "", store.Errorf(store.Invalid, "find: %.120q begins no name of a store of kind %s in %s", prefix, s.kind, cmp.Or(s.location, global))
		}
		r.project, r.location = m[2], m[3]
	}
	if !projectName.MatchString(r.project) {
		return r, "", store.Errorf(store.Invalid, "find needs the store's project, which is missing")
	}
	return r, before, nil
}

// filterOf is a filter as both services take it: it only ever narrows, what
// comes is looked at again.
func filterOf(prefix string, labels []store.Tag) string {
	var terms []string
	if objectName.MatchString(prefix) {
		terms = append(terms, "name:"+prefix)
	}
	for _, l := range labels {
		if objectName.MatchString(l.Key) && objectName.MatchString(l.Value) {
			terms = append(terms, fmt.Sprintf("labels.%s=%s", l.Key, l.Value))
		}
	}
	return strings.Join(slices.Compact(terms), " AND ")
}
