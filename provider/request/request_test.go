package request

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

func jwt(subject string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":%q}`, subject)) + ".c2ln"
}

func attributes(more map[string]string) string {
	m := map[string]string{
		"secretProviderClass": "mysql", "store": "aws-paris",
		"csi.storage.k8s.io/pod.name": "api-1", "csi.storage.k8s.io/pod.namespace": "shop",
		"csi.storage.k8s.io/pod.uid": "u", "csi.storage.k8s.io/serviceAccount.name": "api", "csi.storage.k8s.io/ephemeral": "true",
	}
	for k, v := range more {
		m[k] = v
	}
	b, _ := json.Marshal(m)
	return string(b)
}

func tokensOf(audience, token string) string {
	b, _ := json.Marshal(map[string]map[string]string{audience: {"token": token, "expirationTimestamp": "2099-01-01T00:00:00Z"}})
	return string(b)
}

func TestRequestIsTyped(t *testing.T) {
	own := jwt("system:serviceaccount:shop:api")
	for name, c := range map[string]struct {
		attributes, secrets string
	}{
		"tokens in attributes":    {attributes(map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": tokensOf("aud", own)}), `{"k":"v"}`},
		"tokens in secrets alone": {attributes(nil), `{"k":"v","csi.storage.k8s.io/serviceAccount.tokens":` + fmt.Sprintf("%q", tokensOf("aud", own)) + `}`},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Parse(&pb.MountRequest{Attributes: c.attributes, Secrets: c.secrets, TargetPath: "/t", Permission: "420"})
			if err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			if r.Class != "mysql" || r.Mode != 0o644 || r.Identity.Namespace != "shop" || r.Identity.ServiceAccount != "api" || r.Identity.Pod.UID != "u" {
				t.Errorf("got %+v", r)
			}
			if len(r.Parameters) != 1 || r.Parameters["store"] != "aws-paris" {
				t.Errorf("parameters hold more than the SecretProviderClass's: %v", r.Parameters)
			}
			if r.Identity.Tokens["aud"].Reveal() != own || r.Identity.Tokens["aud"].Expires.Year() != 2099 {
				t.Error("the token is lost")
			}
			if len(r.Identity.Secrets) != 1 || r.Identity.Secrets["k"] != "v" {
				t.Errorf("secrets: %v", r.Identity.Secrets.Keys())
			}
		})
	}
}

func TestAbsentSecretsHaveThreeSpellings(t *testing.T) {
	for _, secrets := range []string{"", "null", "{}"} {
		r, err := Parse(&pb.MountRequest{Attributes: attributes(nil), Secrets: secrets, TargetPath: "/t", Permission: "420"})
		if err != nil || r.Identity.Secrets != nil {
			t.Errorf("%q: %v %v", secrets, r.Identity.Secrets, err)
		}
	}
}

