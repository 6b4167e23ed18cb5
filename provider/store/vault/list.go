package vault

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/coffre-csi/coffre/auth/vault"
	"github.com/coffre-csi/coffre/provider/store"
)

// maxFolders bounds the requests of one find.
const maxFolders = 200

// List implements store.Lister: the folders of the KV engine, from the one that
// the prefix names; tags are a secret's custom metadata, which only KV v2 has.
func (o *opened) List(ctx context.Context, f store.Filter, limit int) ([]store.Ref, error) {
	found, err := store.NewFinder(f, limit)
	if err != nil {
		return nil, err
	}
	if len(found.Tags) > 0 && o.kvVersion() == 1 {
		return nil, store.Errorf(store.Invalid, "find by tags reads custom metadata, which KV v1 does not have")
	}
	if dir := strings.Trim(path.Dir(f.Prefix), "/"); dir != "." && dir != "" && pathFault(dir) != "" {
		return nil, store.Errorf(store.Invalid, "find.prefix: the path %s", pathFault(dir))
	}
	a, err := o.enter(ctx)
	if err != nil {
		return nil, err
	}

	start := ""
	if i := strings.LastIndexByte(f.Prefix, '/'); i >= 0 {
		start = f.Prefix[:i+1]
	}
	folders, asked := []string{start}, 0
	for len(folders) > 0 {
		folder := folders[0]
		folders = folders[1:]
		if asked++; asked > maxFolders {
			return nil, store.Errorf(store.Invalid, "find looks through more than %d folders; give it a longer prefix", maxFolders)
		}
		names, err := a.list(ctx, folder)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			full := folder + name
			switch {
			case strings.HasSuffix(name, "/"):
				if strings.HasPrefix(full, f.Prefix) || strings.HasPrefix(f.Prefix, full) {
					folders = append(folders, full)
				}
				continue
			case !found.Named(full):
				continue
			}
			tags, err := a.tags(ctx, found, full)
			if err != nil {
				return nil, err
			}
			if !found.Take(full, tags) {
				return found.Refs()
			}
		}
	}
	return found.Refs()
}

// list is what one folder holds; folders in it end in a slash.
func (a *asking) list(ctx context.Context, folder string) ([]string, *store.Error) {
	at := path.Join(a.kvMount(), folder)
	if a.kvVersion() == 2 {
		at = path.Join(a.kvMount(), "metadata", folder)
	}
	rd := read{call: vault.Call{Method: "GET", Path: at, Query: url.Values{"list": {"true"}}}, ref: store.Ref{Name: folder}}
	secret, _, err := a.call(ctx, "list", rd.call)
	if err != nil {
		rd.call.Method = "LIST"
		if e := a.refused(err, rd); e.Reason != store.NotFound {
			return nil, e
		}
		return nil, nil // an empty folder
	}
	if secret == nil {
		return nil, nil
	}

	keys, _ := secret.Data["keys"].([]any)
	names := make([]string, 0, len(keys))
	for _, k := range keys {
		name, ok := k.(string)
		if ok && pathFault(strings.TrimSuffix(name, "/")) == "" {
			names = append(names, name)
		}
	}
	return names, nil
}

// tags are a secret's custom metadata, where the filter asks for any.
func (a *asking) tags(ctx context.Context, f *store.Finder, name string) (map[string]string, *store.Error) {
	if len(f.Tags) == 0 {
		return nil, nil
	}
	ref := store.Ref{Name: name, Type: typeMetadata}
	rd, err := a.planKV(read{ref: ref, call: vault.Call{Method: "GET"}}, ref, name)
	if err != nil {
		return nil, err
	}
	secret, _, callErr := a.call(ctx, "get", rd.call)
	if callErr != nil {
		return nil, a.refused(callErr, rd)
	}

	tags := map[string]string{}
	if secret != nil {
		custom, _ := secret.Data["custom_metadata"].(map[string]any)
		for k, v := range custom {
			tags[k] = fmt.Sprint(v)
		}
	}
	return tags, nil
}
