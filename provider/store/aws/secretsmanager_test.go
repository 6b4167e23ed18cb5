package aws

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/aws"
)

func refs(names ...string) []store.Ref {
	out := make([]store.Ref, len(names))
	for i, n := range names {
		out[i].Name = n
	}
	return out
}

func TestSecretsOfOneMountAreReadInBatches(t *testing.T) {
	w := newWorld()
	var names []string
	for i := range 50 {
		name := fmt.Sprintf("app/%d", i)
		w.put("us-east-1", name, current(fmt.Sprintf("value-%d", i))...)
		names = append(names, name)
	}
	got, err := w.open(t, SecretsManager, Settings{}).Fetch(t.Context(), refs(names...))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	for i, s := range got {
		if string(s.Value) != fmt.Sprintf("value-%d", i) {
			t.Errorf("%s: %q", names[i], []byte(s.Value))
		}
	}
	if n := w.count("secretsmanager:us-east-1:BatchGetSecretValue"); n != 3 {
		t.Errorf("%d batches", n)
	}
	if n := w.total("GetSecretValue"); n != 3 {
		t.Errorf("%d reads", n)
	}
	if n := w.count("sts:us-east-1:AssumeRoleWithWebIdentity"); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestVersionsStagesAndBytes(t *testing.T) {
	w := newWorld()
	w.put("us-east-1", "s",
		aws.SecretVersion{ID: "S3-1", Stages: []string{"AWSPREVIOUS"}, String: to("old")},
		aws.SecretVersion{ID: "S3-2", Stages: []string{"AWSCURRENT", "blue"}, Binary: []byte("new\x00")})
	for _, c := range []struct {
		ref  store.Ref
		want string
	}{
		{store.Ref{Name: "s"}, "new\x00"},
		{store.Ref{Name: "s", Version: "S3-1"}, "old"},
		{store.Ref{Name: "s", Version: "AWSPREVIOUS"}, "old"},
		{store.Ref{Name: "s", Version: "stage:blue"}, "new\x00"},
		{store.Ref{Name: "s", Version: "stage:AWSPREVIOUS"}, "old"},
		{store.Ref{Name: "s", Version: "S3-2", Extra: Extra{Stage: "blue"}.String()}, "new\x00"},
		{store.Ref{Name: "arn:aws:secretsmanager:us-east-1:123456789012:secret:s-AbCdEf"}, "new\x00"},
	} {
		got, err := w.open(t, SecretsManager, Settings{}).Fetch(t.Context(), []store.Ref{c.ref})
		if err != nil {
			t.Errorf("%v: %v", c.ref, err)
		} else if string(got[0].Value) != c.want {
			t.Errorf("%v: %q", c.ref, []byte(got[0].Value))
		}
	}
}

// An identity that may not batch, and an endpoint that does not know how, cost
// one call in an hour.
func TestRefusedBatchIsRememberedForAnHour(t *testing.T) {
	for _, f := range []aws.Fault{
		{Status: 400, Code: "AccessDeniedException", Message: "not authorized to perform: secretsmanager:BatchGetSecretValue"},
		{Status: 400, Code: "UnknownOperationException"},
		{Status: 404, Code: ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			names := []string{"a", "b", "c", "d"}
			for _, n := range names {
				w.put("us-east-1", n, current(n)...)
			}
			f.Op = "BatchGetSecretValue"
			w.AddFault(f)
			open := w.opener(t)
			for range 3 {
				got, err := open(SecretsManager, Settings{}, 0).Fetch(t.Context(), refs(names...))
				if err != nil || string(got[3].Value) != "d" {
					t.Fatalf("%v %v", got, err)
				}
			}
			if n := w.total(":BatchGetSecretValue"); n != 1 {
				t.Errorf("%s: %d batches", f.Code, n)
			}
			if n := w.total(":GetSecretValue"); n != 12 {
				t.Errorf("%s: %d reads", f.Code, n)
			}
			time.Sleep(noBatchFor)
			if _, err := open(SecretsManager, Settings{}, 0).Fetch(t.Context(), refs(names...)); err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			if n := w.total(":BatchGetSecretValue"); n != 2 {
				t.Errorf("%s: %d batches after an hour", f.Code, n)
			}
		})
	}
}

