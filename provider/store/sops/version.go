package sops

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"time"
)

// version names the value at a place without saying anything about it.
//
// A version is shown in pod status objects, to people who may not read the
// secret, so it must not be a hash of the value: short or common values would
// be found by trying. It is a hash of the value's ciphertext, which was made
// with a random nonce, below the document's encrypted data keys, which are
// random too. Every node sees the same document and so the same version; the
// sops command keeps the ciphertext of values that an edit did not touch, so
// that only what changed gets a new version; and a new data key, which
// re-encrypts everything, gives everything a new one.
func (d *document) version(name string, steps []int) string {
	h := sha256.New()
	io.WriteString(h, "coffre sops 1\n")
	for _, g := range d.meta.groups {
		for _, k := range g {
			field(h, 'k', k.wrapped)
		}
	}

	field(h, 'n', name)
	if steps == nil {
		field(h, 'f', string(d.format))
		for _, m := range d.data {
			feed(h, m, true)
		}
	} else {
		feed(h, at(d.data, steps), false)
	}

	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))[:22]
}

func field(h io.Writer, mark byte, text string) { fmt.Fprintf(h, "%c%d:%s", mark, len(text), text) }

// feed writes a tree so that no two trees write the same.
func feed(h io.Writer, v any, remarks bool) {
	switch v := v.(type) {
	case mapping:
		fmt.Fprint(h, "{")
		for _, e := range v {
			if c, is := e.value.(comment); !is {
				field(h, 'n', e.key)
				feed(h, e.value, remarks)
			} else if remarks {
				field(h, '#', c.text)
			}
		}

		fmt.Fprint(h, "}")
	case list:
		fmt.Fprint(h, "[")
		for _, item := range v {
			if c, is := item.(comment); !is {
				feed(h, item, remarks)
			} else if remarks {
				field(h, '#', c.text)
			}
		}

		fmt.Fprint(h, "]")
	case time.Time:
		field(h, 't', v.Format(time.RFC3339Nano))
	default:
		field(h, 'v', fmt.Sprintf("%T %v", v, v))
	}
}
