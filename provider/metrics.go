package provider

import (
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics are the provider's Prometheus metrics. Every label has few values:
// dialects, gRPC codes, results, the names of the stores that the platform
// configured, and so many classes as provider/failures lets through.
type Metrics struct {
	Registry *prometheus.Registry

	mounts       *prometheus.CounterVec
	mountSeconds *prometheus.HistogramVec
	panics       prometheus.Counter
	classes      *prometheus.CounterVec
	events       *prometheus.CounterVec
	fetches      *prometheus.CounterVec
	requests     *prometheus.CounterVec
	exchanges    *prometheus.CounterVec
	cacheEntries prometheus.Gauge
	cacheBytes   prometheus.Gauge
	available    *prometheus.GaugeVec
	oldest       prometheus.Gauge
	reloads      *prometheus.CounterVec
	reloaded     prometheus.Gauge
	stores       prometheus.Gauge
	held         prometheus.Gauge
	leases       *prometheus.CounterVec

	mu        sync.Mutex
	endpoints map[string]struct{} // that available has
}

// NewMetrics makes the metrics of one provider process of the given build.
func NewMetrics(build string) *Metrics {
	m := &Metrics{
		Registry:  prometheus.NewRegistry(),
		endpoints: map[string]struct{}{},
		mounts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "coffre_mounts_total",
			Help: "Mounts answered, by dialect and gRPC code."}, []string{"dialect", "code"}),
		mountSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "coffre_mount_duration_seconds",
			Help:    "Time to answer a Mount, by dialect and gRPC code.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}}, []string{"dialect", "code"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "coffre_panics_total",
			Help: "Mounts that ended in a panic, which was recovered. Each is a fault of Coffre."}),
		classes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "coffre_class_failures_total",
			Help: "Mounts that failed, republishes too, by SecretProviderClass and reason: invalid, not_found, denied, unavailable, throttled, precondition, internal. Namespace and class are other where too many have failed."}, []string{"namespace", "class", "reason"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "coffre_events_total",
			Help: "Events on pods, by result: sent, failed, dropped where too many waited."}, []string{"result"}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "coffre_fetches_total",
			Help: "Secrets asked for, by store and result: hit, miss, stale, error."}, []string{"store", "result"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "coffre_store_requests_total",
			Help: "Requests to secret managers, by kind of store, operation and the answer's code: ok, none where nothing was answered, or the service's own."}, []string{"kind", "operation", "code"}),
		exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "coffre_credential_exchanges_total",
			Help: "Logins to clouds, by kind and result: ok, denied, throttled, unavailable, invalid, precondition."}, []string{"kind", "result"}),
		cacheEntries: prometheus.NewGauge(prometheus.GaugeOpts{Name: "coffre_cache_entries",
			Help: "Secrets in the cache."}),
		cacheBytes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "coffre_cache_bytes",
			Help: "Bytes that the cache keeps alive: values, keys, inline documents and the tenants' tokens."}),
		available: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "coffre_store_available",
			Help: "1 where the endpoint (a region, a host, a vault; a store by its name where it has none) answered when it was last asked, 0 where it could not be reached."}, []string{"endpoint"}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{Name: "coffre_oldest_value_age_seconds",
			Help: "Age of the oldest value that is being served, pinned versions aside."}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "coffre_configuration_reloads_total",
			Help: "Store configurations read, by result: ok, or error where the last good one stays."}, []string{"result"}),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{Name: "coffre_configuration_last_reload_successful",
			Help: "1 where the store configuration in force is the one in the file, 0 where a broken edit was refused."}),
		stores: prometheus.NewGauge(prometheus.GaugeOpts{Name: "coffre_configured_stores",
			Help: "Stores in the configuration in force."}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{Name: "coffre_leases",
			Help: "Secrets that were issued for a time and are held now."}),
		leases: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "coffre_leases_total",
			Help: "What became of secrets issued for a time, by store and event: issued, renewed, lost, revoked."}, []string{"store", "event"}),
	}

	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "coffre_build_info", Help: "1, labelled with the build.",
		ConstLabels: prometheus.Labels{"version": build, "go_version": runtime.Version()}})
	info.Set(1)
	m.Registry.MustRegister(m.mounts, m.mountSeconds, m.panics, m.classes, m.events, m.fetches, m.requests, m.exchanges, m.cacheEntries, m.cacheBytes, m.available, m.oldest, m.reloads, m.reloaded, m.stores, m.held, m.leases, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	return m
}

