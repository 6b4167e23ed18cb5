package render

import (
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/provider/plan"
)

func TestParserErrorsShowNothingOfASecret(t *testing.T) {
	for _, secret := range []string{"hunter2-password", "*hunter2", "hunter2: [", "- hunter2", `"hunter2`, "a: b\n\"hunter2 x\": 1\n\"hunter2 x\": 2\n", "!!int hunter2"} {
		for _, format := range []string{plan.ExtractJSON, plan.ExtractYAML} {
			_, err := extract(nil, plan.Extract{Format: format, Key: "k"}, []byte(secret))
			if err == nil || strings.Contains(err.Error(), "unter2") {
				t.Errorf("%s of %q: got %v, want an error that shows nothing", format, secret, err)
			}
		}
	}
}

func TestYAMLKeysFollowAliasesAndMerges(t *testing.T) {
	text := "base: &b {user: alice, n: 1}\n<<: *b\nalias: &x secret\nagain: *x\n"
	for key, want := range map[string]string{"user": "alice", "again": "secret"} {
		got, err := extract(nil, plan.Extract{Format: plan.ExtractYAML, Key: key}, []byte(text))
		if err != nil || string(got) != want {
			t.Errorf("%s: got %q and the error %v, want %q", key, got, err, want)
		}
	}
	if _, err := extract(nil, plan.Extract{Format: plan.ExtractYAML, Key: "n"}, []byte(text)); err == nil || err.Error() != "unsupported value type for key 'n'" {
		t.Errorf("got %v, want a number to be no text", err)
	}
}
