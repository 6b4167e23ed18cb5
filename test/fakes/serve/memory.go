package serve

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
)

// InMemory is a client's side of a handler without a network, so that time may
// be a bubble's (testing/synctest). A connection that the handler drops is one
// that was refused.
func InMemory(h http.Handler) http.RoundTripper { return memory{h} }

type memory struct{ http.Handler }

func (m memory) RoundTrip(r *http.Request) (res *http.Response, err error) {
	var body []byte
	if r.Body != nil {
		body, err = io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("the request's body: %w", err)
		}
	}
	in := r.Clone(r.Context())
	in.Body = io.NopCloser(bytes.NewReader(body))
	in.RequestURI = r.URL.RequestURI()
	if in.Host == "" {
		in.Host = r.URL.Host
	}

	defer func() {
		switch p := recover(); {
		case p == nil:
		case p != http.ErrAbortHandler:
			panic(p)
		case r.Context().Err() != nil:
			res, err = nil, r.Context().Err()
		default:
			res, err = nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
	}()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, in)
	res = w.Result()
	res.Request = r
	return res, nil
}
