package provider

import "github.com/coffre-csi/coffre/auth/fair"

// Dear Mounts, those that their budgets make wait for a turn, are few at once,
// of all dialects together: what they make fits beside the cache.
const dearAtOnce = 2

// NewTurns makes the turns of a node's dear Mounts.
func NewTurns() *fair.Gate { return fair.New(dearAtOnce, mountsWaiting) }
