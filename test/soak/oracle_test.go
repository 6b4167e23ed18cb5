package soak

import (
	"strings"
	"testing"
	"time"
)

func at(seconds int) time.Time { return time.Unix(1_000_000+int64(seconds), 0) }

func good() (*Oracle, Answer) {
	c := NewCloud()
	c.Values["db"] = []Fact[int]{{at(0), 1}, {at(100), 2}, {at(200), 3}}
	c.Allowed["shop/api db"] = []Fact[bool]{{at(0), true}, {at(300), false}}
	c.Trouble = []Fact[bool]{{at(0), false}}
	return &Oracle{Cloud: c, Slack: time.Second}, Answer{
		Identity: "shop/api", Volume: "pod-1", Began: at(150), Ended: at(151), Refresh: 10 * time.Second, MaxStale: time.Minute,
		Code: "OK", Asked: []string{"db"}, Files: map[string]string{"db": Text("db", 2)},
	}
}

func TestWhatIsRightBreaksNothing(t *testing.T) {
	o, a := good()
	if broken := o.Judge(a); broken != nil {
		t.Errorf("a right answer breaks %q", broken)
	}
}

// Each corruption of what the oracle sees breaks one promise, and that one.
func TestTheOracleFailsEachPromise(t *testing.T) {
	for promise, corrupt := range map[string]func(*Oracle, *Answer){
		Age:   func(_ *Oracle, a *Answer) { a.Files["db"] = Text("db", 1) },
		Whole: func(_ *Oracle, a *Answer) { a.Files["db"] = Text("other", 2) },
		Code:  func(_ *Oracle, a *Answer) { a.Code = "Unavailable" },
		Identity: func(_ *Oracle, a *Answer) {
			a.Began, a.Ended, a.Files["db"] = at(350), at(351), Text("db", 3)
		},
		Forward: func(o *Oracle, a *Answer) {
			a.Began, a.Ended, a.Files = at(205), at(206), map[string]string{"db": Text("db", 3)}
			if broken := o.Judge(*a); broken != nil {
				t.Fatalf("the newer value breaks %q", broken)
			}
			a.Files = map[string]string{"db": Text("db", 2)}
		},
	} {
		o, a := good()
		corrupt(o, &a)
		if broken := o.Judge(a); len(broken) != 1 || !strings.HasPrefix(broken[0], promise) {
			t.Errorf("%s\n\tcorrupted, the oracle says %q", promise, broken)
		}
	}
}

func TestARepublishThatAsksTheStoreMayHaveWhatItsRefreshTimeAllowsWhileThatIsOut(t *testing.T) {
	o, a := good()
	a.Refresh, a.MaxStale, a.Files["db"] = time.Second, time.Second, Text("db", 1) // replaced 50 s ago
	a.Full = time.Minute
	if broken := o.Judge(a); len(broken) != 1 || !strings.HasPrefix(broken[0], Age) {
		t.Errorf("without an outage the oracle says %q, want %q", broken, Age)
	}

	o.has, o.Cloud.Trouble = nil, append(o.Cloud.Trouble, Fact[bool]{at(150), true})
	if broken := o.Judge(a); broken != nil {
		t.Errorf("in an outage it breaks %q", broken)
	}
}

func TestAnOutageAllowsMaxStaleAndNoMore(t *testing.T) {
	o, a := good()
	o.Cloud.Trouble = append(o.Cloud.Trouble, Fact[bool]{at(140), true})
	a.Files["db"] = Text("db", 1) // replaced 50 s ago; maxStale is 60
	if broken := o.Judge(a); broken != nil {
		t.Errorf("within maxStale it breaks %q", broken)
	}
	a.Began, a.Ended = at(190), at(191)
	if broken := o.Judge(a); len(broken) != 1 {
		t.Errorf("beyond maxStale it breaks %q, want its age", broken)
	}
}
