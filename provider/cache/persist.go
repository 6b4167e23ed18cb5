package cache

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coffre-csi/coffre/provider/store"
)

// Vault keeps the cache over a restart of the provider: encrypted, in a folder
// that is memory (tmpfs), under a key that lies there too and so never touches
// a disk. What is restored is subject to the same rules as what never left:
// its age counts on, and it is found only by the identity it was read for.
type Vault struct {
	file string
	seal cipher.AEAD
}

// saveEvery bounds how much of the cache a crash loses, and how often it is
// written.
const saveEvery = 10 * time.Second

// saved is an entry in the file. The names are the format.
type saved struct {
	Store, Identity string
	Ref             store.Ref
	Find            store.Filter
	IsFind          bool
	Value           []byte
	Version         string
	Found           []store.Ref
	Fetched, Used   time.Time
	Refresh         time.Duration
}

// OpenVault prepares a folder. It refuses one that is not memory.
func OpenVault(dir string) (*Vault, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return nil, err
	}
	if fs.Type != unix.TMPFS_MAGIC && fs.Type != unix.RAMFS_MAGIC {
		return nil, fmt.Errorf("%s is not on a tmpfs: secrets are kept in memory only; choose a folder below /run", dir)
	}
	return openVault(dir)
}

func openVault(dir string) (*Vault, error) {
	key, err := vaultKey(filepath.Join(dir, "key"))
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	seal, err := cipher.NewGCM(block)
	return &Vault{filepath.Join(dir, "cache"), seal}, err
}

// vaultKey is the key in the file; a new one where there is none.
func vaultKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) == 32 {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key = make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return key, writeFile(path, key)
}

// writeFile replaces a file in one step.
func writeFile(path string, text []byte) error {
	fresh := path + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// Save writes what the cache holds.
func (c *Cache) Save(v *Vault) error {
	c.mu.Lock()
	entries := make([]saved, 0, len(c.entries.items))
	for item := c.entries.order.Back(); item != nil; item = item.Prev() {
		e := item.Value.(*entry)
		r := e.reading.clone()
		entries = append(entries, saved{e.key.store, e.key.identity, e.key.ref, e.key.find, e.key.isFind, r.secret.Value, r.secret.Version, r.found, e.fetched, e.used, e.refresh})
	}
	c.mu.Unlock()
	var plain bytes.Buffer
	err := gob.NewEncoder(&plain).Encode(entries)
	for _, s := range entries {
		clear(s.Value)
	}
	defer func() { clear(plain.Bytes()) }()
	if err != nil {
		return err
	}
	nonce := make([]byte, v.seal.NonceSize())
	_, _ = rand.Read(nonce)
	return writeFile(v.file, v.seal.Seal(nonce, nonce, plain.Bytes(), []byte(v.file)))
}

// Restore reads what was saved. A file that is not there is no error; one that
// cannot be read is, and the cache stays empty: it will fill again.
func (c *Cache) Restore(v *Vault) (int, error) {
	text, err := os.ReadFile(v.file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n := v.seal.NonceSize()
	if len(text) < n {
		return 0, errors.New("the saved cache is cut short")
	}
	plain, err := v.seal.Open(nil, text[:n], text[n:], []byte(v.file))
	if err != nil {
		return 0, errors.New("the saved cache was changed, or is under another key")
	}
	defer clear(plain)
	var entries []saved
	if err := gob.NewDecoder(bytes.NewReader(plain)).Decode(&entries); err != nil {
		return 0, errors.New("the saved cache is of another version of Coffre")
	}
	now := c.opts.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range entries {
		if s.Fetched.After(now) {
			continue // a clock that went back would make it fresh for ever
		}
		c.entries.put(&entry{
			key:     key{s.Store, s.Identity, s.Ref, s.Find, s.IsFind},
			reading: reading{store.Secret{Value: s.Value, Version: s.Version}, s.Found, s.Fetched},
			used:    s.Used, refresh: s.Refresh,
		})
	}
	return len(c.entries.items), nil
}
