package aws

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// A Parameter of Parameter Store. Its JSON is the form of the observed cases.
type Parameter struct {
	Name     string             `json:"name,omitempty"`
	ARN      string             `json:"arn,omitempty"`  // made from the name where empty
	Type     string             `json:"type,omitempty"` // String, StringList or SecureString, which it is where empty
	Tags     map[string]string  `json:"tags,omitempty"`
	Versions []ParameterVersion `json:"versions"`
}

// A ParameterVersion is one value; the highest version is the current one.
type ParameterVersion struct {
	Version int64     `json:"version"`
	Value   string    `json:"value"`
	Labels  []string  `json:"labels,omitempty"`
	Created time.Time `json:"created,omitzero"`
}

// SetParameter puts a parameter into a region or replaces it.
func (s *Server) SetParameter(region, name string, p Parameter) {
	p.Name = name
	if p.ARN == "" {
		p.ARN = ParameterARN(region, name)
	}
	if p.Type == "" {
		p.Type = "SecureString"
	}
	p.Versions = slices.Clone(p.Versions)
	for i := range p.Versions {
		if p.Versions[i].Created.IsZero() {
			p.Versions[i].Created = s.opts.Now()
		}
	}
	slices.SortFunc(p.Versions, func(a, b ParameterVersion) int { return cmp.Compare(a.Version, b.Version) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.params[regional{region, name}] = &p
}

// SetParameterValue gives a parameter a new version, as PutParameter with
// Overwrite does, and makes the parameter where it is not there.
func (s *Server) SetParameterValue(region, name, value string) (version int64) {
	s.rotate.Lock() // from the read to the write
	defer s.rotate.Unlock()
	s.mu.RLock()
	old := s.params[regional{region, name}]
	s.mu.RUnlock()
	var p Parameter
	version = 1
	if old != nil {
		p = *old
		version = p.latest().Version + 1
	}
	p.Versions = append(slices.Clone(p.Versions), ParameterVersion{Version: version, Value: value, Created: s.opts.Now()})
	s.SetParameter(region, name, p)
	return version
}

// DeleteParameter removes a parameter.
func (s *Server) DeleteParameter(region, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.params, regional{region, name})
}

// ParameterARN is the ARN of a parameter that was given none. A name without a
// slash gets one after "parameter", a name with one keeps its own.
func ParameterARN(region, name string) string {
	return "arn:" + partition(region) + ":ssm:" + region + ":" + Account + ":parameter/" + strings.TrimPrefix(name, "/")
}

func (p *Parameter) latest() ParameterVersion {
	if len(p.Versions) == 0 {
		return ParameterVersion{}
	}
	return p.Versions[len(p.Versions)-1]
}

// cutSelector splits "name:version" or "name:label". An ARN has five colons of
// its own.
func cutSelector(id string) (name, selector string, ok bool) {
	i := strings.LastIndexByte(id, ':')
	if i < 0 || strings.HasPrefix(id, "arn:") && strings.Count(id, ":") < 6 {
		return id, "", false
	}
	return id[:i], id[i+1:], true
}

func (s *Server) findParameter(region, id string) *Parameter {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !strings.HasPrefix(id, "arn:") {
		return s.params[regional{region, id}]
	}
	_, name, _ := strings.Cut(id, ":parameter/")
	for _, n := range []string{"/" + name, name} {
		if p := s.params[regional{region, n}]; p != nil && p.ARN == id {
			return p
		}
	}
	for at, p := range s.params { // an ARN that was set by hand
		if at.region == region && p.ARN == id {
			return p
		}
	}
	return nil
}

type parameter struct {
	ARN              string
	DataType         string
	LastModifiedDate epoch
	Name             string
	Selector         string `json:",omitempty"`
	Type             string
	Value            string
	Version          int64
}

// answer is a version as it is read. A SecureString that is not to be decrypted
// is answered as ciphertext.
func (p *Parameter) answer(v ParameterVersion, selector string, decrypt bool) parameter {
	out := parameter{p.ARN, "text", epoch(v.Created), p.Name, "", p.Type, v.Value, v.Version}
	if selector != "" {
		out.Selector = ":" + selector
	}
	if p.Type == "SecureString" && !decrypt {
		out.Value = fmt.Sprintf("AQICAHfakeciphertextof%s:%d==", p.Name, v.Version)
	}
	return out
}

// at finds the version that a selector names.
func (p *Parameter) at(selector string) (ParameterVersion, bool) {
	if selector == "" {
		return p.latest(), len(p.Versions) > 0
	}
	for _, v := range p.Versions {
		if strconv.FormatInt(v.Version, 10) == selector || slices.Contains(v.Labels, selector) {
			return v, true
		}
	}
	return ParameterVersion{}, false
}

// readable authorizes and finds what one name asks for; found is false where
// there is no such parameter.
func (s *Server) readable(q *request, action, id string) (p *Parameter, selector string, e *apiError) {
	if len(id) == 0 || len(id) > 2048 {
		return nil, "", invalid("name", id, "Member must have length between 1 and 2048")
	}
	name, selector, _ := cutSelector(id)
	p = s.findParameter(q.region, name)
	resource := name
	if p != nil {
		resource = p.ARN
	} else if !strings.HasPrefix(name, "arn:") {
		resource = ParameterARN(q.region, name)
	}
	return p, selector, q.authorize(action, resource)
}

type getParameterInput struct {
	Name           string
	WithDecryption bool
}

func (in *getParameterInput) ids() []string { return []string{in.Name} }

// getParameter: Systems Manager API reference, GetParameter.
func (s *Server) getParameter(q *request, in *getParameterInput) (any, *apiError) {
	p, selector, e := s.readable(q, "ssm:GetParameter", in.Name)
	if e != nil {
		return nil, e
	}
	if p == nil {
		return nil, badRequest("ParameterNotFound", "")
	}
	v, ok := p.at(selector)
	if !ok {
		return nil, badRequest("ParameterVersionNotFound",
			"Systems Manager could not find version %s of %s. Verify the version and try again.", selector, p.Name)
	}
	return struct{ Parameter parameter }{p.answer(v, selector, in.WithDecryption)}, nil
}

type getParametersInput struct {
	Names          []string
	WithDecryption bool
}

func (in *getParametersInput) ids() []string { return in.Names }

// getParameters: Systems Manager API reference, GetParameters: 1 to 10 names,
// answers in alphabetical order, what is not there in InvalidParameters.
// That equal names are refused was given to this project as a fact, with no
// text; the text is ours.
func (s *Server) getParameters(q *request, in *getParametersInput) (any, *apiError) {
	if n := len(in.Names); n < 1 || n > 10 {
		bound := "less than or equal to 10"
		if n < 1 {
			bound = "greater than or equal to 1"
		}
		return nil, invalid("names", "["+strings.Join(in.Names, ", ")+"]", "Member must have length "+bound)
	}
	seen := map[string]bool{}
	for _, id := range in.Names {
		if seen[id] {
			return nil, badRequest("ValidationException", "Duplicate parameter name: %s", id)
		}
		seen[id] = true
	}
	out := struct {
		InvalidParameters []string
		Parameters        []parameter
	}{[]string{}, []parameter{}}
	for _, id := range slices.Sorted(slices.Values(in.Names)) {
		p, selector, e := s.readable(q, "ssm:GetParameters", id)
		if e != nil {
			return nil, e
		}
		if p != nil {
			if v, ok := p.at(selector); ok {
				out.Parameters = append(out.Parameters, p.answer(v, selector, in.WithDecryption))
				continue
			}
		}
		out.InvalidParameters = append(out.InvalidParameters, id)
	}
	return out, nil
}

type parameterFilter struct {
	Key, Option string
	Values      []string
}

type byPathInput struct {
	Path             string
	Recursive        bool
	WithDecryption   bool
	MaxResults       *int
	NextToken        string
	ParameterFilters []parameterFilter
}

func (in *byPathInput) ids() []string { return []string{in.Path} }

// paramPath is a path by the rules of parameter names: Systems Manager User
// Guide, "Creating Parameter Store parameters".
var paramPath = regexp.MustCompile(`^/([A-Za-z0-9_.-]+/?)*$`)

// getParametersByPath: Systems Manager API reference, GetParametersByPath.
func (s *Server) getParametersByPath(q *request, in *byPathInput) (any, *apiError) {
	if !paramPath.MatchString(in.Path) {
		return nil, badRequest("ValidationException", "The parameter path %q must begin with a slash and consist of letters, numbers and the symbols .-_/", in.Path)
	}
	if e := q.authorize("ssm:GetParametersByPath", ParameterARN(q.region, strings.TrimSuffix(in.Path, "/"))); e != nil {
		return nil, e
	}
	for _, f := range in.ParameterFilters {
		if !slices.Contains([]string{"Type", "KeyId", "Label"}, f.Key) {
			return nil, badRequest("InvalidFilterKey", "The following filter key is not valid: %s. Valid filter keys include: [Type, KeyId, Label].", f.Key)
		}
	}
	found := s.parameters(q.region, func(p *Parameter) bool {
		return below(in.Path, p.Name, in.Recursive) && p.matches(in.ParameterFilters)
	})
	found, next, e := s.pageOf(found, in.NextToken, in.MaxResults, 10)
	if e != nil {
		return nil, e
	}
	out := struct {
		NextToken  string `json:",omitempty"`
		Parameters []parameter
	}{next, []parameter{}}
	for _, p := range found {
		v, _ := p.at("")
		out.Parameters = append(out.Parameters, p.answer(v, "", in.WithDecryption))
	}
	return out, nil
}

func (s *Server) pageOf(found []*Parameter, token string, asked *int, limit int) ([]*Parameter, string, *apiError) {
	size := limit
	if asked != nil {
		if size = *asked; size < 1 || size > limit {
			return nil, "", invalid("maxResults", strconv.Itoa(size), "Member must have value between 1 and "+strconv.Itoa(limit))
		}
	}
	found, next, ok := traffic.Page(found, func(p *Parameter) string { return p.Name }, token, s.atMost(size))
	if !ok {
		return nil, "", badRequest("InvalidNextToken", "The specified token isn't valid.")
	}
	return found, next, nil
}

// below says whether a name is in a hierarchy, or right in it where not
// recursive.
func below(path, name string, recursive bool) bool {
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(path, "/")+"/")
	return ok && rest != "" && (recursive || !strings.Contains(rest, "/"))
}

