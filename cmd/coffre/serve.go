package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/kubernetes"
	"github.com/coffre-csi/coffre/cmd/coffre/internal/cloud"
	"github.com/coffre-csi/coffre/provider"
	"github.com/coffre-csi/coffre/provider/cache"
	"github.com/coffre-csi/coffre/provider/failures"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/strict"
)

// serveOptions are the flags of coffre serve.
type serveOptions struct {
	providersDir, dialects, stores      string
	metricsAddr, healthAddr, pprofAddr  string
	kubeconfig, nodeName, loggingFormat string
	mountTimeout, shutdownTimeout, poll time.Duration
	cachePersist                        string
	cacheEntries                        int
	cacheBytes                          int64
	leaseIdle                           time.Duration
	events                              bool

	clouds []cloud.Cloud
}

func serveCommand(std stdio) *cobra.Command {
	o := serveOptions{clouds: cloud.All()}
	c := &cobra.Command{
		Use: "serve", Short: "Serve the driver on its sockets: what the DaemonSet runs", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(std); err != nil {
				return err
			}
			takeLibraries()
			return o.run(c.Context())
		},
	}

	fs := c.Flags()
	for _, cloud := range o.clouds {
		cloud.Flags(fs)
	}
	fs.StringVar(&o.providersDir, "providers-dir", "/var/run/secrets-store-csi-providers", "folder of the driver's provider sockets")
	fs.StringVar(&o.dialects, "dialects", "coffre", "syntaxes to serve, one socket each, separated by commas")
	fs.StringVar(&o.stores, "stores", "", "file of the platform's stores; read again whenever it changes. Without it only inline stores work")
	fs.StringVar(&o.metricsAddr, "metrics-addr", "", "address of /metrics, as :8081; empty for none")
	fs.StringVar(&o.healthAddr, "health-addr", "", "address of /healthz and /readyz, as :8082; empty for none")
	fs.StringVar(&o.pprofAddr, "pprof-addr", "", "loopback address of /debug/pprof, as 127.0.0.1:6060; empty for none")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the API server, where a store needs it; in the cluster by default")
	fs.StringVar(&o.nodeName, "node-name", os.Getenv("NODE_NAME"), "the node that this runs on, whose region label is read where no region is configured; by default $NODE_NAME")
	fs.StringVar(&o.loggingFormat, "logging-format", "text", "text or json")
	fs.DurationVar(&o.mountTimeout, "mount-timeout", provider.DefaultMountTimeout, "deadline of one mount; kubelet waits two minutes")
	fs.DurationVar(&o.shutdownTimeout, "shutdown-timeout", 20*time.Second, "how long mounts under way may take after SIGTERM")
	fs.DurationVar(&o.poll, "stores-poll-interval", 2*time.Second, "how often the file of the stores is looked at")
	fs.IntVar(&o.cacheEntries, "cache-max-entries", 10_000, "secrets that the cache holds")
	fs.Int64Var(&o.cacheBytes, "cache-max-bytes", cache.DefaultMaxBytes, "bytes that the cache keeps alive: values, keys, inline documents, tokens")
	fs.DurationVar(&o.leaseIdle, "lease-idle", cache.DefaultLeaseIdle, "how long a credential that was issued for a time (Vault) is kept up after a pod last asked for it, before it is revoked: longer than the driver's rotationPollInterval. 0 for as long as this runs, where the driver does not rotate")
	fs.StringVar(&o.cachePersist, "cache-persist", "", "folder on a tmpfs in which the cache is kept, encrypted, over a restart; empty for not at all")
	fs.BoolVar(&o.events, "events", false, "put a Warning on a pod whose secrets are not refreshed any more, or are stale; needs the permission to create events")
	logging := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(logging)
	apart(c, "Logging flags (klog's)", logging)

	return c
}

// check refuses what no provider can run with.
func (o serveOptions) check(std stdio) error {
	if err := setLogFormat(o.loggingFormat, std); err != nil {
		return err
	}
	if o.mountTimeout <= 0 || o.mountTimeout > 110*time.Second {
		return usagef("--mount-timeout must be above 0 and at most 110s: kubelet waits 120s, and a mount that it gives up leaves the pod with an empty volume")
	}
	if o.leaseIdle < 0 {
		return usagef("--lease-idle must not be below 0")
	}
	return loopbackOnly(o.pprofAddr)
}

func setLogFormat(format string, std stdio) error {
	switch format {
	case "text":
	case "json":
		// Whether a line is verbose is klog's to decide, by -v.
		klog.SetSlogLogger(slog.New(slog.NewJSONHandler(std.err, &slog.HandlerOptions{Level: slog.Level(-128)})))
	default:
		return usagef("--logging-format %q is neither text nor json", format)
	}
	return nil
}

