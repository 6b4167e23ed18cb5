package azure_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/coffre-csi/coffre/test/fakes/azure"
)

func TestMicrosoftsClientReadsASecretAfterTheChallenge(t *testing.T) {
	w := start(t, azure.Options{})
	old := w.SetSecretValue(vault, "mysql", "old")
	w.SetSecretValue(vault, "mysql", "new")
	w.Grant(vault, user, shopID)
	c := w.secrets(t, url, w.asShop(t))

	for version, want := range map[string]string{"": "new", old: "old"} {
		if got, err := get(c, "mysql", version); err != nil || got != want {
			t.Errorf("version %q: got %q and the error %v, want %q", version, got, err, want)
		}
	}
	want := []string{
		"keyvault:shop:Challenge", "entra:InstanceDiscovery", "entra:OpenIDConfiguration",
		"entra:Token " + shopID + " (assertion)",
	}
	if got := w.Notation()[:4]; !slices.Equal(got, want) {
		t.Errorf("got the calls %q, want %q", got, want)
	}
	if w.Count("GetSecret") != 2 || w.Count("Challenge") != 1 {
		t.Errorf("got the counts %v, want two reads and one challenge", w.Counts())
	}
	if last := w.Calls()[len(w.Calls())-1]; last.Caller != shopID || last.Region != vault {
		t.Errorf("got the call %+v, want it of %s in %s", last, shopID, vault)
	}
}

func TestKeysAndCertificatesAreRead(t *testing.T) {
	w := start(t, azure.Options{})
	cert, _ := certificate(t)
	w.SetObject(vault, azure.Keys, "sign", azure.Version{Version: "v1", Key: []byte(`{"kty":"EC","crv":"P-256","x":"AQ","y":"Ag"}`)})
	w.SetObject(vault, azure.Certificates, "web", azure.Version{Version: "v1", Cer: cert.Raw, Created: 1700000000})
	w.Grant(vault, "Key Vault Certificate User", shopID)
	cred := w.asShop(t)

	keys := ok[*azkeys.Client](t)(azkeys.NewClient(url, cred, &azkeys.ClientOptions{ClientOptions: w.options()}))
	key, err := keys.GetKey(ctx, "sign", "", nil)
	if err != nil || *key.Key.Crv != azkeys.CurveNameP256 || key.Key.KID.Version() != "v1" || string(key.Key.X) != "\x01" {
		t.Errorf("got %+v and the error %v, want the key's version v1", key.Key, err)
	}

	certs := ok[*azcertificates.Client](t)(azcertificates.NewClient(url, cred, &azcertificates.ClientOptions{ClientOptions: w.options()}))
	got, err := certs.GetCertificate(ctx, "web", "", nil)
	if err != nil || string(got.CER) != string(cert.Raw) || got.ID.Version() != "v1" || got.Attributes.Created.Unix() != 1700000000 {
		t.Errorf("got %+v and the error %v, want the certificate", got.Certificate, err)
	}
}

func TestWhatCannotBeReadIsRefusedAsKeyVaultWordsIt(t *testing.T) {
	w := start(t, azure.Options{})
	w.SetSecretValue(vault, "mysql", "x")
	w.SetSecretValue(vault, "gone", "x")
	w.DeleteObject(vault, azure.Secrets, "gone")
	w.SetObject(vault, azure.Secrets, "off", azure.Version{Version: "v1", Value: "x", Enabled: to.Ptr(false)})
	for name, v := range map[string]azure.Vault{
		"policies": {AccessPolicies: true}, "walled": {Closed: "firewall"}, "private": {Closed: "private"},
	} {
		w.AddVault(name, v)
	}
	w.Grant(vault, user, shopID)

	for _, r := range []struct {
		vault, name, version string
		status               int
		parts                []string
	}{
		{vault, "nothing", "", 404, []string{"SecretNotFound", "A secret with (name/id) nothing was not found in this key vault."}},
		{vault, "mysql", "v9", 404, []string{"(name/id) mysql/v9 was not found"}},
		{vault, "gone", "", 404, []string{"you may be able to recover it"}},
		{vault, "off", "", 403, []string{"Operation get is not allowed on a disabled secret.", "SecretDisabled"}},
		{"policies", "mysql", "", 403, []string{"ForbiddenByPolicy", "does not have secrets get permission on key vault 'policies;location=francecentral'"}},
		{"walled", "mysql", "", 403, []string{"ForbiddenByFirewall", "Client address is not authorized"}},
		{"private", "mysql", "", 403, []string{"ForbiddenByConnection", "Public network access is disabled"}},
		{"unknown", "mysql", "", 404, []string{"no such vault"}},
	} {
		_, err := get(w.secrets(t, "https://"+r.vault+".vault.azure.net", w.asShop(t)), r.name, r.version)
		wantError(t, r.vault+"/"+r.name, err, r.status, r.parts...)
	}
}

