package azure

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/azure"
)

// fill puts one object of each type into the vault shop.
func (w *world) fill() (version string) {
	version = w.SetSecretValue("shop", "mysql", "s3cret")
	w.SetObject("shop", azure.Secrets, "off", azure.Version{Version: "v1", Value: "s3cret", Enabled: new(bool)})
	w.SetObject("shop", azure.Keys, "octet", azure.Version{Version: "v1", Key: json.RawMessage(`{"kty":"oct-HSM"}`)})
	w.SetObject("shop", azure.Keys, "odd", azure.Version{Version: "v1", Key: json.RawMessage(`{"kty":"EC","crv":"P-256K","x":"AQ","y":"Ag"}`)})
	w.SetObject("shop", azure.Secrets, "broken", azure.Version{Version: "v1", Status: 500, Code: "InternalServerError"})
	return version
}

// Each is one line that says what is wrong, whose it is and what to do.
func TestRefusalsSayWhatWouldHelp(t *testing.T) {
	for name, c := range map[string]struct {
		ref    store.Ref
		more   string
		change func(*world)
		reason store.Reason
		want   string
	}{
		"missing":           {ref: store.Ref{Name: "nothing"}, reason: store.NotFound, want: "nothing: there is no secrets/nothing in shop.vault.azure.net, or it was deleted (az keyvault secret recover"},
		"deleted":           {ref: store.Ref{Name: "mysql"}, change: func(w *world) { w.DeleteObject("shop", azure.Secrets, "mysql") }, reason: store.NotFound, want: "or it was deleted"},
		"no such version":   {ref: store.Ref{Name: "mysql", Version: "0123"}, reason: store.NotFound, want: "there is no version 0123 of secrets/mysql"},
		"no version at all": {ref: store.Ref{Name: "mysql", Version: "a b"}, reason: store.Invalid, want: `version "a b" is no version of Key Vault's`},
		"a path":            {ref: store.Ref{Name: "../mysql"}, reason: store.Invalid, want: "is no name that Key Vault has"},
		"disabled":          {ref: store.Ref{Name: "off"}, reason: store.NotFound, want: "secrets/off in shop.vault.azure.net is disabled: enable it"},
		"no certificate":    {ref: store.Ref{Name: "mysql", Type: Certificate}, reason: store.Invalid, want: "no certificate: leave type out"},
		"a symmetric key":   {ref: store.Ref{Name: "octet", Type: Key}, reason: store.Invalid, want: "failed to get key. key type 'oct-HSM' currently not supported"},
		"another curve":     {ref: store.Ref{Name: "odd", Type: Key}, reason: store.Invalid, want: "failed to get key. curve P-256K is not supported"},
		"fails":             {ref: store.Ref{Name: "broken"}, reason: store.Unavailable, want: "shop.vault.azure.net answers HTTP 500 InternalServerError"},
		"no role": {ref: store.Ref{Name: "mysql"}, change: func(w *world) { w.Revoke("") }, reason: store.Denied,
			want: `client aaaaaaaa-0000-0000-0000-000000000001 (service account shop/api) may not read secrets/mysql of shop.vault.azure.net: az role assignment create --role "Key Vault Secrets User" --assignee aaaaaaaa-0000-0000-0000-000000000001 --scope $(az keyvault show --name shop --query id --output tsv)`},
		"no access policy": {ref: store.Ref{Name: "mysql"}, change: func(w *world) { w.Revoke(""); w.AddVault("shop", azure.Vault{AccessPolicies: true}) }, reason: store.Denied,
			want: "az keyvault set-policy --name shop --secret-permissions get list --spn aaaaaaaa-0000-0000-0000-000000000001"},
		"firewall":       {ref: store.Ref{Name: "mysql"}, change: func(w *world) { w.AddVault("shop", azure.Vault{Closed: "firewall"}) }, reason: store.Denied, want: "the firewall of shop.vault.azure.net"},
		"private":        {ref: store.Ref{Name: "mysql"}, change: func(w *world) { w.AddVault("shop", azure.Vault{Closed: "private"}) }, reason: store.Denied, want: "private endpoint"},
		"another tenant": {ref: store.Ref{Name: "mysql"}, change: func(w *world) { w.AddVault("shop", azure.Vault{Tenant: "22222222-2222-3333-4444-555555555555"}) }, reason: store.Invalid, want: "set tenantID to 22222222-2222-3333-4444-555555555555"},
		"a proxy's page": {ref: store.Ref{Name: "mysql"}, change: func(w *world) { w.AddFault(azure.Fault{Service: azure.KeyVault, Garbage: true}) }, reason: store.Unavailable, want: "shop.vault.azure.net"},
		"breaks off":     {ref: store.Ref{Name: "mysql"}, change: func(w *world) { w.AddFault(azure.Fault{Service: azure.KeyVault, Drop: true}) }, reason: store.Unavailable, want: "cannot be read: the connection broke off"},
		"throttled": {ref: store.Ref{Name: "mysql"}, more: ", timeout: 2s", change: func(w *world) {
			w.AddFault(azure.Fault{Service: azure.KeyVault, Status: 429, Code: "Throttled", Message: "later"})
		}, reason: store.Throttled, want: "throttled: shop.vault.azure.net was asked more than it takes"},
		"no value":      {ref: store.Ref{Name: "mysql"}, change: func(w *world) { w.AddFault(azure.Fault{Service: azure.KeyVault, Op: "GetSecret", Status: 200}) }, reason: store.Unavailable, want: "secret value is nil"},
		"another cloud": {ref: store.Ref{Name: "mysql"}, more: ", allowedRegions: [AzureChinaCloud]", reason: store.Denied, want: "region AzurePublicCloud is not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.fill()
			if c.change != nil {
				c.change(w)
			}
			_, err := w.read(t, c.more, c.ref)
			if store.ReasonOf(err) != c.reason || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("got %s: %v\nwant %s: … %s …", store.ReasonOf(err), err, c.reason, c.want)
			}
			if strings.Contains(fmt.Sprint(err), "s3cret") {
				t.Error("got the value in the error")
			}
		})
	}
}

