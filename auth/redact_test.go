package auth

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Every way that a careless line may print an identity.
func TestIdentityNeverPrintsItsSecrets(t *testing.T) {
	id := Identity{
		Namespace: "shop", ServiceAccount: "api",
		Tokens:  Tokens{"sts.amazonaws.com": NewToken("t0ken", time.Now())},
		Secrets: Secrets{"age.agekey": "s3cr3t"},
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "id", id, "tokens", id.Tokens, "token", id.Tokens["sts.amazonaws.com"], "secrets", id.Secrets)
	asJSON, err := json.Marshal(id)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	for _, text := range []string{
		fmt.Sprintf("%v %+v %#v %s %q", id, id, id, id, id.Tokens),
		fmt.Sprintf("%v %s %x %d %#v", id.Tokens["sts.amazonaws.com"], id.Tokens["sts.amazonaws.com"], id.Tokens["sts.amazonaws.com"], id.Secrets, id.Secrets),
		fmt.Sprintf("%v %+v", &id, []Identity{id}),
		log.String(), string(asJSON),
	} {
		for _, secret := range []string{"t0ken", "s3cr3t", fmt.Sprintf("%x", "t0ken")} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in %q", secret, text)
			}
		}
	}
	if !strings.Contains(string(asJSON), "sts.amazonaws.com") || !strings.Contains(string(asJSON), "age.agekey") {
		t.Errorf("audiences and keys are no secrets and help: %s", asJSON)
	}
}

func TestSecretsDigestTellsCredentialsApart(t *testing.T) {
	seen := map[string]Secrets{}
	for _, s := range []Secrets{nil, {"a": "b"}, {"a": "c"}, {"b": "b"}, {"a": "b", "c": "d"}, {"a": "bc", "d": ""}, {"ab": ""}, {"a1": "b"}} {
		if other, ok := seen[s.Digest()]; ok {
			t.Errorf("%v and %v have one digest", other, s)
		}
		seen[s.Digest()] = s
	}
}
