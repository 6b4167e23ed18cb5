package traffic_test

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// outcome is what the gate makes of one call.
func outcome(t *testing.T, g *traffic.Gate, c traffic.Call) traffic.Outcome {
	o, _ := g.Judge(t.Context(), g.Begin(c))
	return o
}

func TestALimitIsSharedByWhomItSays(t *testing.T) {
	a, b := traffic.Call{Service: "s", Caller: "a", Region: "x"}, traffic.Call{Service: "s", Caller: "b", Region: "x"}
	for per, want := range map[string]traffic.Outcome{"": traffic.Throttle, "region": traffic.Throttle, "caller": traffic.Proceed} {
		var clock fixture.Clock
		g := traffic.New(traffic.Options{Now: clock.Now})
		g.SetLimit(traffic.Limit{Service: "s", PerSecond: 1, Burst: 1, Per: per})

		if got := outcome(t, g, a); got != traffic.Proceed {
			t.Errorf("per %q: the first call: got outcome %d, want Proceed", per, got)
		}
		if got := outcome(t, g, b); got != want {
			t.Errorf("per %q: another caller: got outcome %d, want %d", per, got, want)
		}
		if got := outcome(t, g, a); got != traffic.Throttle {
			t.Errorf("per %q: the same caller: got outcome %d, want Throttle", per, got)
		}
		clock.Move(time.Second)
		if got := outcome(t, g, a); got != traffic.Proceed {
			t.Errorf("per %q: a second later: got outcome %d, want Proceed", per, got)
		}
	}
}

func TestAFaultInsideAnAnswerIsTakenOnceAndRefusesNobody(t *testing.T) {
	g := traffic.New(traffic.Options{Inside: func(f traffic.Fault, _ *traffic.Call) bool { return f.ID != "" }})
	g.AddFault(traffic.Fault{ID: "one", Code: "Denied", Times: 1})

	if got := outcome(t, g, traffic.Call{IDs: []string{"one"}}); got != traffic.Proceed {
		t.Errorf("got outcome %d, want Proceed", got)
	}
	every := func(traffic.Fault) bool { return true }
	if f, ok := g.Take(every); !ok || f.Code != "Denied" {
		t.Errorf("got %+v and %v, want the fault", f, ok)
	}
	if f, ok := g.Take(every); ok {
		t.Errorf("got %+v a second time, want none", f)
	}
}

func TestACallIsRecordedAsItWasAskedAndAnswered(t *testing.T) {
	var seen []string
	g := traffic.New(traffic.Options{Record: func(c string) { seen = append(seen, c) }})
	c := g.Begin(traffic.Call{Service: "keyvault", Region: "shop", Op: "GetSecret", IDs: []string{"mysql"}, Note: "again"})
	g.Amend(c, func(c *traffic.Call) { c.Caller = "api" })
	g.End(c, 403, "Forbidden")

	want := []string{"keyvault:shop:GetSecret mysql again"}
	if got := g.Notation(); !slices.Equal(got, want) || !slices.Equal(seen, want) {
		t.Errorf("got %q and %q, want %q", got, seen, want)
	}
	got := g.Calls()[0]
	if got.Caller != "api" || got.Status != 403 || got.Code != "Forbidden" {
		t.Errorf("got %+v, want the caller api and the answer 403 Forbidden", got)
	}
	if g.Count("GetSecret") != 1 || g.Count("") != 1 {
		t.Errorf("got the counts %v, want one GetSecret", g.Counts())
	}
}

func TestAControlRefusesWhatItCannotRead(t *testing.T) {
	c := traffic.New(traffic.Options{}).Control()
	traffic.World(c, func(b []byte) (int, error) {
		var n int
		return n, traffic.ReadFields(b, map[string]any{"n": &n})
	}, func(int) {}, func(int) {})

	for request, want := range map[string]int{
		"GET /healthz": 200, "GET /calls": 200, "DELETE /calls": 200, "DELETE /faults": 200,
		"PUT /latency?duration=1ms": 200, "PUT /latency": 400, "PUT /world {}": 200, "PUT /world [": 400,
		`POST /world {"n":"x"}`: 400, "GET /secrets": 404,
	} {
		line, body, _ := strings.Cut(request, " {")
		if body != "" {
			body = "{" + body
		}
		method, path, _ := strings.Cut(line, " ")
		path, rest, cut := strings.Cut(path, " ")
		if cut {
			body = rest
		}
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		if w.Code != want {
			t.Errorf("%s: got %d, want %d", request, w.Code, want)
		}
	}
}