func (s *Server) parameters(region string, want func(*Parameter) bool) []*Parameter {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []*Parameter
	for at, p := range s.params {
		if at.region == region && want(p) {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b *Parameter) int { return cmp.Compare(a.Name, b.Name) })
	return found
}

// matches: all filters, any value of each.
func (p *Parameter) matches(filters []parameterFilter) bool {
	return !slices.ContainsFunc(filters, func(f parameterFilter) bool { return !p.holds(f) })
}

func (p *Parameter) holds(f parameterFilter) bool {
	key, tagged := strings.CutPrefix(f.Key, "tag:")
	return slices.ContainsFunc(f.Values, func(v string) bool {
		switch {
		case tagged:
			return p.Tags[key] == v
		case f.Key == "Type":
			return compare(f.Option, p.Type, v)
		case f.Key == "Label":
			return slices.ContainsFunc(p.Versions, func(have ParameterVersion) bool { return slices.Contains(have.Labels, v) })
		case f.Key == "Path":
			return below(v, p.Name, f.Option == "Recursive")
		}
		return compare(f.Option, p.Name, v)
	})
}

func compare(option, have, want string) bool {
	switch option {
	case "BeginsWith":
		return strings.HasPrefix(have, want)
	case "Contains":
		return strings.Contains(have, want)
	}
	return have == want
}

