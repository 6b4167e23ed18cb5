// Package compat replays, through the real socket of the real program, what
// users of the clouds' own providers rely on, against the fakes that speak the
// clouds' protocols. The program runs unmodified, in the environment that the
// original needs. A cloud brings its fakes (aws_test.go) and its cases and
// refusals (testdata); the rest is here once.
package compat

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/traffic"
	"github.com/coffre-csi/coffre/test/node"
	"github.com/coffre-csi/coffre/test/program"
)

// A world is a node with the program on it and one dialect's clouds around it.
type world interface {
	// hold makes the clouds hold what a case, and a step of it, say, and
	// forgets the calls so far.
	hold(t *testing.T, c, step json.RawMessage)
	// volume is the case's volume without its parameters.
	volume() request.Volume
	// calls are the requests to the clouds in the notation of traffic.Call.
	calls() []string
	client() pb.CSIDriverProviderClient
}

// A speller is a world whose dialect spells the cases' words in its own way.
type speller interface {
	parameters(map[string]string)
	tokens(*string) *string
}

// An amender is a world whose cases say more of the request.
type amender interface{ amend(*pb.MountRequest) }

// testcase is one fact: a SecretProviderClass, what the clouds held, and what
// the pod got. The file says what differs from the original on purpose.
type testcase struct {
	Name       string            `json:"name"`
	Differs    string            `json:"differs"` // from the original, and why
	Parameters map[string]string `json:"parameters"`
	Tokens     *string           `json:"tokens"` // the attribute; "" leaves it out; default: the volume's
	Permission *string           `json:"permission"`
	NoTarget   bool              `json:"targetPathEmpty"`
	Attributes *string           `json:"attributesRaw"` // the whole text
	Steps      []json.RawMessage `json:"steps"`
}

// step is one Mount; a case without steps is one itself.
type step struct {
	Parameters map[string]string `json:"parameters"`
	Expect     expect            `json:"expect"`
}

type expect struct {
	Files    map[string]string `json:"files"`
	Modes    map[string]string `json:"modes"` // octal
	Versions map[string]string `json:"versions"`
	Order    []string          `json:"order"` // of the files
	Error    string            `json:"error"` // a part of it
	Also     []string          `json:"also"`  // other parts of it
	Code     string            `json:"code"`  // gRPC
	Calls    []string          `json:"calls"` // a ceiling, a service
	Sees     []string          `json:"sees"`  // calls that must be among them
}

