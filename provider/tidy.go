package provider

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The runtime keeps freed memory for minutes, and a quiet program collects
// nothing: on a node that is a storm's peak for good. So it is looked at now and
// then, and given back where it is worth it.
const (
	tidyEvery = 10 * time.Second
	worthIt   = 12 << 20 // bytes that nothing lives in
)

// Tidy gives memory back to the node that mounts no longer need, until ctx ends.
func Tidy(ctx context.Context) {
	t := time.NewTicker(tidyEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if spare() > worthIt {
				debug.FreeOSMemory()
			}
		}
	}
}

// spare is about what the process holds beyond what lived after the last
// collection.
func spare() uint64 {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/gc/heap/live:bytes"},
	}

	metrics.Read(samples)
	held := samples[0].Value.Uint64() + samples[1].Value.Uint64() + samples[2].Value.Uint64()
	if live := samples[3].Value.Uint64(); held > live {
		return held - live
	}

	return 0
}
