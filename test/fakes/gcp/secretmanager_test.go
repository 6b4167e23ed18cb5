package gcp_test

import (
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/iterator"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coffre-csi/coffre/test/fakes/gcp"
)

func access(c *secretmanager.Client, name string) (*secretmanagerpb.AccessSecretVersionResponse, error) {
	return c.AccessSecretVersion(ctx, &secretmanagerpb.AccessSecretVersionRequest{Name: name}, gax.WithRetry(nil))
}

func TestGooglesClientReadsASecretByNumberAliasAndLatest(t *testing.T) {
	w := start(t, gcp.Options{})
	w.SetSecret(mysql, gcp.Secret{Aliases: map[string]int64{"blue": 1}, Versions: []gcp.Version{{Text: "one"}, {Text: "two"}}})
	w.Grant(mysql, accessor, shopAPI)
	c := w.secrets(t, "", w.asShop(t))

	for version, want := range map[string]string{"1": "one", "2": "two", "latest": "two", "blue": "one"} {
		got, err := access(c, mysql+"/versions/"+version)
		if err != nil {
			t.Errorf("%s: got the error %v, want %s", version, err, want)
			continue
		}
		sum := int64(crc32.Checksum([]byte(want), crc32.MakeTable(crc32.Castagnoli)))
		if string(got.GetPayload().GetData()) != want || got.GetPayload().GetDataCrc32C() != sum {
			t.Errorf("%s: got %s, want %s with its checksum", version, got.GetPayload(), want)
		}
		if !strings.HasPrefix(got.GetName(), "projects/42/secrets/mysql/versions/") {
			t.Errorf("%s: got the name %s, want the project's number in it", version, got.GetName())
		}
	}
	want := "secretmanager:global:AccessSecretVersion " + mysql + "/versions/blue"
	if !slices.Contains(w.Notation(), want) || w.Count("AccessSecretVersion") != 4 {
		t.Errorf("got the calls %q, want four with %q", w.Notation(), want)
	}
	if got := w.Calls()[1].Caller; got != shopAPI {
		t.Errorf("got the caller %s, want %s", got, shopAPI)
	}
}

func TestWhatCannotBeReadIsRefusedAsSecretManagerWordsIt(t *testing.T) {
	w := start(t, gcp.Options{})
	w.SetSecret(mysql, gcp.Secret{Versions: []gcp.Version{{State: "DESTROYED"}, {Text: "x", State: "DISABLED"}}})
	w.SetSecretValue("projects/shop/secrets/salaries", "x")
	w.Grant(mysql, accessor, shopAPI)
	w.Grant("projects/shop/secrets/nothing", accessor, shopAPI)
	w.Grant("projects/shop/secrets/salaries", accessor, strings.Replace(shopAPI, "shop:api", "hr:api", 1))
	c := w.secrets(t, "", w.asShop(t))

	for _, r := range []struct {
		name string
		code codes.Code
		text string
	}{
		{mysql + "/versions/1", codes.FailedPrecondition, "Secret Version [projects/42/secrets/mysql/versions/1] is in DESTROYED state."},
		{mysql + "/versions/latest", codes.FailedPrecondition, "versions/2] is in DISABLED state."},
		{mysql + "/versions/3", codes.NotFound, "Secret Version [projects/42/secrets/mysql/versions/3] not found."},
		{mysql + "/versions/green", codes.NotFound, "versions/green] not found."},
		{"projects/shop/secrets/nothing/versions/1", codes.NotFound, "Secret [projects/42/secrets/nothing] not found or has no versions."},
		{"projects/shop/secrets/salaries/versions/1", codes.PermissionDenied,
			"Permission 'secretmanager.versions.access' denied for resource 'projects/shop/secrets/salaries/versions/1' (or it may not exist)."},
		{"projects/shop/locations/europe-west9/secrets/x/versions/1", codes.InvalidArgument, "location"},
	} {
		_, err := access(c, r.name)
		wantStatus(t, r.name, err, r.code, r.text)
	}
}