// loopbackOnly refuses an address for profiles that others can reach: a heap
// profile's neighbours are secrets.
func loopbackOnly(addr string) error {
	if addr == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return usagef("--pprof-addr: %v", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usagef("--pprof-addr %s: profiles are served on loopback only, as 127.0.0.1:6060", addr)
	}
	return nil
}

// thisProcess is what every command that reads stores needs of this process:
// nothing below cmd reads the environment, but for the clouds' own SDKs.
func thisProcess() cloud.Process {
	return cloud.Process{
		Version: version, Getenv: os.Getenv,
		Kubernetes: kubernetes.Options{Host: os.Getenv("KUBERNETES_SERVICE_HOST"), Port: os.Getenv("KUBERNETES_SERVICE_PORT")},
	}
}

func (o serveOptions) wire(metrics *provider.Metrics, warn func(auth.Identity, string)) *cloud.Wiring {
	p := thisProcess()
	p.Kubernetes.Kubeconfig, p.Kubernetes.NodeName, p.Metrics = o.kubeconfig, o.nodeName, metrics
	p.Unconfigured, p.Warn = o.stores == "", warn
	return cloud.New(p, o.clouds)
}

func (o serveOptions) run(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		// A node has a hundred pods and one provider: memory that stays taken
		// costs more than a second look of the collector.
		debug.SetGCPercent(50)
	}
	// Reading the system's authorities takes tens of milliseconds, once a process:
	// the first mount does not wait for it.
	go func() { _, _ = x509.SystemCertPool() }()

	metrics := provider.NewMetrics(version)
	var watch *failures.Watch // before the first mount
	wiring := o.wire(metrics, func(id auth.Identity, message string) { watch.OutOfTime(id, message) })
	defer wiring.Close()
	stores := store.NewSet(wiring.Catalog)
	followed := &configuration{path: o.stores, stores: stores, metrics: metrics}
	if o.stores != "" {
		if err := stores.Watch(ctx, o.stores, o.poll, followed.reloaded); err != nil {
			return fmt.Errorf("--stores: %w", err)
		}
	}

	watch = o.watch(ctx, wiring.Cluster, metrics)
	secrets, err := o.cache(stores, metrics, watch)
	if err != nil {
		return err
	}
	defer secrets.Close() // after the last mount

	// Refreshing goes on while the last mounts are answered.
	refreshing, stopRefreshing := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer stopRefreshing()
	running.Go(func() { secrets.Run(refreshing) })
	running.Go(func() { provider.Tidy(refreshing) })

	names, err := dialectNames(o.dialects, wiring.Dialects)
	if err != nil {
		return err
	}
	var sockets []*provider.Socket
	var servers []*grpc.Server
	var services []*provider.Service
	unlink := func() {
		for _, s := range sockets {
			if err := s.Unlink(); err != nil {
				klog.ErrorS(err, "socket file stays", "path", s.Path())
			}
		}
	}

	turns := provider.NewTurns()
	for _, name := range names {
		socket, err := provider.Listen(o.providersDir, name)
		if err != nil {
			unlink()
			return err
		}
		sockets = append(sockets, socket)
		p := &provider.Provider{Name: name, Dialect: wiring.Dialects[name], Secrets: secrets, Audit: provider.AuditLog(name, o.nodeName), Failures: watch, Turns: turns}
		service := provider.NewService(p, version, o.mountTimeout, metrics)
		services = append(services, service)
		servers = append(servers, provider.NewServer(service))
	}
	defer unlink()
	err = o.serveAll(ctx, sockets, servers, o.health(services, secrets, followed), metrics)
	unlink()
	stop(servers, services, o.shutdownTimeout)
	klog.Flush()

	return err
}

// watch makes what is told how every Mount ended, for all dialects.
func (o serveOptions) watch(ctx context.Context, cluster *kubernetes.Client, metrics *provider.Metrics) *failures.Watch {
	options := failures.Options{Metrics: metrics}
	if o.events {
		events := kubernetes.NewEvents(cluster, metrics)
		go events.Run(ctx)
		options.Events = events
	}
	w := failures.New(options)
	metrics.Failing(w.Failing)
	return w
}

