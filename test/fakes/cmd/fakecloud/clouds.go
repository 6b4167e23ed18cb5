package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/azure"
	"github.com/coffre-csi/coffre/test/fakes/gcp"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

// clouds are the fakes behind one address.
type clouds struct {
	aws   *aws.Server
	gcp   *gcp.Server
	azure *azure.Server
}

// HTTP2 is true of what speaks gRPC.
func (c clouds) HTTP2(host string) bool { return c.gcp.HTTP2(host) }

// ServeHTTP routes by host name. Google's and Azure's metadata servers have one
// address, and paths of their own.
func (c clouds) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ofAzure := strings.HasPrefix(r.URL.Path, "/metadata/")
	switch {
	case c.azure.Serves(r.Host) && (ofAzure || !c.gcp.Serves(r.Host)):
		c.azure.ServeHTTP(w, r)
	case c.gcp.Serves(r.Host):
		c.gcp.ServeHTTP(w, r)
	default:
		c.aws.ServeHTTP(w, r)
	}
}

// control is every cloud's control endpoint below its name.
func (c clouds) control() http.Handler {
	mux := http.NewServeMux()
	for name, h := range map[string]http.Handler{"aws": c.aws.Control(), "gcp": c.gcp.Control(), "azure": c.azure.Control()} {
		mux.Handle("/"+name+"/", http.StripPrefix("/"+name, h))
	}
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	return mux
}

// clouds makes the fakes and loads them with data and keys.
func (o options) clouds(ctx context.Context) (clouds, error) {
	c := clouds{
		aws:   aws.New(aws.Options{AcceptAnyToken: o.lax, DefaultRegion: o.region}),
		gcp:   gcp.New(gcp.Options{AcceptAnyToken: o.lax}),
		azure: azure.New(azure.Options{AcceptAnyToken: o.lax}),
	}
	for _, set := range []func(string, time.Duration){c.aws.SetLatency, c.gcp.SetLatency, c.azure.SetLatency} {
		set("", o.latency)
	}
	if o.data != "" {
		if err := c.load(o.data); err != nil {
			return c, fmt.Errorf("%s: %w", o.data, err)
		}
	}

	if o.issuer == "" {
		if o.jwksURL != "" || o.jwksFile != "" {
			return c, errors.New("-jwks-url and -jwks-file need -issuer")
		}
		return c, nil
	}
	data, err := o.jwks(ctx)
	if err != nil {
		return c, err
	}
	keys, err := oidc.ParseJWKS(data)
	if err != nil {
		return c, err
	}
	for _, add := range []func(string, oidc.KeySet){c.aws.AddIssuer, c.gcp.AddIssuer, c.azure.AddIssuer} {
		add(o.issuer, keys)
	}
	return c, nil
}

// load reads a file with a world a cloud.
func (c clouds) load(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var worlds map[string]json.RawMessage
	if err := json.Unmarshal(data, &worlds); err != nil {
		return err
	}
	for name, raw := range worlds {
		switch name {
		case "aws":
			err = read(raw, aws.LoadCompat, c.aws.Load)
		case "gcp":
			err = read(raw, gcp.LoadCompat, c.gcp.Load)
		case "azure":
			err = read(raw, azure.LoadCompat, c.azure.Load)
		default:
			err = errors.New("this fake has no such cloud")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func read[W any](raw json.RawMessage, parse func([]byte) (W, error), load func(W)) error {
	w, err := parse(raw)
	if err == nil {
		load(w)
	}
	return err
}