func TestARoleReachesAsFarAsItsScope(t *testing.T) {
	w := start(t, azure.Options{})
	for _, name := range []string{"mysql", "redis"} {
		w.SetSecretValue(vault, name, "x")
	}
	c := w.secrets(t, url, w.asShop(t))
	w.Grant(vault, user, "another application")

	_, err := get(c, "mysql", "")
	wantError(t, "without a role", err, 403, "ForbiddenByRbac", "Caller is not authorized to perform action on resource.",
		"appid="+shopID, "Microsoft.KeyVault/vaults/secrets/getSecret/action", "vaults/shop/secrets/mysql")
	w.Grant(vault+"/secrets/mysql", user, shopID)
	if _, err := get(c, "mysql", ""); err != nil {
		t.Errorf("with a role on the secret: got the error %v, want the value", err)
	}
	_, err = get(c, "redis", "")
	wantError(t, "with a role on another secret", err, 403, "ForbiddenByRbac")
	w.Revoke(vault + "/secrets/mysql")
	w.Grant(vault, "secrets get", shopID)
	if _, err := get(c, "redis", ""); err != nil {
		t.Errorf("with a policy: got the error %v, want the value", err)
	}
}

func TestListsArePagedAndVersionsCarryTheirAttributes(t *testing.T) {
	w := start(t, azure.Options{PageSize: 2})
	for i := range 5 {
		w.SetObject(vault, azure.Secrets, fmt.Sprintf("s%d", i),
			azure.Version{Version: "v1", Created: 1, Value: "x"}, azure.Version{Version: "v2", Created: 2, Tags: map[string]string{"env": "prod"}},
			azure.Version{Version: "v3", Created: 3, Enabled: to.Ptr(false), NotBefore: 7, Expires: 9, ContentType: "text/plain"})
	}
	w.Grant(vault, user, shopID)
	c := w.secrets(t, url, w.asShop(t))

	var names []string
	for pager := c.NewListSecretPropertiesPager(nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatalf("a page: %v", err)
		}
		for _, s := range page.Value {
			names = append(names, s.ID.Name())
		}
	}
	if got := strings.Join(names, " "); got != "s0 s1 s2 s3 s4" || w.Count("ListSecretProperties") != 3 {
		t.Errorf("got %s in %d pages, want five secrets in three", got, w.Count("ListSecretProperties"))
	}

	versions := map[string]*azsecrets.SecretProperties{}
	for pager := c.NewListSecretPropertiesVersionsPager("s0", nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatalf("a page: %v", err)
		}
		for _, s := range page.Value {
			versions[s.ID.Version()] = s
		}
	}
	if len(versions) != 3 || *versions["v2"].Tags["env"] != "prod" {
		t.Fatalf("got %v, want three versions, one with a tag", versions)
	}
	a := versions["v3"].Attributes
	if *a.Enabled || a.NotBefore.Unix() != 7 || a.Expires.Unix() != 9 || *versions["v3"].ContentType != "text/plain" {
		t.Errorf("got %+v, want v3 disabled, with its times and type", versions["v3"])
	}
}

func TestAVaultThrottlesAndSaysWhenToComeBack(t *testing.T) {
	w := start(t, azure.Options{})
	w.SetSecretValue(vault, "mysql", "x")
	w.AddVault("other", azure.Vault{})
	w.SetSecretValue("other", "mysql", "x")
	w.Grant(vault, user, shopID)
	w.Grant("other", user, shopID)
	cred := w.asShop(t)
	c, other := w.secrets(t, url, cred), w.secrets(t, "https://other.vault.azure.net", cred)
	for _, c := range []*azsecrets.Client{c, other} { // past the challenge
		if _, err := get(c, "mysql", ""); err != nil {
			t.Fatalf("got the error %v, want the value", err)
		}
	}

	w.SetLimit(azure.Limit{Service: azure.KeyVault, PerSecond: 1, Burst: 1, Per: "region"})
	if _, err := get(c, "mysql", ""); err != nil {
		t.Errorf("got the error %v, want the first to pass", err)
	}
	_, err := get(c, "mysql", "")
	wantError(t, "the second", err, 429, "Throttled", "too many requests")
	var failed *azcore.ResponseError
	if errorsAs(err, &failed) && failed.RawResponse.Header.Get("Retry-After") != "1" {
		t.Errorf("got Retry-After %q, want 1", failed.RawResponse.Header.Get("Retry-After"))
	}
	if _, err := get(other, "mysql", ""); err != nil {
		t.Errorf("got the error %v, want another vault to answer", err)
	}
}

