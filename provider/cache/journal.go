package cache

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/coffre-csi/coffre/provider/store"
)

// Journal keeps the cache over a restart of the provider, and over a crash: in
// a folder that is memory (tmpfs), under a key that lies there too and so never
// touches a disk. What is restored is subject to the same rules as what never
// left: its age counts on, and it is found only by the identity it was read for.
//
// It is a file of records, each sealed by itself:
//
//  1. What was read is appended before any mount is given it, and so is what
//     was refused: no volume gets an older value than it had, and nothing that
//     was taken away comes back, however the process ends.
//  2. When the file has grown to twice its content, it is written anew, one
//     record after the other: at most a third of what the cache may hold, what was
//     used last first, for the file's pages are memory of the provider too.
//  3. A record that was cut short by a crash is the last one, and left out.
//
// A nil Journal keeps nothing.
type Journal struct {
	file string
	seal cipher.AEAD

	// rewrite writes the file anew.
	rewrite func() error

	mu    sync.Mutex
	out   *os.File
	bytes int64 // of the file
	live  int64 // of it, when it was written anew
}

const (
	maxRecord = 16 << 20
	// slack is how far the file may grow beyond twice its content.
	slack = 1 << 20
)

// keptShare is the part of what the cache may hold that the file is cut to:
// with the file that it takes the place of, and what is added until the next
// time, it stays below the whole.
const keptShare = 3

// The kinds of record.
const (
	recordPut    = "put"
	recordRemove = "remove"
	// When a forced text was first seen, and when a volume was last answered.
	recordForced  = "forced"
	recordMounted = "mounted"
)

// record is what a record says, beside the value that follows it in the file.
// The names are the format.
type record struct {
	Kind            string
	Store, Identity string        `json:",omitempty"`
	Ref             store.Ref     `json:",omitzero"`
	Find            store.Filter  `json:",omitzero"`
	IsFind          bool          `json:",omitempty"`
	History         int           `json:",omitempty"`
	Version, Media  string        `json:",omitempty"`
	Lease           string        `json:",omitempty"`
	Retired         []string      `json:",omitempty"`
	Until, Since    time.Time     `json:",omitzero"`
	Full            time.Duration `json:",omitempty"`
	Final           bool          `json:",omitempty"`
	Found           []store.Ref   `json:",omitempty"`
	At, Used        time.Time     `json:",omitzero"` // when the request began
	Refresh         time.Duration
	Name            []byte `json:",omitempty"` // of a forced text or a volume, hashed
}

// OpenJournal prepares a folder. It refuses one that is not memory.
func OpenJournal(dir string) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if memory, err := inMemory(dir); err != nil {
		return nil, err
	} else if !memory {
		return nil, fmt.Errorf("%s is not on a tmpfs: secrets are kept in memory only; choose a folder below /run", dir)
	}
	return openJournal(dir)
}

func openJournal(dir string) (*Journal, error) {
	key, err := journalKey(filepath.Join(dir, "key"))
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	seal, err := cipher.NewGCM(block)
	return &Journal{file: filepath.Join(dir, "cache"), seal: seal}, err
}

// journalKey is the key in the file; a new one where there is none.
func journalKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) == 32 {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}

	key = make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	fresh := path + ".new"
	if err := os.WriteFile(fresh, key, 0o600); err != nil {
		return nil, err
	}

	return key, os.Rename(fresh, path)
}

// put is how a reading is written down; the caller does it without the cache's
// lock. r is the caller's own copy.
func (j *Journal) put(e *entry, r reading) func() error {
	if j == nil {
		return nil
	}
	rec := recordOf(e)
	return func() error { return j.append(rec, r.secret.Value) }
}

func recordOf(e *entry) record {
	k, s := e.key, e.secret
	return record{
		Kind: recordPut, Store: k.store, Identity: k.identity, Ref: k.ref, Find: k.find, IsFind: k.isFind, History: k.history,
		Version: s.Version, Media: s.Media, Lease: s.Lease, Retired: slices.Clone(e.lease.retired),
		Until: s.Until.Round(0), Since: e.lease.since.Round(0), Full: e.lease.full, Final: e.lease.final, Found: e.found,
		At: e.fetched.Round(0), Used: e.used.Round(0), Refresh: e.refresh,
	}
}

