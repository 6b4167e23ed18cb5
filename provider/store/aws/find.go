package aws

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/coffre-csi/coffre/provider/store"
)

// finder takes the names that a filter wants, up to its limit.
type finder struct {
	prefix string
	regexp *regexp.Regexp
	tags   []tag
	limit  int
	found  *[]string
	// tagged says that the service itself has matched the tags.
	tagged bool
}

type tag struct{ key, value string }

func newFinder(f store.Filter, limit int) (finder, *store.Error) {
	out := finder{prefix: f.Prefix, limit: limit, found: new([]string)}
	if f.Regexp != "" {
		var err error
		if out.regexp, err = regexp.Compile(f.Regexp); err != nil {
			return out, store.Errorf(store.Invalid, "find.regexp: %v", err)
		}
	}
	if f.Tags != "" {
		for pair := range strings.SplitSeq(f.Tags, ",") {
			k, v, _ := strings.Cut(pair, "=")
			out.tags = append(out.tags, tag{k, v})
		}
	}
	return out, nil
}

// take says whether more are wanted: one over the limit is enough to know.
func (f finder) take(name string, tags map[string]string) bool {
	if !strings.HasPrefix(name, f.prefix) || f.regexp != nil && !f.regexp.MatchString(name) {
		return true
	}
	if !f.tagged {
		for _, t := range f.tags {
			if v, ok := tags[t.key]; !ok || v != t.value {
				return true
			}
		}
	}
	*f.found = append(*f.found, name)
	return len(*f.found) <= f.limit
}

// list finds secrets in the first region that answers.
func (s *session) list(ctx context.Context, kind string, filter store.Filter, limit int, ask func(context.Context, *regional, finder) *store.Error) ([]store.Ref, error) {
	var causes []*store.Error
	for n := range s.regions {
		f, err := newFinder(filter, limit)
		if err != nil {
			return nil, err
		}
		if err = s.listIn(ctx, kind, n, f, ask); err == nil {
			return refsOf(f)
		}
		if !err.Reason.Transient() {
			return nil, err
		}
		if causes = append(causes, err); ctx.Err() != nil {
			break
		}
	}
	return nil, together(causes)
}

func (s *session) listIn(ctx context.Context, kind string, n int, f finder, ask func(context.Context, *regional, finder) *store.Error) *store.Error {
	if t := s.regionTime(n); t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t)
		defer cancel()
	}
	r, err := s.enter(ctx, kind, n)
	if err != nil {
		return err
	}
	return ask(ctx, r, f)
}

func refsOf(f finder) ([]store.Ref, error) {
	names := *f.found
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > f.limit {
		return nil, store.ErrTooMany
	}
	refs := make([]store.Ref, len(names))
	for i, name := range names {
		refs[i].Name = name
	}
	return refs, nil
}

// checkName refuses what AWS cannot know: no name, and an ARN of elsewhere.
func (r *regional) checkName(name, service string) *store.Error {
	switch {
	case name == "":
		return store.Errorf(store.Invalid, "a name is missing")
	case len(name) > 2048:
		return store.Errorf(store.Invalid, "the name is longer than any that AWS has")
	case !strings.HasPrefix(name, "arn:"):
		return nil
	}
	parts := strings.SplitN(name, ":", 6)
	switch {
	case len(parts) < 6 || parts[5] == "":
		return store.Errorf(store.Invalid, "Invalid ARN format in object name: %s", name)
	case parts[2] != service:
		return store.Errorf(store.Invalid, "Invalid service in ARN: %s; a store of kind %s reads %s", parts[2], r.kind, service)
	case parts[3] != r.region:
		return store.Errorf(store.Invalid, "ARN region must match region %s: %s", r.region, name)
	}
	return nil
}

// chunks cuts refs into runs of at most size.
func chunks(refs []store.Ref, size int) [][]store.Ref {
	if len(refs) == 0 {
		return nil
	}
	return slices.Collect(slices.Chunk(refs, size))
}

// each runs fn for 0 to n-1 at once and waits. How many requests go out at once
// is the pacer's business. A panic comes out where the caller can see it.
func each(n int, fn func(int)) {
	if n == 1 {
		fn(0)
		return
	}
	done := make(chan any, n)
	for i := range n {
		go func() {
			defer func() { done <- recover() }()
			fn(i)
		}()
	}
	var first any
	for range n {
		if p := <-done; p != nil && first == nil {
			first = p
		}
	}
	if first != nil {
		panic(fmt.Sprintf("a read failed: %T", first))
	}
}
