package azure

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coffre-csi/coffre/auth"
	azureauth "github.com/coffre-csi/coffre/auth/azure"
	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
	azurestore "github.com/coffre-csi/coffre/provider/store/azure"
)

// class is one that works, with changes; "" takes a parameter out.
func class(changes map[string]string) map[string]string {
	p := map[string]string{"keyvaultName": "shop", "tenantId": "t", "clientID": "c", "objects": "- {objectName: a, objectType: secret}"}
	for k, v := range changes {
		p[k] = v
		if v == "" {
			delete(p, k)
		}
	}
	return p
}

func identity() auth.Identity {
	token := auth.NewToken("no-jwt", time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))
	return auth.Identity{Namespace: "shop", ServiceAccount: "api", Pod: auth.Pod{Name: "api-1", UID: "u"}, Tokens: auth.Tokens{azureauth.TokenExchangeAudience: token}}
}

func read(d Dialect, parameters map[string]string) (plan.Plan, error) {
	return d.Plan(budget.New(context.Background(), nil, ""), request.Request{Class: "c", Identity: identity(), Parameters: parameters, Mode: 0o644, TargetPath: "/t"})
}

func settings(t *testing.T, p plan.Plan) azurestore.Settings {
	t.Helper()
	s, ok := p.Objects[0].Sources[0].Query.Store.Inline.Settings.(*azurestore.Settings)
	if !ok {
		t.Fatalf("got the settings %T, want those of a vault", p.Objects[0].Sources[0].Query.Store.Inline.Settings)
	}
	return *s
}

func TestEveryWayToSignInReachesTheStore(t *testing.T) {
	for what, c := range map[string]struct {
		changes map[string]string
		secrets auth.Secrets
		method  azureauth.Method
		client  string
	}{
		"a client id":           {nil, nil, azureauth.WorkloadIdentity, "c"},
		"the annotation's":      {map[string]string{"clientID": ""}, nil, azureauth.WorkloadIdentity, ""},
		"a service principal":   {map[string]string{"clientID": ""}, auth.Secrets{"clientid": "x"}, azureauth.ServicePrincipal, ""},
		"the node's":            {map[string]string{"clientID": "", modeVM: "true"}, nil, azureauth.ManagedIdentity, ""},
		"a user assigned":       {map[string]string{"clientID": "", modeVM: " True ", "userAssignedIdentityID": "u"}, nil, azureauth.ManagedIdentity, "u"},
		"with another's id":     {map[string]string{modeVM: "1", "userAssignedIdentityID": "u"}, nil, azureauth.ManagedIdentity, "u"},
		"pod identity":          {map[string]string{"clientID": "", modePod: "true"}, nil, azureauth.PodIdentity, ""},
		"the token proxy":       {map[string]string{modeProxy: "true"}, nil, azureauth.TokenProxy, "c"},
		"no mode is on by this": {map[string]string{modeProxy: "false", modePod: "0"}, nil, azureauth.WorkloadIdentity, "c"},
	} {
		id := identity()
		id.Secrets = c.secrets
		p, err := Dialect{}.Plan(nil, request.Request{Class: "c", Identity: id, Parameters: class(c.changes)})
		if err != nil {
			t.Errorf("%s: got the error %v, want a plan", what, err)
			continue
		}
		if s := settings(t, p); s.Auth != c.method || s.ClientID != c.client || s.Vault != "shop" || s.TenantID != "t" {
			t.Errorf("%s: got %+v, want %s as %q", what, s, c.method, c.client)
		}
	}
}

func TestEveryFieldReachesThePlan(t *testing.T) {
	p, err := read(Dialect{}, class(map[string]string{"forceRefresh": "x", "failoverVault": "other", "objects": `
array:
- |
  objectName: a
  objectType: secret
  objectAlias: dir/b
  objectVersion: v1
  filePermission: 0640
  objectEncoding: BASE64
- |
  objectName: h
  objectType: key
  objectVersionHistory: 3
  objectVersion: latest
- |
  objectName: c
  objectType: cert
  objectNotAfter: 2026-01-31T12:00:00Z
  optional: true
  refresh: 5m
`}))
	if err != nil || len(p.Objects) != 3 || !p.AsListed {
		t.Fatalf("got %d objects and the error %v, want three as they are listed", len(p.Objects), err)
	}
	a, h, c := p.Objects[0], p.Objects[1], p.Objects[2]
	if q := a.Sources[0].Query; q.Ref != (store.Ref{Name: "a", Version: "v1", Type: azurestore.Secret}) || q.Volume == "" || q.Force == "" {
		t.Errorf("a: got %+v, want version v1, read on every republish, and forced", q)
	}
	if o := a.Output; o.File != "dir/b" || o.Mode != 0o640 || o.ID != "secret/a" || !o.StoreVersion || o.Select == nil {
		t.Errorf("a: got %+v, want dir/b with mode 0640", o)
	}
	if q := h.Sources[0].Query; q.Ref != (store.Ref{Name: "h", Type: azurestore.Key}) || q.History != 3 || h.Output.File != "h/" || h.Output.ID != "key/h" {
		t.Errorf("h: got %+v in %q, want three versions below h/", q, h.Output.File)
	}
	want := store.Ref{Name: "c", Type: azurestore.PublicCertificate, Extra: azurestore.NotAfter(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC))}
	if q := c.Sources[0].Query; q.Ref != want || !q.Optional || q.Refresh != 5*time.Minute || q.Volume != "" {
		t.Errorf("c: got %+v, want %+v, optional, every 5m", q, want)
	}
	if s := settings(t, p); s.FailoverVault != "other" {
		t.Errorf("got the failover vault %q, want other", s.FailoverVault)
	}
}

