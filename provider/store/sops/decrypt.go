package sops

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/provider/store"
)

// A document is one SOPS document, parsed and still encrypted.
type document struct {
	format Format
	data   []mapping
	meta   metadata
}

// parse reads a document and decrypts nothing. f may be "": then the text says
// what it is. Errors continue "the document ".
func parse(text string, f Format) (*document, error) {
	if f == "" {
		var err error
		if f, err = detect(text); err != nil {
			return nil, err
		}
	}

	branches, err := parseText(text, f)
	if err != nil {
		return nil, err
	}
	for _, m := range branches {
		if err := checkUnique(m, f == INI); err != nil {
			return nil, err
		}
	}

	data, fs, err := takeMetadata(branches, f)
	if err != nil {
		return nil, err
	}
	meta, err := fs.metadata()
	if err != nil {
		return nil, err
	}

	return &document{format: f, data: data, meta: meta}, nil
}

// keys are the names that the document answers to, but for ".".
func (d *document) keys() []string {
	if d.format == Binary {
		return nil
	}
	keys := topKeys(d.data)
	if d.format == INI {
		// DEFAULT is there always, and mostly empty.
		if i, err := step(d.data[0], "DEFAULT"); err == nil {
			if section, is := d.data[0][i].value.(mapping); is && len(topKeys([]mapping{section})) == 0 {
				keys = slices.DeleteFunc(keys, func(k string) bool { return k == "DEFAULT" })
			}
		}
	}

	return keys
}

// decrypt gives the document's tree in the clear, once its MAC is right.
func (d *document) decrypt(ids identities) ([]mapping, error) {
	key, err := d.meta.dataKey(ids)
	if err != nil {
		return nil, err
	}
	return d.decryptWith(key)
}

func (d *document) decryptWith(key []byte) ([]mapping, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, store.Errorf(store.Invalid, "has a data key that is not 32 bytes long")
	}
	w := &walker{block: block, meta: &d.meta, mac: sha512.New(), binary: d.format == Binary}
	if d.meta.macOnly {
		w.mac.Write(macOnlyStart)
	}
	plain := make([]mapping, len(d.data))
	for i, m := range d.data {
		if plain[i], err = w.mapping(m, place{}); err != nil {
			return nil, store.Errorf(store.Invalid, "%s", err)
		}
	}

	want, err := w.open(d.meta.mac, d.meta.lastModified)
	text, is := want.(string)
	if err != nil || !is {
		return nil, store.Errorf(store.Invalid, "was changed after it was encrypted: its MAC does not belong to its data key and lastmodified time; restore it, or encrypt it anew with sops")
	}
	got := strings.ToUpper(hex.EncodeToString(w.mac.Sum(nil)))
	if subtle.ConstantTimeCompare([]byte(got), []byte(text)) != 1 {
		return nil, store.Errorf(store.Invalid, "was changed after it was encrypted: its MAC does not fit its values; restore it, or encrypt it anew with sops")
	}

	return plain, nil
}

// macOnlyStart begins a MAC over encrypted values only, so that it is never
// the same as one over all: SHA-256 of "sops".
var macOnlyStart, _ = hex.DecodeString("8a3fd2ad54ce66527b1034f3d147be0b0b975b3bf44f72c6fdadec8176f27d69")

// A walker decrypts a tree in document order and hashes what it finds.
type walker struct {
	block  cipher.Block
	meta   *metadata
	mac    hash.Hash
	binary bool
}

// A place is where a value stands: its path, which is authenticated with it,
// and whether the document's rule marks it.
type place struct {
	path   string // keys joined by colons; list positions are not part of it
	depth  int
	marked bool
}

func (p place) below(key string) place {
	if p.depth > 0 {
		key = p.path + ":" + key
	}
	return place{path: key, depth: p.depth + 1, marked: p.marked}
}

// comments are those seen since the last entry of one mapping or list: they
// speak for the next one.
type comments struct{ marked, before bool }

func (w *walker) see(cs *comments, text string) {
	cs.before = cs.marked
	if w.meta.rule.onComments && w.meta.rule.marks(text) {
		cs.marked = true
	}
}

func (w *walker) encrypted(marked bool) bool { return marked == w.meta.rule.encrypts }

func (w *walker) mapping(in mapping, p place) (mapping, error) {
	out := make(mapping, 0, len(in))
	var cs comments
	for _, e := range in {
		if c, is := e.value.(comment); is {
			w.see(&cs, c.text)
			plain, err := w.comment(c, p, cs)
			if err != nil {
				return nil, err
			}
			out = append(out, entry{value: plain})
			continue
		}

		below := p.below(e.key)
		below.marked = below.marked || cs.marked || !w.meta.rule.onComments && w.meta.rule.marks(e.key)
		if len(below.path) > maxPath {
			return nil, errors.New("has keys that are absurdly long")
		}
		v, err := w.value(e.value, below)
		if err != nil {
			return nil, err
		}
		if _, is := v.(comment); is {
			return nil, fmt.Errorf("was changed after it was encrypted: its %q is typed as a comment", clip(below.path))
		}
		out = append(out, entry{key: e.key, value: v, merge: e.merge})
		cs = comments{}
	}

	return out, nil
}

