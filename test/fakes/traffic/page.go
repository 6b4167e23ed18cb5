package traffic

import (
	"encoding/base64"
	"slices"
	"strings"
)

// Page cuts one page out of sorted names. A token is opaque to clients; here it
// holds the last name answered, so that a list that changes between two pages
// loses nothing that stays.
func Page[T any](items []T, name func(T) string, token string, size int) (out []T, next string, ok bool) {
	start := 0
	if token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		last, found := strings.CutPrefix(string(b), "after:")
		if err != nil || !found {
			return nil, "", false
		}
		start = slices.IndexFunc(items, func(t T) bool { return name(t) == last }) + 1
		if start == 0 {
			return nil, "", false
		}
	}
	items = items[start:]
	if len(items) <= size {
		return items, "", true
	}
	return items[:size], base64.RawURLEncoding.EncodeToString([]byte("after:" + name(items[size-1]))), true
}