func TestRegionsAndRESTServeTheSame(t *testing.T) {
	w := start(t, gcp.Options{})
	const regional = "projects/shop/locations/europe-west9/secrets/mysql"
	w.SetSecretValue(regional, "paris")
	w.Grant("projects/shop", accessor, shopAPI)

	got, err := access(w.secrets(t, "europe-west9", w.asShop(t)), regional+"/versions/latest")
	if err != nil || string(got.GetPayload().GetData()) != "paris" {
		t.Errorf("gRPC: got %v and the error %v, want paris", got, err)
	}

	url := "https://secretmanager.europe-west9.rep.googleapis.com/v1/" + regional
	code, body := w.rest(t, url+"/versions/1:access", w.asShop(t))
	payload, _ := body["payload"].(map[string]any)
	if code != 200 || payload["data"] != "cGFyaXM=" {
		t.Errorf("REST: got %d %v, want 200 with the value", code, body)
	}
	code, body = w.rest(t, url+"/versions/7:access", w.asShop(t))
	failed, _ := body["error"].(map[string]any)
	if code != 404 || failed["status"] != "NOT_FOUND" || failed["code"] != float64(404) {
		t.Errorf("REST: got %d %v, want an error of Google's form, NOT_FOUND", code, body)
	}
}

func TestListsAreFilteredAndPaged(t *testing.T) {
	w := start(t, gcp.Options{PageSize: 2})
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		env := map[bool]string{true: "prod", false: "test"}[name < "d"]
		w.SetSecret("projects/shop/secrets/"+name, gcp.Secret{Labels: map[string]string{"env": env}, Versions: make([]gcp.Version, 3)})
	}
	w.SetSecretValue("projects/shop/locations/europe-west9/secrets/far", "x")
	w.Grant("projects/shop", "roles/secretmanager.viewer", shopAPI)
	c := w.secrets(t, "", w.asShop(t))

	for filter, want := range map[string]string{"": "abcde", "labels.env=prod": "abc", "labels.env=prod AND name:b": "b", "labels.no:*": ""} {
		got := ""
		it := c.ListSecrets(ctx, &secretmanagerpb.ListSecretsRequest{Parent: "projects/shop", Filter: filter})
		for {
			secret, err := it.Next()
			if err == iterator.Done {
				break
			}
			if err != nil {
				t.Fatalf("%q: %v", filter, err)
			}
			got += secret.GetName()[len("projects/42/secrets/"):]
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", filter, got, want)
		}
	}
	if n := w.Count("ListSecrets"); n != 3+2+1+1 {
		t.Errorf("got %d calls, want 7: pages of two", n)
	}

	it := c.ListSecretVersions(ctx, &secretmanagerpb.ListSecretVersionsRequest{Parent: "projects/shop/secrets/a"})
	newest, err := it.Next()
	if err != nil || newest.GetName() != "projects/42/secrets/a/versions/3" {
		t.Errorf("got %v and the error %v, want the newest version first", newest, err)
	}
	_, err = c.ListSecrets(ctx, &secretmanagerpb.ListSecretsRequest{Parent: "projects/shop", Filter: "colour=blue"}).Next()
	wantStatus(t, "an unknown filter", err, codes.InvalidArgument, "Invalid filter")
}

func TestAQuotaIsACallersOwnAndSaysWhenToComeBack(t *testing.T) {
	w := start(t, gcp.Options{})
	w.SetSecretValue(mysql, "x")
	w.Grant(mysql, accessor, "principalSet://iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/pool/*")
	w.SetLimit(gcp.Limit{Service: gcp.SecretManager, PerSecond: 1, Burst: 1, Per: "caller"})
	c := w.secrets(t, "", w.asShop(t))

	if _, err := access(c, mysql+"/versions/1"); err != nil {
		t.Errorf("got the error %v, want the first call to pass", err)
	}
	_, err := access(c, mysql+"/versions/1")
	wantStatus(t, "the second call", err, codes.ResourceExhausted, "Quota exceeded for quota metric")
	if wait := retryDelay(err); wait != time.Second {
		t.Errorf("got a RetryInfo of %s, want 1s", wait)
	}

	other := w.federate(t, w.token("shop", "web", ""), "")
	if _, err := access(w.secrets(t, "", other), mysql+"/versions/1"); err != nil {
		t.Errorf("got the error %v, want another principal to pass", err)
	}
}