func TestAVaultIsAskedForItsChallengeOnceAndEntraOncePerIdentity(t *testing.T) {
	w := newWorld(t)
	w.fill()
	w.SetLatency("", 20*time.Millisecond) // all begin before the first is answered
	read := func(account string) {
		o, err := w.open(t, "", w.identity(account))
		if err == nil {
			_, err = o.Fetch(t.Context(), []store.Ref{{Name: "mysql"}}, func(int, store.Secret) {})
		}
		if err != nil {
			t.Errorf("got the error %v, want none", err)
		}
	}
	var running sync.WaitGroup
	for _, account := range []string{"api", "web", "api", "web"} {
		running.Go(func() { read(account) })
	}
	running.Wait()

	for op, want := range map[string]int{"Challenge": 1, "Token": 2, "GetSecret": 4, "InstanceDiscovery": 0, "OpenIDConfiguration": 0} {
		if got := w.Count(op); got != want {
			t.Errorf("%s: got %d calls, want %d", op, got, want)
		}
	}
}

func TestATokenThatAVaultNoLongerTakesIsMadeAnewOnce(t *testing.T) {
	w := newWorld(t)
	w.fill()
	for range 2 {
		if _, err := w.read(t, "", store.Ref{Name: "mysql"}); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		w.RevokeAll()
	}
	if got := w.Count("Token"); got != 2 {
		t.Errorf("got %d sign-ins, want 2", got)
	}
}