// Mounted implements Observer.
func (m *Metrics) Mounted(dialect, code string, took time.Duration) {
	m.mounts.WithLabelValues(dialect, code).Inc()
	m.mountSeconds.WithLabelValues(dialect, code).Observe(took.Seconds())
}

// Panicked implements Observer.
func (m *Metrics) Panicked() { m.panics.Inc() }

// ClassFailed implements failures.Metrics.
func (m *Metrics) ClassFailed(namespace, class, reason string) {
	m.classes.WithLabelValues(namespace, class, reason).Inc()
}

// Failing shows how many volumes fail, as it is when the metrics are read. It
// is called once.
func (m *Metrics) Failing(volumes func() int) {
	m.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "coffre_failing_volumes",
		Help: "Volumes (a SecretProviderClass in a pod) whose last mount or republish failed, in the last 10 minutes."},
		func() float64 { return float64(volumes()) }))
}

// Told implements kubernetes.EventMetrics.
func (m *Metrics) Told(result string) { m.events.WithLabelValues(result).Inc() }

// Fetched implements cache.Metrics.
func (m *Metrics) Fetched(store, result string) { m.fetches.WithLabelValues(store, result).Inc() }

// maxCode keeps a label to what a service's own error codes look like.
const maxCode = 64

// Requested implements StoreMetrics.
func (m *Metrics) Requested(kind, operation, code string) {
	if len(code) > maxCode {
		code = "other"
	}
	m.requests.WithLabelValues(kind, operation, strings.ToValidUTF8(code, "_")).Inc()
}

// Exchanged implements StoreMetrics.
func (m *Metrics) Exchanged(kind, result string) { m.exchanges.WithLabelValues(kind, result).Inc() }

// Size implements cache.Metrics.
func (m *Metrics) Size(entries int, bytes int64) {
	m.cacheEntries.Set(float64(entries))
	m.cacheBytes.Set(float64(bytes))
}

// maxEndpoints bounds the series of a metric whose label a SecretProviderClass
// can make up, in the grammar of a region or a host.
const maxEndpoints = 200

// Available implements cache.Metrics.
func (m *Metrics) Available(endpoint string, yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.endpoints[endpoint]; !known && len(m.endpoints) >= maxEndpoints {
		return
	}
	m.endpoints[endpoint] = struct{}{}
	up := 0.0
	if yes {
		up = 1
	}
	m.available.WithLabelValues(endpoint).Set(up)
}

// Unknown implements cache.Metrics.
func (m *Metrics) Unknown(endpoint string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.endpoints, endpoint)
	m.available.DeleteLabelValues(endpoint)
}

// Leases implements cache.Metrics.
func (m *Metrics) Leases(held int) { m.held.Set(float64(held)) }

// Leased implements cache.Metrics.
func (m *Metrics) Leased(store, event string) { m.leases.WithLabelValues(store, event).Inc() }

// Oldest implements cache.Metrics.
func (m *Metrics) Oldest(age time.Duration) { m.oldest.Set(age.Seconds()) }

// Reloaded counts an attempt to load the store configuration, which left
// stores in force.
func (m *Metrics) Reloaded(err error, stores int) {
	result, good := "ok", 1.0
	if err != nil {
		result, good = "error", 0
	}
	m.reloads.WithLabelValues(result).Inc()
	m.reloaded.Set(good)
	m.stores.Set(float64(stores))
}