// remove is how a refusal is written down: what was read before at is gone.
func (j *Journal) remove(k key, at time.Time) func() error {
	if j == nil {
		return nil
	}
	rec := record{Kind: recordRemove, Store: k.store, Identity: k.identity, Ref: k.ref, Find: k.find, IsFind: k.isFind, History: k.history, At: at.Round(0)}
	return func() error { return j.append(rec, nil) }
}

// moment is how the time of a name is written down.
func (j *Journal) moment(kind string, name [16]byte, at time.Time) func() error {
	if j == nil {
		return nil
	}
	rec := record{Kind: kind, Name: name[:], At: at.Round(0)}
	return func() error { return j.append(rec, nil) }
}

// append writes one record, and the file anew where it has grown.
func (j *Journal) append(rec record, value []byte) error {
	grown, err := j.add(rec, value)
	if err == nil && grown && j.rewrite != nil {
		return j.rewrite()
	}
	return err
}

func (j *Journal) add(rec record, value []byte) (grown bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.out == nil {
		out, err := os.OpenFile(j.file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return false, err
		}
		j.out = out
	}

	n, err := j.write(j.out, rec, value)
	j.bytes += n
	if err != nil && n > 0 {
		// Half a record ends what can be read: start anew with the next writing.
		_ = j.out.Truncate(j.bytes - n)
		j.bytes -= n
	}

	return j.bytes > 2*j.live+slack, err
}

// write seals a record: its length, a nonce, the sealed text. The text is the
// length of the record's JSON, that JSON, and the value.
func (j *Journal) write(w io.Writer, rec record, value []byte) (int64, error) {
	head, err := json.Marshal(rec)
	if err != nil {
		return 0, err
	}

	nonce := j.seal.NonceSize()
	room := 4 + nonce + 4 + len(head) + len(value) + j.seal.Overhead()
	buf := make([]byte, 4+nonce, room)
	_, _ = rand.Read(buf[4:])
	plain := make([]byte, 0, 4+len(head)+len(value))
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(head)))
	plain = append(append(plain, head...), value...)
	sealed := j.seal.Seal(buf, buf[4:4+nonce], plain, []byte(filepath.Base(j.file)))
	clear(plain)
	binary.BigEndian.PutUint32(sealed, uint32(len(sealed)-4))

	n, err := w.Write(sealed)

	return int64(n), err
}

// read gives every record in order, until fn says no or there are no more.
func (j *Journal) read(r io.Reader, fn func(rec record, value []byte)) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var length [4]byte
	for {
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return nil // the end, or cut short there
		}
		n := binary.BigEndian.Uint32(length[:])
		if n > maxRecord || int(n) < j.seal.NonceSize() {
			return errors.New("the kept cache was changed")
		}
		sealed := make([]byte, n)
		if _, err := io.ReadFull(in, sealed); err != nil {
			return nil
		}

		nonce, text := sealed[:j.seal.NonceSize()], sealed[j.seal.NonceSize():]
		plain, err := j.seal.Open(text[:0], nonce, text, []byte(filepath.Base(j.file)))
		if err != nil {
			return errors.New("the kept cache was changed, or is under another key")
		}
		if len(plain) < 4 {
			return errors.New("the kept cache is of another version of Coffre")
		}
		size := int(binary.BigEndian.Uint32(plain))
		var rec record
		if size > len(plain)-4 || json.Unmarshal(plain[4:4+size], &rec) != nil {
			return errors.New("the kept cache is of another version of Coffre")
		}
		fn(rec, plain[4+size:])
		clear(plain)
	}
}

