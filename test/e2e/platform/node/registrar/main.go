// Command registrar stands in for kubernetes-csi/node-driver-registrar, which
// the module proxy does not serve: with the flags that the driver's chart
// passes, it tells the kubelet's plugin watcher which CSI driver listens where.
package main

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

type server struct {
	registration.UnimplementedRegistrationServer
	driver   string // the driver's name, by its own word
	endpoint string // its socket as the kubelet sees it
}

func (s *server) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: s.driver, Endpoint: s.endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

// NotifyRegistrationStatus ends the process when the kubelet refused the
// driver, so that the restarted container tries again.
func (s *server) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !status.PluginRegistered {
		log.Fatalf("the kubelet refused %s: %s", s.driver, status.Error)
	}
	log.Printf("the kubelet has registered %s", s.driver)
	return &registration.RegistrationStatusResponse{}, nil
}

func main() {
	csiAddress := flag.String("csi-address", "/run/csi/socket", "the driver's socket, as seen here")
	kubeletPath := flag.String("kubelet-registration-path", "", "the driver's socket, as the kubelet sees it")
	registryDir := flag.String("plugin-registration-path", "/registration", "the folder that the kubelet watches")
	flag.Int("v", 2, "accepted for the chart's sake")
	flag.Parse()

	conn, err := grpc.NewClient("unix:"+*csiAddress, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	info, err := csi.NewIdentityClient(conn).GetPluginInfo(ctx, &csi.GetPluginInfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		log.Fatal(err)
	}

	socket := filepath.Join(*registryDir, info.Name+"-reg.sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	s := grpc.NewServer()
	registration.RegisterRegistrationServer(s, &server{driver: info.Name, endpoint: *kubeletPath})
	log.Fatal(s.Serve(listener))
}
