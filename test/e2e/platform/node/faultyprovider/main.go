// Command faultyprovider is a provider that fails as it is told to, with one
// gRPC code after another, and then delivers one file. The driver's and the
// kubelet's treatment of a failed first mount is proven with it, code by code.
//
// A SecretProviderClass (provider: faulty) tells it what to do:
//
//	parameters:
//	  code: NotFound   # the gRPC code of the failing Mounts
//	  failures: "1"    # how many Mounts of a pod fail before they succeed
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

type provider struct {
	v1alpha1.UnimplementedCSIDriverProviderServer

	mu     sync.Mutex
	mounts map[string]int // how many Mounts each pod has asked for, by its UID
}

func (*provider) Version(context.Context, *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error) {
	return &v1alpha1.VersionResponse{Version: "v1alpha1", RuntimeName: "faulty", RuntimeVersion: "1"}, nil
}

// Mount fails the first mounts of a pod and says in the file it then delivers
// which attempt this was.
func (p *provider) Mount(_ context.Context, req *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
	var attributes map[string]string
	if err := json.Unmarshal([]byte(req.Attributes), &attributes); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	code, err := codeNamed(attributes["code"])
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	failures, err := strconv.Atoi(attributes["failures"])
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}

	attempt := p.attempt(attributes["csi.storage.k8s.io/pod.uid"])
	log.Printf("pod %s, attempt %d", attributes["csi.storage.k8s.io/pod.name"], attempt)
	if attempt <= failures {
		return nil, status.Errorf(code, "attempt %d fails with %s as told", attempt, code)
	}
	return &v1alpha1.MountResponse{
		ObjectVersion: []*v1alpha1.ObjectVersion{{Id: "attempt", Version: "1"}},
		Files:         []*v1alpha1.File{{Path: "attempt", Mode: 0o444, Contents: []byte(strconv.Itoa(attempt))}},
	}, nil
}

func (p *provider) attempt(podUID string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mounts[podUID]++
	return p.mounts[podUID]
}

func codeNamed(name string) (codes.Code, error) {
	for c := codes.OK + 1; c <= codes.Unauthenticated; c++ {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("no gRPC code is called %q", name)
}

func main() {
	socket := flag.String("socket", "/var/run/secrets-store-csi-providers/faulty.sock", "where to listen")
	flag.Parse()

	if err := os.Remove(*socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", *socket)
	if err != nil {
		log.Fatal(err)
	}
	s := grpc.NewServer()
	v1alpha1.RegisterCSIDriverProviderServer(s, &provider{mounts: map[string]int{}})

	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		<-terminated
		s.Stop() // closes the listener, and that removes the socket
	}()
	if err := s.Serve(listener); err != nil {
		log.Fatal(err)
	}
}
