package provider

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// Health answers the probes of kubelet.
type Health struct {
	sockets []string
	ready   atomic.Bool
	unready func() string
	clients []pb.CSIDriverProviderClient
	places  []places
}

// places are those that something may hold for so long.
type places struct {
	what   string
	oldest func() time.Duration
	limit  time.Duration
}

// Watch makes /healthz fail while a place is held for longer than limit: what
// hangs is healed by a restart.
func (h *Health) Watch(what string, limit time.Duration, oldest func() time.Duration) {
	h.places = append(h.places, places{what, oldest, limit})
}

// stuck says what holds a place for too long; "" for nothing.
func (h *Health) stuck() string {
	for _, p := range h.places {
		if held := p.oldest(); held > p.limit {
			return fmt.Sprintf("%s: one is under way for %s, and none may take more than %s", p.what, held.Round(time.Second), p.limit)
		}
	}
	return ""
}

// Unless makes /readyz fail while there is a reason.
func (h *Health) Unless(unready func() string) { h.unready = unready }

// NewHealth watches over the sockets at the given paths.
func NewHealth(sockets []string) (*Health, error) {
	h := &Health{sockets: sockets, unready: func() string { return "" }}
	for _, path := range sockets {
		conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
		if err != nil {
			return nil, err
		}
		h.clients = append(h.clients, pb.NewCSIDriverProviderClient(conn))
	}
	return h, nil
}

// SetReady says that the sockets are served, or no longer.
func (h *Health) SetReady(ready bool) { h.ready.Store(ready) }

// Handler serves /readyz, ready while the sockets are served and nothing else is
// against it, with the reason where it is not; and /healthz, which calls
// Version through each of them as the driver would, and looks for what hangs.
func (h *Health) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !h.ready.Load() {
			http.Error(w, "the sockets are not served", http.StatusServiceUnavailable)
			return
		}
		if reason := h.unready(); reason != "" {
			http.Error(w, reason, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})

	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		for i, c := range h.clients {
			if _, err := c.Version(ctx, &pb.VersionRequest{Version: apiVersion}); err != nil {
				http.Error(w, fmt.Sprintf("%s: %v", h.sockets[i], err), http.StatusServiceUnavailable)
				return
			}
		}

		if reason := h.stuck(); reason != "" {
			http.Error(w, reason, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})

	return mux
}
