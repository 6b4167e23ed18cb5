package vault

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/coffre-csi/coffre/auth/vault"
	"github.com/coffre-csi/coffre/provider/store"
)

// History implements store.Historian: the versions of a secret of KV v2 that
// can be read still.
func (o *opened) History(ctx context.Context, ref store.Ref, limit int) ([]store.Ref, error) {
	if ref.Extra != "" || ref.Type != "" && ref.Type != typeKV {
		return nil, store.RefErrorf(store.Invalid, ref, "has no versions: only secrets of KV v2 have")
	}
	if reason := pathFault(ref.Name); reason != "" {
		return nil, store.RefErrorf(store.Invalid, ref, "the path %s", reason)
	}
	metadata := store.Ref{Name: ref.Name, Type: typeMetadata}
	rd, planErr := o.planKV(read{ref: ref, call: vault.Call{Method: http.MethodGet}}, metadata, ref.Name)
	if planErr != nil {
		return nil, planErr
	}

	a, enterErr := o.enter(ctx)
	if enterErr != nil {
		return nil, enterErr
	}
	secret, _, err := a.call(ctx, "get", rd.call)
	if err != nil {
		return nil, a.refused(err, rd)
	}
	if secret == nil || secret.Data["versions"] == nil {
		return nil, store.RefErrorf(store.Unavailable, ref, "the answer holds no versions")
	}

	numbers := readable(secret.Data["versions"])
	if ref.Version != "" {
		if numbers = from(numbers, ref.Version); numbers == nil {
			return nil, store.RefErrorf(store.NotFound, ref, "is no version that can be read")
		}
	}
	var refs []store.Ref
	for _, n := range numbers[:min(len(numbers), limit)] {
		refs = append(refs, store.Ref{Name: ref.Name, Type: ref.Type, Version: strconv.Itoa(n)})
	}
	return refs, nil
}

// from are the versions from one on; nil where it is none of them.
func from(numbers []int, version string) []int {
	at := slices.IndexFunc(numbers, func(n int) bool { return strconv.Itoa(n) == version })
	if at < 0 {
		return nil
	}
	return numbers[at:]
}

// readable are the numbers of versions that are neither deleted nor destroyed,
// the newest first.
func readable(versions any) []int {
	all, _ := versions.(map[string]any)
	numbers := map[int]bool{}
	for text, of := range all {
		n, err := strconv.Atoi(text)
		state, _ := of.(map[string]any)
		destroyed, _ := state["destroyed"].(bool)
		deleted, _ := state["deletion_time"].(string)
		if err == nil && !destroyed && deleted == "" {
			numbers[n] = true
		}
	}
	sorted := slices.Sorted(maps.Keys(numbers))
	slices.Reverse(sorted)
	return sorted
}
