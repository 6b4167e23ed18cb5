package traffic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// A Control changes a fake while it runs, over HTTP, for tests that run it as a
// process of its own. What every cloud has is in it from the start:
//
//	GET    /healthz
//	GET    /calls                           {"calls": […], "counts": {…}}
//	DELETE /calls
//	PUT    /latency?service=S&duration=20ms
//	DELETE /faults
//
// It has no authentication: whoever reaches it owns the fake.
type Control struct{ mux *http.ServeMux }

// done is what a Control answers that has nothing else to say.
var done = map[string]string{"status": "ok"}

// Control is the gate's control endpoint; a fake adds its own.
func (g *Gate) Control() Control {
	c := Control{http.NewServeMux()}
	c.Do("GET /healthz", func() {})
	c.Handle("GET /calls", func(*http.Request) (any, error) {
		return map[string]any{"calls": g.Notation(), "counts": g.Counts()}, nil
	})
	c.Do("DELETE /calls", g.Reset)
	c.Timed("PUT /latency", func(r *http.Request, d time.Duration) { g.SetLatency(r.URL.Query().Get("service"), d) })
	c.Do("DELETE /faults", g.ClearFaults)
	return c
}

func (c Control) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.mux.ServeHTTP(w, r) }

// Handle adds a route. What do returns is answered as JSON, its error as 400.
func (c Control) Handle(pattern string, do func(r *http.Request) (any, error)) {
	c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		out, err := do(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if out == nil {
			out = done
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(out)
	})
}

// Do adds a route that only does something.
func (c Control) Do(pattern string, do func()) {
	c.Handle(pattern, func(*http.Request) (any, error) { do(); return nil, nil })
}

// Timed adds a route with a query parameter duration.
func (c Control) Timed(pattern string, use func(r *http.Request, d time.Duration)) {
	c.Handle(pattern, func(r *http.Request) (any, error) {
		d, err := time.ParseDuration(r.URL.Query().Get("duration"))
		if err == nil {
			use(r, d)
		}
		return nil, err
	})
}

// Named adds a route with the query parameters in (such as region and name),
// which all must be there, and a body that is a value.
func (c Control) Named(pattern string, in []string, use func(value string, of ...string) (version string)) {
	c.Handle(pattern, func(r *http.Request) (any, error) {
		var of []string
		for _, name := range in {
			v := r.URL.Query().Get(name)
			if v == "" {
				return nil, fmt.Errorf("the query parameter %s is needed", name)
			}
			of = append(of, v)
		}
		value, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		return map[string]string{"version": use(string(value), of...)}, nil
	})
}

// World adds POST /world, which adds to what the fake holds, and PUT /world,
// which puts a world in the place of what is there.
func World[W any](c Control, read func([]byte) (W, error), add, replace func(W)) {
	use := func(use func(W)) func(*http.Request) (any, error) {
		return func(r *http.Request) (any, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			w, err := read(body)
			if err != nil {
				return nil, err
			}
			use(w)
			return nil, nil
		}
	}
	c.Handle("POST /world", use(add))
	c.Handle("PUT /world", use(replace))
}

// ReadFields reads the named fields of a JSON object; inside them an unknown
// field is an error. Other fields are passed over, because a case holds more
// than what a fake is to hold.
func ReadFields(data []byte, fields map[string]any) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	if all == nil {
		return errors.New("null where an object is due")
	}
	for name, to := range fields {
		if len(all[name]) == 0 {
			continue
		}
		d := json.NewDecoder(bytes.NewReader(all[name]))
		d.DisallowUnknownFields()
		if err := d.Decode(to); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
