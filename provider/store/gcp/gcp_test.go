package gcp

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	gcpauth "github.com/coffre-csi/coffre/auth/gcp"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/gcp"
)

const mysql = "projects/shop/secrets/mysql"

// Each is one line that says what is wrong, whose it is and what to do.
func TestRefusalsSayWhatWouldHelp(t *testing.T) {
	for name, c := range map[string]struct {
		ref    store.Ref
		more   string
		change func(*world)
		reason store.Reason
		want   string
	}{
		"missing": {ref: store.Ref{Name: "nothing"}, reason: store.NotFound, want: "nothing: there is no such secret in projects/shop, or it has no version latest"},
		"no grant": {ref: store.Ref{Name: "mysql"}, change: func(w *world) { w.Revoke("") }, reason: store.Denied,
			want: `gcloud secrets add-iam-policy-binding mysql --project=shop --role=roles/secretmanager.secretAccessor --member="principal://iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/shop.svc.id.goog/subject/ns/shop/sa/api"`},
		"another project":   {ref: store.Ref{Name: "projects/bank/secrets/mysql"}, reason: store.Denied, want: "--project=bank"},
		"disabled":          {ref: store.Ref{Name: "mysql", Version: "1"}, change: func(w *world) { w.SetVersionState(mysql, 1, "DISABLED") }, reason: store.NotFound, want: "version 1 is disabled or destroyed"},
		"destroyed":         {ref: store.Ref{Name: "mysql", Version: "1"}, change: func(w *world) { w.SetVersionState(mysql, 1, "DESTROYED") }, reason: store.NotFound, want: "version 1 is disabled or destroyed"},
		"no such version":   {ref: store.Ref{Name: "mysql", Version: "7"}, reason: store.NotFound, want: "version 7"},
		"no version at all": {ref: store.Ref{Name: "mysql", Version: "a b"}, reason: store.Invalid, want: "is no number, no alias and not latest"},
		"a path":            {ref: store.Ref{Name: "../mysql"}, reason: store.Invalid, want: "is no name of a store of kind gcp-secret-manager"},
		"another location":  {ref: store.Ref{Name: "projects/shop/locations/europe-west9/secrets/mysql"}, reason: store.Invalid, want: "is in location europe-west9, and this store reads global"},
		"not allowed there": {ref: store.Ref{Name: "mysql"}, more: `, location: us-east1, allowedRegions: ["europe-*"]`, reason: store.Denied, want: "region us-east1 is not allowed"},
		"wrong checksum": {ref: store.Ref{Name: "mysql"}, change: func(w *world) {
			w.SetSecret(mysql, gcp.Secret{Versions: []gcp.Version{{Text: "s3cret", WrongChecksum: true}}})
		}, reason: store.Unavailable, want: "checksum (data_crc32c) is another's"},
		"no payload": {ref: store.Ref{Name: "mysql"}, change: func(w *world) {
			w.SetSecret(mysql, gcp.Secret{Versions: []gcp.Version{{NoPayload: true}}})
		}, reason: store.Unavailable, want: "answered without the value"},
		"down": {ref: store.Ref{Name: "mysql"}, change: func(w *world) {
			w.AddFault(gcp.Fault{Service: gcp.SecretManager, Code: "UNAVAILABLE"})
		}, reason: store.Unavailable, want: "secretmanager.googleapis.com"},
		"a proxy's page": {ref: store.Ref{Name: "mysql"}, change: func(w *world) {
			w.AddFault(gcp.Fault{Service: gcp.SecretManager, Garbage: true})
		}, reason: store.Unavailable, want: "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.SetSecretValue(mysql, "s3cret")
			if c.change != nil {
				c.change(w)
			}
			_, err := w.read(t, SecretManager, c.more, c.ref)
			if store.ReasonOf(err) != c.reason || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("got %s: %v\nwant %s: … %s …", store.ReasonOf(err), err, c.reason, c.want)
			}
			if strings.Contains(fmt.Sprint(err), "s3cret") {
				t.Error("got the value in the error")
			}
		})
	}
}

func TestATokenThatGoogleNoLongerTakesIsMadeAnewOnce(t *testing.T) {
	w := newWorld(t)
	w.SetSecretValue(mysql, "s3cret")
	for range 2 {
		if got, err := w.read(t, SecretManager, "", store.Ref{Name: "mysql"}); err != nil || string(got.Value) != "s3cret" {
			t.Fatalf("got %v and the error %v, want the value", got, err)
		}
		w.RevokeAll()
	}
	if n := w.Count("Token"); n != 2 {
		t.Errorf("got %d exchanges, want one and one after the token was revoked", n)
	}
}

