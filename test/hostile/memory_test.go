package hostile

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/node"
	"github.com/coffre-csi/coffre/test/sopstest"
)

// remembered are the attacks on what the provider keeps from one mount to the
// next, and on the places in which mounts wait.
func remembered() []attack {
	return []attack{
		{name: "one inline document, again and again", short: true, serial: true, volumes: inlineDocuments(126, func(int) (string, string) { return "", "api" })},
		{name: "an inline document an identity", serial: true, volumes: inlineDocuments(126, func(i int) (string, string) { return "", fmt.Sprint("api-", i) })},
		{name: "many inline documents", short: true, serial: true, volumes: inlineDocuments(100, func(i int) (string, string) { return fmt.Sprintf("# %d\n", i), "api" })},
		{name: "large requests at once", short: true, volumes: inlineDocuments(120, func(i int) (string, string) { return fmt.Sprintf("# %d\n", i), "api" })},
		{name: "large requests of many namespaces", volumes: func(w *world) []request.Volume {
			all := inlineDocuments(120, func(i int) (string, string) { return fmt.Sprintf("# %d\n", i), "api" })(w)
			for i := range all {
				all[i].Identity.Namespace = fmt.Sprint("hostile-", i)
			}
			return all
		}},
		{name: "long texts of forceRefresh", short: true, serial: true, volumes: func(*world) []request.Volume {
			var all []request.Volume
			for i := range 130 {
				all = append(all, of(i, map[string]string{"store": "one", "objects": "- {name: ., file: f}", "forceRefresh": fmt.Sprintf("%0900000d", i)}))
			}
			return all
		}},
		{name: "searches of searches", short: true, volumes: objects("keys", each(500, `{find: {regexp: "."}, file: d%d/}`))},
		{name: "annotated service accounts", dialect: "aws", short: true, volumes: annotated(150)},
		{name: "invented regions", dialect: "aws", short: true, volumes: regions(300)},
		{name: "mounts that hang", dialect: "aws", short: true, volumes: hanging(150)},
	}
}

// inlineDocuments are n mounts of a document of 0.8 MB that the tenant can
// read; with says what a mount adds to it, and its service account.
func inlineDocuments(n int, with func(i int) (comment, account string)) func(*world) []request.Volume {
	return func(w *world) []request.Volume {
		var all []request.Volume
		for i := range n {
			comment, account := with(i)
			inline := fmt.Sprintf("{kind: sops, format: yaml, document: %q}", w.large+comment)
			v := node.Pod{Namespace: "hostile", ServiceAccount: account, Name: fmt.Sprint("pod-", i)}.Volume(map[string]string{
				"inlineStore": inline, "objects": "- {name: k, file: f}", "refresh": "1h"})
			v.Identity.Secrets = auth.Secrets{"age": w.key.Secret}
			all = append(all, v)
		}
		return all
	}
}

// as is a hostile pod's volume of the AWS provider's syntax.
func (w *world) as(i int, account, region string) request.Volume {
	v := node.Pod{Namespace: "hostile", ServiceAccount: account, Name: fmt.Sprint("pod-", i)}.Volume(map[string]string{
		"region": region, "objects": "- {objectName: small, objectType: secretsmanager}"})
	v.Identity.Tokens = auth.Tokens{"sts.amazonaws.com": w.node.Token("sts.amazonaws.com", "hostile", account)}
	return v
}

func annotated(n int) func(*world) []request.Volume {
	return func(w *world) []request.Volume {
		var all []request.Volume
		for i := range n {
			account := fmt.Sprint("large-", i)
			w.node.Kube.SetServiceAccount("hostile", account, map[string]string{
				"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/hostile", "note": strings.Repeat("x", 250_000)})
			all = append(all, w.as(i, account, "eu-west-3"))
		}
		return all
	}
}

func regions(n int) func(*world) []request.Volume {
	return func(w *world) []request.Volume {
		var all []request.Volume
		for i := range n {
			all = append(all, w.as(i, "api", fmt.Sprintf("xx-%s-%d", string(rune('a'+i%26))+"bc", i%90)))
		}
		return all
	}
}

// hanging are mounts of a store that answers nothing, until they give up.
func hanging(n int) func(*world) []request.Volume {
	return func(w *world) []request.Volume {
		remove := w.aws.AddFault(aws.Fault{Service: aws.SecretsManager, Hang: true})
		time.AfterFunc(20*time.Second, remove)
		var all []request.Volume
		for i := range n {
			all = append(all, w.as(i, "api", "eu-west-3"))
		}
		return all
	}
}

// largeDocument is a SOPS document of about 0.8 MB with one short secret.
func largeDocument(t *testing.T, key sopstest.Key) string {
	t.Helper()
	return sopstest.Encrypt(t, "yaml", "k: v\nrest: "+strings.Repeat("x", 590_000)+"\n", key.Public)
}

func TestAFullCacheIsKeptWithinTheMemory(t *testing.T) {
	if *form == "" {
		t.Skip("runs with -form short or full, as root: make hostile")
	}
	dir, err := os.MkdirTemp("/dev/shm", "coffre-hostile-")
	if err != nil {
		t.Fatalf("no folder in memory: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := begin(t, "--mount-timeout=30s", "--cache-persist="+dir)
	for i := range 900 {
		w.aws.SetSecretValue("eu-west-3", fmt.Sprint("full-", i), strings.Repeat("x", 60_000))
	}

	var b bystander
	stop := w.watch(t, &b)
	for round := range 3 {
		fill := attack{dialect: "aws", volumes: func(w *world) []request.Volume {
			var all []request.Volume
			for i := range 20 {
				v := w.as(i, "api", "eu-west-3")
				var list strings.Builder
				for k := range 45 {
					fmt.Fprintf(&list, "- {objectName: full-%d, objectType: secretsmanager}\n", i*45+k)
				}
				v.Parameters["objects"] = list.String()
				v.Parameters["forceRefresh"] = fmt.Sprint(round)
				all = append(all, v)
			}
			return all
		}}
		fill.run(t, w)
	}
	time.Sleep(2 * time.Second) // for what is written in the background
	stop()
	b.verify(t)
	if n := w.group.Kills(t); n > 0 {
		t.Fatalf("the kernel killed the program %d times", n)
	}
	w.rests(t)
}