func TestWhatItsUsersAskedForReachesThePlan(t *testing.T) {
	p, err := read(Dialect{}, class(map[string]string{"objects": `
- {objectName: tls, objectType: secret, splitCertAndKey: true}
- {objectName: tls, objectType: secret, objectFormat: jks, objectPassword: word, objectAlias: store.jks}
- {objectName: app, objectType: secret, jsonKey: password, objectAlias: pw}
- {objectName: app, objectType: secret, jsonKeys: "*", objectAlias: app}
- {objectName: "team-", objectType: secret, objectNameMatch: prefix, objectTags: {env: prod}, objectAlias: found}
- {objectName: x, objectType: secret, keyvaultName: second}
`}))
	if err != nil {
		t.Fatalf("got the error %v, want a plan", err)
	}
	var got []string
	for _, o := range p.Objects {
		got = append(got, fmt.Sprintf("%s %s%s%v %d", o.Output.File, o.Output.Key, o.Output.Format, o.Output.Keys != nil, len(o.Sources)))
	}
	want := "tls.crt false 1|tls.key false 1|tls false 1|store.jks jksfalse 2|pw passwordfalse 1|app/ true 1|found/ false 1|x false 1"
	if text := strings.Join(got, "|"); text != want {
		t.Errorf("got %s\nwant %s", text, want)
	}
	if q := p.Objects[6].Sources[0].Query; *q.Find != (store.Filter{Prefix: "team-", Tags: "env=prod"}) || q.Refresh != listed {
		t.Errorf("got %+v, want a search that looks again after %s", q, listed)
	}
	if name := p.Objects[7].Sources[0].Query.Store.Inline.Name; name != "second" {
		t.Errorf("got the store %s, want second", name)
	}
}

func TestTheFlagSplitsEveryCertificate(t *testing.T) {
	p, err := read(Dialect{SeparateFiles: true}, class(map[string]string{"objects": `
- {objectName: a, objectType: secret, objectFormat: jks, objectPassword: word}
- {objectName: h, objectType: secret, objectVersionHistory: 2}
- {objectName: k, objectType: key}
- {objectName: n, objectType: secret, splitCertAndKey: false}
- {objectName: j, objectType: secret, jsonKey: x}
`}))
	if err != nil {
		t.Fatalf("got the error %v, want a plan", err)
	}
	var got []string
	for _, o := range p.Objects {
		name := o.Output.File
		if o.Output.Rewrite != nil {
			name += "N" + o.Output.Rewrite.With
		}
		got = append(got, fmt.Sprintf("%s%s %d", name, o.Output.Format, len(o.Sources)))
	}
	want := "a.crt 1|a.key 1|ajks 2|h/N.crt 1|h/N.key 1|h/ 1|k 1|n 1|j 1"
	if text := strings.Join(got, "|"); text != want {
		t.Errorf("got %s\nwant %s", text, want)
	}
}

