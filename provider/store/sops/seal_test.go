package sops

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// sealer encrypts a document as the sops command would, for the tests that
// want plaintext which that command refuses to encrypt, or that are to run
// without it.
type sealer struct {
	id  *age.X25519Identity
	key []byte
}

func newSealer(t testing.TB) *sealer {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return &sealer{id: id, key: key}
}

func (s *sealer) identities() identities { return identities{s.id.Recipient().String(): s.id} }

func wrap(t testing.TB, key []byte, to age.Recipient) string {
	t.Helper()
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, to)
	if err == nil {
		_, err = w.Write(key)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = a.Close()
	}
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	return out.String()
}

func (s *sealer) seal(v any, path string) string {
	kind, text := "str", ""
	switch v := v.(type) {
	case string:
		text = v
	case []byte:
		kind, text = "bytes", string(v)
	case comment:
		kind, text = "comment", v.text
	case time.Time:
		b, _ := v.MarshalText()
		kind, text = "time", string(b)
	case bool:
		kind, text = "bool", "False"
		if v {
			text = "True"
		}
	default:
		kind, text = fmt.Sprintf("%T", v), fmt.Sprint(v)
		kind = strings.TrimSuffix(kind, "64")
	}
	if text == "" {
		return ""
	}
	block, _ := aes.NewCipher(s.key)
	gcm, _ := cipher.NewGCMWithNonceSize(block, 32)
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce)
	out := gcm.Seal(nil, nonce, []byte(text), []byte(path))
	b64 := base64.StdEncoding.EncodeToString
	return "ENC[AES256_GCM,data:" + b64(out[:len(out)-16]) + ",iv:" + b64(nonce) + ",tag:" + b64(out[len(out)-16:]) + ",type:" + kind + "]"
}

func (s *sealer) tree(w *walker, v any, p place) any {
	switch v := v.(type) {
	case mapping:
		out := mapping{}
		for _, e := range v {
			if c, is := e.value.(comment); is {
				out = append(out, entry{value: comment{text: s.seal(c, p.path+":"), inline: c.inline}})
				continue
			}
			out = append(out, entry{key: e.key, value: s.tree(w, e.value, p.below(e.key))})
		}
		return out
	case list:
		out := list{}
		for _, item := range v {
			out = append(out, s.tree(w, item, p))
		}
		return out
	case nil:
		return nil
	case comment:
		return s.seal(v, p.path+":")
	}
	w.sum(v)
	return s.seal(v, p.path+":")
}

const sealedAt = "2026-11-23T12:00:00Z"

// document encrypts every value of a tree.
func (s *sealer) document(t testing.TB, f Format, plain ...mapping) *document {
	t.Helper()
	w := &walker{mac: sha512.New()}
	d := &document{format: f}
	for _, m := range plain {
		d.data = append(d.data, s.tree(w, m, place{}).(mapping))
	}
	d.meta = metadata{
		groups:       []keyGroup{{{kind: "age", id: s.id.Recipient().String(), wrapped: wrap(t, s.key, s.id.Recipient())}}},
		lastModified: sealedAt, rule: rule{marks: func(string) bool { return false }},
		mac: s.seal(fmt.Sprintf("%X", w.mac.Sum(nil)), sealedAt),
	}
	return d
}

// yaml writes a sealed document out, with extra lines of metadata.
func (s *sealer) yaml(t testing.TB, d *document, extra string) string {
	t.Helper()
	text, err := emit(d.data, YAML)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	k := d.meta.groups[0][0]
	return fmt.Sprintf("%ssops:\n  age:\n    - recipient: %s\n      enc: |\n        %s\n  lastmodified: %q\n  mac: %s\n%s", text,
		k.id, strings.ReplaceAll(strings.TrimSpace(k.wrapped), "\n", "\n        "), sealedAt, d.meta.mac, extra)
}
