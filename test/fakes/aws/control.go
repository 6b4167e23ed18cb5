package aws

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Control changes the fake while it runs, over HTTP, for tests that run it as a
// process of its own:
//
//	GET    /healthz
//	GET    /calls                           {"calls": […], "counts": {…}}
//	DELETE /calls
//	POST   /world                           a World in JSON, added
//	PUT    /world                           a World in JSON, in place of what is there
//	PUT    /secret?region=R&name=N          the body is the new current value
//	DELETE /secret?region=R&name=N
//	PUT    /parameter?region=R&name=N       the body is the new value
//	DELETE /parameter?region=R&name=N
//	PUT    /latency?service=S&duration=20ms
//	PUT    /lifetime?duration=15m           of the credentials issued from now on
//	DELETE /faults
//	DELETE /sessions                        revokes all credentials
//
// It has no authentication: whoever reaches it owns the fake.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			out, err := do(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(out)
		})
	}
	done := map[string]string{"status": "ok"}
	act := func(do func()) func(*http.Request) (any, error) {
		return func(*http.Request) (any, error) { do(); return done, nil }
	}
	world := func(use func(World)) func(*http.Request) (any, error) {
		return func(r *http.Request) (any, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			w, err := LoadCompat(body)
			if err != nil {
				return nil, err
			}
			use(w)
			return done, nil
		}
	}
	named := func(use func(region, name, value string) any) func(*http.Request) (any, error) {
		return func(r *http.Request) (any, error) {
			region, name := r.URL.Query().Get("region"), r.URL.Query().Get("name")
			if region == "" || name == "" {
				return nil, fmt.Errorf("region and name are needed")
			}
			value, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			return map[string]any{"version": use(region, name, string(value))}, nil
		}
	}
	timed := func(use func(r *http.Request, d time.Duration)) func(*http.Request) (any, error) {
		return func(r *http.Request) (any, error) {
			d, err := time.ParseDuration(r.URL.Query().Get("duration"))
			if err != nil {
				return nil, err
			}
			use(r, d)
			return done, nil
		}
	}
	handle("GET /healthz", act(func() {}))
	handle("GET /calls", func(*http.Request) (any, error) {
		return map[string]any{"calls": s.Notation(), "counts": s.countsByOp()}, nil
	})
	handle("DELETE /calls", act(s.Reset))
	handle("POST /world", world(s.Load))
	handle("PUT /world", world(s.Replace))
	handle("PUT /secret", named(func(region, name, value string) any { return s.SetSecretValue(region, name, value) }))
	handle("DELETE /secret", named(func(region, name, _ string) any { s.DeleteSecret(region, name); return nil }))
	handle("PUT /parameter", named(func(region, name, value string) any { return s.SetParameterValue(region, name, value) }))
	handle("DELETE /parameter", named(func(region, name, _ string) any { s.DeleteParameter(region, name); return nil }))
	handle("PUT /latency", timed(func(r *http.Request, d time.Duration) { s.SetLatency(r.URL.Query().Get("service"), d) }))
	handle("PUT /lifetime", timed(func(_ *http.Request, d time.Duration) { s.SetLifetime(d) }))
	handle("DELETE /faults", act(s.ClearFaults))
	handle("DELETE /sessions", act(s.RevokeAll))
	return mux
}
