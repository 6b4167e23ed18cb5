package provider

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The runtime keeps freed memory for minutes, and a quiet program collects
// nothing: on a node that is a storm's peak for good. So now and then, where
// enough was allocated since, it is collected and given back; and once more
// when it is quiet again, for what was under way the last time.
const (
	tidyEvery = 5 * time.Second
	worthIt   = 4 << 20 // bytes allocated since the last time
)

// Tidy gives memory back to the node that mounts no longer need, until ctx ends.
func Tidy(ctx context.Context) {
	t := time.NewTicker(tidyEvery)
	defer t.Stop()

	own := thisProgram()
	last, again := allocated(), true // the start was a storm too
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			busy := allocated()-last > worthIt
			if busy || again {
				debug.FreeOSMemory()
				own.drop()
				last = allocated()
			}
			again = busy
		}
	}
}

// allocated is all that was ever allocated, in bytes.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
