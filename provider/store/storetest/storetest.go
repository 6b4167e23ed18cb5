// Package storetest is what every kind of store is held to: order, errors by
// ref, nothing partial, cancellation, principals kept apart, redaction,
// unsupported fields refused, and what the optional abilities promise. The tests
// of a kind call Run with a Harness of their own fake or server.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/store"
)

// Harness is a kind of store with something behind it.
type Harness struct {
	// Put gives a secret of the name this value; what the store holds under it
	// is another version from then on.
	Put func(t testing.TB, name, value string)
	// Open opens a store of the kind for an identity, as a platform's store with
	// no prefix, which may read all that was put.
	Open func(t testing.TB, id auth.Identity) *store.Opened
	// Principals are identities of one namespace and service account that the
	// store tells apart; none where it tells nobody apart beyond these.
	Principals []auth.Identity
	// Identity is whoever may read.
	Identity auth.Identity
	// Lists says that the kind can find.
	Lists bool
}

// A check is one promise.
type check struct {
	name string
	hold func(testing.TB, Harness) error
}

func checks() []check {
	return []check{
		{"secrets come in the order of the refs", order},
		{"errors are by ref, and the others are whole", errorsByRef},
		{"a version is stable, and another value is another version", versions},
		{"a read that is given up ends at once and is unavailable", cancellation},
		{"principals are kept apart", principals},
		{"values print redacted and stand in no error", redaction},
		{"fields that the kind does not have are refused", unsupported},
		{"find is sorted, by prefix, and stops at its limit", find},
		{"a history is newest first, from a version on, and stops at its limit", history},
	}
}

// Run holds a kind to all promises.
func Run(t *testing.T, h Harness) {
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) {
			if err := c.hold(t, h); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		})
	}
}

// Check holds a kind to the promise of a name and says how it was broken: for a
// test that the suite can fail.
func Check(t testing.TB, h Harness, name string) error {
	i := slices.IndexFunc(checks(), func(c check) bool { return c.name == name })
	if i < 0 {
		return fmt.Errorf("there is no promise %q", name)
	}
	return checks()[i].hold(t, h)
}

func fetch(ctx context.Context, o *store.Opened, names ...string) ([]store.Secret, error) {
	refs := make([]store.Ref, len(names))
	for i, name := range names {
		refs[i].Name = name
	}
	return o.Fetch(ctx, refs, func(int, store.Secret) {})
}

func order(t testing.TB, h Harness) error {
	var names []string
	for i := range 25 {
		names = append(names, fmt.Sprintf("order-%02d", i))
		h.Put(t, names[i], "value of "+names[i])
	}

	slices.Reverse(names)
	names = append(names, names[3]) // one twice

	got, err := fetch(t.Context(), h.Open(t, h.Identity), names...)
	if err != nil {
		return err
	}
	if len(got) != len(names) {
		return fmt.Errorf("%d secrets for %d refs", len(got), len(names))
	}
	for i, name := range names {
		if string(got[i].Value) != "value of "+name {
			return fmt.Errorf("place %d does not hold the value of %s", i, name)
		}
	}

	return nil
}

func errorsByRef(t testing.TB, h Harness) error {
	h.Put(t, "there", "a value")
	got, err := fetch(t.Context(), h.Open(t, h.Identity), "not-there-1", "there", "not-there-2")
	failed := store.Errors{}
	if !errors.As(err, &failed) {
		return fmt.Errorf("two missing secrets give %v, want store.Errors", err)
	}
	if len(failed) != 2 || failed[0] == nil || failed[2] == nil {
		return fmt.Errorf("failed are %v, want places 0 and 2", failed)
	}
	for i, name := range map[int]string{0: "not-there-1", 2: "not-there-2"} {
		if failed[i].Reason != store.NotFound || failed[i].Object != name {
			return fmt.Errorf("%s fails as %s of %q, want not_found of it", name, failed[i].Reason, failed[i].Object)
		}
	}

	if len(got) != 3 || string(got[1].Value) != "a value" {
		return errors.New("the secret that is there was not given beside those that are not")
	}

	return nil
}

func versions(t testing.TB, h Harness) error {
	version := func() (string, error) {
		got, err := fetch(t.Context(), h.Open(t, h.Identity), "versioned")
		if err != nil {
			return "", err
		}
		return got[0].Version, nil
	}

	h.Put(t, "versioned", "first value")
	first, err := version()
	again, err2 := version()
	h.Put(t, "versioned", "second value")
	second, err3 := version()

	switch {
	case errors.Join(err, err2, err3) != nil:
		return errors.Join(err, err2, err3)
	case first == "":
		return errors.New("a secret has no version")
	case first != again:
		return fmt.Errorf("one value has the versions %q and %q", first, again)
	case first == second:
		return fmt.Errorf("two values have one version %q", first)
	case strings.Contains(second, "second value"):
		return errors.New("a version shows its value")
	}

	return nil
}