// All reads of a mount find a revoked token refused at nearly the same time.
func TestManyReadsThatFindATokenRefusedSignInOnceAndAllSucceed(t *testing.T) {
	w := newWorld(t)
	refs := make([]store.Ref, 40)
	for i := range refs {
		refs[i].Name = fmt.Sprint("secret-", i)
		w.SetSecretValue("projects/shop/secrets/"+refs[i].Name, "s3cret")
	}
	o, err := w.open(t, SecretManager, "", w.identity("api"))
	if err != nil {
		t.Fatalf("got the error %v, want a store", err)
	}
	for round := range 5 {
		if _, err := o.Fetch(t.Context(), refs, func(int, store.Secret) {}); err != nil {
			t.Fatalf("round %d: got the error %v, want every secret", round, err)
		}
		w.RevokeAll()
	}
	if got := w.Count("Token"); got != 5 {
		t.Errorf("got %d exchanges, want one and one for each time that the token was revoked", got)
	}
}

func TestAQuotaIsWaitedForAndARenderingThatIsTooLargeIsNot(t *testing.T) {
	w := newWorld(t)
	w.SetSecretValue(mysql, "s3cret")
	w.SetParameterValue("projects/shop/locations/global/parameters/cfg", "v1", "a: b")
	exhausted := gcp.Fault{Code: "RESOURCE_EXHAUSTED", Message: "quota", Times: 1}

	for _, c := range []struct {
		kind, service, name string
		retry               time.Duration
		works               bool
	}{
		{SecretManager, gcp.SecretManager, "mysql", 0, true},
		{ParameterManager, gcp.ParameterManager, "cfg", 10 * time.Millisecond, true},
		{ParameterManager, gcp.ParameterManager, "cfg", 0, false},
	} {
		f := exhausted
		f.Service, f.RetryAfter = c.service, c.retry
		remove := w.AddFault(f)
		_, err := w.read(t, c.kind, "", store.Ref{Name: c.name, Version: map[bool]string{true: "v1"}[c.kind == ParameterManager]})
		remove()
		if (err == nil) != c.works {
			t.Errorf("%s, to be tried again in %s: got the error %v, want it to work: %v", c.kind, c.retry, err, c.works)
		}
	}
}

func TestOnlyNumbersOfSecretsArePinned(t *testing.T) {
	for version, want := range map[string]bool{"3": true, "latest": false, "": false, "prod": false} {
		if got := (&secrets{}).Pinned(store.Ref{Name: "a", Version: version}); got != want {
			t.Errorf("version %q: got pinned %v, want %v", version, got, want)
		}
	}
	if _, pins := any(&parameters{}).(store.Pinner); pins {
		t.Error("a version of a parameter is pinned, and the secrets in it may rotate")
	}
}

func TestConnectionsOf300LocationsStayBounded(t *testing.T) {
	w := newWorld(t)
	for i := range 300 {
		location := fmt.Sprintf("loc-%d", i)
		w.SetSecretValue("projects/shop/locations/"+location+"/secrets/mysql", "s3cret")
		if _, err := w.read(t, SecretManager, ", location: "+location, store.Ref{Name: "mysql"}); err != nil {
			t.Fatalf("%s: got the error %v, want the value", location, err)
		}
	}
	open := w.listener.Open()
	for deadline := time.Now().Add(5 * time.Second); open > 70 && time.Now().Before(deadline); open = w.listener.Open() {
		time.Sleep(10 * time.Millisecond) // closing is the kernel's
	}
	if open > 70 {
		t.Errorf("got %d open connections after 300 locations, want at most 64 and those of sign-ins", open)
	}
}

func TestFindNarrowsByLabelsInAnyProject(t *testing.T) {
	w := newWorld(t)
	for name, tier := range map[string]string{"db-a": "gold", "db-b": "silver", "web": "gold"} {
		w.SetSecret("projects/shop/secrets/"+name, gcp.Secret{Labels: map[string]string{"tier": tier}, Versions: []gcp.Version{{Text: "v"}}})
	}
	o, err := w.open(t, SecretManager, "", w.identity("api"))
	if err != nil {
		t.Fatalf("the store does not open: %v", err)
	}
	for prefix, want := range map[string]string{"db-": "db-a", "projects/shop/secrets/db-": "projects/shop/secrets/db-a"} {
		got, err := o.List(t.Context(), store.Filter{Prefix: prefix, Tags: "tier=gold"}, 10)
		if err != nil || len(got) != 1 || got[0].Name != want {
			t.Errorf("%s: got %v and the error %v, want %s", prefix, got, err, want)
		}
	}
}

func TestAnAnswerOfGooglesIsTheCauseOfItsError(t *testing.T) {
	w := newWorld(t)
	_, err := w.read(t, SecretManager, "", store.Ref{Name: "nothing"})
	if a := new(gcpauth.Answer); !errors.As(err, &a) || a.SignIn || !strings.HasPrefix(a.RPC(), "rpc error: code = NotFound desc = ") {
		t.Errorf("got the cause %v, want what Google said of the secret", a)
	}
}
