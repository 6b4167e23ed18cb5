package provider

import (
	"runtime/debug"
	"time"

	"github.com/coffre-csi/coffre/auth/fair"
)

// Dear Mounts, those that their budgets make wait for a turn, are few at once,
// of all dialects together: what they make fits beside the cache.
const dearAtOnce = 2

// tidyAfter is how long after the last dear Mount its memory is given back to
// the node. The runtime would keep it for minutes: a quiet program collects
// nothing.
const tidyAfter = 5 * time.Second

// NewTurns makes the turns of a node's dear Mounts.
func NewTurns() *fair.Gate {
	tidy := time.AfterFunc(tidyAfter, debug.FreeOSMemory)
	tidy.Stop()

	turns := fair.New(dearAtOnce, mountsWaiting)
	turns.WhenLeft(func() { tidy.Reset(tidyAfter) })
	return turns
}
