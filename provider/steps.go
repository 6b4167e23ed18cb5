package provider

import (
	"time"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
)

// stepLevel is the verbosity (-v) from which each step of a Mount is a line.
const stepLevel = 5

// steps writes a line for each step of one Mount, where that is asked for: what
// was asked, what each answer came from and what it took; never a value.
type steps struct {
	on    bool
	who   []any
	since time.Time
}

func newSteps(dialect string, req request.Request) steps {
	s := steps{on: klog.V(stepLevel).Enabled(), since: time.Now()}
	if s.on {
		s.who = []any{"dialect", dialect, "namespace", req.Identity.Namespace, "pod", req.Identity.Pod.Name, "secretProviderClass", req.Class}
	}
	return s
}

// step is one that has ended; took is since the one before it.
func (s *steps) step(name string, details ...any) {
	if !s.on {
		return
	}
	now := time.Now()
	line := append(append([]any{}, s.who...), "took", now.Sub(s.since).String())
	s.since = now
	klog.V(stepLevel).InfoS("mount: "+name, append(line, details...)...)
}

// answers is a line for each secret that was asked for.
func (s *steps) answers(asked plan.Plan, answers []plan.Answer) {
	if !s.on {
		return
	}
	found := 0
	for i, q := range asked.Queries() {
		for _, f := range answers[i].Found {
			found++
			line := append(append([]any{}, s.who...), "field", q.Field, "store", answers[i].Store, "secret", f.Ref.String(), "version", f.Secret.Version, "result", string(f.Origin))
			klog.V(stepLevel).InfoS("mount: answer", line...)
		}
	}

	s.step("answers", "asked", len(answers), "found", found)
}
