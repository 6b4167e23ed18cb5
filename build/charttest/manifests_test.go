package charttest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const examples = root + "/manifests/examples"

// That they are the chart's is `make check-manifests`; this is that they are
// whole, and that nothing of Helm's is left.
func TestPlainManifestsParse(t *testing.T) {
	text := read(t, root+"/manifests/coffre.yaml")
	made := decode(t, text)
	if made.daemonSet.Namespace != "kube-system" || made.stores.Namespace != "kube-system" {
		t.Error("not in kube-system")
	}
	if strings.Contains(text, "Helm") || strings.Contains(text, "helm.sh") {
		t.Error("says that Helm keeps it")
	}
}

// The second file gives what stores and dialects may need to read in Kubernetes,
// to the account that the first one makes.
func TestPlainRBACBindsThePlainInstall(t *testing.T) {
	text := read(t, root+"/manifests/coffre-rbac.yaml")
	made := decode(t, read(t, root+"/manifests/coffre.yaml")+"\n---\n"+text)
	if strings.Contains(text, "Helm") || strings.Contains(text, "helm.sh") {
		t.Error("says that Helm keeps it")
	}
	if made.role == nil || made.binding == nil || made.binding.Subjects[0].Name != made.serviceAccount.Name || made.binding.Subjects[0].Namespace != made.serviceAccount.Namespace {
		t.Errorf("the role %+v is not bound to %s", made.role, made.serviceAccount.Name)
	}
	patch := regexp.MustCompile(`-p '([^']+)'`).FindStringSubmatch(text)
	if patch == nil {
		t.Fatal("the file does not say how the pods get a token")
	}
	if err := yaml.UnmarshalStrict([]byte(patch[1]), &made.daemonSet); err != nil {
		t.Fatal(err)
	}
	if on := made.pod().AutomountServiceAccountToken; on == nil || !*on {
		t.Errorf("the patch %s gives the pods no token", patch[1])
	}
}

func TestExampleValuesRender(t *testing.T) {
	made := render(t, read(t, examples+"/values.yaml"))
	if made.role == nil || !strings.Contains(made.stores.Data["stores.yaml"], "aws-paris:") {
		t.Error("the store, or what it needs, is missing")
	}
}

// The two ways to install are to give the same.
func TestArgoApplicationCarriesTheExampleValues(t *testing.T) {
	var application struct {
		Spec struct {
			Source struct {
				Path, TargetRevision string
				Helm                 struct{ ValuesObject map[string]any }
			}
		}
	}
	readYAML(t, examples+"/argocd-application.yaml", &application)
	source := application.Spec.Source
	if _, err := os.Stat(filepath.Join(root, source.Path, "Chart.yaml")); err != nil {
		t.Error(err)
	}
	if source.TargetRevision != appVersion(t) {
		t.Errorf("installs %s, not %s", source.TargetRevision, appVersion(t))
	}
	values, err := yaml.Marshal(source.Helm.ValuesObject)
	if err != nil {
		t.Fatal(err)
	}
	byArgo, err := template(t, string(values))
	if err != nil {
		t.Fatal(err)
	}
	byHelm, err := template(t, read(t, examples+"/values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if byArgo != byHelm {
		t.Error("differs from values.yaml")
	}
}

// secretProviderClass is what the examples use of the driver's type, in its
// v1 spelling; its own module cannot be required without the whole driver.
type secretProviderClass struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Spec struct {
		Provider      string            `json:"provider"`
		Parameters    map[string]string `json:"parameters"`
		SecretObjects []struct {
			SecretName string `json:"secretName"`
			Type       string `json:"type"`
			Data       []struct {
				ObjectName string `json:"objectName"`
				Key        string `json:"key"`
			} `json:"data"`
		} `json:"secretObjects"`
	} `json:"spec"`
}

func TestExampleFitsTogether(t *testing.T) {
	var class secretProviderClass
	if err := yaml.UnmarshalStrict([]byte(read(t, examples+"/mysql/secretproviderclass.yaml")), &class); err != nil {
		t.Fatal(err)
	}
	var objects []struct{ Name, Key, File string }
	if err := yaml.UnmarshalStrict([]byte(class.Spec.Parameters["objects"]), &objects); err != nil {
		t.Fatal(err)
	}
	secret := class.Spec.SecretObjects[0]
	if objects[0].File != secret.Data[0].ObjectName {
		t.Errorf("the Secret is made of %s, the volume holds %s", secret.Data[0].ObjectName, objects[0].File)
	}

	var account core.ServiceAccount
	var deployment apps.Deployment
	parts := documents(read(t, examples+"/mysql/deployment.yaml"))
	for i, into := range []any{&account, &deployment} {
		if err := yaml.UnmarshalStrict([]byte(parts[i]), into); err != nil {
			t.Fatal(err)
		}
	}
	pod := deployment.Spec.Template.Spec
	reference := pod.Containers[0].Env[0].ValueFrom.SecretKeyRef
	if reference.Name != secret.SecretName || reference.Key != secret.Data[0].Key {
		t.Errorf("the variable reads %s/%s, the Secret is %s/%s", reference.Name, reference.Key, secret.SecretName, secret.Data[0].Key)
	}
	if got := pod.Volumes[0].CSI.VolumeAttributes["secretProviderClass"]; got != class.Metadata.Name {
		t.Errorf("the volume is of %s", got)
	}
	if pod.ServiceAccountName != account.Name || account.Namespace != class.Metadata.Namespace || deployment.Namespace != class.Metadata.Namespace {
		t.Error("not of one namespace and ServiceAccount")
	}

	var values struct {
		Stores map[string]struct{ Namespaces []string }
	}
	readYAML(t, examples+"/values.yaml", &values)
	store, ok := values.Stores[class.Spec.Parameters["store"]]
	if !ok || len(store.Namespaces) == 0 || store.Namespaces[0] != class.Metadata.Namespace {
		t.Errorf("values.yaml has no store %s for %s", class.Spec.Parameters["store"], class.Metadata.Namespace)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
