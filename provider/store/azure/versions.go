package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/store"
)

// entry is one of a list: of a vault's secrets, or of an object's versions.
// Secrets, keys and certificates are listed in one form but for the name of the
// id.
type entry struct {
	ID         string            `json:"id"`
	KID        string            `json:"kid"`
	Tags       map[string]string `json:"tags"`
	Attributes *struct {
		Enabled *bool `json:"enabled"`
		Created int64 `json:"created"`
	} `json:"attributes"`
}

func (e entry) id() string { return cmp.Or(e.ID, e.KID) }

// enabled is true of what its vault says so of, and of nothing else.
func (e entry) enabled() bool {
	return e.Attributes != nil && e.Attributes.Enabled != nil && *e.Attributes.Enabled
}

// version of an object, as lists tell it.
type version struct {
	version string
	created time.Time
}

// maxPages bounds a list whose links go in a circle.
const maxPages = 2000

// pages reads a list, page by page, until take has enough.
func (v *visit) pages(ctx context.Context, operation string, o object, path string, take func(entry) (more bool)) *store.Error {
	at := &url.URL{Scheme: "https", Host: v.vault.host, Path: path}
	for range maxPages {
		var page struct {
			Value []entry
			Next  *string `json:"nextLink"`
		}
		err := v.do(ctx, operation, func(ctx context.Context, t auth.Token) error {
			body, err := v.get(ctx, at, t)
			if err != nil {
				return err
			}
			page.Value, page.Next = nil, nil
			if json.Unmarshal(body, &page) != nil || page.Value == nil {
				return incomplete("the answer is no list")
			}
			return nil
		})
		if err != nil {
			return v.refused(err, o)
		}

		for _, e := range page.Value {
			if !take(e) {
				return nil
			}
		}
		next, ok := v.next(page.Next)
		if !ok {
			return store.Errorf(store.Unavailable, "%s goes on in a list at another host", v.vault.host)
		}
		if at = next; at == nil {
			return nil
		}
	}
	return store.Errorf(store.Unavailable, "a list of %s does not end", v.vault.host)
}

var listOperations = map[string]string{
	"secrets": "ListSecretPropertiesVersions", "keys": "ListKeyPropertiesVersions", "certificates": "ListCertificatePropertiesVersions",
}

// versions are the enabled ones of an object, the newest first. One whose making
// its vault does not say is the oldest.
func (v *visit) versions(ctx context.Context, o object) ([]version, *store.Error) {
	var all []version
	path := "/" + o.collection + "/" + o.name + "/versions"
	err := v.pages(ctx, listOperations[o.collection], o, path, func(e entry) bool {
		if id, ok := (object{name: o.name}).versionIn(e.id()); ok && e.enabled() {
			all = append(all, version{id, time.Unix(e.Attributes.Created, 0)})
		}
		return true
	})
	if err != nil {
		return nil, err
	}

	slices.SortStableFunc(all, func(a, b version) int {
		return cmp.Or(b.created.Compare(a.created), cmp.Compare(a.version, b.version))
	})
	return all, nil
}

// history is the ref's versions as refs, the newest first.
func (v *visit) history(ctx context.Context, ref store.Ref, limit int) ([]store.Ref, *store.Error) {
	o, err := objectOf(ref)
	if err != nil {
		return nil, err
	}
	all, err := v.versions(ctx, o)
	if err != nil {
		return nil, err
	}

	if ref.Version != "" {
		first := slices.IndexFunc(all, func(one version) bool { return strings.EqualFold(one.version, ref.Version) })
		if first < 0 {
			return nil, store.RefErrorf(store.NotFound, ref, "%s has no such version that is enabled", v.vault.host)
		}
		all = all[first:]
	}
	all = all[:min(limit, len(all))]
	if len(all) == 0 {
		return nil, store.RefErrorf(store.NotFound, ref, "%s has no version of it that is enabled", v.vault.host)
	}

	refs := make([]store.Ref, len(all))
	for i, one := range all {
		refs[i] = store.Ref{Name: ref.Name, Type: ref.Type, Version: one.version}
	}
	return refs, nil
}

// list finds secrets. What a certificate keeps its key in is one too, and is
// found with the others.
func (v *visit) list(ctx context.Context, found *store.Finder) *store.Error {
	return v.pages(ctx, "ListSecretProperties", object{collection: "secrets"}, "/secrets", func(e entry) bool {
		u, err := url.Parse(e.id())
		if err != nil || !e.enabled() {
			return true
		}
		name := strings.TrimPrefix(u.Path, "/secrets/")
		return !objectName.MatchString(name) || found.Take(name, e.Tags)
	})
}
