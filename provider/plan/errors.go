package plan

import (
	"fmt"

	"github.com/coffre-csi/coffre/provider/store"
)

// QueryError is one query that failed.
type QueryError struct {
	Field string
	Query Query
	Err   *store.Error
}

func (e *QueryError) Error() string { return e.Err.Error() }
func (e *QueryError) Unwrap() error { return e.Err }

// ObjectError is an object that could not be rendered.
type ObjectError struct {
	Field string // objects[2]
	// Object is what the class calls it, where its dialect's errors do.
	Object string
	Store  string    // of its secret
	Ref    store.Ref // its secret
	Text   string
}

func (e *ObjectError) Error() string {
	if e.Ref.Name == "" {
		return e.Field + ": " + e.Text
	}
	return fmt.Sprintf("%s: %s: %s: %s", e.Field, e.Store, e.Ref, e.Text)
}

// Split is the single errors of a mount.
func Split(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return []error{err}
}

// Reworded is an error in the words that the users of another provider know, and
// everything else of the error that it was.
type Reworded struct {
	Text string
	Err  error
}

func (e *Reworded) Error() string { return e.Text }
func (e *Reworded) Unwrap() error { return e.Err }