func TestMistakesHaveTheSentencesOfTheAzureProvider(t *testing.T) {
	const before = "failed to mount objects, error: "
	object := func(fields string) map[string]string {
		return map[string]string{"objects": "array:\n- |\n  " + strings.ReplaceAll(fields, "\n", "\n  ")}
	}
	for _, c := range []struct {
		changes map[string]string
		want    string
	}{
		{map[string]string{"keyvaultName": ""}, "keyvaultName is not provided"},
		{map[string]string{"tenantId": "", "objects": ""}, "tenantId is not provided"},
		{map[string]string{"tenantId": "bad tenant!"}, "failed to get keyvault client: invalid tenantID. You can locate your tenantID by following"},
		{map[string]string{modePod: "tru"}, `failed to parse usePodIdentity flag, error: strconv.ParseBool: parsing "tru": invalid syntax`},
		{map[string]string{modePod: "true", modeVM: "true"}, "only one identity mode can be enabled at a time: usePodIdentity, useVMManagedIdentity, or useAzureTokenProxy"},
		{map[string]string{"cloudName": "AzureCloud1"}, `cloudName AzureCloud1 is not valid, error: autorest/azure: There is no cloud environment matching the name "AZURECLOUD1"`},
		{map[string]string{"objects": ""}, "objects is not set"},
		{map[string]string{"objects": "invalid"}, "failed to yaml unmarshal objects, error: yaml: unmarshal errors:\n  line 1: cannot unmarshal !!str `invalid` into types.StringArray"},
		{map[string]string{"objects": "array:\n  - objectName: a\n"}, "failed to yaml unmarshal objects, error: yaml: unmarshal errors:\n  line 2: cannot unmarshal !!map into string; begin each entry"},
		{map[string]string{"objects": "array:\n- \"objectName: [\"\n"}, "unmarshal failed for keyVaultObjects at index 0, error: yaml: line 1: did not find expected node content"},
		{map[string]string{"keyvaultName": "kv"}, `failed to get vault: Invalid vault name: "kv", must be between 3 and 24 chars`},
		{map[string]string{"keyvaultName": "kv_test"}, `failed to get vault: Invalid vault name: "kv_test", must match [-a-zA-Z0-9]{3,24}`},
		{map[string]string{"refresh": "soon"}, `refresh: "soon" is no refresh time`},
		{map[string]string{"refuseOutOfTime": "x"}, "failed to parse refuseOutOfTime flag"},
		{object("objectType: secret"), "failed to get objectType:secret, objectName:, objectVersion:: file name must not be empty"},
		{object("objectType: secret\nobjectAlias: x"), "failed to get objectType:secret, objectName:, objectVersion:: parameter name cannot be empty"},
		{object("objectName: a\nobjectType: Secret"), "failed to get objectType:Secret, objectName:a, objectVersion:: Invalid vaultObjectTypes. Should be secret, key, or cert"},
		{object("objectName: a\nobjectType: secret\nobjectAlias: a..b"), "failed to get objectType:secret, objectName:a, objectVersion:: file name must not contain '..'"},
		{object("objectName: a\nobjectType: secret\nobjectAlias: /a"), "file name must be a relative path"},
		{object("objectName: a\nobjectType: secret\nobjectAlias: ./a"), `file name "./a" is not in its shortest form`},
		{object("objectName: a\nobjectType: cert\nobjectFormat: pfx"), "PFX format only supported for objectType: secret"},
		{object("objectName: a\nobjectType: secret\nobjectFormat: der"), "invalid objectFormat: der, should be PEM or PFX"},
		{object("objectName: a\nobjectType: key\nobjectEncoding: hex"), "objectEncoding only supported for objectType: secret"},
		{object("objectName: a\nobjectType: secret\nobjectEncoding: rot13"), "invalid objectEncoding: rot13, should be hex, base64 or utf-8"},
		{object("objectName: a\nobjectType: secret\nobjectVersionHistory: many"), "unmarshal failed for keyVaultObjects at index 0, error: yaml: unmarshal errors:\n  line 3: cannot unmarshal !!str `many` into int32"},
		{object("objectName: a\nobjectType: secret\nobjectName: b"), `mapping key "objectName" already defined at line 1`},
		{object("objectName: a\nobjectType: secret\nfilePermission: 0900"), `filePermission: "0900" is no octal file mode from 0000 to 0777`},
		{object("objectName: a\nobjectType: secret\nfilePermission: \"-1\""), `filePermission: "-1" is no octal file mode`},
		{object("objectName: a\nobjectType: secret\nfilePermission: 7777"), `filePermission: "7777" is no octal file mode`},
		{object("objectName: a\nobjectType: secret\nobjectVersion: v\nobjectNotAfter: 2026-01-31T12:00:00Z"), "objectVersion and objectNotAfter are mutually exclusive"},
		{object("objectName: a\nobjectType: secret\nobjectNotAfter: tomorrow"), `objectNotAfter: "tomorrow" is no time of RFC 3339`},
		{object("objectName: a\nobjectType: secret\nobjectFormat: jks"), "objectPassword is missing"},
		{object("objectName: a\nobjectType: secret\nobjectPassword: b"), "objectPassword locks the file of objectFormat pfx and jks"},
		{object("objectName: a\nobjectType: secret\njsonKeys: all"), `jsonKeys: "all" must be "*"`},
		{object("objectName: a\nobjectType: key\njsonKey: x"), "are for objectType: secret"},
		{object("objectName: a\nobjectType: secret\njsonKey: x\nsplitCertAndKey: true"), "cannot stand beside each other"},
		{object("objectName: \"(\"\nobjectType: secret\nobjectNameMatch: regexp"), "is no regular expression"},
		{object("objectName: a\nobjectType: secret\nobjectNameMatch: glob"), `objectNameMatch: "glob" is neither prefix nor regexp`},
		{object("objectName: a\nobjectType: secret\nobjectTags: {a: b}"), "objectTags go with objectNameMatch"},
		{object("objectName: a\nobjectType: secret\nrefresh: x"), `refresh: "x" is no refresh time`},
		{map[string]string{"objects": "[" + strings.Repeat("{objectName: a},", 501) + "]"}, "objects lists 501 objects; the limit is 500"},
	} {
		_, err := read(Dialect{}, class(c.changes))
		if err == nil || !strings.HasPrefix(err.Error(), before) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v\n got %v\nwant %s%s", c.changes, err, before, c.want)
		}
		if code := status.Code(err); code != codes.Unknown {
			t.Errorf("%v: got the code %s, want Unknown", c.changes, code)
		}
	}
}