// All reads of a mount find a revoked token refused at nearly the same time.
func TestManyReadsThatFindATokenRefusedSignInOnceAndAllSucceed(t *testing.T) {
	w := newWorld(t)
	refs := make([]store.Ref, 40)
	for i := range refs {
		refs[i].Name = fmt.Sprint("secret-", i)
		w.SetSecretValue("shop", refs[i].Name, "s3cret")
	}
	o, err := w.open(t, "", w.identity("api"))
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
		t.Errorf("got %d sign-ins, want one and one for each time that the token was revoked", got)
	}
}

// certificate is self-signed, with its key.
func certificate(t testing.TB) (der []byte, bundle string, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("got the error %v, want a key", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shop"}}
	if der, err = x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key); err != nil {
		t.Fatalf("got the error %v, want a certificate", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatalf("got the error %v, want a PKCS#8 key", err)
	}
	bundle = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return der, bundle, key
}

func TestACertificateComesWithItsKeyAndItsMediaType(t *testing.T) {
	w := newWorld(t)
	der, bundle, _ := certificate(t)
	kid := "https://shop.vault.azure.net/keys/web/v1"
	for name, contentType := range map[string]string{"web": PEM, "bag": PKCS12, "odd": "text/plain", "none": ""} {
		w.SetObject("shop", azure.Secrets, name, azure.Version{Version: "v1", Value: bundle, ContentType: contentType, KID: kid})
	}
	w.SetObject("shop", azure.Certificates, "web", azure.Version{Version: "v1", Cer: der})

	for name, want := range map[string]string{"web": PEM, "bag": PKCS12, "odd": UnknownCertificate + "text/plain", "none": UnknownCertificate} {
		got, err := w.read(t, "", store.Ref{Name: name, Type: Certificate})
		if err != nil || got.Media != want || string(got.Value) != bundle || got.Version != "v1" {
			t.Errorf("%s: got the media type %q, version %q and the error %v, want %q of v1 with the key", name, got.Media, got.Version, err, want)
		}
	}
	got, err := w.read(t, "", store.Ref{Name: "web", Type: PublicCertificate})
	if want := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil || !bytes.Equal(got.Value, want) || got.Media != "" {
		t.Errorf("got the media type %q and the error %v, want the leaf alone", got.Media, err)
	}
}

func TestAKeyIsItsPublicHalf(t *testing.T) {
	w := newWorld(t)
	_, _, key := certificate(t)
	raw := base64.RawURLEncoding
	public, err := key.PublicKey.ECDH()
	if err != nil {
		t.Fatalf("got the error %v, want a public key", err)
	}
	point := public.Bytes()[1:]
	w.SetObject("shop", azure.Keys, "sign", azure.Version{Version: "v1", Key: fmt.Appendf(nil,
		`{"kty":"EC-HSM","crv":"P-256","x":%q,"y":%q}`, raw.EncodeToString(point[:32]), raw.EncodeToString(point[32:]))})

	got, err := w.read(t, "", store.Ref{Name: "sign", Type: Key})
	block, _ := pem.Decode(got.Value)
	if err != nil || block == nil || block.Type != "PUBLIC KEY" {
		t.Fatalf("got the error %v, want PUBLIC KEY", err)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil || !key.PublicKey.Equal(parsed) {
		t.Errorf("got %v and the error %v, want the key that the vault holds", parsed, err)
	}
}

// letters are versions a (the newest) to e, of which b is disabled.
func (w *world) letters() {
	var versions []azure.Version
	for i, v := range []string{"c", "e", "b", "a", "d"} {
		versions = append(versions, azure.Version{Version: v, Value: strings.ToUpper(v), Created: 1700000000 - 100*int64(v[0]-'a')})
		if v == "b" {
			versions[i].Enabled = new(bool)
		}
	}
	w.SetObject("shop", azure.Secrets, "letters", append(versions, azure.Version{Version: "z", Value: "Z", NoAttributes: true})...)
}

func TestAHistoryIsWhatIsEnabledTheNewestFirst(t *testing.T) {
	w := newWorld(t)
	w.letters()
	o, err := w.open(t, "", w.identity("api"))
	if err != nil {
		t.Fatalf("the store does not open: %v", err)
	}
	historian := o.Store.(store.Historian)

	for _, c := range []struct {
		start string
		limit int
		want  string
	}{{"", 3, "a c d"}, {"", 10, "a c d e"}, {"c", 2, "c d"}, {"e", 5, "e"}} {
		refs, err := historian.History(t.Context(), store.Ref{Name: "letters", Version: c.start}, c.limit)
		var got []string
		for _, r := range refs {
			got = append(got, r.Version)
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%d from %q: got %q and the error %v, want %s", c.limit, c.start, got, err, c.want)
		}
	}
	if _, err := historian.History(t.Context(), store.Ref{Name: "letters", Version: "b"}, 5); store.ReasonOf(err) != store.NotFound {
		t.Errorf("from a disabled version: got %v, want not_found", err)
	}
}

func TestTheNewestVersionOfATimeIsRead(t *testing.T) {
	w := newWorld(t)
	w.letters()
	for created, want := range map[int64]string{1700000000: "A", 1699999999: "C", 1699999700: "D"} {
		got, err := w.read(t, "", store.Ref{Name: "letters", Extra: NotAfter(time.Unix(created, 0))})
		if err != nil || string(got.Value) != want {
			t.Errorf("at %d: got %q and the error %v, want %s", created, []byte(got.Value), err, want)
		}
	}
	_, err := w.read(t, "", store.Ref{Name: "letters", Extra: NotAfter(time.Unix(1, 0))})
	if store.ReasonOf(err) != store.NotFound || !strings.Contains(fmt.Sprint(err), "no versions found before objectNotAfter: 1970-01-01T00:00:01Z") {
		t.Errorf("before all: got %v, want not_found and the sentence", err)
	}
}

func TestFindGoesThroughAllPagesByPatternAndTags(t *testing.T) {
	w := newWorld(t)
	for i := range 60 {
		w.SetObject("shop", azure.Secrets, fmt.Sprintf("find-%02d", i), azure.Version{Version: "v1", Value: "x", Tags: map[string]string{"even": fmt.Sprint(i%2 == 0)}})
	}
	w.SetObject("shop", azure.Secrets, "find-off", azure.Version{Version: "v1", Value: "x", Enabled: new(bool)})
	o, err := w.open(t, "", w.identity("api"))
	if err != nil {
		t.Fatalf("the store does not open: %v", err)
	}

	got, err := o.List(t.Context(), store.Filter{Regexp: "^find-5", Tags: "even=true"}, 500)
	var names []string
	for _, r := range got {
		names = append(names, r.Name)
	}
	if want := []string{"find-50", "find-52", "find-54", "find-56", "find-58"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("got %q and the error %v, want %q", names, err, want)
	}
	if n := w.Count("ListSecretProperties"); n != 3 {
		t.Errorf("got %d pages, want 3", n)
	}
}

func TestASecondVaultIsAskedOnlyWhereTheFirstDoesNotAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		fault azure.Fault
		want  string
		fails store.Reason
	}{
		"answers 500":   {fault: azure.Fault{Status: 500, Code: "InternalServerError"}, want: "second"},
		"is unreached":  {fault: azure.Fault{Drop: true}, want: "second"},
		"throttles":     {fault: azure.Fault{Status: 429, Code: "Throttled"}, want: "second"},
		"denies":        {fault: azure.Fault{Op: "GetSecret", Status: 403, Code: "Forbidden"}, fails: store.Denied},
		"has none such": {fault: azure.Fault{Op: "GetSecret", Status: 404, Code: "SecretNotFound"}, fails: store.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.SetSecretValue("shop", "mysql", "first")
			w.SetSecretValue("spare", "mysql", "second")
			c.fault.Service, c.fault.Region = azure.KeyVault, "shop"
			w.AddFault(c.fault)

			got, err := w.read(t, ", failoverVault: spare", store.Ref{Name: "mysql"})
			if c.want != "" && (err != nil || string(got.Value) != c.want) {
				t.Errorf("got %q and the error %v, want %s", []byte(got.Value), err, c.want)
			}
			if c.want == "" && (err == nil || store.ReasonOf(err) != c.fails) {
				t.Errorf("got %v, want %s of the first vault", err, c.fails)
			}
		})
	}
}

