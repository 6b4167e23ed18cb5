package vault

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
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
