package gcp

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/internal/flight"
	"github.com/coffre-csi/coffre/auth/peer"
)

// MetadataAddress is where the metadata server of a Google node answers.
const MetadataAddress = "169.254.169.254"

const (
	metadataTime = time.Second
	// An address where nobody is answers nothing at all. That is waited for
	// once; whether somebody has come is then found out beside the mounts.
	slow         = 200 * time.Millisecond
	askSlowAgain = 30 * time.Second
	askFastAgain = time.Second

	maxMetadata = 64 << 10
)

// metadata is the node's metadata server. What it once said stays so: nodes do
// not change their project or cluster.
type metadata struct {
	host string
	http *http.Client
	now  func() time.Time

	flights flight.Group[string, string]

	mu     sync.Mutex
	known  map[string]string
	failed map[string]silence
}

type silence struct {
	err      error
	at       time.Time
	slow     bool
	underWay bool
}

func newMetadata(host string, now func() time.Time) *metadata {
	if host == "" {
		host = MetadataAddress
	}
	return &metadata{
		host: host, http: peer.Local(metadataTime, metadataTime), now: now,
		known: map[string]string{}, failed: map[string]silence{},
	}
}

// value reads a path such as project/project-id.
func (m *metadata) value(ctx context.Context, path string) (string, error) {
	now := m.now()
	m.mu.Lock()
	if v, ok := m.known[path]; ok {
		m.mu.Unlock()
		return v, nil
	}
	f, failed := m.failed[path]
	wait := askFastAgain
	if f.slow {
		wait = askSlowAgain
	}
	due := now.Sub(f.at) >= wait
	beside := failed && due && f.slow && !f.underWay
	if beside {
		f.underWay = true
		m.failed[path] = f
	}
	m.mu.Unlock()

	if beside {
		go func() { _, _ = m.ask(context.WithoutCancel(ctx), path) }()
	}
	if failed && (f.slow || !due) {
		return "", f.err
	}
	return m.ask(ctx, path)
}

// ask reads a path once for all who want it now, and remembers what came.
func (m *metadata) ask(ctx context.Context, path string) (string, error) {
	return m.flights.Do(ctx, path, 2*metadataTime, func(ctx context.Context) (string, error) {
		began := m.now()
		v, err := m.get(ctx, path)

		m.mu.Lock()
		defer m.mu.Unlock()
		if err != nil {
			m.failed[path] = silence{err: err, at: m.now(), slow: m.now().Sub(began) > slow}
			return "", err
		}
		delete(m.failed, path)
		m.known[path] = v
		return v, nil
	})
}

func (m *metadata) get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.host+"/computeMetadata/v1/"+path, nil)
	if err != nil {
		return "", fault.Errorf(fault.Invalid, "the metadata server's address %.60q is none", m.host)
	}
	req.Header.Set("Metadata-Flavor", "Google")
	res, err := m.http.Do(req)
	if err != nil {
		return "", fault.Errorf(fault.Unavailable, "the metadata server at %s cannot be reached: %s", m.host, peer.Unreached(err))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxMetadata))

	switch {
	case err != nil:
		return "", fault.Errorf(fault.Unavailable, "the metadata server at %s broke off", m.host)
	case res.StatusCode != http.StatusOK:
		return "", fault.Errorf(fault.Unavailable, "the metadata server at %s answers %d for %s", m.host, res.StatusCode, path)
	case res.Header.Get("Metadata-Flavor") != "Google" && m.host == MetadataAddress:
		return "", fault.Errorf(fault.Unavailable, "what answers at %s is no metadata server of Google's", m.host)
	}
	return strings.TrimSpace(string(body)), nil
}

// token is one of the node's own service account; it is not remembered here.
func (m *metadata) token(ctx context.Context, now time.Time) (auth.Token, error) {
	body, err := m.get(ctx, "instance/service-accounts/default/token")
	if err != nil {
		return auth.Token{}, err
	}
	var t tokenAnswer
	if err := json.Unmarshal([]byte(body), &t); err != nil || t.AccessToken == "" {
		return auth.Token{}, fault.Errorf(fault.Unavailable, "the metadata server at %s answered without a token", m.host)
	}
	return t.token(now), nil
}

// tokenAnswer is what STS, OAuth and the metadata server answer.
type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int64  `json:"expires_in"` // seconds
}

// unsaid is how long a token lasts whose answer does not say it.
const unsaid = 5 * time.Minute

func (t tokenAnswer) token(now time.Time) auth.Token {
	lasts := unsaid
	if t.ExpiresIn > 0 {
		lasts = time.Duration(t.ExpiresIn) * time.Second
	}
	return auth.NewToken(t.AccessToken, now.Add(lasts))
}

// cluster is what a GKE node is told of itself, as the full audience that STS
// knows the cluster by.
func (b *Broker) cluster(ctx context.Context) (string, error) {
	parts := []struct{ given, path string }{
		{b.opts.Project, "project/project-id"},
		{b.opts.ClusterLocation, "instance/attributes/cluster-location"},
		{b.opts.ClusterName, "instance/attributes/cluster-name"},
	}
	values, errs := make([]string, len(parts)), make([]error, len(parts))
	var all sync.WaitGroup
	for i, p := range parts {
		if values[i] = p.given; p.given == "" {
			all.Go(func() { values[i], errs[i] = b.metadata.value(ctx, p.path) })
		}
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return "", err
		}
	}

	project, location, name := values[0], values[1], values[2]
	for _, v := range values {
		if !plain.MatchString(v) {
			return "", fault.Errorf(fault.Invalid, "%.60q is no project, location or name of a cluster", v)
		}
	}
	return fmt.Sprintf("identitynamespace:%s.svc.id.goog:%s/projects/%s/locations/%s/clusters/%s",
		project, strings.TrimSuffix(b.opts.ClusterEndpoint, "/"), project, location, name), nil
}
