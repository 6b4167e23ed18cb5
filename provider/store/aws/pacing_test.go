package aws

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coffre-csi/coffre/provider/store"
)

// limit allows so many calls a second with a bucket of the given size, as AWS does.
func limit(perSecond, bucket float64, code string) func(string, string, string, map[string]any) *fakeFault {
	tokens, last := bucket, time.Time{}
	return func(service, _, _ string, _ map[string]any) *fakeFault {
		if service == "sts" {
			return nil
		}
		now := time.Now()
		if !last.IsZero() {
			tokens = min(bucket, tokens+perSecond*now.Sub(last).Seconds())
		}
		last = now
		if tokens < 1 {
			return &fakeFault{status: 400, code: code, message: "Rate exceeded"}
		}
		tokens--
		return nil
	}
}

// Calls made stay within 1.3 of the calls needed, however the service's bucket
// is cut, and whether reads go out in batches or one by one.
func TestThrottledServiceIsNotStormed(t *testing.T) {
	for _, c := range []struct {
		name    string
		kind    string
		bucket  float64
		version string // a version makes batches impossible
		needed  int
	}{
		{"batches, a second's bucket", SecretsManager, 100, "", 200},
		{"batches, a small bucket", SecretsManager, 10, "", 200},
		{"single reads, a second's bucket", SecretsManager, 100, "AWSCURRENT", 2000},
		{"single reads, a small bucket", SecretsManager, 10, "AWSCURRENT", 2000},
		{"parameters", ParameterStore, 40, "", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.latency = 20 * time.Millisecond
				w.fault = limit(100, c.bucket, "ThrottlingException")
				open := w.opener(t)
				start := time.Now()
				var mounts sync.WaitGroup
				for m := range 200 {
					var wanted []store.Ref
					w.mu.Lock()
					for i := range 10 {
						name := fmt.Sprintf("s-%d-%d", m, i)
						w.secrets["us-east-1"][name], w.parameters["us-east-1"][name] = current("v"), []version{{id: "1", value: "v"}}
						wanted = append(wanted, store.Ref{Name: name, Version: c.version})
					}
					w.mu.Unlock()
					mounts.Go(func() {
						if _, err := open(c.kind, Settings{}, 55*time.Second).Fetch(t.Context(), wanted); err != nil {
							t.Errorf("mount %d: %.300s", m, err)
						}
					})
				}
				mounts.Wait()
				took := time.Since(start)
				made := w.total(":BatchGetSecretValue") + w.total(":GetSecretValue") + w.total(":GetParameters")
				t.Logf("%d calls for %d in %s (%.2f)", made, c.needed, took, float64(made)/float64(c.needed))
				if float64(made) > 1.3*float64(c.needed) {
					t.Errorf("%d calls for %d", made, c.needed)
				}
				if took > time.Minute {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}
