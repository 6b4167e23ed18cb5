// Package budget is what one Mount may cost. Whoever grows something for a
// tenant charges it here while it grows: the memory it makes, the nodes of
// documents it parses, the secrets it asks for, the files it makes, and its
// work in bytes touched; every charge looks at the deadline too. The dialects,
// strict, jmespath, template and render draw on it; the provider makes one a
// Mount and hands it down. It never gives anything back: a Mount is short, and
// what it made is the measure of what it may hold.
//
// A Mount that costs more than a little waits for a turn, so that few dear
// ones are worked on at once, whoever asks, and cheap ones never wait.
package budget

import (
	"context"
	"fmt"

	"github.com/coffre-csi/coffre/auth/fair"
)

// Limits of one Mount. docs/reference.md states them.
const (
	MaxBytes   = 28 << 20  // bytes of memory made
	MaxNodes   = 200_000   // nodes of parsed YAML and JSON
	MaxQueries = 2_000     // secrets asked for, those that searches find among them
	MaxFiles   = 2_000     // files of the volume
	MaxWork    = 128 << 20 // bytes touched, weighed by what touching them costs
)

// What a Mount may take without a turn.
const (
	lightBytes = 512 << 10
	lightWork  = 8 << 20
)

// Budget is one Mount's. Its methods charge, and answer an error where a limit
// is passed or the time is over; after one of these every further charge is
// refused. A nil Budget has no limits. It belongs to the Mount's goroutine.
type Budget struct {
	ctx    context.Context
	tenant string
	turns  *fair.Gate
	turn   *fair.Place // nil while the Mount has cost little
	failed error
	onEnd  []func()

	bytes, nodes, queries, files, work int
}

// New makes the budget of a tenant's Mount, to be closed at its end. turns may
// be nil: then nobody waits.
func New(ctx context.Context, turns *fair.Gate, tenant string) *Budget {
	return &Budget{ctx: ctx, turns: turns, tenant: tenant}
}

// Close gives the turn back, and what else was held for the Mount.
func (b *Budget) Close() {
	if b == nil {
		return
	}
	if b.turn != nil {
		b.turn.Leave()
		b.turn = nil
	}
	for _, end := range b.onEnd {
		end()
	}
	b.onEnd = nil
}

// AtEnd has something given back when the Mount ends; at once, where there is
// no Budget.
func (b *Budget) AtEnd(f func()) {
	if b == nil {
		f()
		return
	}
	b.onEnd = append(b.onEnd, f)
}

// Pause gives the turn back while the Mount waits for a store; resume waits for
// it again.
func (b *Budget) Pause() (resume func()) {
	if b == nil || b.turn == nil {
		return func() {}
	}
	return fair.Pause(fair.With(b.ctx, b.turn))
}

type contextKey struct{}

// With is a context that carries the budget.
func With(ctx context.Context, b *Budget) context.Context {
	return context.WithValue(ctx, contextKey{}, b)
}

// From is the budget that a context carries, nil where it carries none.
func From(ctx context.Context) *Budget {
	b, _ := ctx.Value(contextKey{}).(*Budget)
	return b
}

// Error is a limit that was passed.
type Error struct {
	What  string // "bytes of memory"
	Limit int
}

func (e *Error) Error() string {
	return fmt.Sprintf("takes more than %d %s, the limit of one mount", e.Limit, e.What)
}

// Bytes charges n bytes of memory that are about to be made.
func (b *Budget) Bytes(n int) error {
	if b == nil {
		return nil
	}
	return b.charge(&b.bytes, n, MaxBytes, "bytes of memory")
}

// Nodes charges n nodes of a document.
func (b *Budget) Nodes(n int) error {
	if b == nil {
		return nil
	}
	return b.charge(&b.nodes, n, MaxNodes, "nodes of YAML and JSON")
}

// Queries charges n secrets that are asked for.
func (b *Budget) Queries(n int) error {
	if b == nil {
		return nil
	}
	return b.charge(&b.queries, n, MaxQueries, "reads of secrets")
}

// Files charges n files of the volume.
func (b *Budget) Files(n int) error {
	if b == nil {
		return nil
	}
	return b.charge(&b.files, n, MaxFiles, "files")
}

// Work charges n bytes that are touched. A unit is what takes about 5 ns at
// worst: a byte of a regular expression's step, a few of a copy.
func (b *Budget) Work(n int) error {
	if b == nil {
		return nil
	}
	return b.charge(&b.work, n, MaxWork, "bytes of work")
}

// Err is why nothing more may be charged: a limit that was passed, or the end
// of the time.
func (b *Budget) Err() error {
	if b == nil {
		return nil
	}
	if b.failed == nil {
		b.failed = b.ctx.Err()
	}
	return b.failed
}

func (b *Budget) charge(used *int, n, limit int, what string) error {
	if err := b.Err(); err != nil {
		return err
	}

	if n < 0 || n > limit-*used {
		b.failed = &Error{What: what, Limit: limit}
		return b.failed
	}
	*used += n

	heavy := b.bytes > lightBytes || b.work > lightWork
	if !heavy || b.turn != nil || b.turns == nil {
		return nil
	}
	turn, err := b.turns.Enter(b.ctx, b.tenant)
	if err != nil {
		b.failed = fmt.Errorf("no turn for a mount that costs this much: %w", err)
		return b.failed
	}
	b.turn = turn

	return nil
}
