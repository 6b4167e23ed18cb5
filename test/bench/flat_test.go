package bench

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/coffre-csi/coffre/provider/cache"
	"github.com/coffre-csi/coffre/test/node"
)

// TestGoroutinesAndMemoryAreFlatAfterManyMounts mounts 100,000 times, each
// fifth in vain, with ever new pods, service accounts, classes and
// forceRefresh texts, and looks at what is left after a fifth and at the end.
func TestGoroutinesAndMemoryAreFlatAfterManyMounts(t *testing.T) {
	const mounts, at = 100_000, 20_000
	client, secrets := inProcess(t, cache.Options{MaxEntries: 2000, MaxBytes: 4 << 20, Gather: -1})
	one := func(i int) error {
		objects := fmt.Sprintf("[{name: s%d, key: password, file: f}, {name: s%d, file: g}]", i, i+1)
		if i%5 == 0 {
			objects = fmt.Sprintf("[{name: s%d, key: nope%d, file: f}]", i, i)
		}
		pod := node.Pod{Namespace: fmt.Sprint("ns-", i%40), ServiceAccount: fmt.Sprint("sa-", i%900), Name: fmt.Sprint("pod-", i)}
		v := pod.Volume(map[string]string{"store": "memory", "objects": objects, "forceRefresh": fmt.Sprint(i)})
		v.Class, v.TargetPath = fmt.Sprint("class-", i%7000), "/t"
		_, err := client.Mount(t.Context(), v.MountRequest())
		if (err != nil) != (i%5 == 0) {
			return fmt.Errorf("mount %d: %v", i, err)
		}
		return nil
	}
	measure := func() (goroutines int, heap uint64) {
		secrets.Wait()
		for range 3 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	run := func(from, to int) {
		var all sync.WaitGroup
		for w := range 4 {
			all.Go(func() {
				for i := from + w; i < to; i += 4 {
					if err := one(i); err != nil {
						t.Errorf("got the error %v, want none", err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	run(0, at)
	goroutines, heap := measure()
	run(at, mounts)
	goroutinesAfter, heapAfter := measure()
	t.Logf("after %d mounts: %d goroutines, %.1f MiB; after %d: %d goroutines, %.1f MiB", at, goroutines, float64(heap)/(1<<20), mounts, goroutinesAfter, float64(heapAfter)/(1<<20))
	if goroutinesAfter > goroutines+5 {
		t.Errorf("goroutines went from %d to %d", goroutines, goroutinesAfter)
	}
	if heapAfter > heap+heap/5+(1<<20) {
		t.Errorf("the heap went from %d to %d bytes", heap, heapAfter)
	}
}
