// Package plan is the one form that every dialect's SecretProviderClass is
// read into: which secrets of which stores, and what files they become. It
// holds data and no behaviour beyond looking it over; dialects make Plans, the
// cache reads their queries, render their outputs.
package plan

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/jmespath"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/template"
)

// Limits of one plan.
const (
	MaxObjects = 500 // entries of objects
	MaxFound   = 500 // secrets that one find may match
	// MaxRewritten is the longest name that a rewrite may make or be given, as
	// the driver's paths are.
	MaxRewritten = 4096
)

// Plan is what one Mount asks for.
type Plan struct {
	Objects []Object
	// AsListed keeps the files in the order of the objects; they are sorted by
	// path otherwise.
	AsListed bool
}

// Queries are the plan's sources in order: what the cache is asked for.
func (p Plan) Queries() []Query {
	var qs []Query
	for _, o := range p.Objects {
		for _, s := range o.Sources {
			qs = append(qs, s.Query)
		}
	}
	return qs
}

// Object is one entry of a SecretProviderClass.
type Object struct {
	Field string // "objects[2]", as errors name it
	// Sources are the secrets it is made of: one, but for a template that
	// draws on several; and the passwords of a certificate after them.
	Sources []Source
	Output  Output
}

// Source is one query, and what its answer is for.
type Source struct {
	// Alias is the name under which a template sees it; "" for the object's own
	// secret.
	Alias string
	Query Query

	// Password makes it one, and no secret that the file is made of. Key is
	// that of the answer which holds it; "" for all of it.
	Password Password
	Key      string
}

// Password says what a password is for.
type Password string

// The passwords of an object with a certificate.
const (
	OpensSource Password = "source" // the PFX or the private key that the store holds
	LocksFile   Password = "file"   // the PFX or the keystore that is written
)

// Query asks for one secret, or for all that a filter matches.
type Query struct {
	Field string // as errors name it
	// Object is what the class calls the object, where its dialect's errors do.
	Object string
	Store  store.Selector

	Ref  store.Ref     // where Find is nil
	Find *store.Filter // answers with any number of secrets, at most MaxFound
	// History, where it is over 1, asks for at most so many versions of Ref, the
	// newest first, from Ref's own version on where it names one.
	History int

	Optional bool          // a missing secret is no answer, and no error
	Refresh  time.Duration // over the store's; 0 = the store's
	// Force makes answers that were read before this text was first seen too
	// old. It carries the SecretProviderClass's name, so that equal texts of
	// two classes are two.
	Force string
	// Volume, where it is set, names the mount: an answer must have been read
	// since the last one to this volume, however fresh it is. A dialect whose
	// users expect every republish to see the store's value of now has it; pods
	// that share an identity share reads still.
	Volume string
}

// Searches says whether the secrets of the answer are known by asking only.
func (q Query) Searches() bool { return q.Find != nil || q.History > 1 }

// Origin says where an answer came from.
type Origin string

const (
	Hit     Origin = "hit"     // from the cache, fresh
	Fetched Origin = "fetched" // from the store, now
	Stale   Origin = "stale"   // from the cache, the store being out of reach
)

// Answer is what a query gave: one secret for a Ref, any number for a Find or a
// History, none for a missing optional secret.
type Answer struct {
	Store string // the store's name, for the audit line
	Role  string // whom the store was read as, where it knows; for the audit line
	Found []Found
}

// Found is one secret of an answer.
type Found struct {
	Ref    store.Ref
	Secret store.Secret
	Origin Origin
}

