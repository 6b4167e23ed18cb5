package compat

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/gcp"
	"github.com/coffre-csi/coffre/test/node"
	"github.com/coffre-csi/coffre/test/program"
)

func TestSecretProviderClassesOfTheGoogleProviderWorkUnchanged(t *testing.T) {
	// Cases that read as the provider, which are most and stand last in the
	// file, share a world: nothing of a sign-in is tested by them.
	var shared *gcpWorld
	whole := t

	replay(t, "gcp.json", func(t *testing.T, path string, c json.RawMessage) world {
		given := environmentOf(t, c)
		if !given.ProviderKey || given.Env != nil || given.Accounts != nil {
			return beginGCP(t, path, "gcp", gcp.Options{AcceptAnyToken: true}, given)
		}
		if shared == nil {
			shared = beginGCP(whole, path, "gcp", gcp.Options{AcceptAnyToken: true}, given)
		}
		return shared
	})
}

// environment is what a case says of the process and its surroundings.
type environment struct {
	Env         map[string]string `json:"env"`
	ProviderKey bool              `json:"providerKey"`
	Secret      auth.Secrets      `json:"nodePublishSecret"`
	Accounts    map[string]struct {
		Annotations map[string]string `json:"annotations"`
	} `json:"serviceAccounts"` // by namespace and name
}

func environmentOf(t *testing.T, c json.RawMessage) (e environment) {
	t.Helper()
	if err := json.Unmarshal(c, &e); err != nil {
		t.Fatalf("the case: %v", err)
	}
	return e
}

// gcpWorld is Google around a node, under Google's own host names, in the
// environment that the Google provider would find there.
type gcpWorld struct {
	gcp     *gcp.Server
	node    *node.Node
	program *program.Process
	secret  auth.Secrets
	cases   int // of the world so far; each is another's service account, which nothing is kept for yet
}

const (
	googleAddress = "127.0.1.9"
	providerEmail = "provider@demo.iam.gserviceaccount.com"
)

func beginGCP(t *testing.T, path, dialect string, options gcp.Options, given environment) *gcpWorld {
	t.Helper()
	resolve(t, googleAddress+" secretmanager.googleapis.com secretmanager.us-central1.rep.googleapis.com "+
		"parametermanager.googleapis.com parametermanager.us-central1.rep.googleapis.com "+
		"iamcredentials.googleapis.com sts.googleapis.com securetoken.googleapis.com oauth2.googleapis.com")
	w := &gcpWorld{gcp: gcp.New(options), node: node.New(t), secret: given.Secret}
	fixture.Serve(t, googleAddress+":443", w.gcp, w.node.CA)
	fixture.Serve(t, metadataAddress+":80", w.gcp, nil)

	var env []string
	for name, value := range given.Env {
		env = append(env, name+"="+value)
	}
	if given.ProviderKey {
		file := filepath.Join(t.TempDir(), "key.json")
		if err := os.WriteFile(file, w.gcp.KeyFile(providerEmail), 0o600); err != nil {
			t.Fatalf("the provider's key file: %v", err)
		}
		env = append(env, "GOOGLE_APPLICATION_CREDENTIALS="+file)
	}
	w.program = w.node.Serve(t, path, dialect, env)
	return w
}

func (w *gcpWorld) hold(t *testing.T, c, step json.RawMessage) {
	t.Helper()
	w.gcp.Replace(fixture.OK[gcp.World](t)(gcp.LoadCompat(step)))
	for name, account := range environmentOf(t, c).Accounts {
		w.node.Kube.SetServiceAccount("default", filepath.Base(name), account.Annotations)
	}
	w.cases++
	w.gcp.Reset()
}

func (w *gcpWorld) calls() []string                    { return w.gcp.Notation() }
func (w *gcpWorld) client() pb.CSIDriverProviderClient { return w.program }

func (w *gcpWorld) volume() request.Volume {
	account := "mysa"
	if w.cases > 1 {
		account += fmt.Sprint(w.cases)
	}
	v := node.Pod{Namespace: "default", ServiceAccount: account, Name: "mypod"}.Volume(nil)
	v.Identity.Secrets = w.secret
	v.Identity.Tokens = auth.Tokens{"proj.svc.id.goog": auth.NewToken("ksa-token", time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))}
	return v
}
