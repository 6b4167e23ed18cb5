package provider

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"k8s.io/klog/v2"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/auth/fair"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/provider/failures"
	"github.com/coffre-csi/coffre/provider/request"
)

// DefaultMountTimeout is the deadline of one Mount: well under the two minutes
// that kubelet waits.
const DefaultMountTimeout = 60 * time.Second

// MaxResponse is the most bytes that an answer may have on the wire. The
// driver takes 4 MiB and fails a larger one with ResourceExhausted, which
// leaves the pod with an empty volume.
const MaxResponse = 4<<20 - 256<<10

// apiVersion is the driver's name for the protocol.
const apiVersion = "v1alpha1"

// Observer is told of every Mount's end: its dialect, code and duration.
type Observer interface {
	Mounted(dialect, code string, took time.Duration)
	Panicked()
}

// Service is the driver's CSIDriverProvider for one dialect.
type Service struct {
	pb.UnimplementedCSIDriverProviderServer
	provider *Provider
	build    string        // the version of this build
	timeout  time.Duration // of one Mount
	observer Observer

	underWay atomic.Int64
	gate     *fair.Gate
	loads    *loads
	receive  chan struct{}
}

// A storm queues instead of growing: so many Mounts of a dialect are worked on
// at once, and so many of one namespace wait. One that waits for a store is not
// worked on: it gives its place to those that memory can answer.
const (
	mountsAtOnce   = 64
	mountsWaiting  = 2048
	mountsTooMany  = "%d mounts of namespace %q wait on this node already; kubelet tries again"
	mountsTimedOut = "no turn within %s: this node's other mounts keep the provider busy; kubelet tries again"
)

// receiving is how many requests are read off the wire at once: what the driver
// has yet to send costs its memory, not this process's.
const receiving = 16

// UnderWay is the number of Mounts that are not answered yet.
func (s *Service) UnderWay() int { return int(s.underWay.Load()) }

// Version answers the driver's health check.
func (s *Service) Version(context.Context, *pb.VersionRequest) (*pb.VersionResponse, error) {
	return &pb.VersionResponse{Version: apiVersion, RuntimeName: "coffre", RuntimeVersion: s.build}, nil
}

// Mount answers one mount or republish. Whatever goes wrong, it answers with a
// code after which kubelet and the driver try again from the start.
func (s *Service) Mount(ctx context.Context, in *pb.MountRequest) (*pb.MountResponse, error) {
	return s.mount(ctx, in, func() {})
}

// mount calls received when the request is read and weighed.
func (s *Service) mount(ctx context.Context, in *pb.MountRequest, received func()) (out *pb.MountResponse, err error) {
	s.underWay.Add(1)
	defer s.underWay.Add(-1)
	began := time.Now()
	var req request.Request
	var r Response
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			s.observer.Panicked()
			klog.ErrorS(nil, "mount panicked", "dialect", s.provider.Name, "panic", panicText(p), "stack", string(debug.Stack()))
			out, err = nil, internal(errors.New("the provider's code failed on this request; its log says where. This is a fault of Coffre"))
		}

		err = safe(err)
		s.observe(req, r.Stale, err, time.Since(began))
	}()

	load, err := s.loads.enter(proto.Size(in))
	received()
	if err != nil {
		return nil, internal(err)
	}
	defer load.leave()
	if req, err = request.Parse(in); err != nil {
		return nil, invalid(s.provider.explain(err))
	}
	if err := s.provider.named(req); err != nil {
		return nil, invalid(s.provider.explain(err))
	}
	if err := load.belongs(req.Identity.Namespace); err != nil {
		return nil, internal(err)
	}
	log := newSteps(s.provider.Name, req)
	place, err := s.gate.Enter(ctx, req.Identity.Namespace)
	switch {
	case errors.Is(err, fair.ErrFull):
		return nil, internal(fmt.Errorf(mountsTooMany, mountsWaiting, req.Identity.Namespace))
	case err != nil:
		return nil, internal(fmt.Errorf(mountsTimedOut, s.timeout))
	}
	defer place.Leave()
	ctx = fair.With(ctx, place)
	log.step("turn", "parameters", len(req.Parameters), "tokens", len(req.Identity.Tokens))

	if r, err = s.provider.Mount(ctx, req); err != nil {
		return nil, err
	}
	out = r.proto()
	if n := proto.Size(out); n > MaxResponse {
		return nil, invalid(fmt.Errorf("the answer would be %d bytes; the driver takes %d: leave some objects out, or use several volumes", n, MaxResponse))
	}

	return out, nil
}

