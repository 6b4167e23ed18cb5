package store

import (
	"regexp"
	"slices"
	"strings"
)

// Filter finds secrets. All of its parts must match; an empty Filter matches
// every secret that the identity can see.
type Filter struct {
	Prefix string // names that start with it
	Regexp string // RE2, unanchored, on the name
	Tags   string // "k=v" pairs in order, joined by commas: comparable
}

// Tag is one pair of a Filter's Tags.
type Tag struct{ Key, Value string }

// Finder takes the names that a Filter wants, up to a limit. It belongs to one
// List and is not safe for concurrent use.
type Finder struct {
	Prefix string
	Tags   []Tag

	regexp *regexp.Regexp
	limit  int
	found  []string
}

// NewFinder reads a filter.
func NewFinder(f Filter, limit int) (*Finder, *Error) {
	out := &Finder{Prefix: f.Prefix, limit: limit}

	if f.Regexp != "" {
		var err error
		if out.regexp, err = regexp.Compile(f.Regexp); err != nil {
			return out, Errorf(Invalid, "find.regexp: %v", err)
		}
	}

	if f.Tags != "" {
		for pair := range strings.SplitSeq(f.Tags, ",") {
			k, v, _ := strings.Cut(pair, "=")
			out.Tags = append(out.Tags, Tag{k, v})
		}
	}

	return out, nil
}

// Named says whether a name matches, whatever its tags.
func (f *Finder) Named(name string) bool {
	return strings.HasPrefix(name, f.Prefix) && (f.regexp == nil || f.regexp.MatchString(name))
}

// Tagged says whether tags hold all that the filter names.
func (f *Finder) Tagged(tags map[string]string) bool {
	return !slices.ContainsFunc(f.Tags, func(t Tag) bool {
		v, ok := tags[t.Key]
		return !ok || v != t.Value
	})
}

// Take keeps a name that matches, and says whether more are wanted: one over
// the limit is enough to know.
func (f *Finder) Take(name string, tags map[string]string) bool {
	if !f.Tagged(tags) {
		return true
	}
	return f.TakeTagged(name)
}

// TakeTagged is Take for a service that has matched the tags itself.
func (f *Finder) TakeTagged(name string) bool {
	if f.Named(name) {
		f.found = append(f.found, name)
	}
	return len(f.found) <= f.limit
}

// Refs are the names that were taken, sorted, each once; or ErrTooMany.
func (f *Finder) Refs() ([]Ref, error) {
	slices.Sort(f.found)
	f.found = slices.Compact(f.found)
	if len(f.found) > f.limit {
		return nil, ErrTooMany
	}

	refs := make([]Ref, len(f.found))
	for i, name := range f.found {
		refs[i].Name = name
	}

	return refs, nil
}
