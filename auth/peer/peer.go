// Package peer is how Coffre speaks HTTP to those who vouch for it: metadata
// servers and agents of the node, and the hosts of clouds, to which connections
// are opened ahead. It says why there was no answer in words that hold nothing
// of the request or of an answer.
package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// NoRedirect is the CheckRedirect of every client that carries a credential: it
// goes to the peer that was named and nowhere else.
func NoRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Local is a client for an address of this node, such as a metadata server:
// through no proxy, never redirected, with a deadline of its own, of which
// dialling may take a part: an address that does not exist on the node answers
// nothing at all.
func Local(timeout, dial time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:               nil,
			DialContext:         (&net.Dialer{Timeout: min(dial, timeout)}).DialContext,
			MaxConnsPerHost:     16,
			MaxIdleConnsPerHost: 4,
			IdleConnTimeout:     time.Minute,
		},
		CheckRedirect: NoRedirect,
	}
}

// Unreached says why there was no answer.
func Unreached(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var timeout net.Error
	var u *url.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dns):
		return "no such host " + dns.Name
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &op) && op.Op == "dial":
		return "nobody answers at " + fmt.Sprint(op.Addr)
	case errors.As(err, &certificate):
		return "its certificate is not trusted"
	case errors.As(err, &u), errors.As(err, &op):
		return "the connection broke off"
	}

	return "no answer that makes sense"
}
