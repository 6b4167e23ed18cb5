package store

import (
	"context"
	"os"
	"time"
)

// Watch loads the configuration in the file at path now, and again whenever
// its text changes, until ctx ends. Each attempt is told to report; after a
// failed one the last good configuration stays. It reads the file every
// interval instead of watching it: a ConfigMap volume swaps a symlink two
// levels up, which file events report differently on every file system.
//
// A file that cannot be read at first is an error. Mistakes in it are reported,
// and the stores without any are used: see LoadUsable.
func (s *Set) Watch(ctx context.Context, path string, interval time.Duration, report func(error)) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	report(s.LoadUsable(string(text)))
	go s.watch(ctx, path, interval, string(text), report)
	return nil
}

func (s *Set) watch(ctx context.Context, path string, interval time.Duration, last string, report func(error)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	failing := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			if failing != err.Error() {
				failing = err.Error()
				report(err)
			}
			continue
		}

		if text := string(raw); text != last || failing != "" {
			last, failing = text, ""
			report(s.Load(text))
		}
	}
}