// Restore reads what was kept, before anything is asked. A file that is not
// there is no error; one that cannot be read is, and the cache stays empty: it
// will fill again.
func (c *Cache) Restore() (int, error) {
	j := c.opts.Journal
	if j == nil {
		return 0, nil
	}
	in, err := os.Open(j.file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer in.Close()

	now := c.opts.Now()
	c.mu.Lock()
	err = j.read(in, func(rec record, value []byte) { c.restore(rec, value, now) })
	if err != nil {
		for k := range c.entries.items {
			c.entries.remove(k)
		}
	}

	n := len(c.entries.items)
	c.mu.Unlock()

	// Written anew, it has no half record at its end.
	if writeErr := c.rewrite(true); err == nil {
		err = writeErr
	}

	return n, err
}

// restore takes one record. The order in which they were written does not
// matter: of two about one secret the one whose request began later counts. The
// caller locks.
func (c *Cache) restore(rec record, value []byte, now time.Time) {
	if rec.At.After(now) {
		return // a clock that went back would make it fresh for ever
	}
	if times := map[string]*times{recordForced: &c.forced, recordMounted: &c.mounted}[rec.Kind]; times != nil {
		if len(rec.Name) == 16 {
			times.put([16]byte(rec.Name), rec.At)
		}
		return
	}

	k := key{batchKey{rec.Store, rec.Identity}, rec.Ref, rec.Find, rec.IsFind, rec.History}
	old := c.entries.items[k]
	if at, ok := c.refused.get(k.text()); ok && !rec.At.After(at) {
		return
	}
	if old != nil && old.fetched.After(rec.At) {
		return
	}
	if rec.Kind == recordRemove {
		c.refused.set(k.text(), rec.At)
		c.entries.remove(k)
		return
	}

	s := store.Secret{Value: bytes.Clone(value), Version: rec.Version, Media: rec.Media, Lease: rec.Lease, Until: rec.Until}
	c.entries.put(&entry{
		key: k, reading: reading{s, rec.Found, rec.At}, used: rec.Used, refresh: rec.Refresh,
		lease: lease{since: rec.Since, full: rec.Full, final: rec.Final, retired: rec.Retired},
	})
	c.entries.trim()
}

// rewrite writes what the cache holds to a new file, one entry after the other,
// and puts it in the place of the old one. Where that fails the old one
// stays.
func (c *Cache) rewrite(force bool) error {
	j := c.opts.Journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.live > 0 && j.bytes <= 2*j.live+slack && !force {
		return nil // another has just done it
	}
	fresh, err := os.OpenFile(j.file+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}

	written, err := c.writeAll(j, fresh)
	if err == nil {
		err = os.Rename(j.file+".new", j.file)
	}
	if err != nil {
		_ = fresh.Close()
		return errors.Join(err, os.Remove(j.file+".new"))
	}
	if j.out != nil {
		_ = j.out.Close()
	}
	j.out, j.bytes, j.live = fresh, written, written

	return nil
}

func (c *Cache) writeAll(j *Journal, w io.Writer) (written int64, err error) {
	c.mu.Lock()
	keys := c.entries.lastUsed()
	moments := map[string][]moment{recordForced: c.forced.all(), recordMounted: c.mounted.all()}
	c.mu.Unlock()

	for kind, all := range moments {
		for _, m := range all {
			n, err := j.write(w, record{Kind: kind, Name: m.name[:], At: m.at.Round(0)}, nil)
			if written += n; err != nil {
				return written, err
			}
		}
	}

	for _, k := range keys {
		if written > c.opts.MaxBytes/keptShare {
			break
		}
		c.mu.Lock()
		e := c.entries.items[k]
		if e == nil {
			c.mu.Unlock()
			continue
		}
		rec, r := recordOf(e), e.clone()
		c.mu.Unlock()

		n, err := j.write(w, rec, r.secret.Value)
		r.wipe()
		if written += n; err != nil {
			return written, err
		}
	}

	return written, nil
}

// wipe overwrites a copy of a value.
func (r reading) wipe() { clear(r.secret.Value) }

// firstForced is when a forceRefresh text was first seen: now, where it was not.
// The caller locks.
func (c *Cache) firstForced(name string) (at time.Time, record func() error) {
	if at, ok := c.forced.get(name); ok {
		return at, nil
	}
	now := c.opts.Now()
	c.forced.set(name, now)
	return now, c.opts.Journal.moment(recordForced, hashed(name), now)
}
