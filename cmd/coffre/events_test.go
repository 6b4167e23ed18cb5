package main

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/test/fakes/kubernetes"
	fake "github.com/coffre-csi/coffre/test/fakes/serve"
	"github.com/coffre-csi/coffre/test/sopstest"
)

// What docs/operations.md says of a failing republish, through the socket and
// to an API server.
func TestServeShowsAFailingRepublishToThePodsOwnerAndToPrometheus(t *testing.T) {
	ca, err := fake.NewAuthority()
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	api := kubernetes.New()
	api.AddUser("token", "system:serviceaccount:kube-system:coffre", "events")
	listener, err := fake.Start("127.0.0.1:0", api, ca)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	defer listener.Close()
	files, err := kubernetes.InCluster(t.TempDir(), "token", "kube-system", listener, ca)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	key := sopstest.NewKey(t)
	document := write(t, "doc.yaml", sopstest.Encrypt(t, "yaml", plaintext, key.Public))
	stores := write(t, "stores.yaml", "stores: {docs: {kind: sops, namespaces: [shop], file: "+document+", ageKeyFile: "+write(t, "age.key", key.Secret)+"}}\n")
	dir := t.TempDir()
	p := startServe(t, dir, "--stores", stores, "--metrics-addr", "127.0.0.1:0", "--events", "--kubeconfig", files.Kubeconfig, "--node-name", "node-1")
	metrics := func() string {
		m := regexp.MustCompile(`what="metrics" address="([^"]+)"`).FindStringSubmatch(p.until(t, `what="metrics" address="[^"]+"`))
		_, text := get(t, "http://"+m[1]+"/metrics")
		return text
	}
	conn, err := grpc.NewClient("unix:"+filepath.Join(dir, "coffre.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	defer conn.Close()
	mount := func(objects string) error {
		a, _ := json.Marshal(map[string]string{"store": "docs", "objects": objects, "secretProviderClass": "mysql",
			"csi.storage.k8s.io/pod.name": "api-1", "csi.storage.k8s.io/pod.uid": "5f6c", "csi.storage.k8s.io/pod.namespace": "shop", "csi.storage.k8s.io/serviceAccount.name": "api"})
		_, err := pb.NewCSIDriverProviderClient(conn).Mount(t.Context(), &pb.MountRequest{Attributes: string(a), Secrets: "null", TargetPath: "/t", Permission: "420"})
		return err
	}

	if err := mount("[{name: prod/mysql, file: a}]"); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	for range 3 {
		if err := mount("[{name: prod/nothing, file: a}]"); err == nil || !strings.Contains(err.Error(), "prod/nothing") {
			t.Fatal("every Mount gets the text:", err)
		}
	}
	for range 200 {
		if len(api.Events()) > 0 && strings.Contains(metrics(), `coffre_events_total{result="sent"} 1`) {
			break
		}
		time.Sleep(25 * time.Millisecond)
	}
	events := api.Events()
	if len(events) != 1 {
		t.Fatalf("%+v\n%s", events, p.text())
	}
	if e := events[0]; e.InvolvedObject.Name != "api-1" || e.InvolvedObject.UID != "5f6c" || e.Reason != "SecretsNotRefreshed" || e.Source.Host != "node-1" ||
		!strings.HasPrefix(e.Message, "SecretProviderClass mysql: the files stay as they are: docs: prod/nothing: ") {
		t.Errorf("%+v", e)
	}
	for _, want := range []string{`coffre_class_failures_total{class="mysql",namespace="shop",reason="not_found"} 3`, "coffre_failing_volumes 1", `coffre_events_total{result="sent"} 1`} {
		if text := metrics(); !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics:\n%s", want, regexp.MustCompile(`(?m)^(#|go_|process_|coffre_mount_duration).*\n`).ReplaceAllString(text, ""))
		}
	}
	if err := mount("[{name: prod/mysql, file: a}]"); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	p.until(t, `"mount works again" dialect="coffre" failures=3 .* pod="api-1"`)
	if n := strings.Count(p.text(), `"mount failed"`); n != 1 {
		t.Errorf("one cause is %d lines:\n%s", n, p.text())
	}
	if !strings.Contains(metrics(), "coffre_failing_volumes 0") {
		t.Error("a volume that works is counted as failing")
	}
}
