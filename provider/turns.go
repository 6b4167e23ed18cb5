package provider

import (
	"runtime/debug"
	"time"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/fair"
)

// Dear Mounts, those that their budgets make wait for a turn, are few at once,
// of all dialects together: what they make fits beside the cache.
const dearAtOnce = 2

// tidyAfter is how long after the last dear Mount its memory is given back to
// the node. The runtime would keep it for minutes: a quiet program collects
// nothing.
const tidyAfter = 5 * time.Second

// turns are a gate that tidies up after the last one.
type turns struct {
	*fair.Gate
	tidy *time.Timer
}

// Leave gives the turn back.
func (t turns) Leave() {
	t.Gate.Leave()
	t.tidy.Reset(tidyAfter)
}

// NewTurns makes the turns of a node's dear Mounts.
func NewTurns() budget.Turns {
	tidy := time.AfterFunc(tidyAfter, debug.FreeOSMemory)
	tidy.Stop()
	return turns{fair.New(dearAtOnce, mountsWaiting), tidy}
}
