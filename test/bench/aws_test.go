package bench

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/node"
	"github.com/coffre-csi/coffre/test/program"
)

// What AWS is far away by, in these benchmarks: every request to it takes so
// long, sign-ins too.
const roundTrip = 20 * time.Millisecond

const role = "arn:aws:iam::" + aws.Account + ":role/shop"

// far is AWS, far away, behind a node whose tokens it trusts: the strict fake,
// which checks signatures, trust and permissions.
type far struct {
	*aws.Server
	*node.Node
	env []string
}

// mayBatch and singlesOnly are what the role's policy allows.
var (
	mayBatch    = []string{"secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue", "ssm:GetParameters"}
	singlesOnly = []string{"secretsmanager:GetSecretValue", "ssm:GetParameters"}
)

func newFar(t testing.TB, actions []string) *far {
	t.Helper()
	f := &far{Server: aws.New(aws.Options{DefaultRegion: region}), Node: node.New(t)}
	f.SetLatency("", roundTrip)
	f.AddRole(aws.Role{ARN: role, Subjects: []string{"system:serviceaccount:shop:*"}, Permissions: []aws.Rule{{Actions: actions}}})
	f.AddIssuer(f.Issuer.URL, f.Issuer.Keys())

	cloud := fixture.Serve(t, "", f.Server, f.CA)
	f.env = []string{"AWS_ENDPOINT_URL=" + cloud.URL()}
	return f
}

// serve starts the program, which knows nothing yet, and forgets the calls.
func (f *far) serve(t testing.TB, path string) *program.Process {
	t.Helper()
	p := f.Serve(t, path, "aws", f.env)
	f.Reset()
	return p
}

// mount is what the driver asks for the pod.
func (f *far) mount(p pod, objects string) *pb.MountRequest {
	f.Kube.SetServiceAccount("shop", p.serviceAccount, map[string]string{"eks.amazonaws.com/role-arn": role})
	return f.Volume(node.Pod{ServiceAccount: p.serviceAccount, Name: p.name},
		map[string]string{"region": region, "objects": objects}, "sts.amazonaws.com").MountRequest()
}

// secrets puts n secrets and lists them as a SecretProviderClass does; first
// tells one class's from another's.
func (f *far) secrets(first, n int) string { return f.objects("secretsmanager", first, n) }

// parameters is the same of Parameter Store.
func (f *far) parameters(first, n int) string { return f.objects("ssmparameter", first, n) }

func (f *far) objects(kind string, first, n int) string {
	var list strings.Builder
	for i := first; i < first+n; i++ {
		name := fmt.Sprintf("prod-%d", i)
		value := fmt.Sprintf(`{"username":"shop","password":"%08d"}`, i)
		if kind == "ssmparameter" {
			f.SetParameterValue(region, name, value)
		} else {
			f.SetSecretValue(region, name, value)
		}
		fmt.Fprintf(&list, "- {objectName: %s, objectType: %s}\n", name, kind)
	}
	return list.String()
}

func (f *far) roundTrip() time.Duration { return roundTrip }

// reads are the calls that are not sign-ins.
func (f *far) reads() int   { return f.Count("") - f.signIns() }
func (f *far) signIns() int { return f.Count("AssumeRoleWithWebIdentity") }

// BenchmarkAWS is one volume after the other: of a program that has just
// started (cold), of one that knows AWS but not this service account, of
// another pod of a service account that was served just now, and the republish
// of a volume, which the dialect reads anew. Target: 50 secrets cold in under
// five round trips.
func BenchmarkAWS(b *testing.B) {
	path := program.Build(b)
	f := newFar(b, mayBatch)
	for _, c := range []struct {
		name, objects string
	}{
		{"1-secret", f.secrets(0, 1)}, {"10-secrets", f.secrets(0, 10)}, {"50-secrets", f.secrets(0, 50)}, {"50-parameters", f.parameters(0, 50)},
	} {
		b.Run(c.name+"/cold", func(b *testing.B) { cold(b, f, path, deployment(f, "api", 1, c.objects), together) })
		p := f.serve(b, path)
		run := 0 // benchmarks begin more than once
		anew := func(int) pod { run++; return pod{fmt.Sprintf("sa-%d", run), fmt.Sprintf("pod-%d", run)} }
		b.Run(c.name+"/next-service-account", func(b *testing.B) { warm(b, f, p, c.objects, pod{"first", "first-0"}, anew) })
		b.Run(c.name+"/next-pod", func(b *testing.B) {
			warm(b, f, p, c.objects, pod{"api", "api-0"}, func(i int) pod { return pod{"api", fmt.Sprintf("api-%d", i+1)} })
		})
		b.Run(c.name+"/republish", func(b *testing.B) {
			warm(b, f, p, c.objects, pod{"api", "api-0"}, func(int) pod { return pod{"api", "api-0"} })
		})
		p.Stop()
	}
}

