package azure_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/test/fakes/azure"
)

func TestAnObservedCaseIsAWorld(t *testing.T) {
	w := start(t, azure.Options{AcceptAnyToken: true})
	loaded, err := azure.LoadCompat([]byte(`{"name": "passed over", "secrets": {"*": {"secrets": {"s": [
		{"version": "a", "value": "old", "created": 1}, {"version": "b", "value": "new", "created": 2},
		{"version": "c", "status": 500, "code": "InternalError", "created": 0}]}}}}`))
	if err != nil {
		t.Fatalf("the case: %v", err)
	}
	w.Replace(loaded)
	c := w.secrets(t, "https://testkv.vault.azure.net", w.assert(t, "anybody", "any.text.will-do"))

	for version, want := range map[string]string{"": "new", "a": "old"} {
		if got, err := get(c, "s", version); err != nil || got != want {
			t.Errorf("version %q: got %q and the error %v, want %q", version, got, err, want)
		}
	}
	_, err = get(c, "s", "c")
	wantError(t, "a version that is an error", err, 500, "InternalError")
}

func TestTheControlEndpointChangesAVault(t *testing.T) {
	w := start(t, azure.Options{})
	control := w.Control()
	do := func(method, path, body string) int {
		rec := httptest.NewRecorder()
		control.ServeHTTP(rec, httptest.NewRequest(method, path, strings.NewReader(body)))
		return rec.Code
	}
	for _, r := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/world", `{"grants": [{"scope": "shop", "role": "` + user + `", "clientID": "` + shopID + `"}]}`, 200},
		{"PUT", "/secret?vault=shop&name=mysql", "x", 200},
		{"PUT", "/secret?vault=shop", "x", 400},
		{"POST", "/world", `{"vaults": {"shop": {"tenants": ""}}}`, 400},
	} {
		if got := do(r.method, r.path, r.body); got != r.want {
			t.Errorf("%s %s %s: got %d, want %d", r.method, r.path, r.body, got, r.want)
		}
	}
	c := w.secrets(t, url, w.asShop(t))
	if got, err := get(c, "mysql", ""); err != nil || got != "x" {
		t.Errorf("got %q and the error %v, want the value", got, err)
	}
	do("DELETE", "/secret?vault=shop&name=mysql", "")
	_, err := get(c, "mysql", "")
	wantError(t, "a deleted secret", err, 404, "SecretNotFound")
}

func TestUnknownHostsAndRoutesAreRefused(t *testing.T) {
	w := start(t, azure.Options{})
	for url, want := range map[string]int{
		"https://management.azure.com/": 404, "https://login.microsoftonline.com/x/oauth2/token": 404,
		"https://shop.vault.azure.net/secrets/mysql?api-version=7.4": 401,
	} {
		res, err := w.http.Get(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: got %s, want %d", url, res.Status, want)
		}
	}
}