// Output says what files an object becomes.
type Output struct {
	// File is a path, or ends in "/" (or is empty) where the object makes
	// several files, which are named below it.
	File string
	Mode int32 // permission bits

	// Select takes a part of the value before anything else is done with it.
	Select Selector
	Key    string // one key of the value
	// Extract is one key of the value by the Google provider's rules.
	Extract *Extract
	// JMESPath selects text from the value.
	JMESPath *jmespath.Expression
	// NonString allows a JMESPath result that is no text, written as JSON.
	NonString bool
	Keys      *Keys // several keys, one file each
	Decode    Decoding
	Format    Format
	// Encryption is that of a PFX, as certificate names it; "" is the modern one.
	Encryption string
	Template   *template.Template
	Rewrite    *Rewrite

	// Overlaid lets a later object make the same file: the driver keeps the last.
	Overlaid bool

	// ID is the object version's id; the file's path where it is empty.
	ID string
	// StoreVersion keeps the store's own version for files that the object
	// shapes, as the provider whose dialect it is does.
	StoreVersion bool
	// Signed makes the version of the file's content; nil for the store's own.
	Signed *Signed
}

// Selector takes a part of a value by the rules of one dialect. Its text says
// what it takes; its errors quote nothing of the value, but for ErrNoPart.
type Selector interface {
	Select(b *budget.Budget, s store.Secret) ([]byte, error)
	String() string
}

// ErrNoPart is a Selector's answer where the object makes no file of a secret.
var ErrNoPart = errors.New("no part of it")

// Signed is a version made by HMAC-SHA256 with a key that the platform keeps:
// of the prefix and the content, in the alphabet of base64 for URLs.
type Signed struct {
	Key    store.Value
	Prefix []byte
}

// Shape is the part of an output that changes content: "" where a file is its
// secret as it is. It goes into object versions, so that a changed template or
// key is a new version.
func (o Output) Shape() string {
	var shape []string
	add := func(name, value string) {
		if value != "" {
			shape = append(shape, name+"="+strconv.Quote(value))
		}
	}

	if o.Select != nil {
		add("select", o.Select.String())
	}
	add("key", o.Key)
	if o.Extract != nil {
		add(o.Extract.Format, o.Extract.Key)
	}
	if o.JMESPath != nil {
		add("jmespath", o.JMESPath.String())
	}
	add("decode", string(o.Decode))
	add("format", string(o.Format))
	add("encryption", o.Encryption)
	if o.Keys != nil {
		shape = append(shape, "keys")
	}
	if o.Template != nil {
		add("template", o.Template.String())
	}

	return strings.Join(shape, " ")
}

// Several says whether the object may make more than one file, so that File is
// a folder.
func (o Object) Several() bool {
	if o.Output.Format != "" || o.Output.Template != nil {
		return o.found()
	}
	return o.Output.Keys != nil || o.found()
}

func (o Object) found() bool { return len(o.Sources) > 0 && o.Sources[0].Query.Searches() }

// Extract is a top-level key whose value is a text, and nothing else.
type Extract struct{ Format, Key string }

// Formats of Extract.
const (
	ExtractJSON = "JSON"
	ExtractYAML = "YAML"
)

// Keys chooses keys of a value: all, those named, or those that match.
type Keys struct {
	All    bool
	Names  []string
	Regexp *budget.Pattern
}

// Decoding is how a value's text is to be decoded.
type Decoding string

// Decodings of DESIGN §1.
const (
	Base64    Decoding = "base64"
	Base64URL Decoding = "base64url"
	Hex       Decoding = "hex"
	Auto      Decoding = "auto" // base64 or base64url where the text is that, else as it is
)

// Format writes all keys, or a certificate, as one file.
type Format string

// Formats of DESIGN §1: of the keys of a document, and of a certificate.
const (
	JSON       Format = "json"
	YAML       Format = "yaml"
	Dotenv     Format = "dotenv"
	Properties Format = "properties"

	PEM Format = "pem"
	PFX Format = "pfx"
	JKS Format = "jks"
)

// Certificate says whether the format is one of certificates.
func (f Format) Certificate() bool { return f == PEM || f == PFX || f == JKS }

// Rewrite changes the names of files that keys and find make.
type Rewrite struct {
	Regexp *budget.Pattern
	With   string // Go's expansion: $1, ${name}
}
