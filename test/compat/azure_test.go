package compat

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/test/fakes/azure"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/node"
	"github.com/coffre-csi/coffre/test/program"
)

func TestSecretProviderClassesOfTheAzureProviderWorkUnchanged(t *testing.T) {
	// The cases share a node, and those of one command line a program: what is
	// kept of one is another's service account.
	shared := beginAzure(t, azure.Options{AcceptAnyToken: true})
	programs := map[string]*program.Process{}
	whole := t

	replayFilled(t, "azure.json", azureFixtures(t), func(t *testing.T, path string, c json.RawMessage) world {
		args := azureCaseOf(t, c).Args
		at := strings.Join(args, " ")
		if programs[at] == nil {
			programs[at] = shared.node.Serve(whole, path, "azure", nil, args...)
		}
		shared.program = programs[at]
		return shared
	})
}

// azureCase is what a case says of the process and the pod.
type azureCase struct {
	Args       []string     `json:"args"`
	Pod        string       `json:"pod"`
	Secret     auth.Secrets `json:"nodePublishSecret"`
	SecretsRaw *string      `json:"secretsRaw"`
}

func azureCaseOf(t *testing.T, c json.RawMessage) (out azureCase) {
	t.Helper()
	if err := json.Unmarshal(c, &out); err != nil {
		t.Fatalf("the case: %v", err)
	}
	return out
}

// azureWorld is Azure around a node, under Azure's own host names.
type azureWorld struct {
	azure   *azure.Server
	node    *node.Node
	program *program.Process // of the case
	given   azureCase
	cases   int // of the world so far; each is another's service account
}

const azureAddress = "127.0.1.11"

func beginAzure(t *testing.T, options azure.Options) *azureWorld {
	t.Helper()
	resolve(t, azureAddress+" testkv.vault.azure.net aaaaaaaaaaaaaaaaaaaaaaaa.vault.azure.net login.microsoftonline.com")
	w := &azureWorld{azure: azure.New(options), node: node.New(t)}
	fixture.Serve(t, azureAddress+":443", w.azure, w.node.CA)
	fixture.Serve(t, metadataAddress+":80", w.azure, nil)
	fixture.Serve(t, "127.0.0.1:2579", w.azure.NMI(), nil)
	return w
}

func (w *azureWorld) hold(t *testing.T, c, step json.RawMessage) {
	t.Helper()
	w.given = azureCaseOf(t, c)
	w.azure.Replace(fixture.OK[azure.World](t)(azure.LoadCompat(step)))
	w.cases++
	w.azure.Reset()
}

func (w *azureWorld) calls() []string                    { return w.azure.Notation() }
func (w *azureWorld) client() pb.CSIDriverProviderClient { return w.program }

func (w *azureWorld) volume() request.Volume {
	account := fmt.Sprintf("sa%d", w.cases)
	v := node.Pod{Namespace: "ns1", ServiceAccount: account, Name: "pod1"}.Volume(nil)
	if w.given.Pod != "" {
		v.Identity.Pod.Name = w.given.Pod
	}
	v.Identity.Pod.UID = account
	v.Identity.Secrets = maps.Clone(w.given.Secret)
	return v
}

// amend implements amender: the text of the Secret.
func (w *azureWorld) amend(req *pb.MountRequest) {
	if w.given.SecretsRaw != nil {
		req.Secrets = *w.given.SecretsRaw
	}
}
