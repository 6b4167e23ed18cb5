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

// Every mistake is one line that says what is wrong, whose it is and what to
// do. Google is the strict fake: tokens, the cluster's pool and grants are
// checked.
func TestEveryMistakeIsOneLineInTheDialectOfTheGoogleProvider(t *testing.T) {
	m := strictGCP(t, "gcp")
	m.class = map[string]string{"secrets": "- {resourceName: projects/shop/secrets/mysql/versions/latest, fileName: mysql}"}
	m.refuse(t, "gcp-refusals.json")
}

func TestEveryMistakeWithGoogleIsOneLineInCoffresOwnSchema(t *testing.T) {
	m := strictGCP(t, "coffre")
	m.class = map[string]string{"inlineStore": "{kind: gcp-secret-manager, project: shop}", "objects": "[{name: mysql, file: mysql}]"}
	m.refuse(t, "coffre-gcp-refusals.json")
}

const shopAccount = "shop@shop.iam.gserviceaccount.com"

// strictGCP is a project with secrets of the pods and of others, in a GKE
// cluster; which service accounts act as another is said by their names.
func strictGCP(t *testing.T, dialect string) mistakes {
	t.Helper()
	w := &gcpWorld{gcp: gcp.New(gcp.Options{}), node: node.New(t)}
	resolve(t, googleAddress+" secretmanager.googleapis.com secretmanager.europe-west9.rep.googleapis.com parametermanager.googleapis.com "+
		"iamcredentials.googleapis.com sts.googleapis.com securetoken.googleapis.com oauth2.googleapis.com")
	fixture.Serve(t, googleAddress+":443", w.gcp, w.node.CA)
	fixture.Serve(t, metadataAddress+":80", w.gcp.MetadataServer(), nil)
	w.gcp.AddIssuer(w.node.Issuer.URL, w.node.Issuer.Keys())
	w.gcp.AddProject("shop", "42")
	w.gcp.AddProvider(gcp.GKE("shop", "europe-west9", "blue", w.node.Issuer.URL))
	w.gcp.SetNode("shop", "europe-west9", "blue", "")
	w.gcp.AddServiceAccount(shopAccount)
	for _, account := range []string{"api", "fresh-1", "fresh-2", "fresh-3", "fresh-4"} {
		w.node.Kube.SetServiceAccount("shop", account, nil)
	}
	for account, acts := range map[string]string{"stranger": shopAccount, "nobody": "gone@shop.iam.gserviceaccount.com", "odd": "not an address"} {
		w.node.Kube.SetServiceAccount("shop", account, map[string]string{"iam.gke.io/gcp-service-account": acts})
	}

	for _, name := range []string{"mysql", "off", "gone"} {
		w.gcp.SetSecretValue("projects/shop/secrets/"+name, `{"password":"s3cret"}`)
		w.gcp.Grant("projects/shop/secrets/"+name, "roles/secretmanager.secretAccessor",
			"principalSet://iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/shop.svc.id.goog/namespace/shop")
	}
	w.gcp.SetVersionState("projects/shop/secrets/off", 1, "DISABLED")
	w.gcp.SetVersionState("projects/shop/secrets/gone", 1, "DESTROYED")
	w.gcp.SetSecretValue("projects/shop/secrets/salaries", "a secret of others")

	stores := filepath.Join(t.TempDir(), "stores.yaml")
	if err := os.WriteFile(stores, []byte("stores: {}\n"), 0o600); err != nil {
		t.Fatalf("the stores' file: %v", err)
	}
	client := w.node.Serve(t, program.Build(t), dialect, nil, "--stores", stores)

	return mistakes{node: w.node, client: client, gate: w.gcp.Gate, audience: "shop.svc.id.goog"}
}
