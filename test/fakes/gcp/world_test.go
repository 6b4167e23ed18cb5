package gcp_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/coffre-csi/coffre/test/fakes/gcp"
)

func TestAWorldIsWhatTheFakeHolds(t *testing.T) {
	w := start(t, gcp.Options{})
	control := w.Control()
	for request, want := range map[string]int{
		`POST /world {"secretmanager": {"projects/shop/secrets/mysql": {"versions": [{"text": "x"}]}},
			"grants": [{"resource": "projects/shop", "role": "roles/secretmanager.secretAccessor", "member": "` + shopAPI + `"}]}`: 200,
		`POST /world {"secretmanager": {"projects/shop/secrets/mysql": {"version": []}}}`: 400,
		"PUT /secret?name=" + mysql + " two":                                              200,
		"PUT /secret two":                                                                 400,
	} {
		line, body, _ := strings.Cut(request[strings.Index(request, " ")+1:], " ")
		method, _, _ := strings.Cut(request, " ")
		rec := httptest.NewRecorder()
		control.ServeHTTP(rec, httptest.NewRequest(method, line, strings.NewReader(body)))
		if rec.Code != want {
			t.Errorf("%s: got %d %s, want %d", request, rec.Code, rec.Body, want)
		}
	}
	if _, err := access(w.secrets(t, "", w.asShop(t)), mysql+"/versions/1"); err != nil {
		t.Errorf("got the error %v, want a value", err)
	}
}

func TestAnObservedAnswerGoesBeforeEverything(t *testing.T) {
	w := start(t, gcp.Options{AcceptAnyToken: true})
	loaded, err := gcp.LoadCompat([]byte(`{"name": "passed over", "secrets": {"projects/demo/secrets/a/versions/latest":
		{"payload": "one", "version": "projects/demo/secrets/a/versions/2", "error": "Unavailable", "message": "later", "failN": 1}}}`))
	if err != nil {
		t.Fatalf("the case: %v", err)
	}
	w.Replace(loaded)
	c := w.secrets(t, "", w.asShop(t))

	_, err = access(c, "projects/demo/secrets/a/versions/latest")
	wantStatus(t, "the first call", err, codes.Unavailable, "later")
	got, err := access(c, "projects/demo/secrets/a/versions/latest")
	if err != nil || string(got.GetPayload().GetData()) != "one" || got.GetName() != "projects/demo/secrets/a/versions/2" {
		t.Errorf("got %v and the error %v, want the second call to answer", got, err)
	}
	_, err = access(c, "projects/demo/secrets/b/versions/1")
	wantStatus(t, "what is not listed", err, codes.NotFound, "")
}

func TestUnknownHostsAndPathsAreRefused(t *testing.T) {
	w := start(t, gcp.Options{})
	for _, url := range []string{"https://storage.googleapis.com/", "https://sts.googleapis.com/v2/token", "https://secretmanager.googleapis.com/v1/nothing"} {
		res, err := w.http.Get(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		res.Body.Close()
		if res.StatusCode != 404 {
			t.Errorf("%s: got %s, want 404", url, res.Status)
		}
	}
}