func TestFaultsGarbageAndDrops(t *testing.T) {
	w := start(t, azure.Options{})
	w.SetSecretValue(vault, "mysql", "x")
	w.SetObject(vault, azure.Secrets, "broken", azure.Version{Version: "v1", Status: 500, Code: "InternalError"})
	w.Grant(vault, user, shopID)
	c := w.secrets(t, url, w.asShop(t))
	if _, err := get(c, "mysql", ""); err != nil {
		t.Fatalf("got the error %v, want the value", err)
	}

	_, err := get(c, "broken", "")
	wantError(t, "a version that is an error", err, 500, "InternalError")
	for what, f := range map[string]azure.Fault{
		"an outage": {Service: azure.KeyVault, Region: vault, Status: 503, Code: "ServiceUnavailable", RetryAfter: 2 * time.Second},
		"garbage":   {Service: azure.KeyVault, Garbage: true}, "a drop": {Service: azure.KeyVault, ID: "mysql", Drop: true},
	} {
		remove := w.AddFault(f)
		if _, err := get(c, "mysql", ""); err == nil {
			t.Errorf("%s: got an answer, want an error", what)
		}
		remove()
	}
	if _, err := get(c, "mysql", ""); err != nil {
		t.Errorf("afterwards: got the error %v, want the value", err)
	}
}

func TestASecretIsWrittenUnlessItsNameIsDeleted(t *testing.T) {
	w := start(t, azure.Options{})
	w.Grant(vault, "Key Vault Secrets Officer", shopID)
	c := w.secrets(t, url, w.asShop(t))
	set := func() error {
		_, err := c.SetSecret(ctx, "mysql", azsecrets.SetSecretParameters{Value: to.Ptr("x"), Tags: map[string]*string{"env": to.Ptr("prod")}}, nil)
		return err
	}
	if err := set(); err != nil {
		t.Errorf("got the error %v, want it written", err)
	}
	if got, err := get(c, "mysql", ""); err != nil || got != "x" {
		t.Errorf("got %q and the error %v, want what was written", got, err)
	}
	w.DeleteObject(vault, azure.Secrets, "mysql")
	wantError(t, "a deleted name", set(), 409, "ObjectIsDeletedButRecoverable")
	if _, err := c.GetDeletedSecret(ctx, "mysql", nil); err != nil {
		t.Errorf("got the error %v, want the deleted secret", err)
	}
}

func TestAnExpiredOrForeignTokenIsRefused(t *testing.T) {
	w := start(t, azure.Options{})
	w.SetSecretValue(vault, "mysql", "x")
	w.Grant(vault, user, shopID)
	c := w.secrets(t, url, stale{ok[azcore.AccessToken](t)(w.asShop(t).GetToken(ctx, keyVaultScope))})
	if _, err := get(c, "mysql", ""); err != nil {
		t.Fatalf("got the error %v, want the value", err)
	}
	w.AddVault("foreign", azure.Vault{Tenant: "another"})
	foreign := w.secrets(t, "https://foreign.vault.azure.net", stale{ok[azcore.AccessToken](t)(w.asShop(t).GetToken(ctx, keyVaultScope))})
	_, err := get(foreign, "mysql", "")
	wantError(t, "a token of another tenant", err, 401, "AKV10032", "sts.windows.net/another")

	w.clock.Move(25 * time.Hour)
	_, err = get(c, "mysql", "")
	wantError(t, "an expired token", err, 401, "TokenExpired")

	graph := ok[azcore.AccessToken](t)(w.assert(t, shopID, w.token("shop", "api", azure.TokenExchange)).
		GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://graph.microsoft.com/.default"}}))
	_, err = get(w.secrets(t, url, stale{graph}), "mysql", "")
	wantError(t, "a token for another resource", err, 401, "Invalid audience")
}
