// Package cost holds what fuzz targets try to what a Mount may cost: no input
// of 64 KiB takes more than 64 MiB of memory, all that was allocated counted,
// or 2 s of processor time. It is never linked into the product.
package cost

import (
	"runtime"
	"syscall"
	"testing"
	"time"
)

// MaxInput is the size of input that the promise is about, in bytes.
const MaxInput = 64 << 10

const (
	maxMemory = 64 << 20
	maxTime   = 2 * time.Second
)

// Of runs try on an input of so many bytes, and fails where it costs too much.
// Inputs over MaxInput are left out.
func Of(t testing.TB, input int, try func()) {
	t.Helper()
	if input > MaxInput {
		return
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := processorTime(t)
	try()
	took := processorTime(t) - began
	runtime.ReadMemStats(&after)

	if made := after.TotalAlloc - before.TotalAlloc; made > maxMemory {
		t.Errorf("%d bytes of input: got %d MiB allocated, want at most %d", input, made>>20, maxMemory>>20)
	}
	if took > maxTime {
		t.Errorf("%d bytes of input: took %s of processor time, want at most %s", input, took, maxTime)
	}
}

// processorTime is what this process has used, of all its threads.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
