package main

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much garbage there may be, as a share of what lives. The
// provider runs on every node and is idle nearly always: what it costs is its
// memory, and a burst of mounts is nearly all garbage.
const gcPercent = 40

// saveMemory lets GOGC, where it is set, say otherwise.
func saveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
