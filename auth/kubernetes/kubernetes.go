// Package kubernetes reads the two things that Coffre may need from the API
// server: the annotations of a pod's ServiceAccount, which name its cloud
// identity, and the region label of the node. Where that is switched on it
// writes one kind, Events on pods. Nothing is contacted, and no configuration
// is required, before something asks; without the chart's optional ClusterRole
// everything that does not ask works.
//
// It speaks REST over net/http, asking for PartialObjectMetadata. Measured on
// linux/amd64, static and stripped, on top of what Coffre links anyway:
// client-go's metadata client with rest and clientcmd adds 4.2 MB, its
// clientset 34.5 MB, this package 0.1 MB.
package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/internal/flight"
)

const (
	// fresh is how long an answer is used without asking again.
	fresh = time.Minute
	// recheck is how old an answer may be that lacks the annotation asked for:
	// somebody who has just added it should not wait for it.
	recheck = 5 * time.Second
	// stale is how long an answer may stand in for an API server that does not
	// answer; one that says no is believed at once.
	stale = 10 * time.Minute

	requestTimeout = 10 * time.Second
	maxBody        = 2 << 20
	maxObjects     = 5000
)

// RegionLabel is the node label that names the cloud's region.
const RegionLabel = "topology.kubernetes.io/region"

// Options say how the API server is reached. All may be empty: what is missing
// is an error only once something is read.
type Options struct {
	// Kubeconfig is the path of a kubeconfig file, whose current context is
	// used. Without it the pod's own service account is.
	Kubeconfig string
	// Host and Port are what the environment of a pod says
	// (KUBERNETES_SERVICE_HOST and _PORT).
	Host, Port string
	// TokenFile and CAFile default to the places in a pod.
	TokenFile, CAFile string
	// NodeName is the node that this process runs on (spec.nodeName).
	NodeName string

	// Known are annotations of ServiceAccounts, by NAMESPACE/NAME, that are
	// used without asking anybody.
	Known map[string]map[string]string

	UserAgent string
	Now       func() time.Time
}

// Client reads objects. It is safe for concurrent use.
type Client struct {
	opts Options

	connect sync.Mutex
	conn    *connection

	mu     sync.Mutex
	cached map[query]kept
	flight flight.Group[query, kept]
}