type describeParametersInput struct {
	ParameterFilters []parameterFilter
	MaxResults       *int
	NextToken        string
}

// describeParameters: Systems Manager API reference, DescribeParameters; of its
// filters Name, Path, Type and tag:KEY.
func (s *Server) describeParameters(q *request, in *describeParametersInput) (any, *apiError) {
	if e := q.authorize("ssm:DescribeParameters", "arn:"+partition(q.region)+":ssm:"+q.region+":"+Account+":*"); e != nil {
		return nil, e
	}
	for _, f := range in.ParameterFilters {
		if !slices.Contains([]string{"Name", "Path", "Type"}, f.Key) && !strings.HasPrefix(f.Key, "tag:") {
			return nil, badRequest("InvalidFilterKey", "The following filter key is not valid: %s.", f.Key)
		}
	}
	found := s.parameters(q.region, func(p *Parameter) bool { return p.matches(in.ParameterFilters) })
	found, next, e := s.pageOf(found, in.NextToken, in.MaxResults, 50)
	if e != nil {
		return nil, e
	}
	type metadata struct {
		ARN, Name, Type, DataType string
		LastModifiedDate          epoch
		Version                   int64
	}
	out := struct {
		NextToken  string `json:",omitempty"`
		Parameters []metadata
	}{next, []metadata{}}
	for _, p := range found {
		v := p.latest()
		out.Parameters = append(out.Parameters, metadata{p.ARN, p.Name, p.Type, "text", epoch(v.Created), v.Version})
	}
	return out, nil
}
