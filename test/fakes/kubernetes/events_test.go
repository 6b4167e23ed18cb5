package kubernetes_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

const aEvent = `{"kind":"Event","apiVersion":"v1","metadata":{"name":"api.1","namespace":"shop"},
"involvedObject":{"kind":"Pod","apiVersion":"v1","namespace":"shop","name":"api","uid":"u"},"type":"Warning","reason":"SecretsStale","message":"m",
"source":{"component":"coffre","host":"n"},"firstTimestamp":"2026-01-01T00:00:00Z","lastTimestamp":"2026-01-01T00:00:00Z","count":1,"reportingComponent":"coffre","reportingInstance":"n"}`

func TestEventsAreCreatedAsStrictlyAsTheAPIServerWould(t *testing.T) {
	s, l, _, _ := start(t)
	s.AddUser("teller", "system:serviceaccount:kube-system:coffre", "events")
	post := func(token, path, body string) (int, string) {
		req, _ := http.NewRequest("POST", l.URL()+path, strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		res, err := l.Client().Do(req)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		defer res.Body.Close()
		var a answer
		json.NewDecoder(res.Body).Decode(&a)
		return res.StatusCode, a.Message
	}
	const path = "/api/v1/namespaces/shop/events"
	for _, c := range []struct {
		token, path, body string
		code              int
		message           string
	}{
		{"teller", path, aEvent, 201, ""},
		{"teller", path, aEvent, 409, `events "api.1" already exists`},
		{"poor", path, aEvent, 403, `events is forbidden: User "system:serviceaccount:kube-system:poor" cannot create resource "events" in API group "" in the namespace "shop"`},
		{"bad", path, aEvent, 401, "Unauthorized"},
		{"teller", "/api/v1/namespaces/bank/events", aEvent, 422, "metadata.namespace"},
		{"teller", path, strings.Replace(aEvent, `"namespace":"shop","name":"api"`, `"namespace":"bank","name":"api"`, 1), 422, "involvedObject.namespace"},
		{"teller", path, strings.Replace(aEvent, "api.1", "api_1", 1), 422, "metadata.name"},
		{"teller", path, strings.Replace(aEvent, `"message":"m"`, `"message":"`+strings.Repeat("m", 1025)+`"`, 1), 422, "1024 bytes"},
		{"teller", path, strings.Replace(aEvent, `"count"`, `"cuont"`, 1), 400, "unknown field"},
		{"teller", path, strings.Replace(aEvent, `"Warning"`, `"Error"`, 1), 422, "type"},
		{"teller", path, strings.Replace(aEvent, `"uid":"u"`, `"uid":""`, 1), 422, "uid"},
	} {
		if code, message := post(c.token, c.path, c.body); code != c.code || !strings.Contains(message, c.message) {
			t.Errorf("%d %s, want %d %s", code, message, c.code, c.message)
		}
	}
	if got := s.Events(); len(got) != 1 || got[0].Metadata.Name != "api.1" {
		t.Errorf("%+v", got)
	}
}

func TestEventsAreNotRead(t *testing.T) {
	_, _, _, get := start(t)
	if code, _ := get("GET", "/api/v1/namespaces/shop/events", "good", ""); code != 405 {
		t.Errorf("got %d, want 405: events are only created", code)
	}
}