func TestFewSecretsAreReadWithoutABatch(t *testing.T) {
	w := newWorld()
	for _, n := range []string{"a", "b", "c"} {
		w.put("us-east-1", n, current(n)...)
	}
	if _, err := w.open(t, SecretsManager, Settings{}).Fetch(t.Context(), refs("a", "b", "c", "a", "b")); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if n := w.total(":BatchGetSecretValue"); n != 0 {
		t.Errorf("%d batches", n)
	}
	if n := w.total(":GetSecretValue"); n != 3 {
		t.Errorf("%d reads: what is asked for twice is read once", n)
	}
}

// A batch's parts fail by themselves, and an ARN's are looked at again.
func TestErrorsInsideABatchAreAboutTheirSecret(t *testing.T) {
	w := newWorld()
	for _, n := range []string{"a", "b", "c"} {
		w.put("us-east-1", n, current(n)...)
	}
	missing := "arn:aws:secretsmanager:us-east-1:210987654321:secret:far-AbCdEf"
	got, err := w.open(t, SecretsManager, Settings{}).Fetch(t.Context(), refs("a", "gone", "b", missing, "c", "arn:aws:secretsmanager:us-east-1:123456789012:secret:c"))
	failed := store.Errors{}
	if !errors.As(err, &failed) || len(failed) != 2 || failed[1] == nil || failed[3] == nil {
		t.Fatalf("got %v, which is not what this test promises", err)
	}
	if failed[1].Reason != store.NotFound || failed[1].Object != "gone" {
		t.Errorf("got %v, which is not what this test promises", failed[1])
	}
	for i, want := range map[int]string{0: "a", 2: "b", 4: "c", 5: "c"} {
		if string(got[i].Value) != want {
			t.Errorf("%d: %q", i, []byte(got[i].Value))
		}
	}
	if n := w.total(":GetSecretValue"); n != 1 {
		t.Errorf("%d reads", n)
	}
	if d := new(RegionError); !errors.As(err, &d) || d.Code != "ResourceNotFoundException" || d.Fault.String() != "client" {
		t.Errorf("%+v", d)
	}
}

func TestFindSecrets(t *testing.T) {
	w := newWorld()
	for _, n := range []string{"shop/a", "shop/b", "shop/c-old", "other/a", "Shop/x"} {
		tags := map[string]string{"team": "shop-core"}
		if n != "shop/b" {
			tags["team"] = "shop"
		}
		w.SetSecret("us-east-1", n, aws.Secret{Tags: tags, Versions: current(n)})
	}
	s := w.open(t, SecretsManager, Settings{}).(store.Lister)
	for _, c := range []struct {
		f    store.Filter
		want string
	}{
		{store.Filter{Prefix: "shop/"}, "shop/a shop/b shop/c-old"},
		{store.Filter{Prefix: "shop/", Regexp: "/.$"}, "shop/a shop/b"},
		{store.Filter{Prefix: "shop/", Tags: "team=shop"}, "shop/a shop/c-old"},
		{store.Filter{Regexp: "a$"}, "other/a shop/a"},
		{store.Filter{Prefix: "none"}, ""},
	} {
		got, err := s.List(t.Context(), c.f, 10)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		var names []string
		for _, r := range got {
			names = append(names, r.Name)
		}
		if text := strings.Join(names, " "); text != c.want {
			t.Errorf("%+v: %s", c.f, text)
		}
	}
	if _, err := s.List(t.Context(), store.Filter{}, 4); !errors.Is(err, store.ErrTooMany) {
		t.Errorf(`got %v, where !errors.Is(err, store.ErrTooMany) must not be so`, err)
	}
	if _, err := s.List(t.Context(), store.Filter{}, 5); err != nil {
		t.Errorf("got the error %v, want none", err)
	}
}