func retryDelay(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return r.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

func TestFaultsGarbageDropsAndWrongChecksums(t *testing.T) {
	w := start(t, gcp.Options{})
	w.SetSecret(mysql, gcp.Secret{Versions: []gcp.Version{{Text: "x"}, {Text: "x", WrongChecksum: true}, {NoPayload: true}}})
	w.Grant(mysql, accessor, shopAPI)
	c := w.secrets(t, "", w.asShop(t))

	remove := w.AddFault(gcp.Fault{Service: gcp.SecretManager, ID: mysql, Code: "UNAVAILABLE", Message: "try later", RetryAfter: 3 * time.Second})
	_, err := access(c, mysql+"/versions/1")
	wantStatus(t, "a fault of the secret", err, codes.Unavailable, "try later")
	if wait := retryDelay(err); wait != 3*time.Second {
		t.Errorf("got a RetryInfo of %s, want 3s", wait)
	}
	remove()

	for _, f := range []gcp.Fault{{Garbage: true, Times: 1}, {Drop: true, Times: 1}} {
		w.AddFault(f)
		if _, err := access(c, mysql+"/versions/1"); err == nil {
			t.Errorf("%+v: got an answer, want an error", f)
		}
		if _, err := access(c, mysql+"/versions/1"); err != nil {
			t.Errorf("after %+v: got the error %v, want the value", f, err)
		}
	}

	wrong := ok[*secretmanagerpb.AccessSecretVersionResponse](t)(access(c, mysql+"/versions/2"))
	if wrong.GetPayload().GetDataCrc32C() == int64(crc32.Checksum([]byte("x"), crc32.MakeTable(crc32.Castagnoli))) {
		t.Errorf("got the right checksum %d, want a wrong one", wrong.GetPayload().GetDataCrc32C())
	}
	if none := ok[*secretmanagerpb.AccessSecretVersionResponse](t)(access(c, mysql+"/versions/3")); none.GetPayload() != nil {
		t.Errorf("got the payload %v, want none", none.GetPayload())
	}
}

func TestASecretIsWritten(t *testing.T) {
	w := start(t, gcp.Options{})
	w.Grant("projects/shop", "roles/secretmanager.admin", shopAPI)
	c := w.secrets(t, "", w.asShop(t))
	automatic := &secretmanagerpb.Replication{Replication: &secretmanagerpb.Replication_Automatic_{}}

	for _, code := range []codes.Code{codes.OK, codes.AlreadyExists} {
		_, err := c.CreateSecret(ctx, &secretmanagerpb.CreateSecretRequest{Parent: "projects/shop", SecretId: "mysql",
			Secret: &secretmanagerpb.Secret{Replication: automatic, Labels: map[string]string{"env": "prod"}}})
		wantStatus(t, "CreateSecret", err, code, "")
	}
	v, err := c.AddSecretVersion(ctx, &secretmanagerpb.AddSecretVersionRequest{Parent: mysql,
		Payload: &secretmanagerpb.SecretPayload{Data: []byte("s3cret")}})
	if err != nil || v.GetName() != "projects/42/secrets/mysql/versions/1" {
		t.Errorf("got %v and the error %v, want version 1", v, err)
	}
	got, err := access(c, mysql+"/versions/latest")
	if err != nil || string(got.GetPayload().GetData()) != "s3cret" {
		t.Errorf("got %v and the error %v, want what was written", got, err)
	}
	err = c.DeleteSecret(ctx, &secretmanagerpb.DeleteSecretRequest{Name: mysql})
	wantStatus(t, "what the fake does not have", err, codes.Unimplemented, "")
}
