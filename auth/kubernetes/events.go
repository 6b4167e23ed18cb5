package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/auth"
)

const (
	// component is what events say they come from, and `kubectl describe` shows.
	component = "coffre"

	maxWaiting = 100
	eventBurst = 20
	eventEvery = time.Second
	// maxEventMessage is the API server's own limit on a note, in bytes
	// (k8s.io/kubernetes/pkg/apis/core/validation/events.go).
	maxEventMessage = 1024
)

// EventMetrics count events by what became of them: sent, failed, dropped.
type EventMetrics interface {
	Told(result string)
}

// Events puts warnings on pods. They wait in a bounded queue and leave at a
// bounded pace, whatever happens on the node: 20 at once, one a second after.
// The permission that it needs is create on events, the chart's events.enabled.
type Events struct {
	client  *Client
	metrics EventMetrics
	queue   chan event
	send    func(context.Context, event) error // client.create, but in tests

	failing bool // the last one could not be sent; of Run alone
	full    sync.Once
}

// NewEvents makes Events; Run sends them. metrics may be nil.
func NewEvents(c *Client, metrics EventMetrics) *Events {
	e := &Events{client: c, metrics: metrics, queue: make(chan event, maxWaiting)}
	e.send = e.client.create
	return e
}

// Warn queues a Warning on a pod. It never blocks; where too many wait the
// event is dropped.
func (e *Events) Warn(namespace string, pod auth.Pod, reason, message string) {
	select {
	case e.queue <- newEvent(namespace, pod, reason, message, e.client.opts.NodeName, e.client.opts.Now()):
	default:
		e.count("dropped")
		e.full.Do(func() {
			klog.ErrorS(nil, "events are dropped: too many wait to be sent; coffre_events_total counts them")
		})
	}
}

// Run sends until ctx ends.
func (e *Events) Run(ctx context.Context) {
	tokens := time.NewTicker(eventEvery)
	defer tokens.Stop()
	left := eventBurst
	for {
		queue := e.queue
		if left == 0 {
			queue = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-tokens.C:
			left = min(left+1, eventBurst)
		case ev := <-queue:
			left--
			e.deliver(ctx, ev)
		}
	}
}

// deliver sends one event, once: what it says is in the log too. A row of
// failures is logged when it begins and when it ends.
func (e *Events) deliver(ctx context.Context, ev event) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := e.send(ctx, ev)
	switch {
	case err != nil:
		e.count("failed")
		if !e.failing {
			klog.ErrorS(hint(err, "events.enabled"), "events on pods cannot be sent; this is not logged again until one is")
		}
	default:
		e.count("sent")
		if e.failing {
			klog.InfoS("events on pods are sent again")
		}
	}

	e.failing = err != nil
}

func (e *Events) count(result string) {
	if e.metrics != nil {
		e.metrics.Told(result)
	}
}

// event is a core/v1 Event, as much of it as is written.
type event struct {
	Kind       string    `json:"kind"`
	APIVersion string    `json:"apiVersion"`
	Metadata   eventMeta `json:"metadata"`
	Involved   involved  `json:"involvedObject"`
	Type       string    `json:"type"`
	Reason     string    `json:"reason"`
	Message    string    `json:"message"`
	Source     source    `json:"source"`
	First      string    `json:"firstTimestamp"`
	Last       string    `json:"lastTimestamp"`
	Count      int       `json:"count"`
	// The newer names of the source, by which field selectors find it.
	Component string `json:"reportingComponent"`
	Instance  string `json:"reportingInstance"`
}

type eventMeta struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

type involved struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	UID        string `json:"uid,omitempty"`
}

type source struct {
	Component string `json:"component"`
	Host      string `json:"host,omitempty"`
}

func newEvent(namespace string, pod auth.Pod, reason, message, node string, now time.Time) event {
	at := now.UTC().Format(time.RFC3339)
	return event{
		Kind: "Event", APIVersion: "v1",
		Metadata:  eventMeta{Name: eventName(pod.Name, now), Namespace: namespace},
		Involved:  involved{Kind: "Pod", APIVersion: "v1", Namespace: namespace, Name: pod.Name, UID: pod.UID},
		Type:      "Warning",
		Reason:    reason,
		Message:   shorten(message, maxEventMessage),
		Source:    source{Component: component, Host: node},
		First:     at,
		Last:      at,
		Count:     1,
		Component: component,
		Instance:  node,
	}
}

// eventName is a name as client-go makes one: the object's and the time.
func eventName(pod string, now time.Time) string {
	if len(pod) > 200 {
		pod = strings.TrimRight(pod[:200], "-.")
	}
	return fmt.Sprintf("%s.%x", pod, now.UnixNano())
}

// shorten cuts a text to so many bytes, between characters.
func shorten(text string, limit int) string {
	const more = "…"
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit-len(more)], "") + more
}

// create writes an event.
func (c *Client) create(ctx context.Context, ev event) error {
	if !pathSafe(ev.Metadata.Namespace) || !pathSafe(ev.Involved.Name) {
		return fmt.Errorf("failed to create an event on pod %.80s/%.80s: no such name is possible", ev.Metadata.Namespace, ev.Involved.Name)
	}
	conn, err := c.connection()
	if err != nil {
		return err
	}
	body, err := json.Marshal(ev)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, conn.server+"/api/v1/namespaces/"+url.PathEscape(ev.Metadata.Namespace)+"/events", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the API server's address cannot be used: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", c.opts.UserAgent)
	if err := conn.authorize(req); err != nil {
		return err
	}
	res, err := conn.http.Do(req)
	if err != nil {
		return unreachable(conn.server, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return unreachable(conn.server, err)
	}
	if res.StatusCode != http.StatusCreated {
		return refused(res.StatusCode, answer)
	}

	return nil
}