// data reads a file of testdata.
func data[T any](t *testing.T, name string) (v T) {
	t.Helper()
	raw := fixture.OK[[]byte](t)(os.ReadFile(filepath.Join("testdata", name)))
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// replay runs a file of cases, each in a world of its own.
func replay(t *testing.T, file string, begin func(t *testing.T, path string, c json.RawMessage) world) {
	replayFilled(t, file, nil, begin)
}

// replayFilled is replay of cases that name fixtures, as ${name}.
func replayFilled(t *testing.T, file string, fixtures map[string]string, begin func(t *testing.T, path string, c json.RawMessage) world) {
	path := program.Build(t)
	for _, raw := range data[[]json.RawMessage](t, file) {
		if fixtures != nil {
			raw = filled(t, raw, fixtures)
		}
		var c testcase
		if err := json.Unmarshal(raw, &c); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		t.Run(c.Name, func(t *testing.T) { c.run(t, begin(t, path, raw), raw) })
	}
}

func (c testcase) run(t *testing.T, w world, raw json.RawMessage) {
	steps := c.Steps
	if steps == nil {
		steps = []json.RawMessage{raw}
	}
	for i, rawStep := range steps {
		var s step
		if err := json.Unmarshal(rawStep, &s); err != nil {
			t.Fatalf("step %d: %v", i+1, err)
		}
		w.hold(t, raw, rawStep)
		answer, err := mount(t, w.client(), c.request(t, w, s))
		s.Expect.check(t, fmt.Sprintf("step %d", i+1), answer, err, w.calls())
	}
}

// request is the step's Mount.
func (c testcase) request(t *testing.T, w world, s step) *pb.MountRequest {
	v := w.volume()
	v.Parameters = maps.Clone(c.Parameters)
	maps.Copy(v.Parameters, s.Parameters)
	tokens := c.Tokens
	if own, ok := w.(speller); ok {
		own.parameters(v.Parameters)
		tokens = own.tokens(c.Tokens)
	}
	req := v.MountRequest()
	if c.Permission != nil {
		req.Permission = *c.Permission
	}
	if c.NoTarget {
		req.TargetPath = ""
	}
	if c.Attributes != nil {
		req.Attributes = *c.Attributes
	}
	if own, ok := w.(amender); ok {
		own.amend(req)
	}
	if tokens != nil && c.Attributes == nil {
		req.Attributes = withTokens(t, req.GetAttributes(), *tokens)
	}
	return req
}

// withTokens puts a text in the place of the tokens, or leaves them out.
func withTokens(t *testing.T, attributes, tokens string) string {
	const name = "csi.storage.k8s.io/serviceAccount.tokens"
	var m map[string]string
	if err := json.Unmarshal([]byte(attributes), &m); err != nil {
		t.Fatalf("the attributes: %v", err)
	}
	m[name] = tokens
	if tokens == "" {
		delete(m, name)
	}
	return string(fixture.OK[[]byte](t)(json.Marshal(m)))
}

func mount(t *testing.T, client pb.CSIDriverProviderClient, req *pb.MountRequest) (*pb.MountResponse, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return client.Mount(ctx, req)
}

func (want expect) check(t *testing.T, step string, answer *pb.MountResponse, err error, calls []string) {
	t.Helper()
	for _, call := range want.Sees {
		if !slices.Contains(calls, call) {
			t.Errorf("%s: got the calls %q, want %s among them", step, calls, call)
		}
	}
	want.checkCeiling(t, step, calls)
	if want.Error != "" {
		if got := status.Convert(err).Message(); err == nil || !strings.Contains(got, want.Error) {
			t.Errorf("%s: error\n got %s\nwant %s", step, got, want.Error)
		}
		for _, part := range want.Also {
			if got := status.Convert(err).Message(); !strings.Contains(got, part) {
				t.Errorf("%s: got the error %s, want %s in it", step, got, part)
			}
		}
		if got := status.Code(err).String(); want.Code != "" && got != want.Code {
			t.Errorf("%s: got the code %s, want %s", step, got, want.Code)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: got the error %v, want files", step, err)
		return
	}

	var order []string
	files, modes, versions := map[string]string{}, map[string]string{}, map[string]string{}
	for _, f := range answer.GetFiles() {
		order = append(order, f.GetPath())
		files[f.GetPath()] = string(f.GetContents())
		modes[f.GetPath()] = fmt.Sprintf("%04o", f.GetMode())
	}
	for _, v := range answer.GetObjectVersion() {
		versions[v.GetId()] = v.GetVersion()
	}

	if want.Files != nil && !maps.Equal(files, want.Files) {
		t.Errorf("%s: files\n got %q\nwant %q", step, files, want.Files)
	}
	if want.Order != nil && !slices.Equal(order, want.Order) {
		t.Errorf("%s: got the files in the order %q, want %q", step, order, want.Order)
	}
	for path, mode := range want.Modes {
		if modes[path] != mode {
			t.Errorf("%s: got %s with mode %s, want %s", step, path, modes[path], mode)
		}
	}
	if len(versions) == 0 {
		t.Errorf("%s: got no object version, which the driver refuses", step)
	}
	if len(want.Versions) > 0 && !maps.Equal(versions, want.Versions) {
		t.Errorf("%s: versions\n got %q\nwant %q", step, versions, want.Versions)
	}
}

func (want expect) checkCeiling(t *testing.T, step string, calls []string) {
	t.Helper()
	if want.Calls == nil {
		return
	}
	ceiling := byService(want.Calls)
	for service, n := range byService(calls) {
		if n > ceiling[service] {
			t.Errorf("%s: got %d calls of %s, want at most the original's %d", step, n, service, ceiling[service])
		}
	}
}

// byService counts calls by service: a read is a read, by whatever operation.
func byService(calls []string) map[string]int {
	counts := map[string]int{}
	for _, c := range calls {
		service, _, _ := strings.Cut(c, ":")
		counts[service]++
	}
	return counts
}

// refusal is one mistake, and the line that the pod's events show for it.
type refusal struct {
	Name           string            `json:"name"`
	Parameters     map[string]string `json:"parameters"`     // over the class's of its dialect
	ServiceAccount string            `json:"serviceAccount"` // default: api
	Audience       string            `json:"audience"`       // under which the token is given; default: the cloud's
	Token          *tokenOf          `json:"token"`          // default: the pod's own
	Expires        time.Time         `json:"expires"`        // what the driver says of the token; default: nothing
	Issuer         string            `json:"issuer"`         // default: the one that the cloud trusts
	Fault          *traffic.Fault    `json:"fault"`
	Want           string            `json:"want"` // the whole line, request ids as "request ID"
}

// tokenOf says whose token the pod brings.
type tokenOf struct {
	Namespace      string    `json:"namespace"`
	ServiceAccount string    `json:"serviceAccount"`
	Audience       string    `json:"audience"`
	Issued         time.Time `json:"issued"`
}

// mistakes is a strict cloud in which everything is right, and what is not.
type mistakes struct {
	node     *node.Node
	client   pb.CSIDriverProviderClient
	gate     *traffic.Gate
	audience string
	class    map[string]string
	address  string // of the cloud, $ADDRESS in the file; "" where it has its real one
}

var (
	requestIDs = regexp.MustCompile(`request [0-9a-f-]{36}`)
	instants   = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)
	notInNames = regexp.MustCompile(`[^a-zA-Z0-9]+`)
)

// refuse makes the mistakes of a file one after the other. First, what is right
// must work.
func (m mistakes) refuse(t *testing.T, file string) {
	if _, err := mount(t, m.client, m.request(t, refusal{Name: "right"})); err != nil {
		t.Fatalf("what is right is refused: %v", err)
	}
	for _, r := range data[[]refusal](t, file) {
		t.Run(r.Name, func(t *testing.T) {
			if r.Fault != nil {
				defer m.gate.AddFault(*r.Fault)()
			}
			_, err := mount(t, m.client, m.request(t, r))
			if got := m.said(err); got != r.Want {
				t.Errorf("\n got %s\nwant %s", got, r.Want)
			}
		})
	}
}

// said is an error's line without what differs from one run to the next.
func (m mistakes) said(err error) string {
	line := requestIDs.ReplaceAllString(status.Convert(err).Message(), "request ID")
	line = instants.ReplaceAllString(line, "INSTANT")
	if m.address != "" {
		line = strings.ReplaceAll(line, m.address, "$ADDRESS")
	}
	return line
}

func (m mistakes) request(t *testing.T, r refusal) *pb.MountRequest {
	if r.Audience == "" {
		r.Audience = m.audience
	}
	p := node.Pod{ServiceAccount: r.ServiceAccount, Name: "pod-" + notInNames.ReplaceAllString(r.Name, "-")}
	v := p.Volume(maps.Clone(m.class))
	maps.Copy(v.Parameters, r.Parameters)
	for name, text := range v.Parameters {
		v.Parameters[name] = strings.ReplaceAll(text, "$ADDRESS", m.address)
	}
	v.Parameters["forceRefresh"] = r.Name // nothing is answered from what was read before

	whose := tokenOf{Namespace: v.Identity.Namespace, ServiceAccount: v.Identity.ServiceAccount, Audience: r.Audience}
	if r.Token != nil {
		whose = *r.Token
	}
	issuer := m.node.Issuer
	if r.Issuer != "" {
		issuer = fixture.Issuer(t, r.Issuer)
	}
	raw := issuer.Token(oidc.Request{Namespace: whose.Namespace, ServiceAccount: whose.ServiceAccount,
		Audiences: []string{whose.Audience}, Issued: whose.Issued})
	v.Identity.Tokens = auth.Tokens{r.Audience: auth.NewToken(raw, r.Expires)}
	return v.MountRequest()
}
