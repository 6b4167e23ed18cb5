package gcp

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/iam/apiv1/iampb"
	"cloud.google.com/go/parametermanager/apiv1/parametermanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A Parameter of Parameter Manager. Its name is
// "projects/P/locations/{global,L}/parameters/N".
type Parameter struct {
	Format   string                      `json:"format,omitempty"` // UNFORMATTED, YAML, JSON
	Labels   map[string]string           `json:"labels,omitempty"`
	Versions map[string]ParameterVersion `json:"versions"` // by the id that its author chose
	Created  time.Time                   `json:"created,omitzero"`
}

// A ParameterVersion may refer to secrets:
// __REF__("//secretmanager.googleapis.com/projects/P/secrets/S/versions/V").
type ParameterVersion struct {
	Text     string    `json:"text"`
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"created,omitzero"`
}

// SetParameter puts a parameter or replaces it.
func (s *Server) SetParameter(name string, p Parameter) {
	if p.Created.IsZero() {
		p.Created = s.opts.Now()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parameters[name] = &p
}

// SetParameterValue gives a parameter a version, and makes the parameter where
// it is not there.
func (s *Server) SetParameterValue(name, version, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := Parameter{Created: s.opts.Now()}
	if old := s.parameters[name]; old != nil {
		p = *old // what is in the map is never changed: readers hold it
	}
	p.Versions = maps.Clone(p.Versions)
	if p.Versions == nil {
		p.Versions = map[string]ParameterVersion{}
	}
	p.Versions[version] = ParameterVersion{Text: text, Created: s.opts.Now()}
	s.parameters[name] = &p
}

// DeleteParameter removes a parameter.
func (s *Server) DeleteParameter(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parameters, name)
}

// Member is the principal that a parameter reads secrets as: grant it
// roles/secretmanager.secretAccessor. Parameter Manager, "Reference secrets in
// parameters".
func (s *Server) Member(parameter string) string {
	return "principal://parametermanager.googleapis.com/" + strings.Replace(s.canonical(parameter), "/parameters/", "/parameters/uid-of-", 1)
}

// parameterManager is google.cloud.parametermanager.v1.ParameterManager. What it
// does not have is Unimplemented.
type parameterManager struct {
	parametermanagerpb.UnimplementedParameterManagerServer
	self
}

func (s *Server) parameter(name string) (*Parameter, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.parameters[s.local(name)]
	if p == nil {
		return nil, status.Errorf(codes.NotFound, "Resource '%s' was not found", name)
	}
	return p, nil
}

func (s *Server) parameterVersion(name string) (ParameterVersion, error) {
	parent, id, err := cut(name)
	if err != nil {
		return ParameterVersion{}, err
	}
	p, err := s.parameter(parent)
	if err != nil {
		return ParameterVersion{}, err
	}
	v, ok := p.Versions[id]
	if !ok {
		return v, status.Errorf(codes.NotFound, "Resource '%s' was not found", name)
	}
	return v, nil
}

var reference = regexp.MustCompile(`__REF__\(\s*\\?"?//secretmanager\.googleapis\.com/([^"\\)]+)\\?"?\s*\)`)

// RenderParameterVersion: Parameter Manager API reference. A disabled version is
// refused, and so is one whose secrets the parameter itself may not read.
func (s parameterManager) RenderParameterVersion(
	ctx context.Context, req *parametermanagerpb.RenderParameterVersionRequest,
) (*parametermanagerpb.RenderParameterVersionResponse, error) {
	name := req.GetName()
	if err := s.authorize(ctx, "parametermanager.parameterVersions.render", name); err != nil {
		return nil, err
	}
	if a, ok, err := s.set(name); ok {
		return setRendering(name, a), err
	}
	v, err := s.parameterVersion(name)
	switch {
	case err != nil:
		return nil, err
	case v.Disabled:
		return nil, status.Errorf(codes.FailedPrecondition, "Parameter Version [%s] is disabled.", name)
	}

	rendered, err := s.render(name, v.Text)
	if err != nil {
		return nil, err
	}
	return &parametermanagerpb.RenderParameterVersionResponse{
		ParameterVersion: s.canonical(name),
		Payload:          &parametermanagerpb.ParameterVersionPayload{Data: []byte(v.Text)},
		RenderedPayload:  []byte(rendered),
	}, nil
}

func setRendering(name string, a Answer) *parametermanagerpb.RenderParameterVersionResponse {
	out := &parametermanagerpb.RenderParameterVersionResponse{ParameterVersion: a.Version}
	if out.ParameterVersion == "" {
		out.ParameterVersion = name
	}
	if !a.NoPayload {
		out.RenderedPayload = []byte(a.Payload)
	}
	return out
}

