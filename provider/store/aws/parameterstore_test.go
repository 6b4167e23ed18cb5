package aws

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/aws"
)

func TestParametersAreReadByTens(t *testing.T) {
	w := newWorld()
	var names []string
	for i := range 25 {
		name := fmt.Sprintf("/app/%d", i)
		w.SetParameter("us-east-1", name, aws.Parameter{Versions: []aws.ParameterVersion{{Version: 7, Value: fmt.Sprint(i)}}})
		names = append(names, name)
	}
	got, err := w.open(t, ParameterStore, Settings{}).Fetch(t.Context(), refs(append(names, names[0])...))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	for i := range names {
		if string(got[i].Value) != fmt.Sprint(i) || got[i].Version != "7" {
			t.Errorf("%d: %q %s", i, []byte(got[i].Value), got[i].Version)
		}
	}
	if string(got[25].Value) != "0" {
		t.Errorf("%q", []byte(got[25].Value))
	}
	if n := w.total(":GetParameters"); n != 3 {
		t.Errorf("%d calls", n)
	}
}

func TestOneParameterUnderSeveralVersions(t *testing.T) {
	w := newWorld()
	w.SetParameter("us-east-1", "p", aws.Parameter{Versions: []aws.ParameterVersion{
		{Version: 1, Value: "one"}, {Version: 2, Value: "two", Labels: []string{"blue"}}, {Version: 3, Value: "three"},
	}})
	w.SetParameter("us-east-1", "/feaw", aws.Parameter{Versions: []aws.ParameterVersion{{Version: 4, Value: "slash"}}})
	wanted := []store.Ref{
		{Name: "p"}, {Name: "p", Version: "1"}, {Name: "p", Version: "stage:blue"}, {Name: "p:2"}, {Name: "p", Version: "blue"},
		{Name: "arn:aws:ssm:us-east-1:123456789012:parameter/feaw"}, {Name: "/feaw"}, {Name: "/feaw:4"},
		{Name: "arn:aws:ssm:us-east-1:123456789012:parameter/feaw:4"},
	}
	got, err := w.open(t, ParameterStore, Settings{}).Fetch(t.Context(), wanted)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	for i, want := range []string{"three", "one", "two", "two", "two", "slash", "slash", "slash", "slash"} {
		if string(got[i].Value) != want {
			t.Errorf("%v: %q", wanted[i], []byte(got[i].Value))
		}
	}
}

func TestParameterErrorsAreAboutTheirParameter(t *testing.T) {
	w := newWorld()
	for _, n := range []string{"a", "b", "c", "d"} {
		w.SetParameter("us-east-1", n, aws.Parameter{Versions: []aws.ParameterVersion{{Version: 1, Value: n}}})
	}
	w.AddFault(aws.Fault{ID: "b", Status: 400, Code: "AccessDeniedException",
		Message: "User: x is not authorized to perform: ssm:GetParameters on resource: b"})
	got, err := w.open(t, ParameterStore, Settings{}).Fetch(t.Context(), []store.Ref{
		{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d", Version: "9"}, {Name: "d", Version: "1", Extra: Extra{Stage: "x"}.String()}, {Name: "d:1", Version: "1"},
		{Name: "arn:aws:ssm:eu-west-1:123456789012:parameter/d"}, {Name: "arn:aws:sts:us-east-1:1:x"}, {Name: "arn:aws"},
	})
	failed := store.Errors{}
	if !errors.As(err, &failed) {
		t.Fatalf(`got %v, where !errors.As(err, &failed) must not be so`, err)
	}
	for i, want := range map[int]string{
		1: "b: access denied: role arn:aws:iam::123456789012:role/shop (service account shop/api) lacks ssm:GetParameters, in us-east-1 (request rq-1)",
		3: "d@9: there is no such parameter in us-east-1, or it has no version or label 9",
		4: "d@1: a parameter is read by its version or by a label, and both are given",
		5: "d:1@1: the name says a version or a label already (:1), and another is given",
		6: "ARN region must match region us-east-1: arn:aws:ssm:eu-west-1:123456789012:parameter/d",
		7: "Invalid service in ARN: sts",
		8: "Invalid ARN format in object name: arn:aws",
	} {
		if failed[i] == nil || !strings.Contains(plainly(failed[i]), want) {
			t.Errorf("%d: %v", i, failed[i])
		}
	}
	if len(failed) != 7 || string(got[0].Value) != "a" || string(got[2].Value) != "c" {
		t.Errorf("%v %v", failed, got)
	}
}

func TestFindParameters(t *testing.T) {
	w := newWorld()
	for _, n := range []string{"/app/a", "/app/b", "/app/deep/c", "/apple", "plain"} {
		w.SetParameter("us-east-1", n, aws.Parameter{Versions: []aws.ParameterVersion{{Version: 1, Value: n}}})
	}
	s := w.open(t, ParameterStore, Settings{}).(store.Lister)
	for _, c := range []struct {
		f        store.Filter
		want, op string
	}{
		{store.Filter{Prefix: "/app/"}, "/app/a /app/b /app/deep/c", "GetParametersByPath"},
		{store.Filter{Prefix: "/app"}, "/app/a /app/b /app/deep/c /apple", "GetParametersByPath"},
		{store.Filter{Prefix: "/app/d", Regexp: "c$"}, "/app/deep/c", "GetParametersByPath"},
		{store.Filter{Prefix: "pl"}, "plain", "DescribeParameters"},
	} {
		before := w.total(c.op)
		got, err := s.List(t.Context(), c.f, 10)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		var names []string
		for _, r := range got {
			names = append(names, r.Name)
		}
		if text := strings.Join(names, " "); text != c.want || w.total(c.op) == before {
			t.Errorf("%+v: %s", c.f, text)
		}
	}
	w.AddFault(aws.Fault{Status: 400, Code: "AccessDeniedException"})
	for prefix, want := range map[string]string{"/app/x": "lacks ssm:GetParametersByPath on /app, which find needs", "x": "lacks ssm:DescribeParameters, which find needs"} {
		if _, err := s.List(t.Context(), store.Filter{Prefix: prefix}, 10); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf(`got %v, where err == nil || !strings.Contains(err.Error(), want) must not be so`, err)
		}
	}
}
