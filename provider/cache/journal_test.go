package cache

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
)

// restart is what a new process has: nothing but the clock, the store and the
// folder.
func restart(t *testing.T, w *world, clock *fixture.Stopped, dir string) (*Cache, error) {
	t.Helper()
	j, err := openJournal(dir)
	if err != nil {
		t.Fatalf("no journal: %v", err)
	}
	c := New(w, Options{Now: clock.Now, Journal: j})
	_, err = c.Restore()
	return c, err
}

func TestPodsOfAKnownIdentityStartAfterARestartWhileTheStoreIsDown(t *testing.T) {
	w := newWorld()
	w.config.MaxStale = time.Hour
	clock := fixture.StoppedAt(time.Unix(1_000_000, 0))
	dir := t.TempDir()
	c, err := restart(t, w, clock, dir)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	get(t, c, "a", "b")
	w.whole = store.Errorf(store.Unavailable, "down")
	clock.Move(30 * time.Minute)
	if c, err = restart(t, w, clock, dir); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if got := get(t, c, "a", "b"); got != "1api:stale 2api:stale" {
		t.Errorf("got %v, want %v", got, "1api:stale 2api:stale")
	}
	if _, err := c.Get(t.Context(), auth.Identity{Namespace: "shop", ServiceAccount: "web"}, ask("a")); err == nil {
		t.Error("a restored value crossed identities")
	}
	clock.Move(time.Hour)
	if _, err := c.Get(t.Context(), api, ask("a")); err == nil {
		t.Error("a restored value outlives maxStale")
	}
}

func TestARestoredValueIsAsOldAsItIs(t *testing.T) {
	w := newWorld()
	clock := fixture.StoppedAt(time.Unix(1_000_000, 0))
	dir := t.TempDir()
	c, _ := restart(t, w, clock, dir)
	get(t, c, "a")
	clock.Move(30 * time.Second)
	c, _ = restart(t, w, clock, dir)
	if got := get(t, c, "a"); got != "1api:hit" {
		t.Errorf("got %v, want %v", got, "1api:hit")
	}
	clock.Move(31 * time.Second)
	if got := get(t, c, "a"); got != "1api:fetched" {
		t.Errorf("got %v, want %v", got, "1api:fetched")
	}
	clock.Move(-2 * time.Hour) // the clock went back over the restart
	if c, _ = restart(t, w, clock, dir); len(c.entries.items) != 0 {
		t.Error("a value from the future is kept")
	}
}

func TestTheKeptCacheShowsNothingAndIsTiedToItsKey(t *testing.T) {
	w := newWorld()
	w.values["a"] = "hunter2hunter2"
	clock := fixture.StoppedAt(time.Unix(1_000_000, 0))
	dir := t.TempDir()
	c, _ := restart(t, w, clock, dir)
	get(t, c, "a")
	path := filepath.Join(dir, "cache")
	text, err := os.ReadFile(path)
	if err != nil || bytes.Contains(text, []byte("hunter2")) || bytes.Contains(text, []byte("shop")) {
		t.Error("the file shows a value or an identity", err)
	}
	for _, name := range []string{"cache", "key"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf(`got %v %v %v, where err != nil || info.Mode().Perm() != 0o600 must not be so`, name, info, err)
		}
	}
	for name, broken := range map[string][]byte{"changed": append(bytes.Clone(text[:len(text)-1]), text[len(text)-1]^1), "another length": append([]byte{0, 0, 0, 30}, text[4:]...)} {
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		if c, err := restart(t, w, clock, dir); err == nil || len(c.entries.items) != 0 || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if err := os.Remove(filepath.Join(dir, "key")); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if _, err := restart(t, w, clock, dir); err == nil {
		t.Error("opened under another key")
	}
}

func TestTheJournalIsMemoryOrItIsRefused(t *testing.T) {
	if _, err := OpenJournal(t.TempDir()); err != nil && !strings.Contains(err.Error(), "is not on a tmpfs") {
		t.Errorf("got %v, which is not what this test promises", err)
	} else if err == nil {
		t.Log("the test's own folder is memory here")
	}
	if _, err := os.Stat("/dev/shm"); err != nil {
		t.Fatal("a Linux without /dev/shm:", err)
	}
	dir, err := os.MkdirTemp("/dev/shm", "coffre-test-")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	defer os.RemoveAll(dir)
	if _, err := OpenJournal(dir); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
}

func TestAPinnedVersionIsNotReadAgain(t *testing.T) {
	w := newWorld()
	c, clock := newCache(w)
	q := ask("a")
	q[0].Ref.Version = "7"
	for range 3 {
		if _, err := c.Get(t.Context(), api, q); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		clock.Move(time.Hour)
	}
	if w.calls() != 1 {
		t.Errorf("%d reads", w.calls())
	}
}
