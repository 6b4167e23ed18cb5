package aws

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/aws"
)

var twoRegions = Settings{FailoverRegions: []string{"eu-west-1"}}

// broken makes the first region fail as f does, for one service or for all.
func broken(service string, f aws.Fault) aws.Fault {
	f.Service, f.Region = service, "us-east-1"
	return f
}

func TestSecondRegionIsAskedOnlyWhenTheFirstFails(t *testing.T) {
	for _, c := range []struct {
		name     string
		service  string
		f        aws.Fault
		within   time.Duration
		failover bool
		reason   store.Reason
	}{
		{"answers 500", "secretsmanager", aws.Fault{Status: 500, Code: "InternalServiceError"}, 3 * time.Second, true, 0},
		{"cannot be reached", "secretsmanager", aws.Fault{Drop: true}, 3 * time.Second, true, 0},
		{"hangs", "secretsmanager", aws.Fault{Hang: true}, 5100 * time.Millisecond, true, 0},
		{"throttles", "secretsmanager", aws.Fault{Status: 400, Code: "ThrottlingException"}, 5100 * time.Millisecond, true, 0},
		{"hangs with its STS", "", aws.Fault{Hang: true}, 5100 * time.Millisecond, true, 0},
		{"has an STS that fails", "sts", aws.Fault{Status: 500, Code: "InternalFailure"}, 7 * time.Second, true, 0},
		{"denies", "secretsmanager", aws.Fault{Status: 400, Code: "AccessDeniedException"}, time.Second, false, store.Denied},
		{"has no such secret", "secretsmanager", aws.Fault{Status: 400, Code: "ResourceNotFoundException"}, time.Second, false, store.NotFound},
		{"finds the name invalid", "secretsmanager", aws.Fault{Status: 400, Code: "InvalidParameterException"}, time.Second, false, store.Invalid},
		{"has an STS that denies", "sts", aws.Fault{Status: 403, Code: "AccessDenied"}, time.Second, false, store.Denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.put("us-east-1", "s", current("first")...)
				w.put("eu-west-1", "s", current("second")...)
				w.AddFault(broken(c.service, c.f))
				start := time.Now()
				got, err := w.open(t, SecretsManager, twoRegions).Fetch(t.Context(), refs("s"))
				if took := time.Since(start); took > c.within {
					t.Errorf("took %s", took)
				}
				if !c.failover {
					if err == nil || store.ReasonOf(err) != c.reason {
						t.Errorf("%v (%v)", err, store.ReasonOf(err))
					}
					if n := w.total("eu-west-1:GetSecretValue"); n != 0 {
						t.Errorf("%d reads in the second region", n)
					}
					return
				}
				if err != nil {
					t.Fatalf("got the error %v, want none", err)
				}
				if string(got[0].Value) != "second" {
					t.Errorf("%q", []byte(got[0].Value))
				}
				time.Sleep(time.Minute) // what was begun for others ends by itself
			})
		})
	}
}

func TestSecondRegionIsNotAskedWhenTheFirstAnswers(t *testing.T) {
	w := newWorld()
	w.put("us-east-1", "s", current("first")...)
	w.SetParameter("us-east-1", "p", aws.Parameter{Versions: []aws.ParameterVersion{{Version: 3, Value: "first"}}})
	for kind, name := range map[string]string{SecretsManager: "s", ParameterStore: "p"} {
		got, err := w.open(t, kind, twoRegions).Fetch(t.Context(), refs(name))
		if err != nil || string(got[0].Value) != "first" {
			t.Errorf("%v %v", got, err)
		}
	}
	for _, call := range w.Notation() {
		if strings.Contains(call, "eu-west-1") {
			t.Errorf("got %s, want no call to the second region", call)
		}
	}
}

// One parameter of three comes from the region that could not give the others.
func TestSecondRegionIsAskedForWhatIsMissingOnly(t *testing.T) {
	w := newWorld()
	for _, region := range []string{"us-east-1", "eu-west-1"} {
		for _, name := range []string{"a", "b"} {
			w.put(region, name, current(region)...)
		}
	}
	w.AddFault(broken("", aws.Fault{ID: "b", Status: 503, Code: "ServiceUnavailable"}))
	got, err := w.open(t, SecretsManager, twoRegions).Fetch(t.Context(), refs("a", "b"))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if string(got[0].Value) != "us-east-1" || string(got[1].Value) != "eu-west-1" {
		t.Errorf("%q %q", []byte(got[0].Value), []byte(got[1].Value))
	}
	if n := w.count("secretsmanager:eu-west-1:GetSecretValue"); n != 1 {
		t.Errorf("%d reads in the second region", n)
	}
}