// render puts secrets in the place of references, read as the parameter.
func (s *Server) render(name, text string) (string, error) {
	parent, _, _ := strings.Cut(name, "/versions/")
	self := &caller{members: []string{s.Member(parent)}}

	var failed error
	out := reference.ReplaceAllStringFunc(text, func(ref string) string {
		secretName := reference.FindStringSubmatch(ref)[1]
		if !s.may(self, "secretmanager.versions.access", s.local(secretName)) {
			failed = status.Errorf(codes.PermissionDenied,
				"Permission 'secretmanager.versions.access' denied for resource '%s' (or it may not exist).", secretName)
			return ""
		}
		secret, n, err := s.find(secretName)
		if err == nil {
			var payload string
			if payload, err = enabled(secret.Versions[n-1], secretName); err == nil {
				return payload
			}
		}
		failed = err
		return ""
	})
	return out, failed
}

func enabled(v Version, name string) (string, error) {
	if v.State != "" && v.State != "ENABLED" {
		return "", status.Errorf(codes.FailedPrecondition, "Secret Version [%s] is in %s state.", name, v.State)
	}
	return string(v.bytes()), nil
}

// GetParameter: Parameter Manager API reference.
func (s parameterManager) GetParameter(
	ctx context.Context, req *parametermanagerpb.GetParameterRequest,
) (*parametermanagerpb.Parameter, error) {
	if err := s.authorize(ctx, "parametermanager.parameters.get", req.GetName()); err != nil {
		return nil, err
	}
	p, err := s.parameter(req.GetName())
	if err != nil {
		return nil, err
	}
	return s.parameterInfo(req.GetName(), p), nil
}

func (s *Server) parameterInfo(name string, p *Parameter) *parametermanagerpb.Parameter {
	return &parametermanagerpb.Parameter{
		Name:         s.canonical(name),
		CreateTime:   timestamppb.New(p.Created),
		UpdateTime:   timestamppb.New(p.Created),
		Labels:       p.Labels,
		Format:       parametermanagerpb.ParameterFormat(parametermanagerpb.ParameterFormat_value[p.Format]),
		PolicyMember: &iampb.ResourcePolicyMember{IamPolicyUidPrincipal: s.Member(name)},
	}
}

// GetParameterVersion: Parameter Manager API reference; the payload as it was
// written.
func (s parameterManager) GetParameterVersion(
	ctx context.Context, req *parametermanagerpb.GetParameterVersionRequest,
) (*parametermanagerpb.ParameterVersion, error) {
	if err := s.authorize(ctx, "parametermanager.parameterVersions.get", req.GetName()); err != nil {
		return nil, err
	}
	v, err := s.parameterVersion(req.GetName())
	if err != nil {
		return nil, err
	}
	out := s.parameterVersionInfo(req.GetName(), v)
	if req.GetView() != parametermanagerpb.View_BASIC {
		out.Payload = &parametermanagerpb.ParameterVersionPayload{Data: []byte(v.Text)}
	}
	return out, nil
}

func (s *Server) parameterVersionInfo(name string, v ParameterVersion) *parametermanagerpb.ParameterVersion {
	return &parametermanagerpb.ParameterVersion{
		Name: s.canonical(name), Disabled: v.Disabled,
		CreateTime: timestamppb.New(v.Created), UpdateTime: timestamppb.New(v.Created),
	}
}

// ListParameters: Parameter Manager API reference.
func (s parameterManager) ListParameters(
	ctx context.Context, req *parametermanagerpb.ListParametersRequest,
) (*parametermanagerpb.ListParametersResponse, error) {
	if err := s.authorize(ctx, "parametermanager.parameters.list", req.GetParent()); err != nil {
		return nil, err
	}
	matches, err := readFilter(req.GetFilter())
	if err != nil {
		return nil, err
	}

	s.mu.RLock()
	all := maps.Clone(s.parameters)
	s.mu.RUnlock()
	names := slices.DeleteFunc(below(all, s.local(req.GetParent()), "parameters"),
		func(n string) bool { return !matches(n, all[n].Labels) })
	page, next, err := s.page(names, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}

	out := &parametermanagerpb.ListParametersResponse{NextPageToken: next}
	for _, name := range page {
		out.Parameters = append(out.Parameters, s.parameterInfo(name, all[name]))
	}
	return out, nil
}

// ListParameterVersions: Parameter Manager API reference; newest first.
func (s parameterManager) ListParameterVersions(
	ctx context.Context, req *parametermanagerpb.ListParameterVersionsRequest,
) (*parametermanagerpb.ListParameterVersionsResponse, error) {
	if err := s.authorize(ctx, "parametermanager.parameterVersions.list", req.GetParent()); err != nil {
		return nil, err
	}
	p, err := s.parameter(req.GetParent())
	if err != nil {
		return nil, err
	}
	ids := slices.SortedFunc(maps.Keys(p.Versions), func(a, b string) int {
		if c := p.Versions[b].Created.Compare(p.Versions[a].Created); c != 0 {
			return c
		}
		return strings.Compare(b, a)
	})
	page, next, err := s.page(ids, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}

	out := &parametermanagerpb.ListParameterVersionsResponse{NextPageToken: next}
	for _, id := range page {
		name := req.GetParent() + "/versions/" + id
		out.ParameterVersions = append(out.ParameterVersions, s.parameterVersionInfo(name, p.Versions[id]))
	}
	return out, nil
}
