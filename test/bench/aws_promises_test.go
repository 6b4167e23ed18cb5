package bench

import (
	"fmt"
	"testing"
	"time"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/test/program"
)

// What the benchmarks measure and what does not depend on the machine, scaled
// down where it would take long.

func TestFiftySecretsAreThreeReadsAndOneSignIn(t *testing.T) {
	path := program.Build(t)
	f := newFar(t, mayBatch)
	for objects, reads := range map[string]int{f.secrets(0, 50): 3, f.parameters(0, 50): 5, f.secrets(0, 1): 1} {
		p := f.serve(t, path)
		all(t, p, 1, []*pb.MountRequest{f.mount(pod{"api", "api-0"}, objects)})
		if f.reads() != reads || f.signIns() != 1 {
			t.Errorf("%d reads and %d sign-ins: %v", f.reads(), f.signIns(), f.Notation())
		}
		f.Reset()
		all(t, p, 1, []*pb.MountRequest{f.mount(pod{"api", "api-1"}, objects)})
		if f.Count("") != 0 {
			t.Errorf("the next pod of the service account: %v", f.Notation())
		}
		all(t, p, 1, []*pb.MountRequest{f.mount(pod{"other", "other-0"}, objects)})
		if f.reads() != reads || f.signIns() != 1 {
			t.Errorf("another service account: %d reads and %d sign-ins: %v", f.reads(), f.signIns(), f.Notation())
		}
		p.Stop()
	}
}

func TestSixtyPodsOfAServiceAccountShareOneSignInAndTheirReads(t *testing.T) {
	path := program.Build(t)
	for _, c := range []struct {
		actions []string
		reads   int
	}{{mayBatch, 1}, {singlesOnly, 11}} {
		f := newFar(t, c.actions)
		p := f.serve(t, path)
		all(t, p, 60, deployment(f, "api", 60, f.secrets(0, 10)))
		if f.signIns() != 1 || f.reads() > c.reads {
			t.Errorf("%v: %d sign-ins and %d reads, not %d", c.actions, f.signIns(), f.reads(), c.reads)
		}
		p.Stop()
	}
}

func TestRepublishesOfAServiceAccountShareTheirReads(t *testing.T) {
	f := newFar(t, mayBatch)
	p := f.serve(t, program.Build(t))
	reqs := deployment(f, "api", 20, f.secrets(0, 10))
	all(t, p, 20, reqs)
	for range 3 {
		f.Reset()
		all(t, p, 20, reqs)
		if f.signIns() != 0 || f.reads() < 1 || f.reads() > 2 {
			t.Errorf("%d sign-ins and %d reads", f.signIns(), f.reads())
		}
	}
}

func TestTwoThousandMountsFitIntoMemory(t *testing.T) {
	f := newFar(t, mayBatch)
	f.SetLatency("", 5*time.Millisecond)
	p := f.serve(t, program.Build(t))
	var reqs []*pb.MountRequest
	for i := range 200 {
		reqs = append(reqs, deployment(f, fmt.Sprintf("sa-%d", i), 10, f.secrets(5*i, 5))...)
	}
	all(t, p, 100, reqs)
	const target = 64
	if peak := p.Memory(t, "VmHWM"); peak >= target {
		t.Errorf("%.1f MiB at the peak, not under %d", peak, target)
	}
	if f.signIns() != 200 || f.reads() != 200 {
		t.Errorf("%d sign-ins and %d reads for 200 service accounts", f.signIns(), f.reads())
	}
}

func TestThrottledMountsSucceedWithFewCallsMoreThanItTakes(t *testing.T) {
	path := program.Build(t)
	for _, c := range throttlings {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mounts := 200
			if len(c.actions) == len(singlesOnly) {
				mounts = 40
			}
			f := newFar(t, c.actions)
			p := f.serve(t, path)
			c.run(t, f, p, mounts)
			if made, needed := f.reads(), f.needed(); float64(made) > 1.3*float64(needed) {
				t.Errorf("%d calls where %d were of use", made, needed)
			}
		})
	}
}