func TestWhatIsOutOfItsTimeIsToldOfOrRefused(t *testing.T) {
	w := newWorld(t)
	now := w.clock.Now()
	w.SetObject("shop", azure.Secrets, "over", azure.Version{Version: "v1", Value: "x", Expires: now.Add(-time.Hour).Unix()})
	w.SetObject("shop", azure.Secrets, "yet", azure.Version{Version: "v1", Value: "x", NotBefore: now.Add(time.Hour).Unix()})
	w.SetObject("shop", azure.Secrets, "now", azure.Version{Version: "v1", Value: "x", NotBefore: now.Add(-time.Hour).Unix(), Expires: now.Add(time.Hour).Unix()})

	for _, name := range []string{"now", "over", "over", "yet"} {
		if _, err := w.read(t, "", store.Ref{Name: name}); err != nil {
			t.Errorf("%s: got the error %v, want it delivered", name, err)
		}
	}
	if len(w.warned) != 2 || !strings.Contains(w.warned[0], "secrets/over of shop.vault.azure.net was delivered although it expired at ") ||
		!strings.Contains(w.warned[1], "secrets/yet of shop.vault.azure.net was delivered although it is not to be used before ") {
		t.Errorf("got the warnings %q, want one of over and one of yet", w.warned)
	}
	for name, want := range map[string]bool{"now": true, "over": false, "yet": false} {
		_, err := w.read(t, ", refuseOutOfTime: true", store.Ref{Name: name})
		if (err == nil) != want || err != nil && store.ReasonOf(err) != store.Precondition {
			t.Errorf("%s: got %v, want it delivered: %v", name, err, want)
		}
	}
}