func (w *walker) list(in list, p place) (list, error) {
	out := make(list, 0, len(in))
	var cs comments
	for _, item := range in {
		if c, is := item.(comment); is {
			w.see(&cs, c.text)
			plain, err := w.comment(c, p, cs)
			if err != nil {
				return nil, err
			}
			out = append(out, plain)
			continue
		}

		below := p
		below.marked = p.marked || cs.marked
		v, err := w.value(item, below)
		if err != nil {
			return nil, err
		}
		out = append(out, v) // a comment of the plaintext's list is an item of the encrypted one
		cs = comments{}
	}

	return out, nil
}

func (w *walker) value(v any, p place) (any, error) {
	switch v := v.(type) {
	case mapping:
		return w.mapping(v, p)
	case list:
		return w.list(v, p)
	case nil:
		return nil, nil
	}
	if !w.encrypted(p.marked) {
		if !w.meta.macOnly {
			w.sum(v)
		}
		return v, nil
	}

	text, is := v.(string)
	if !is {
		return nil, fmt.Errorf("was changed after it was encrypted: its %q is not encrypted", clip(p.path))
	}
	plain, err := w.open(text, p.path+":")
	if err != nil {
		return nil, fmt.Errorf("was changed after it was encrypted: its %q %w", clip(p.path), err)
	}
	w.sum(plain)

	return plain, nil
}

// comment decrypts a comment. One that does not decrypt was never encrypted:
// somebody added it later, which is nobody's harm.
func (w *walker) comment(c comment, p place, cs comments) (comment, error) {
	marked := p.marked || cs.marked
	if w.meta.rule.encrypts && w.meta.rule.onComments {
		// The comment that asks for encryption stays readable itself.
		marked = p.marked || cs.before
	}
	if !w.encrypted(marked) {
		return c, nil
	}
	v, err := w.open(c.text, p.path+":")
	if err != nil {
		return c, nil
	}
	switch v := v.(type) {
	case comment:
		return v, nil
	case string:
		w.sum(v)
		return comment{text: v, inline: c.inline}, nil
	}

	return c, fmt.Errorf("was changed after it was encrypted: a comment below %q is typed as a value", clip(p.path))
}

// sum adds a leaf to the MAC.
func (w *walker) sum(v any) { w.mac.Write(leaf(v)) }

// leaf is a value in the one spelling that every format shares; comments and
// nothing are none.
func leaf(v any) []byte {
	switch v := v.(type) {
	case string:
		return []byte(v)
	case []byte:
		return v
	case int:
		return strconv.AppendInt(nil, int64(v), 10)
	case float64:
		return strconv.AppendFloat(nil, v, 'f', -1, 64)
	case bool:
		if v {
			return []byte("True")
		}
		return []byte("False")
	case time.Time:
		text, err := v.MarshalText()
		if err == nil {
			return text
		}
	}

	return nil
}

var errDamaged = errors.New("is damaged, or was moved here from elsewhere")

// open decrypts one ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]. The empty text
// is the empty text.
func (w *walker) open(text, path string) (any, error) {
	if text == "" {
		return "", nil
	}
	rest, ok := strings.CutPrefix(text, marker+"data:")
	if !ok {
		return nil, errors.New("is not encrypted")
	}
	rest, ok1 := strings.CutSuffix(rest, "]")
	data, rest, ok2 := strings.Cut(rest, ",iv:")
	iv, rest, ok3 := strings.Cut(rest, ",tag:")
	tag, kind, ok4 := strings.Cut(rest, ",type:")
	sealed, err1 := base64.StdEncoding.DecodeString(data)
	nonce, err2 := base64.StdEncoding.DecodeString(iv)
	seal, err3 := base64.StdEncoding.DecodeString(tag)
	if !ok1 || !ok2 || !ok3 || !ok4 || errors.Join(err1, err2, err3) != nil ||
		len(nonce) == 0 || len(nonce) > 64 || len(seal) != 16 {
		return nil, errDamaged
	}
	gcm, err := cipher.NewGCMWithNonceSize(w.block, len(nonce))
	if err != nil {
		return nil, errDamaged
	}
	plain, err := gcm.Open(nil, nonce, append(sealed, seal...), []byte(path))
	if err != nil {
		return nil, errDamaged
	}
	if kind == "bytes" && !w.binary {
		return nil, errors.New("is typed as bytes, which sops writes in binary documents only")
	}
	v, err := typed(plain, kind)
	_, isComment := v.(comment)
	if err == nil && !isComment && !bytes.Equal(leaf(v), plain) {
		return nil, fmt.Errorf("is not of its type, %s, as sops writes it", clip(kind))
	}

	return v, err
}

// typed reads plaintext as its type tag says. The tag is not authenticated, but
// the MAC is over what comes of it, and that must be the plaintext again.
func typed(plain []byte, kind string) (v any, err error) {
	text := string(plain)
	switch kind {
	case "str":
		return text, nil
	case "bytes":
		return plain, nil
	case "comment":
		return comment{text: text}, nil
	case "int":
		v, err = strconv.Atoi(text)
	case "float":
		v, err = strconv.ParseFloat(text, 64)
	case "bool":
		v, err = strconv.ParseBool(text)
	case "time":
		var t time.Time
		err = t.UnmarshalText(plain)
		v = t
	default:
		return nil, fmt.Errorf("has the unknown type %q", clip(kind))
	}
	if err != nil {
		return nil, fmt.Errorf("is not of its type, %s", kind)
	}

	return v, nil
}
