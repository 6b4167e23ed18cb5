package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Opened is a store as one identity uses it: what the cache asks. It keeps to
// the store's prefix, timeout and types, so that no kind has to; and what it
// returns names secrets as the tenant wrote them.
type Opened struct {
	Config Config
	Store  Store
}

// Endpoint is what stops answering as one: the store's own word, or its name.
func (o *Opened) Endpoint() string {
	if e, ok := o.Store.(Endpoint); ok {
		return o.Config.Kind + " " + e.Endpoint()
	}
	if o.Config.Inline {
		return o.Config.Kind + " inline " + o.Config.Digest
	}
	return o.Config.Kind + " " + o.Config.Name
}

// Pinned says whether a ref's value never changes.
func (o *Opened) Pinned(r Ref) bool {
	p, ok := o.Store.(Pinner)
	r.Name = o.Config.Prefix + r.Name
	return ok && p.Pinned(r)
}

// Fetch reads refs: Errors by index, or an *Error where nothing was read.
// answered is told of each secret as soon as it is there, where the store can
// say so.
func (o *Opened) Fetch(ctx context.Context, refs []Ref, answered func(i int, s Secret)) ([]Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Config.Timeout)
	defer cancel()

	secrets, failed := make([]Secret, len(refs)), o.checkTypes(refs)
	var asked []Ref
	var places []int
	for i, r := range refs {
		if failed[i] == nil {
			r.Name = o.Config.Prefix + r.Name
			asked, places = append(asked, r), append(places, i)
		}
	}

	if asked == nil {
		return secrets, failed.OrNil()
	}

	got, err := o.fetch(ctx, asked, func(i int, s Secret) { answered(places[i], s) })
	errs := Errors{}
	if err != nil && !errors.As(err, &errs) {
		return nil, o.timedOut(ctx, err)
	}
	if len(got) != len(asked) {
		return nil, Errorf(Unavailable, "the store answered %d secrets for %d; this is a fault of Coffre", len(got), len(asked))
	}
	for k, i := range places {
		secrets[i] = got[k]
		if e := errs[k]; e != nil {
			named := *o.timedOut(ctx, e)
			named.Object = refs[i].String()
			failed[i] = &named
		}
	}

	return secrets, failed.OrNil()
}

func (o *Opened) fetch(ctx context.Context, refs []Ref, answered func(i int, s Secret)) ([]Secret, error) {
	if s, ok := o.Store.(Streamer); ok {
		return s.FetchEach(ctx, refs, answered)
	}
	return o.Store.Fetch(ctx, refs)
}

// checkTypes refuses a type that the store does not know.
func (o *Opened) checkTypes(refs []Ref) Errors {
	var types []string
	if t, ok := o.Store.(Typed); ok {
		types = t.Types()
	}

	failed := Errors{}
	for i, r := range refs {
		switch {
		case r.Type == "" || slices.Contains(types, r.Type):
		case types == nil:
			failed[i] = RefErrorf(Invalid, r, "a store of kind %s has no types of object: leave type out", o.Config.Kind)
		default:
			failed[i] = RefErrorf(Invalid, r, "%.40q is no type of object in a store of kind %s; there are: %s", r.Type, o.Config.Kind, strings.Join(types, ", "))
		}
	}

	return failed
}

// List finds secrets; their names are given back without the store's prefix.
func (o *Opened) List(ctx context.Context, f Filter, limit int) ([]Ref, error) {
	lister, ok := o.Store.(Lister)
	if !ok {
		return nil, Errorf(Invalid, "a store of kind %s cannot find secrets; name them", o.Config.Kind)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Config.Timeout)
	defer cancel()

	f.Prefix = o.Config.Prefix + f.Prefix
	refs, err := lister.List(ctx, f, limit)
	if errors.Is(err, ErrTooMany) {
		return nil, Errorf(Invalid, "find matches more than %d secrets; narrow it", limit)
	}
	if err != nil {
		return nil, o.timedOut(ctx, err)
	}
	for i := range refs {
		refs[i].Name = refs[i].Name[len(o.Config.Prefix):]
	}

	return refs, nil
}

// History lists versions of a secret, the newest first; their names are given
// back without the store's prefix.
func (o *Opened) History(ctx context.Context, ref Ref, limit int) ([]Ref, error) {
	historian, ok := o.Store.(Historian)
	if !ok {
		return nil, RefErrorf(Invalid, ref, "a store of kind %s lists no versions; name one", o.Config.Kind)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Config.Timeout)
	defer cancel()

	ref.Name = o.Config.Prefix + ref.Name
	refs, err := historian.History(ctx, ref, limit)
	if err != nil {
		return nil, o.timedOut(ctx, err)
	}
	for i := range refs {
		refs[i].Name = refs[i].Name[len(o.Config.Prefix):]
	}

	return refs, nil
}

// timedOut says how long was waited where that is what happened.
func (o *Opened) timedOut(ctx context.Context, err error) *Error {
	if ctx.Err() != nil && ReasonOf(err) == Unavailable {
		return &Error{Reason: Unavailable, Text: fmt.Sprintf("no answer within %s; is the store reachable from this node?", o.Config.Timeout), Cause: err}
	}
	if e := new(Error); errors.As(err, &e) {
		return e
	}
	return &Error{Reason: Unavailable, Text: err.Error(), Cause: err}
}