func TestCredentialsServeInTheSecondRegionToo(t *testing.T) {
	w := newWorld()
	w.put("eu-west-1", "s", current("second")...)
	w.AddFault(broken("secretsmanager", aws.Fault{Drop: true}))
	if _, err := w.open(t, SecretsManager, twoRegions).Fetch(t.Context(), refs("s")); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if n := w.total("AssumeRoleWithWebIdentity"); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestAlternateNamesAreUsedInOtherRegions(t *testing.T) {
	w := newWorld()
	w.put("eu-west-1", "other", aws.SecretVersion{ID: "b1", Stages: []string{"blue"}, String: to("alternate")})
	w.put("eu-west-1", "same", current("replica")...)
	w.AddFault(broken("secretsmanager", aws.Fault{Drop: true}))
	got, err := w.open(t, SecretsManager, twoRegions).Fetch(t.Context(), []store.Ref{
		{Name: "s", Version: "x", Extra: Extra{Failover: Alternate{Name: "arn:aws:secretsmanager:eu-west-1:123456789012:secret:other-AbCdEf", Stage: "blue"}}.String()},
		{Name: "arn:aws:secretsmanager:us-east-1:123456789012:secret:same-AbCdEf"},
	})
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if string(got[0].Value) != "alternate" || got[0].Version != "b1" || string(got[1].Value) != "replica" {
		t.Errorf("%q %s %q", []byte(got[0].Value), got[0].Version, []byte(got[1].Value))
	}
}

func TestEveryRegionIsNamedWhereAllFail(t *testing.T) {
	w := newWorld()
	w.AddFault(broken(aws.SecretsManager, aws.Fault{Status: 500, Code: "InternalServiceError", Message: "body-text"}))
	w.AddFault(aws.Fault{Service: aws.SecretsManager, Region: "eu-west-1", Drop: true})
	_, err := w.open(t, SecretsManager, twoRegions).Fetch(t.Context(), refs("s"))
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"s: none of 2 regions gave it: ", "Secrets Manager in us-east-1 failed: InternalServiceError", "Secrets Manager in eu-west-1 cannot be reached"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
	if strings.Contains(err.Error(), "body-text") {
		t.Errorf(`got %v, where strings.Contains(err.Error(), "body-text") must not be so`, err)
	}
	if d := new(RegionError); !errors.As(err, &d) || d.Region != "us-east-1" || d.Op != "GetSecretValue" {
		t.Errorf("%+v", d)
	}
	if store.ReasonOf(err) != store.Unavailable {
		t.Errorf("got %v, want %v", store.ReasonOf(err), store.Unavailable)
	}
}

func TestThreeRegionsAreAskedInOrder(t *testing.T) {
	w := newWorld()
	w.put("ap-south-1", "s", current("third")...)
	for _, region := range []string{"us-east-1", "eu-west-1"} {
		w.AddFault(aws.Fault{Service: aws.SecretsManager, Region: region, Drop: true})
	}
	got, err := w.open(t, SecretsManager, Settings{FailoverRegions: []string{"eu-west-1", "ap-south-1"}}).Fetch(t.Context(), refs("s"))
	if err != nil || string(got[0].Value) != "third" {
		t.Errorf("%v %v", got, err)
	}
}

// The first region is down and the second, to which nothing is replicated,
// knows no such secret: that is an outage, not a missing secret. An optional
// file must not vanish over it, nor a last good value.
func TestMissingInTheSecondRegionIsNotMissing(t *testing.T) {
	w := newWorld()
	w.AddFault(broken("secretsmanager", aws.Fault{Drop: true}))
	_, err := w.open(t, SecretsManager, twoRegions).Fetch(t.Context(), refs("s"))
	if err == nil || store.ReasonOf(err) != store.Unavailable || !strings.Contains(err.Error(), "there is no such secret in eu-west-1") {
		t.Errorf("got %v, which is not what this test promises", err)
	}
}

// What is wrong with logging in is said once, not once a secret.
func TestFailedLoginIsOneErrorOfTheStore(t *testing.T) {
	w := newWorld()
	w.AddFault(broken("sts", aws.Fault{Status: 403, Code: "AccessDenied"}))
	_, err := w.open(t, SecretsManager, twoRegions).Fetch(t.Context(), refs("a", "b", "c"))
	if e := new(store.Error); !errors.As(err, &e) || e.Object != "" || strings.Count(err.Error(), "trust policy") != 1 {
		t.Errorf("got %v, which is not what this test promises", err)
	}
	if e := (store.Errors{}); errors.As(err, &e) {
		t.Error("one error a secret")
	}
}