func TestWithoutObjectsNoVaultIsNeeded(t *testing.T) {
	for _, objects := range []string{"array:", "other: [x]", "array: []"} {
		p, err := read(Dialect{}, class(map[string]string{"keyvaultName": "kv_bad", "objects": objects}))
		if err != nil || len(p.Objects) != 0 {
			t.Errorf("%s: got %d objects and the error %v, want none", objects, len(p.Objects), err)
		}
	}
}

func TestAClientIDAsksForATokenInTheNodesModesToo(t *testing.T) {
	for what, c := range map[string]struct {
		tokens auth.Tokens
		want   string
	}{
		"no tokens":    {nil, "service account tokens not found"},
		"other tokens": {auth.Tokens{"x": auth.NewToken("y", time.Time{})}, "token for audience api://AzureADTokenExchange not found"},
	} {
		id := identity()
		id.Tokens = c.tokens
		_, err := Dialect{}.Plan(nil, request.Request{Identity: id, Parameters: class(map[string]string{modeVM: "true"})})
		want := "failed to build auth config for mode VMManagedIdentity: failed to parse workload identity tokens, error: " + c.want
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", what, err, want)
		}
	}
}

func TestWhatIsIgnoredIsSaidBeforeItIsApplied(t *testing.T) {
	got := Dialect{}.Ignored(class(map[string]string{"resourceGroup": "rg", "useVmManagedIdentity": "true", "objectName": "a", "objects": `array:
- |
  objectName: a
  objectTyp: secret
- "tenantId: t"
`})).Error()
	for _, want := range []string{
		`useVmManagedIdentity: unknown parameter, which is ignored; did you mean "useVMManagedIdentity"?`,
		`objectName: unknown parameter, which is ignored; it belongs in an entry of objects`,
		`objects[0].objectTyp: unknown field, which is ignored; did you mean "objectType"?`,
		`objects[1].tenantId: unknown field, which is ignored; it belongs in parameters`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s\nwant %s in it", got, want)
		}
	}
	if strings.Contains(got, "resourceGroup") {
		t.Errorf("got %s, want nothing of resourceGroup", got)
	}
	for _, e := range (Dialect{}).Ignored(class(map[string]string{"objects": "array:\n- |\n  objectName: a\n  objectTyp: secret\n"})) {
		if e.Line != 4 {
			t.Errorf("%s: got line %d, want 4", e, e.Line)
		}
	}
	plain := Dialect{}.Ignored(class(map[string]string{"objects": "- {objectName: a, alias: b}\n"}))
	if len(plain) != 1 || plain[0].Path != "objects[0].alias" {
		t.Errorf("a plain list: got %v, want the unknown field", plain)
	}
}

func FuzzPlan(f *testing.F) {
	f.Add("array:\n- |\n  objectName: a\n  objectType: secret\n")
	f.Add("- {objectName: a, objectType: cert, objectVersionHistory: 3}\n- \"objectName: b\"\n")
	f.Add("array: &a [*a]")
	f.Fuzz(func(t *testing.T, objects string) {
		p, err := read(Dialect{SeparateFiles: true}, class(map[string]string{"objects": objects}))
		if err != nil && len(p.Objects) > 0 {
			t.Error("a plan comes with an error")
		}
		for _, o := range p.Objects {
			if reason := plan.PathFault(strings.TrimSuffix(o.Output.File, "/")); reason != "" && o.Output.File != "" {
				t.Errorf("the file %q %s", o.Output.File, reason)
			}
		}
	})
}