// Who answers in a vault's place must not say whose tokens it is sent, nor where
// a list goes on.
func TestATokenGoesToItsVaultAlone(t *testing.T) {
	const host = "shop.vault.azure.net"
	for header, want := range map[string]string{
		`Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net"`:       "https://vault.azure.net",
		`Bearer authorization="https://login.microsoftonline.com/t", scope="https://vault.azure.net/.default"`: "https://vault.azure.net",
		`Bearer authorization="https://x/t", resource="https://management.azure.com"`:                          "",
		`Bearer authorization="https://x/t", resource="https://evilvault.azure.net"`:                           "",
		`Bearer authorization="https://x/t", resource="https://net"`:                                           "",
		`Bearer authorization="https://x/t", resource="http://vault.azure.net"`:                                "",
		`Basic realm="x"`: "",
		``:                "",
	} {
		if got, _ := readChallenge(header, host); got.resource != want && want != "" {
			t.Errorf("%s: got %q, want %q", header, got.resource, want)
		}
		if _, ok := readChallenge(header, host); ok != (want != "") {
			t.Errorf("%s: is taken: %v, want %v", header, ok, want != "")
		}
	}

	v := &visit{vault: &vault{host: host}}
	for link, want := range map[string]bool{
		"": true, "https://shop.vault.azure.net/secrets?$skiptoken=1": true, "https://SHOP.vault.azure.net:443/secrets": true,
		"https://other.vault.azure.net/secrets": false, "http://shop.vault.azure.net/secrets": false, "https://a@shop.vault.azure.net/": false,
	} {
		if _, ok := v.next(&link); ok != want {
			t.Errorf("%s: is followed: %v, want %v", link, ok, want)
		}
	}
}
