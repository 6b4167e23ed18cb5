package provider

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The runtime keeps freed memory for minutes, and a quiet program collects
// nothing: on a node that is a storm's peak for good. So now and then, where
// enough was allocated since, it is collected and given back.
const (
	tidyEvery = 10 * time.Second
	worthIt   = 8 << 20 // bytes allocated since the last time
)

// Tidy gives memory back to the node that mounts no longer need, until ctx ends.
func Tidy(ctx context.Context) {
	t := time.NewTicker(tidyEvery)
	defer t.Stop()

	last := allocated()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if allocated()-last > worthIt {
				debug.FreeOSMemory()
				last = allocated()
			}
		}
	}
}

// allocated is all that was ever allocated, in bytes.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
