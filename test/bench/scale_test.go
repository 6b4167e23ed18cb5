package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// quota is a store's published limit, as reads a second.
type quota struct {
	store    string
	perSec   float64
	page     string
	perBatch int // secrets a call, where the limit counts calls; 0 for one
}

// The clouds' published quotas (docs pages by name; they change, look them up
// before you rely on them).
var quotas = []quota{
	{"AWS Secrets Manager, GetSecretValue", 10_000, "AWS Secrets Manager quotas", 0},
	{"AWS Parameter Store, default", 40, "AWS Systems Manager endpoints and quotas", 10},
	{"AWS Parameter Store, higher throughput", 10_000, "AWS Systems Manager endpoints and quotas", 10},
	{"Google Secret Manager, access", 90_000.0 / 60, "Secret Manager quotas", 0},
	{"Azure Key Vault, a vault", 4_000.0 / 10, "Azure Key Vault service limits", 0},
}

const nodes = 5_000

// TestScale draws 5,000 nodes from the behaviour of one node that was measured
// (the rotation benchmark's), all started within a minute, and prints what they
// ask of a store together. `make bench-scale` runs it.
func TestScale(t *testing.T) {
	length := 30 * time.Minute
	var nodesSeen []hour
	for range 4 {
		nodesSeen = append(nodesSeen, simulate(t, length, amazon))
	}
	perSecond := make([]int, int(length/time.Second)+120)
	total := 0
	for range nodes {
		h := nodesSeen[rand.N(len(nodesSeen))]
		started := rand.N(time.Minute)
		// Each node shifts the first refresh of an identity's batch on its own;
		// the sample's shifts are shared out anew.
		shift := rand.N(refresh / 2)
		for _, at := range h.reads {
			second := int((at.Sub(h.start) + started + shift) / time.Second)
			if second < len(perSecond) {
				perSecond[second]++
			}
		}
		total += len(h.reads)
	}
	mean := float64(total) / length.Seconds()
	peak := 0
	for _, n := range perSecond {
		peak = max(peak, n)
	}
	naive := float64(nodes) * pods * secretsAPod / republish.Seconds()
	fmt.Fprintf(os.Stdout, "%d nodes of %d pods with %d secrets each on %d service accounts, refresh %s\n", nodes, pods, secretsAPod, serviceAccounts, refresh)
	fmt.Fprintf(os.Stdout, "  reads a second: %.0f on average, %d in the busiest second; reading everything on every republish: %.0f\n", mean, peak, naive)
	fmt.Fprintf(os.Stdout, "  %-42s %10s %12s %12s\n", "published quota", "reads/s", "Coffre", "everything")
	for _, q := range quotas {
		limit := q.perSec * float64(max(q.perBatch, 1))
		fmt.Fprintf(os.Stdout, "  %-42s %10.0f %11.0f%% %11.0f%%   (%s)\n", q.store, limit, 100*mean/limit, 100*naive/limit, q.page)
	}
	if most := float64(nodes) * serviceAccounts * secretsAPod / refresh.Seconds(); mean > most*1.1 {
		t.Errorf("%.0f reads a second on average; one a secret and refresh is %.0f", mean, most)
	}
	if float64(peak) > 3*mean {
		t.Errorf("the nodes march in step: %d reads in the busiest second, %.0f on average", peak, mean)
	}
}
