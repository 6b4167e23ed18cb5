package vault

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/render"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
	vaultstore "github.com/coffre-csi/coffre/provider/store/vault"
)

func read(d Dialect, parameters map[string]string) (plan.Plan, error) {
	return d.Plan(budget.New(context.Background(), nil, ""), request.Request{
		Class: "class", Parameters: parameters, Mode: 0o644, TargetPath: "/t",
		Identity: auth.Identity{Namespace: "shop", ServiceAccount: "api"},
	})
}

func TestVersionsAreTheProvidersOwnWhereItsKeyIsGiven(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	p, err := read(Dialect{Provider: Vault, VersionKey: key}, map[string]string{
		"roleName": "r", "objects": "[{objectName: a, secretPath: p, secretKey: k, filePermission: 0640}]",
	})
	if err != nil {
		t.Fatalf("got the error %v, want a plan", err)
	}
	reply := store.Secret{Value: store.Value(`{"data":{"k":"content"}}`)}
	answers := []plan.Answer{{Found: []plan.Found{{Ref: p.Objects[0].Sources[0].Query.Ref, Secret: reply}}}}
	files, err := render.Files(budget.New(context.Background(), nil, ""), p, answers)
	if err != nil || len(files) != 1 {
		t.Fatalf("got %d files and the error %v, want one", len(files), err)
	}

	h := hmac.New(sha256.New, key)
	h.Write([]byte(`{"ObjectName":"a","SecretPath":"p","SecretKey":"k","Method":"","SecretArgs":null,"FilePermission":416,"Encoding":""}content`))
	if want := base64.URLEncoding.EncodeToString(h.Sum(nil)); files[0].Version != want || files[0].Mode != 0o640 {
		t.Errorf("got the version %s and mode %o, want %s and 640", files[0].Version, files[0].Mode, want)
	}
}

func TestEveryPrefixOfOpenBaoIsReadAndTheFirstWins(t *testing.T) {
	p, err := read(Dialect{Provider: OpenBao}, map[string]string{
		"vaultRoleName": "v", "openbaoRoleName": "o", "baoAddress": "https://bao.example", "vaultAddress": "https://vault.example",
		"objects": "[{objectName: a, secretPath: p}]",
	})
	if err != nil {
		t.Fatalf("got the error %v, want a plan", err)
	}
	_, err = read(Dialect{Provider: OpenBao}, map[string]string{"baoRoleName": "", "roleName": "r", "objects": "[{objectName: a, secretPath: p}]"})
	if err == nil || !strings.Contains(err.Error(), "missing 'roleName'") {
		t.Errorf("got the error %v, want the empty baoRoleName to hide roleName", err)
	}
	s := p.Objects[0].Sources[0].Query.Store.Inline.Settings.(*vaultstore.Settings)
	if s.Address != "https://bao.example" || s.Role != "o" {
		t.Errorf("got the address %s and role %s, want those of bao and openbao", s.Address, s.Role)
	}
}

func TestParametersWithoutEffectAreTold(t *testing.T) {
	parameters := map[string]string{
		"roleName": "r", "objects": "", "vaultAddres": "x", "secretPath": "x", "baoNamespace": "a", "vaultNamespace": "b", "vaultroleName": "r",
	}
	for provider, want := range map[string][]string{
		Vault: {
			`baoNamespace: unknown parameter, which is ignored; did you mean "vaultNamespace"?`,
			`secretPath: unknown parameter, which is ignored; it belongs in an entry of objects`,
			`vaultAddres: unknown parameter, which is ignored; did you mean "vaultAddress"?`,
			`vaultroleName: unknown parameter, which is ignored`,
		},
		OpenBao: {
			`secretPath: unknown parameter, which is ignored; it belongs in an entry of objects`,
			`vaultAddres: unknown parameter, which is ignored; did you mean "vaultAddress"?`,
			`vaultNamespace: is ignored: baoNamespace hides it`,
			`vaultroleName: unknown parameter, which is ignored; did you mean "vaultRoleName"?`,
		},
	} {
		var got []string
		for _, e := range (Dialect{Provider: provider}).Ignored(parameters) {
			got = append(got, e.Error())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", provider, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func FuzzPlan(f *testing.F) {
	f.Add("[{objectName: a, secretPath: secret/data/a, secretKey: k, filePermission: 0640}]", "https://vault.example", false)
	f.Add("- {objectName: a, secretPath: '/v1/p?x=1', secretArgs: {a: [1, {b: c}]}, method: PUT, encoding: hex}", "unix:///x", true)
	f.Add("- {objectName: d, secretPath: p, keys: '*', optional: true, refresh: 5m}", "", true)
	f.Add("- {objectName: t, secretPath: p, template: '{{ .a }}'}", "http://[::1]:8200/prefix/", false)
	f.Add("- &a {objectName: a, secretPath: p, secretArgs: {k: &b [1]}}\n- {<<: *a, objectName: b}", "x", false)
	f.Fuzz(func(t *testing.T, objects, address string, openbao bool) {
		d := Dialect{Provider: Vault}
		if openbao {
			d = Dialect{Provider: OpenBao, VersionKey: []byte("0123456789abcdef0123456789abcdef")}
		}
		p, err := read(d, map[string]string{"roleName": "r", "vaultAddress": address, "objects": objects})
		if err != nil {
			if err.Error() == "" {
				t.Error("got an error without a text")
			}
			return
		}
		for _, o := range p.Objects {
			ref := o.Sources[0].Query.Ref
			if ref.Name == "" || slices.Contains(strings.Split(ref.Name, "/"), "..") && !strings.Contains(ref.Name, "?") {
				t.Errorf("got the path %q, want one below /v1/", ref.Name)
			}
			if reason := plan.PathFault(o.Output.File); reason != "" && !strings.HasSuffix(o.Output.File, "/") {
				t.Errorf("got the file %q, which %s", o.Output.File, reason)
			}
		}
	})
}
