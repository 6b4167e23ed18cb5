// Package provider serves the Secrets Store CSI driver: a Mount goes through
// it from top to bottom, one named step after another, and nobody downstream
// calls back up. provider.go is the way of a Mount; server.go speaks gRPC on
// one socket a dialect; socket.go owns the socket files; errors.go turns
// failures into the codes that the driver and kubelet treat well.
package provider

import (
	"context"
	"slices"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fair"
	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/failures"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/render"
	"github.com/coffre-csi/coffre/provider/request"
)

// A Dialect reads the SecretProviderClass parameters of one syntax. It does no
// I/O; its errors name the parameter and the index.
type Dialect interface {
	Plan(*budget.Budget, request.Request) (plan.Plan, error)
}

// Explainer is a Dialect that words failures as the users of its own provider
// know them.
type Explainer interface {
	Explain(error) error
}

// Anonymous is a Dialect whose own provider asks for no service account: its
// mounts may do without one, and without any token.
type Anonymous interface {
	Anonymous()
}

// named says what a request lacks that the dialect needs of every pod.
func (p *Provider) named(r request.Request) error {
	if _, is := p.Dialect.(Anonymous); is {
		return nil
	}
	return r.Named()
}

// Secrets answers a plan's queries: the cache.
type Secrets interface {
	Get(ctx context.Context, id auth.Identity, queries []plan.Query) ([]plan.Answer, error)
}

// Provider answers Mounts of one dialect.
type Provider struct {
	Name    string // the dialect's, for metrics and audit
	Dialect Dialect
	Secrets Secrets
	// Audit is told of every delivery, and of every Mount that failed; nil where
	// nobody asks.
	Audit func(Delivery)
	// Turns are those of dear Mounts, shared by all dialects of the node; nil
	// where there is nobody to share with.
	Turns *fair.Gate
	// Failures is told how every Mount ended; nil where nobody asks.
	Failures *failures.Watch
}

// Response is what the driver writes: files sorted by path, and at least one
// object version.
type Response struct {
	Files    []render.File
	Versions []Version
	// Stale are the stores out of reach whose last good values are in Files.
	Stale []string
}

// Version is one object version of the pod's status.
type Version struct{ ID, Version string }

// Mount answers one request, all or nothing.
func (p *Provider) Mount(ctx context.Context, req request.Request) (Response, error) {
	cost := budget.New(ctx, p.Turns, req.Identity.Namespace) // what it may cost
	defer cost.Close()

	log := newSteps(p.Name, req)
	asked, err := p.Dialect.Plan(cost, req) // what is asked for
	if err != nil {
		return Response{}, invalid(err)
	}
	log.step("plan", "objects", len(asked.Objects), "secrets", len(asked.Queries()))
	answers, err := p.Secrets.Get(budget.With(ctx, cost), req.Identity, asked.Queries()) // what the stores hold
	if err != nil {
		return Response{}, unanswered(err, p.explain)
	}
	log.answers(asked, answers)
	files, err := render.Files(cost, asked, answers) // what the pod sees
	if err != nil {
		return Response{}, invalid(p.explain(err))
	}
	log.step("files", "files", len(files))
	p.audit(Delivery{Request: req, Asked: asked, Answers: answers})
	r := respond(files, req.Mode)
	r.Stale = stale(answers)

	return r, nil
}

func (p *Provider) audit(d Delivery) {
	if p.Audit != nil {
		p.Audit(d)
	}
}

// stale names each store once whose answers are last good values.
func stale(answers []plan.Answer) []string {
	var stores []string
	for _, a := range answers {
		if slices.ContainsFunc(a.Found, func(f plan.Found) bool { return f.Origin == plan.Stale }) && !slices.Contains(stores, a.Store) {
			stores = append(stores, a.Store)
		}
	}
	return stores
}

func (p *Provider) explain(err error) error {
	if e, ok := p.Dialect.(Explainer); ok {
		return e.Explain(err)
	}
	return err
}

// EmptyFile stands in the volume where no object is listed, or every one was
// optional and missing: an answer with no file leaves the files of the last
// one standing.
const EmptyFile = ".coffre-empty"

func respond(files []render.File, mode int32) Response {
	if len(files) == 0 {
		files = []render.File{{Path: EmptyFile, Mode: mode, ID: EmptyFile, Version: "1"}}
	}
	r := Response{Files: files, Versions: make([]Version, 0, len(files))}
	for _, f := range files {
		r.Versions = append(r.Versions, Version{f.ID, f.Version})
	}
	return r
}