// BenchmarkAWSPodsAtOnce is a Deployment of 60 pods that comes up on a node
// that has just started: one service account, ten secrets each. Target: under
// half a second, one sign-in, at most ten reads.
func BenchmarkAWSPodsAtOnce(b *testing.B) {
	path := program.Build(b)
	for name, actions := range map[string][]string{"batch-allowed": mayBatch, "batch-denied": singlesOnly} {
		b.Run(name, func(b *testing.B) {
			f := newFar(b, actions)
			cold(b, f, path, deployment(f, "api", 60, f.secrets(0, 10)), together)
		})
	}
}

// BenchmarkAWSMemory is 2,000 mounts of five secrets each, at once as far as
// the benchmark's name says: of one service account, and of 200 with ten pods
// each. Target: under 64 MiB at the peak.
func BenchmarkAWSMemory(b *testing.B) {
	path := program.Build(b)
	for _, c := range []struct{ accounts, atOnce int }{{1, 100}, {200, 100}, {2000, 100}, {200, 2000}} {
		b.Run(fmt.Sprintf("%d-service-accounts-%d-at-once", c.accounts, c.atOnce), func(b *testing.B) {
			f := newFar(b, mayBatch)
			f.SetLatency("", 5*time.Millisecond)
			var reqs []*pb.MountRequest
			for i := range c.accounts {
				reqs = append(reqs, deployment(f, fmt.Sprintf("sa-%d", i), 2000/c.accounts, f.secrets(5*i, 5))...)
			}
			var got figures
			for range b.N {
				p := f.serve(b, path)
				_, took := all(b, p, c.atOnce, reqs)
				got.round(f, took)
				got.mib = append(got.mib, p.Memory(b, "VmHWM"))
				b.ReportMetric(p.Memory(b, "VmRSS"), "MiB-after")
				p.Stop()
			}
			got.report(b, roundTrip)
		})
	}
}

// BenchmarkAWSThrottling is 200 pods, each with a service account and ten
// secrets of its own, at once, where AWS lets 100 reads a second through.
// Target: all succeed, with at most 1.3 times the calls that it takes.
func BenchmarkAWSThrottling(b *testing.B) {
	path := program.Build(b)
	for _, c := range throttlings {
		b.Run(c.name, func(b *testing.B) {
			var got figures
			var ratio float64
			for range b.N {
				f := newFar(b, c.actions)
				p := f.serve(b, path)
				took := c.run(b, f, p, 200)
				got.round(f, took)
				got.mib = append(got.mib, p.Memory(b, "VmHWM"))
				ratio = max(ratio, float64(f.reads())/float64(f.needed()))
				p.Stop()
			}
			got.report(b, roundTrip)
			b.ReportMetric(ratio, "calls/needed")
		})
	}
}

type throttling struct {
	name    string
	actions []string
	account func(i int) string
}

var throttlings = []throttling{
	{"batch-allowed", mayBatch, func(int) string { return "api" }},
	{"batch-allowed-200-service-accounts", mayBatch, func(i int) string { return fmt.Sprintf("sa-%d", i) }},
	{"batch-denied", singlesOnly, func(int) string { return "api" }},
	{"batch-denied-200-service-accounts", singlesOnly, func(i int) string { return fmt.Sprintf("sa-%d", i) }},
}

func (c throttling) run(t testing.TB, f *far, p *program.Process, mounts int) time.Duration {
	var reqs []*pb.MountRequest
	for i := range mounts {
		reqs = append(reqs, f.mount(pod{c.account(i), fmt.Sprintf("pod-%d", i)}, f.secrets(10*i, 10)))
	}
	f.SetLimit(aws.Limit{Service: aws.SecretsManager, PerSecond: 100, Burst: 100})
	_, took := all(t, p, mounts, reqs)
	return took
}

// needed is how many of the calls got an answer that was of use.
func (f *far) needed() int {
	n := 0
	for _, c := range f.Calls() {
		if c.Service != aws.STS && c.Status == 200 {
			n++
		}
	}
	return n
}
