package vaultcore

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/test/fakes/fixture"
)

// The commands of docs/vault.md, as the requests that the vault command makes
// of them. The command itself cannot be had as a module.
func TestCommandsOfThePageAreTakenByVault(t *testing.T) {
	page, err := os.ReadFile("../../docs/vault.md")
	if err != nil {
		t.Fatalf("the page: %v", err)
	}
	core, run := Start(t), 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		text := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(block[1], "")
		for text != "" {
			var line string
			line, text, _ = strings.Cut(text, "\n")
			input := ""
			if before, _, heredoc := strings.Cut(line, " <<'POLICY'"); heredoc {
				line = before
				input, text, _ = strings.Cut(text, "POLICY\n")
			}
			if rest, ok := strings.CutPrefix(line, "vault "); ok {
				run++
				command(t, core, strings.Fields(rest), input)
			}
		}
	}
	if run < 4 {
		t.Errorf("%d commands only: are they found?", run)
	}
	if rules, _ := core.Do(t, "GET", "sys/policies/acl/shop", "")["policy"].(string); !strings.Contains(rules, "secret/data/prod/*") {
		t.Errorf("got the policy %q in Vault, want the page's", rules)
	}
}

// command makes the request of one vault command.
func command(t *testing.T, core *Core, words []string, input string) {
	t.Helper()
	switch verb := strings.Join(words[:2], " "); verb {
	case "auth enable", "secrets enable":
		at := map[string]string{"auth enable": "sys/auth/", "secrets enable": "sys/mounts/"}[verb] + words[len(words)-1]
		core.Do(t, "POST", at, Body(t, map[string]string{"type": words[len(words)-1]}))
	case "policy write":
		core.Policy(t, words[2], input)
	default:
		if words[0] != "write" {
			t.Fatalf("vault %s: no request of it is known here", strings.Join(words, " "))
		}
		fields := map[string]string{}
		for _, word := range words[2:] {
			name, value, _ := strings.Cut(word, "=")
			fields[name] = value
		}
		if words[1] == "auth/kubernetes/config" {
			fields["kubernetes_ca_cert"] = string(fixture.Authority(t).PEM()) // in a pod, Vault finds the cluster's
		}
		core.Do(t, "POST", words[1], Body(t, fields))
	}
}
