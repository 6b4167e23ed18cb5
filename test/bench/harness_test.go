package bench

import (
	"context"
	"fmt"
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

// A distant cloud counts what it was asked, and answers no request sooner than
// after its round trip.
type distant interface {
	reads() int
	signIns() int
	roundTrip() time.Duration
	Reset()

	// serve starts the program, which knows nothing yet, and forgets the calls.
	serve(t testing.TB, path string) *program.Process
	// mount is what the driver asks for the pod.
	mount(p pod, objects string) *pb.MountRequest
}

// pod is one volume of one pod.
type pod struct{ serviceAccount, name string }

// deployment is pods of one service account that mount the same objects.
func deployment(far distant, serviceAccount string, pods int, objects string) []*pb.MountRequest {
	var reqs []*pb.MountRequest
	for i := range pods {
		reqs = append(reqs, far.mount(pod{serviceAccount, fmt.Sprintf("%s-%d", serviceAccount, i)}, objects))
	}
	return reqs
}

// cold measures mounts, all at once, of a program that has just started. took
// says which of the times counts.
func cold(b *testing.B, far distant, path string, reqs []*pb.MountRequest, took func(each []time.Duration, total time.Duration) time.Duration) {
	var got figures
	for b.Loop() {
		b.StopTimer()
		p := far.serve(b, path)
		b.StartTimer()
		each, total := all(b, p, len(reqs), reqs)
		b.StopTimer()
		got.round(far, took(each, total))
		got.mib = append(got.mib, p.Memory(b, "VmHWM"))
		p.Stop()
		b.StartTimer()
	}
	got.report(b, far.roundTrip())
}

// together is how long all took, each how long the one in the middle.
func together(_ []time.Duration, total time.Duration) time.Duration { return total }
func eachOf(each []time.Duration, _ time.Duration) time.Duration    { return median(each) }

// warm measures mounts, one after the other, of a program that has served the
// first pod.
func warm(b *testing.B, far distant, p *program.Process, objects string, first pod, next func(i int) pod) {
	all(b, p, 1, []*pb.MountRequest{far.mount(first, objects)})
	var got figures
	for i := 0; b.Loop(); i++ {
		req := far.mount(next(i), objects)
		far.Reset()
		_, took := all(b, p, 1, []*pb.MountRequest{req})
		got.round(far, took)
	}
	got.mib = append(got.mib, p.Memory(b, "VmHWM"))
	got.report(b, far.roundTrip())
}

func (f *figures) round(cloud distant, took time.Duration) {
	f.took = append(f.took, took)
	f.reads = append(f.reads, float64(cloud.reads()))
	f.signIns = append(f.signIns, float64(cloud.signIns()))
}

func (f *figures) report(b *testing.B, roundTrip time.Duration) {
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
