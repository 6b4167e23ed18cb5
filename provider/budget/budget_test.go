package budget

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth/fair"
	"github.com/coffre-csi/coffre/test/cost"
)

func mount(t *testing.T) *Budget {
	t.Helper()
	return New(t.Context(), nil, "shop")
}

func TestWhatGoesOverIsRefusedAndEverythingAfterIt(t *testing.T) {
	for what, charge := range map[string]func(*Budget, int) error{
		"29360128 bytes of memory":      (*Budget).Bytes,
		"200000 nodes of YAML and JSON": (*Budget).Nodes,
		"2000 reads of secrets":         (*Budget).Queries,
		"2000 files":                    (*Budget).Files,
		"134217728 bytes of work":       (*Budget).Work,
	} {
		b := mount(t)
		if err := charge(b, 1500); err != nil {
			t.Errorf("%s: the first charge: got %v, want none", what, err)
		}
		for _, n := range []int{MaxWork, 1, -1} {
			if err := charge(b, n); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: charging %d: got %v, want the limit", what, n, err)
			}
		}
	}
	if err := mount(t).Bytes(-1); err == nil {
		t.Error("a size that overflowed is accepted")
	}
	var none *Budget
	if err := none.Work(1 << 40); err != nil {
		t.Errorf("no budget: got %v, want no limit", err)
	}
}

func TestEveryChargeLooksAtTheTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := New(ctx, nil, "shop")
	if err := b.Work(1); err != nil {
		t.Fatalf("in time: got %v, want none", err)
	}
	cancel()
	if err := b.Work(1); !errors.Is(err, context.Canceled) {
		t.Errorf("over time: got %v, want the context's error", err)
	}
}

func TestDearMountsTakeTurnsAndCheapOnesNeverWait(t *testing.T) {
	turns := fair.New(1, 10)
	dear := New(t.Context(), turns, "a")
	if err := dear.Bytes(lightBytes + 1); err != nil {
		t.Fatalf("the first dear mount: got %v, want its turn", err)
	}

	cheap := New(t.Context(), turns, "b")
	if err := cheap.Bytes(lightBytes); err != nil {
		t.Errorf("a cheap mount: got %v, want none", err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := New(soon, turns, "b").Work(lightWork + 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a dear mount beside another: got %v, want no turn in time", err)
	}

	dear.Close()
	dear.Close() // gives back once
	if err := New(t.Context(), turns, "b").Work(lightWork + 1); err != nil {
		t.Errorf("after the first is done: got %v, want its turn", err)
	}
}

func TestARegularExpressionIsMeasuredBeforeItIsCompiled(t *testing.T) {
	for _, text := range []string{"a{1000}{2}", "((a{100}){100}){100}", strings.Repeat("(x{1000})", 100), "(?i)" + strings.Repeat("[a-z]{900}", 100), strings.Repeat("a", 1025), "("} {
		if _, err := mount(t).Compile(text); err == nil {
			t.Errorf("%.40q is accepted", text)
		}
	}
	for _, text := range []string{"^prod/(mysql|redis)-[0-9]{1,3}$", "", `\pL+`, strings.Repeat("a", 900), "a{900}"} {
		if _, err := mount(t).Compile(text); err != nil {
			t.Errorf("%.40q: got %v, want none", text, err)
		}
	}

	b, compiled := mount(t), 0
	for err := error(nil); err == nil && compiled < 100_000; compiled++ {
		_, err = b.Compile(strings.Repeat(`\pL`, 341))
	}
	if compiled > 1000 {
		t.Errorf("%d wide expressions were compiled in one mount; want the memory's limit before", compiled)
	}
}

func TestAReplacementStopsAtItsLimit(t *testing.T) {
	empty, err := mount(t).Compile("")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if _, err := empty.Replace(mount(t), strings.Repeat("a", 4096), strings.Repeat("b", 1024), 4096); !errors.Is(err, ErrTooLong) {
		t.Errorf("got %v, want ErrTooLong", err)
	}
	all, err := mount(t).Compile("^(.*)$")
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if _, err := all.Replace(mount(t), strings.Repeat("a", 1<<20), strings.Repeat("$1", 512), 4096); err == nil {
		t.Error("a match of a megabyte, five hundred times, is made")
	}
	words, err := mount(t).Compile(`^DB_(.*)$`)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if got, err := words.Replace(mount(t), "DB_USER", "db/$1", 4096); err != nil || got != "db/USER" {
		t.Errorf("got %q, %v; want db/USER", got, err)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("a{1000}", "aaaa", "$1")
	f.Add("(?i)(\\pL*)*$", strings.Repeat("x", 1000), "${1}x")
	f.Add("", strings.Repeat("x", 4000), strings.Repeat("y", 1000))
	f.Fuzz(func(t *testing.T, pattern, text, with string) {
		cost.Of(t, len(pattern)+len(text)+len(with), func() {
			b := mount(t)
			if p, err := b.Compile(pattern); err == nil {
				_, _ = p.Replace(b, text, with, 4096)
			}
		})
	})
}