func TestBadRequestSaysWhichPartAndQuotesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		req  *pb.MountRequest
		want string
	}{
		"no target":            {&pb.MountRequest{Attributes: attributes(nil), Permission: "420"}, "Missing mount path"},
		"no attributes":        {&pb.MountRequest{TargetPath: "/t", Permission: "420"}, "failed to unmarshal attributes, error: there are none"},
		"empty attributes":     {&pb.MountRequest{Attributes: "{}", TargetPath: "/t", Permission: "420"}, "failed to unmarshal attributes, error: there are none"},
		"no pod":               {&pb.MountRequest{Attributes: attributes(map[string]string{"csi.storage.k8s.io/pod.name": ""}), TargetPath: "/t", Permission: "420"}, "names no csi.storage.k8s.io/pod.name,"},
		"no namespace":         {&pb.MountRequest{Attributes: attributes(map[string]string{"csi.storage.k8s.io/pod.namespace": ""}), TargetPath: "/t", Permission: "420"}, "names no csi.storage.k8s.io/pod.namespace,"},
		"attributes":           {&pb.MountRequest{Attributes: `{"a":"hunter2`, TargetPath: "/t", Permission: "420"}, "failed to unmarshal attributes, error: not JSON at byte 13"},
		"attribute of a type":  {&pb.MountRequest{Attributes: `{"a":{"b":"hunter2"}}`, TargetPath: "/t", Permission: "420"}, "failed to unmarshal attributes, error: a JSON object"},
		"secrets":              {&pb.MountRequest{Attributes: attributes(nil), Secrets: `["hunter2"]`, TargetPath: "/t", Permission: "420"}, "failed to unmarshal secrets, error: a JSON array"},
		"huge attributes":      {&pb.MountRequest{Attributes: `{"a":"` + strings.Repeat("hunter2", 1<<19) + `"}`, TargetPath: "/t", Permission: "420"}, "over the limit"},
		"permission":           {&pb.MountRequest{Attributes: attributes(nil), TargetPath: "/t", Permission: ""}, "failed to unmarshal file permission, error:"},
		"permission in octal":  {&pb.MountRequest{Attributes: attributes(nil), TargetPath: "/t", Permission: `"0644"`}, "failed to unmarshal file permission, error:"},
		"permission too large": {&pb.MountRequest{Attributes: attributes(nil), TargetPath: "/t", Permission: "512"}, "failed to unmarshal file permission, error:"},
		"negative permission":  {&pb.MountRequest{Attributes: attributes(nil), TargetPath: "/t", Permission: "-1"}, "failed to unmarshal file permission, error:"},
		"tokens":               {&pb.MountRequest{Attributes: attributes(map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": "hunter2"}), TargetPath: "/t", Permission: "420"}, "failed to unmarshal service account tokens (serviceAccount.tokens)"},
		"somebody else's": {&pb.MountRequest{Attributes: attributes(map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": tokensOf("aud", jwt("system:serviceaccount:bank:vault"))}), TargetPath: "/t", Permission: "420"},
			`the token for audience "aud" belongs to "system:serviceaccount:bank:vault", not to the pod's service account shop/api`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(c.req)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error quotes the request: %v", err)
			}
		})
	}
}

// The Azure provider asks for no service account; kubelet always names one. Who
// has none has no token either.
func TestWithoutAServiceAccountNoTokenIsTaken(t *testing.T) {
	none := map[string]string{"csi.storage.k8s.io/serviceAccount.name": ""}
	r, err := Parse(&pb.MountRequest{Attributes: attributes(none), TargetPath: "/t", Permission: "420"})
	if err != nil || r.Identity.ServiceAccount != "" || r.Identity.Namespace != "shop" {
		t.Errorf("got %+v and the error %v, want a request without one", r, err)
	}
	none["csi.storage.k8s.io/serviceAccount.tokens"] = tokensOf("aud", jwt("system:serviceaccount:shop:api"))
	if _, err := Parse(&pb.MountRequest{Attributes: attributes(none), TargetPath: "/t", Permission: "420"}); err == nil {
		t.Error("a token of somebody is taken where nobody is named")
	}
}

// A Secret that a pod's author wrote cannot smuggle in another's token.
func TestTokenOfAnotherServiceAccountInSecretsIsRefused(t *testing.T) {
	secrets := fmt.Sprintf(`{"csi.storage.k8s.io/serviceAccount.tokens":%q}`, tokensOf("sts.amazonaws.com", jwt("system:serviceaccount:bank:vault")))
	if _, err := Parse(&pb.MountRequest{Attributes: attributes(nil), Secrets: secrets, TargetPath: "/t", Permission: "420"}); err == nil {
		t.Fatal("accepted")
	}
}

func TestRequestNeverPrintsTokensOrSecrets(t *testing.T) {
	r, err := Parse(&pb.MountRequest{
		Attributes: attributes(map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": tokensOf("aud", "t0ken")}),
		Secrets:    `{"k":"s3cr3t"}`, TargetPath: "/t", Permission: "420"})
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if text := fmt.Sprintf("%v %+v %#v", r, r, r); strings.Contains(text, "t0ken") || strings.Contains(text, "s3cr3t") {
		t.Errorf("got %v, which is not what this test promises", text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(attributes(nil), "null", "420")
	f.Add(attributes(map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": tokensOf("aud", jwt("x"))}), "{}", "256")
	f.Add(`{"csi.storage.k8s.io/serviceAccount.tokens":"{\"a\":null}"}`, `{"":""}`, " 1 ")
	f.Fuzz(func(t *testing.T, a, s, p string) {
		r, err := Parse(&pb.MountRequest{Attributes: a, Secrets: s, Permission: p, TargetPath: "/t"})
		if err == nil && (r.Mode < 0 || r.Mode > 0o777) {
			t.Errorf("mode %o", r.Mode)
		}
	})
}
