package bench

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/test/program"
)

// all mounts at once, as far as `at once` says, and returns how long each took
// and how long all did. A mount that fails fails the test.
func all(t testing.TB, p *program.Process, atOnce int, reqs []*pb.MountRequest) (each []time.Duration, total time.Duration) {
	t.Helper()
	each = make([]time.Duration, len(reqs))
	errs := make([]error, len(reqs))
	next := make(chan int)
	var running sync.WaitGroup
	began := time.Now()
	for range min(atOnce, len(reqs)) {
		running.Go(func() {
			for i := range next {
				start := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
				_, errs[i] = p.Mount(ctx, reqs[i])
				cancel()
				each[i] = time.Since(start)
			}
		})
	}
	for i := range reqs {
		next <- i
	}
	close(next)
	running.Wait()
	total = time.Since(began)
	failed := 0
	for _, err := range errs {
		if err != nil {
			if failed++; failed <= 3 {
				t.Errorf("a mount: got the error %v, want none", err)
			}
		}
	}
	if failed > 0 {
		t.Errorf("%d of %d mounts failed", failed, len(reqs))
	}
	slices.Sort(each)
	return each, total
}

func median[T any](sorted []T) T { return sorted[len(sorted)/2] }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// figures gathers what the rounds of one benchmark gave.
type figures struct {
	took                []time.Duration
	reads, signIns, mib []float64
}

// A tally is a cloud that counts what it was asked.
type tally interface {
	reads() int
	signIns() int
}

func (f *figures) round(cloud tally, took time.Duration) {
	f.took = append(f.took, took)
	f.reads = append(f.reads, float64(cloud.reads()))
	f.signIns = append(f.signIns, float64(cloud.signIns()))
}

func (f *figures) report(b *testing.B) {
	slices.Sort(f.took)
	slices.Sort(f.reads)
	slices.Sort(f.signIns)
	slices.Sort(f.mib)
	b.ReportMetric(ms(median(f.took)), "ms-median")
	b.ReportMetric(float64(median(f.took))/float64(roundTrip), "round-trips")
	b.ReportMetric(median(f.reads), "store-calls")
	b.ReportMetric(median(f.signIns), "sign-ins")
	if f.mib != nil {
		b.ReportMetric(f.mib[len(f.mib)-1], "MiB-peak")
	}
	b.ReportMetric(0, "ns/op")
}