// New makes a Client; it reads nothing.
func New(o Options) *Client {
	const mount = "/var/run/secrets/kubernetes.io/serviceaccount/"
	if o.TokenFile == "" {
		o.TokenFile = mount + "token"
	}
	if o.CAFile == "" {
		o.CAFile = mount + "ca.crt"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Client{opts: o, cached: map[query]kept{}}
}

// Error is a request that the API server refused, or that did not reach it.
// Status is 0 for the latter.
type Error struct {
	Status  int
	Text    string
	foreign bool // not the API server's own words: a proxy's page
}

func (e *Error) Error() string { return e.Text }

// Unreachable says whether err may go away by itself: the API server did not
// answer, or failed on its own side.
func Unreachable(err error) bool {
	e := new(Error)
	if !errors.As(err, &e) {
		return false
	}
	return e.foreign || e.Status == 0 || e.Status == http.StatusTooManyRequests || e.Status >= 500
}

// failure is err as whoever asked is told. An API server out of reach is no
// reason to forget anything; one that says no has to be told who may.
func failure(err error, format string, args ...any) error {
	reason := fault.Precondition
	if Unreachable(err) {
		reason = fault.Unavailable
	}
	return &fault.Error{Reason: reason, Text: fmt.Sprintf(format, args...), Cause: err}
}

// query is one text of one object: the only one that is kept of it, for an
// object may be large, and who may write it can make it so.
type query struct {
	path string
	text string // an annotation's or a label's name, or nodeOfPod
}

// nodeOfPod asks for a pod's node; no annotation has such a name.
const nodeOfPod = "spec.nodeName "

// kept is what a query gave, and when.
type kept struct {
	text string
	read time.Time
}

// maxText is longer than any identity or region is.
const maxText = 4096

// object is what is read of one.
type object struct {
	Metadata struct {
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		NodeName string `json:"nodeName"`
	} `json:"spec"`
}

// text is what a query wants of the object, as a copy of its own.
func (o object) text(q query) string {
	text := o.Metadata.Annotations[q.text]
	switch q.text {
	case nodeOfPod:
		text = o.Spec.NodeName
	case RegionLabel:
		text = o.Metadata.Labels[q.text]
	}
	return strings.Clone(text[:min(len(text), maxText)])
}

// ServiceAccountAnnotation reads one annotation of a ServiceAccount; "" where
// it has none of that name.
func (c *Client) ServiceAccountAnnotation(ctx context.Context, namespace, name, key string) (string, error) {
	if known, ok := c.opts.Known[namespace+"/"+name]; ok {
		return known[key], nil
	}
	if !pathSafe(namespace) || !pathSafe(name) {
		return "", fault.Errorf(fault.Invalid, "failed to get service account %.80s/%.80s: no such name is possible", namespace, name)
	}
	path := "/api/v1/namespaces/" + url.PathEscape(namespace) + "/serviceaccounts/" + url.PathEscape(name)
	o, err := c.get(ctx, query{path, key}, func(o kept, age time.Duration) bool {
		return age < fresh && (o.text != "" || age < recheck)
	})
	if err != nil {
		return "", failure(err, "failed to get service account %s/%s: %s", namespace, name, hint(err, "rbac.serviceAccountAnnotations.enabled"))
	}

	return o.text, nil
}

// Region reads the region label of the node that this process runs on. Where
// nobody has said which node that is, the pod, which kubelet has on this node
// too, says it. The answer is kept for good: nodes do not move.
func (c *Client) Region(ctx context.Context, namespace, pod string) (string, error) {
	region, err := c.region(ctx, namespace, pod)
	if err != nil {
		return "", failure(err, "failed to retrieve region from node. error %s", err)
	}
	return region, nil
}

func (c *Client) region(ctx context.Context, namespace, pod string) (string, error) {
	forever := func(kept, time.Duration) bool { return true }
	node := c.opts.NodeName
	if node == "" {
		if known, ok := c.thisNode(); ok {
			node = known
		} else {
			if !pathSafe(namespace) || !pathSafe(pod) {
				return "", fmt.Errorf("pods %.80q not found: no such name is possible", pod)
			}
			p, err := c.get(ctx, query{"/api/v1/namespaces/" + url.PathEscape(namespace) + "/pods/" + url.PathEscape(pod), nodeOfPod}, forever)
			if err != nil {
				return "", hint(err, "NODE_NAME, which the chart sets: with it no permission on pods is needed")
			}
			if node = p.text; node == "" {
				return "", fmt.Errorf("pods %q has no node yet", pod)
			}
			c.keepNode(node)
		}
	}

	if !pathSafe(node) {
		return "", fmt.Errorf("nodes %.80q not found: no such name is possible", node)
	}
	n, err := c.get(ctx, query{"/api/v1/nodes/" + url.PathEscape(node), RegionLabel}, func(o kept, age time.Duration) bool {
		return o.text != "" || age < recheck
	})
	if err != nil {
		return "", hint(err, "rbac.nodes.enabled")
	}
	if n.text == "" {
		return "", fmt.Errorf("Region not found: node %s has no label %s; set the region in the store", node, RegionLabel)
	}

	return n.text, nil
}

// thisNode is the node of this process, once it is known; it is kept under the
// query for nothing.
func (c *Client) thisNode() (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.cached[query{}]
	return e.text, ok
}

func (c *Client) keepNode(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cached[query{}] = kept{text: name}
}

// pathSafe keeps a name to one element of a path. The API server knows the
// rest of the grammar.
func pathSafe(name string) bool {
	return name != "" && len(name) <= 253 && name != "." && name != ".." && !strings.ContainsAny(name, "/\\%?#\x00")
}

// hint adds what gives the permission to a refusal.
func hint(err error, remedy string) error {
	e := new(Error)
	if !errors.As(err, &e) {
		return err
	}
	switch e.Status {
	case http.StatusForbidden:
		return fmt.Errorf("%w (the chart gives Coffre this permission with %s)", err, remedy)
	case http.StatusUnauthorized:
		return fmt.Errorf("%w (the API server does not know Coffre's token: the chart gives the pod one with %s)", err, remedy)
	}
	return err
}

// get answers from memory where usable says so, and asks otherwise; concurrent
// reads of one object are one request.
func (c *Client) get(ctx context.Context, q query, usable func(kept, time.Duration) bool) (kept, error) {
	now := c.opts.Now()
	c.mu.Lock()
	k, known := c.cached[q]
	c.mu.Unlock()
	if known && usable(k, now.Sub(k.read)) {
		return k, nil
	}

	fresh, err := c.flight.Do(ctx, q, requestTimeout, func(ctx context.Context) (kept, error) {
		o, err := c.request(ctx, q.path, q.text != nodeOfPod)
		if err != nil {
			return kept{}, err
		}
		return c.keep(q, o.text(q)), nil
	})
	if err == nil {
		return fresh, nil
	}
	if known && Unreachable(err) && now.Sub(k.read) < stale {
		return k, nil
	}
	if ctx.Err() != nil {
		err = &Error{Text: "the API server gave no answer in time"}
	}

	return kept{}, err
}

func (c *Client) keep(q query, text string) kept {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.opts.Now()
	if len(c.cached) >= maxObjects {
		for old, k := range c.cached {
			if old != (query{}) && (now.Sub(k.read) > fresh || len(c.cached) >= maxObjects) {
				delete(c.cached, old)
			}
		}
	}

	k := kept{text: text, read: now}
	c.cached[q] = k

	return k
}

func (c *Client) request(ctx context.Context, path string, metadataOnly bool) (object, error) {
	conn, err := c.connection()
	if err != nil {
		return object{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, conn.server+path, nil)
	if err != nil {
		return object{}, fmt.Errorf("the API server's address cannot be used: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	if metadataOnly {
		req.Header.Set("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json")
	}
	req.Header.Set("User-Agent", c.opts.UserAgent)
	if err := conn.authorize(req); err != nil {
		return object{}, err
	}
	res, err := conn.http.Do(req)
	if err != nil {
		return object{}, unreachable(conn.server, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return object{}, unreachable(conn.server, err)
	}
	if res.StatusCode != http.StatusOK {
		return object{}, refused(res.StatusCode, body)
	}
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		return object{}, &Error{Text: "the API server's answer is not the JSON of an object"}
	}

	return o, nil
}

// refused keeps the API server's own sentence.
func refused(status int, body []byte) error {
	var s struct {
		Kind    string `json:"kind"`
		Message string `json:"message"`
	}
	err := json.Unmarshal(body, &s)
	own := err == nil && s.Kind == "Status"
	if !own || s.Message == "" || len(s.Message) > 1000 {
		s.Message = fmt.Sprintf("the API server answered %d %s", status, http.StatusText(status))
	}

	return &Error{Status: status, Text: s.Message, foreign: !own}
}

func unreachable(server string, err error) error {
	if u := new(url.Error); errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &Error{Text: fmt.Sprintf("the API server at %s gave no answer within %s", server, requestTimeout)}
	}
	return &Error{Text: fmt.Sprintf("the API server at %s cannot be reached: %v", server, err)}
}