// serveAll serves until ctx ends or something that must be served cannot be.
func (o serveOptions) serveAll(ctx context.Context, sockets []*provider.Socket, servers []*grpc.Server, watched func(*provider.Health), metrics *provider.Metrics) error {
	paths := make([]string, len(sockets))
	for i, s := range sockets {
		paths[i] = s.Path()
	}
	health, err := provider.NewHealth(paths)
	if err != nil {
		return err
	}
	watched(health)
	failed := make(chan error, len(servers)+3)
	for i, g := range servers {
		go func() { failed <- g.Serve(sockets[i]) }()
	}
	metricsMux := http.NewServeMux()
	metricsMux.Handle("GET /metrics", promhttp.HandlerFor(metrics.Registry, promhttp.HandlerOpts{}))
	for _, p := range []struct {
		what, addr string
		handler    http.Handler
	}{{"metrics", o.metricsAddr, metricsMux}, {"health", o.healthAddr, health.Handler()}, {"pprof", o.pprofAddr, profiles()}} {
		if p.addr == "" {
			continue
		}
		// Listening here makes an address that is taken a failure to start.
		l, err := net.Listen("tcp", p.addr)
		if err != nil {
			return fmt.Errorf("%s: %w", p.what, err)
		}
		klog.InfoS("serving", "what", p.what, "address", l.Addr().String())
		h := &http.Server{Handler: p.handler, ReadHeaderTimeout: 5 * time.Second}
		defer h.Close()
		go func() { failed <- h.Serve(l) }()
	}

	health.SetReady(true)
	klog.InfoS("serving", "what", "driver", "sockets", paths, "version", version)

	select {
	case err = <-failed:
		klog.ErrorS(err, "stopping: something could not be served on")
	case <-ctx.Done():
		klog.InfoS("stopping", "mountsUnderWayMayTake", o.shutdownTimeout.String())
	}
	health.SetReady(false)

	return err
}

// stop lets mounts under way finish, for so long. gRPC's own graceful stop
// waits for connections too, some of which (one in the middle of its
// handshake, say) may never end: a second after its start, with no mount under
// way, it is cut short.
func stop(servers []*grpc.Server, services []*provider.Service, patience time.Duration) {
	graceful := make(chan struct{})
	go func() {
		var all sync.WaitGroup
		for _, g := range servers {
			all.Go(g.GracefulStop)
		}
		all.Wait()
		close(graceful)
	}()

	deadline := time.After(patience)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case <-graceful:
			return
		case <-deadline:
			waiting = false
		case <-tick.C:
			waiting = slices.ContainsFunc(services, func(s *provider.Service) bool { return s.UnderWay() > 0 })
		}
	}

	for _, g := range servers {
		g.Stop()
	}
}

func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// stuck is for how long a place may be held beyond the time that its work has.
const stuck = 30 * time.Second

// health says what /healthz and /readyz have to look for.
func (o serveOptions) health(services []*provider.Service, secrets *cache.Cache, followed *configuration) func(*provider.Health) {
	return func(h *provider.Health) {
		h.Unless(followed.unready)
		for _, s := range services {
			h.Watch("mounts", o.mountTimeout+stuck, s.Oldest)
		}
		h.Watch("reads of a store", store.MaxTimeout+stuck, secrets.Oldest)
	}
}

// cache makes the cache, filled with what the last process kept, where that is
// asked for. What cannot be restored is read again; only a folder that must not
// hold secrets stops the provider.
func (o serveOptions) cache(stores *store.Set, metrics *provider.Metrics, watch *failures.Watch) (*cache.Cache, error) {
	options := cache.Options{
		MaxEntries: o.cacheEntries, MaxBytes: o.cacheBytes, Metrics: metrics,
		LeaseIdle: o.leaseIdle, LeaseLost: watch.LeaseLost,
	}
	if o.leaseIdle == 0 {
		options.LeaseIdle = store.Never
	}
	if o.cachePersist == "" {
		return cache.New(stores, options), nil
	}

	journal, err := cache.OpenJournal(o.cachePersist)
	if err != nil {
		return nil, fmt.Errorf("--cache-persist: %w", err)
	}
	options.Journal = journal
	// The journal's pages are memory of this process that the runtime does not
	// know of.
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		debug.SetMemoryLimit(max(limit-o.cacheBytes, limit/2))
	}
	secrets := cache.New(stores, options)
	n, err := secrets.Restore()
	if err != nil {
		klog.ErrorS(err, "the cache starts empty", "folder", o.cachePersist)
	} else {
		klog.InfoS("cache restored", "folder", o.cachePersist, "entries", n)
	}

	return secrets, nil
}

// dialectNames reads --dialects.
func dialectNames(list string, known map[string]provider.Dialect) ([]string, error) {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" || slices.Contains(names, name) {
			continue
		}
		if known[name] == nil {
			all := slices.Sorted(maps.Keys(known))
			hint := "known: " + strings.Join(all, ", ")
			if near := strict.Nearest(name, all); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			return nil, fmt.Errorf("--dialects: %q is no dialect; %s", name, hint)
		}

		names = append(names, name)
	}

	if names == nil {
		return nil, errors.New("--dialects names none")
	}

	return names, nil
}
