package aws

import (
	"fmt"
	"testing"

	"github.com/coffre-csi/coffre/provider/store"
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
		w.secrets["us-east-1"][name] = current(fmt.Sprintf("value-%d", i))
		names = append(names, name)
	}
	got, err := w.open(t, SecretsManager, Settings{}).Fetch(t.Context(), refs(names...))
	if err != nil {
		t.Fatal(err)
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
	w.secrets["us-east-1"]["s"] = []version{
		{id: "S3-1", stages: []string{"AWSPREVIOUS"}, value: "old"},
		{id: "S3-2", stages: []string{"AWSCURRENT", "blue"}, value: "new\x00", binary: true},
	}
	for _, c := range []struct {
		ref  store.Ref
		want string
	}{
		{store.Ref{Name: "s"}, "new\x00"},
		{store.Ref{Name: "s", Version: "S3-1"}, "old"},
		{store.Ref{Name: "s", Version: "AWSPREVIOUS"}, "old"},
		{store.Ref{Name: "s", Version: "stage:blue"}, "new\x00"},
		{store.Ref{Name: "s", Label: "AWSPREVIOUS"}, "old"},
		{store.Ref{Name: "s", Version: "S3-2", Label: "blue"}, "new\x00"},
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