func cancellation(t testing.TB, h Harness) error {
	h.Put(t, "slow", "a value")
	o := h.Open(t, h.Identity)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	done := make(chan error, 1)
	go func() {
		_, err := fetch(ctx, o, "slow")
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil && !store.ReasonOf(err).Transient() {
			return fmt.Errorf("giving up counts as %s", store.ReasonOf(err))
		}
	case <-time.After(5 * time.Second):
		return errors.New("a read that was given up goes on")
	}

	return nil
}

func principals(t testing.TB, h Harness) error {
	seen := map[string]int{}
	for i, id := range h.Principals {
		p, ok := h.Open(t, id).Store.(store.Principal)
		if !ok {
			return errors.New("the kind tells identities apart and has no Principal: the cache would share values between them")
		}
		if other, twice := seen[p.Principal()]; twice {
			return fmt.Errorf("identities %d and %d are one principal: the cache would share values between them", other, i)
		}
		seen[p.Principal()] = i
	}

	return nil
}

func redaction(t testing.TB, h Harness) error {
	const secret = "hunter2-in-the-clear"
	h.Put(t, "shown", secret)
	got, err := fetch(t.Context(), h.Open(t, h.Identity), "shown", "not-there")
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s %q", got, got, got, got, got), fmt.Sprint(err)} {
		if strings.Contains(text, secret) {
			return errors.New("a value is shown")
		}
	}
	return nil
}

func unsupported(t testing.TB, h Harness) error {
	h.Put(t, "plain", "a value")
	for _, ref := range []store.Ref{{Name: "plain", Type: "no-such-type"}, {Name: "plain", Version: "no such version, surely"}} {
		_, err := h.Open(t, h.Identity).Fetch(t.Context(), []store.Ref{ref}, func(int, store.Secret) {})
		if r := store.ReasonOf(err); err == nil || r != store.Invalid && r != store.NotFound {
			return fmt.Errorf("%+v gives %v, want invalid or not_found", ref, err)
		}
	}

	long := store.Ref{Name: "n", Version: strings.Repeat("v", 1000), Type: strings.Repeat("t", 1000), Extra: strings.Repeat("e", 1000)}
	if long.Size() < 3001 {
		return fmt.Errorf("a ref of 3001 bytes counts as %d", long.Size())
	}

	return nil
}

func history(t testing.TB, h Harness) error {
	o := h.Open(t, h.Identity)
	if _, is := o.Store.(store.Historian); !is {
		return nil
	}
	for n := 1; n <= 3; n++ {
		h.Put(t, "past", fmt.Sprint("value ", n))
	}

	newest, err := o.History(t.Context(), store.Ref{Name: "past"}, 2)
	if err != nil || len(newest) != 2 {
		return fmt.Errorf("of three versions got %v and the error %v, want the two newest", newest, err)
	}
	from, err := o.History(t.Context(), newest[1], 9)
	if err != nil || len(from) != 2 || from[0] != newest[1] {
		return fmt.Errorf("from %v on got %v and the error %v, want it and the one before", newest[1], from, err)
	}
	got, err := o.Fetch(t.Context(), []store.Ref{newest[0], from[0], from[1]}, func(int, store.Secret) {})
	if err != nil {
		return fmt.Errorf("what a history names cannot be read: %w", err)
	}
	for i, s := range got {
		if want := fmt.Sprint("value ", 3-i); string(s.Value) != want {
			return fmt.Errorf("the version %d before the current one is %d bytes of something else than %q", i, len(s.Value), want)
		}
	}

	gone := store.Ref{Name: "past", Version: "4711"}
	if refs, err := o.History(t.Context(), gone, 2); store.ReasonOf(err) != store.NotFound {
		return fmt.Errorf("from a version that is not there got %v and the error %v, want that it is missing", refs, err)
	}

	return nil
}

func find(t testing.TB, h Harness) error {
	o := h.Open(t, h.Identity)
	if _, lists := o.Store.(store.Lister); lists != h.Lists {
		return fmt.Errorf("finding: is %v, want %v", lists, h.Lists)
	}
	if !h.Lists {
		if _, err := o.List(t.Context(), store.Filter{Prefix: "a"}, 10); store.ReasonOf(err) != store.Invalid {
			return fmt.Errorf("finding in a store that cannot gives %v, want invalid", err)
		}
		return nil
	}

	for _, name := range []string{"find-c", "find-a", "other", "find-b"} {
		h.Put(t, name, "v")
	}
	o = h.Open(t, h.Identity)
	got, err := o.List(t.Context(), store.Filter{Prefix: "find-"}, 10)
	if err != nil {
		return err
	}
	var names []string
	for _, r := range got {
		names = append(names, r.Name)
	}
	if !slices.Equal(names, []string{"find-a", "find-b", "find-c"}) {
		return fmt.Errorf("found %q", names)
	}
	if _, err := o.List(t.Context(), store.Filter{Prefix: "find-"}, 2); store.ReasonOf(err) != store.Invalid {
		return fmt.Errorf("three matches under a limit of two give %v, want invalid", err)
	}

	return nil
}