// observe counts a Mount, and tells of one that failed or was answered with
// last good values: the driver masks errors of a republish, so that what is
// said here is all that shows them.
func (s *Service) observe(req request.Request, stale []string, err error, took time.Duration) {
	m := failures.Mount{Dialect: s.provider.Name, Request: req}
	log := newSteps(s.provider.Name, req)
	log.since = time.Now().Add(-took)
	if err == nil {
		log.step("done", "code", "OK")
		s.observer.Mounted(s.provider.Name, "OK", took)
		s.provider.Failures.Served(m, stale)
		return
	}

	f := err.(*Failure)
	log.step("done", "code", f.Code.String(), "reason", f.Reason)
	s.observer.Mounted(s.provider.Name, f.Code.String(), took)
	s.provider.audit(Delivery{Request: req, Failed: f})
	s.provider.Failures.Failed(m, failures.Failure{Code: f.Code.String(), Reason: f.Reason, Text: f.GRPCStatus().Message(), Cause: fault.Same(f)})
}

// proto is the response as the driver reads it.
func (r Response) proto() *pb.MountResponse {
	out := &pb.MountResponse{
		ObjectVersion: make([]*pb.ObjectVersion, len(r.Versions)),
		Files:         make([]*pb.File, len(r.Files)),
	}
	for i, v := range r.Versions {
		out.ObjectVersion[i] = &pb.ObjectVersion{Id: v.ID, Version: v.Version}
	}
	for i, f := range r.Files {
		out.Files[i] = &pb.File{Path: f.Path, Mode: f.Mode, Contents: f.Contents}
	}
	return out
}

// panicText is a panic's own text where the runtime made it; anything else may
// hold a part of the request.
func panicText(p any) string {
	if e, ok := p.(runtime.Error); ok {
		return e.Error()
	}
	return fmt.Sprintf("a %T", p)
}

// NewService makes the service of a provider.
func NewService(p *Provider, build string, timeout time.Duration, o Observer) *Service {
	return &Service{
		provider: p, build: build, timeout: timeout, observer: o,
		gate: fair.New(mountsAtOnce, mountsWaiting), loads: newLoads(), receive: make(chan struct{}, receiving),
	}
}

// Oldest is how long the Mount that is worked on longest has its place.
func (s *Service) Oldest() time.Duration { return s.gate.Oldest() }

// description is the driver's service, with Mount as a stream of one request
// and one answer, which on the wire is the same: so that a request is read when
// there is room for it, and not before.
func (s *Service) description() *grpc.ServiceDesc {
	d := pb.CSIDriverProvider_ServiceDesc
	unary := d.Methods
	d.Methods = nil
	for _, m := range unary {
		if m.MethodName != "Mount" {
			d.Methods = append(d.Methods, m)
		}
	}

	d.Streams = []grpc.StreamDesc{{StreamName: "Mount", Handler: func(_ any, stream grpc.ServerStream) error {
		s.receive <- struct{}{}
		received := sync.OnceFunc(func() { <-s.receive })
		defer received()
		in := new(pb.MountRequest)
		if err := stream.RecvMsg(in); err != nil {
			return safe(err)
		}
		out, err := s.mount(stream.Context(), in, received)
		if err != nil {
			return err
		}
		return stream.SendMsg(out)
	}}}

	return &d
}

// NewServer makes a gRPC server for one dialect's service.
func NewServer(s *Service) *grpc.Server {
	g := grpc.NewServer(
		grpc.MaxRecvMsgSize(5<<20), // the request.Parse bounds, and their JSON escapes
		// Fixed windows: by the ones that grow, what the driver has yet to be
		// asked for would lie here.
		grpc.InitialWindowSize(64<<10),
		grpc.InitialConnWindowSize(1<<20),
		// More than a node has volumes. What waits beyond it costs the driver's
		// memory, not this process's.
		grpc.MaxConcurrentStreams(512),
	)
	g.RegisterService(s.description(), s)
	healthpb.RegisterHealthServer(g, serving{})

	return g
}

// serving answers gRPC health checks, which the Azure provider has on its socket
// and probes may ask for: a socket that answers is served. Lists and watches it
// has not.
type serving struct {
	healthpb.UnimplementedHealthServer
}

func (serving) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}
