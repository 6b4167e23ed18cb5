package kubernetes

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"time"
)

// Event is a core/v1 Event as a client creates one. Fields that are not here
// are refused, although the API server has some more.
type Event struct {
	Kind, APIVersion string
	Metadata         struct{ Name, GenerateName, Namespace string }
	InvolvedObject   struct{ Kind, APIVersion, Namespace, Name, UID string }
	Type             string
	Reason           string
	Message          string
	Source           struct{ Component, Host string }
	FirstTimestamp   time.Time
	LastTimestamp    time.Time
	Count            int

	ReportingComponent, ReportingInstance string
}

// Events are those that were created, in order.
func (s *Server) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// What names and reasons look like.
var (
	subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	camelCase = regexp.MustCompile(`^[A-Z][A-Za-z]*$`)
)

func (s *Server) createEvent(w http.ResponseWriter, r *http.Request, who user, k key) {
	if !slices.Contains(who.resources, k.resource) {
		fail(w, http.StatusForbidden, "Forbidden", forbidden(who.name, "create", k), k)
		return
	}
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media != "application/json" {
		fail(w, http.StatusUnsupportedMediaType, "UnsupportedMediaType", "the body of the request was in an unknown format - accepted media types include: application/json", k)
		return
	}
	var e Event
	d := json.NewDecoder(io.LimitReader(r.Body, 3<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		fail(w, http.StatusBadRequest, "BadRequest", "strict decoding error: "+err.Error(), k)
		return
	}
	if wrong := e.wrong(k.namespace); wrong != "" {
		fail(w, http.StatusUnprocessableEntity, "Invalid", fmt.Sprintf("Event %q is invalid: %s", e.Metadata.Name, wrong), k)
		return
	}
	s.mu.Lock()
	taken := slices.ContainsFunc(s.events, func(o Event) bool { return o.Metadata == e.Metadata })
	if !taken {
		s.events = append(s.events, e)
	}
	s.mu.Unlock()
	if taken {
		fail(w, http.StatusConflict, "AlreadyExists", fmt.Sprintf("events %q already exists", e.Metadata.Name), k)
		return
	}
	write(w, http.StatusCreated, object{"kind": "Event", "apiVersion": "v1", "metadata": object{"name": e.Metadata.Name, "namespace": k.namespace}})
}

// wrong says what the API server would refuse (k8s.io/kubernetes
// pkg/apis/core/validation/events.go, and its limits for the newer group), and
// what `kubectl describe pod` would not show.
func (e Event) wrong(namespace string) string {
	switch {
	case e.Kind != "Event" || e.APIVersion != "v1":
		return "it is no v1 Event"
	case e.Metadata.Namespace != namespace:
		return "metadata.namespace: does not match the namespace of the request"
	case e.InvolvedObject.Namespace != namespace:
		return "involvedObject.namespace: does not match event.namespace"
	case len(e.Metadata.Name) > 253 || !subdomain.MatchString(e.Metadata.Name):
		return "metadata.name: a lowercase RFC 1123 subdomain must be given"
	case e.Type != "Normal" && e.Type != "Warning":
		return "type: has invalid value"
	case !camelCase.MatchString(e.Reason) || len(e.Reason) > 128:
		return "reason: must be CamelCase, of at most 128 characters"
	case e.Message == "" || len(e.Message) > 1024:
		return "message: can have at most 1024 bytes"
	case e.InvolvedObject.Kind != "Pod" || e.InvolvedObject.APIVersion != "v1" || e.InvolvedObject.Name == "" || e.InvolvedObject.UID == "":
		return "involvedObject: names no pod with its uid"
	case e.Source.Component == "" || e.ReportingComponent != e.Source.Component:
		return "source.component: must be there, and reportingComponent the same"
	case e.FirstTimestamp.IsZero() || e.LastTimestamp.Before(e.FirstTimestamp) || e.Count < 1:
		return "firstTimestamp, lastTimestamp, count: must be there"
	}
	return ""
}
