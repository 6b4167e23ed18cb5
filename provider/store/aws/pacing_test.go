package aws

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/aws"
)

// Calls made stay within 1.3 of the calls needed, however the service's bucket
// is cut, and whether reads go out in batches or one by one.
func TestThrottledServiceIsNotStormed(t *testing.T) {
	for _, c := range []struct {
		name    string
		kind    string
		bucket  int
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
				w.SetLatency("", 20*time.Millisecond)
				for _, service := range []string{aws.SecretsManager, aws.SSM} {
					w.SetLimit(aws.Limit{Service: service, PerSecond: 100, Burst: c.bucket})
				}
				open := w.opener(t)
				start := time.Now()
				var mounts sync.WaitGroup
				for m := range 200 {
					var wanted []store.Ref
					for i := range 10 {
						name := fmt.Sprintf("s-%d-%d", m, i)
						w.put("us-east-1", name, current("v")...)
						w.SetParameterValue("us-east-1", name, "v")
						wanted = append(wanted, store.Ref{Name: name, Version: c.version})
					}
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
