package gcp

import (
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// A Secret of Secret Manager.
type Secret struct {
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Aliases     map[string]int64  `json:"aliases,omitempty"` // to a version's number
	Created     time.Time         `json:"created,omitzero"`

	// Versions have the numbers 1, 2, … in this order.
	Versions []Version `json:"versions"`
}

// A Version of a secret. State is "" or ENABLED, DISABLED or DESTROYED.
type Version struct {
	Payload []byte    `json:"payload,omitempty"` // base64 in JSON
	Text    string    `json:"text,omitempty"`    // in the place of Payload
	State   string    `json:"state,omitempty"`
	Created time.Time `json:"created,omitzero"`

	WrongChecksum bool `json:"wrongChecksum,omitempty"` // data_crc32c is another payload's
	NoPayload     bool `json:"noPayload,omitempty"`     // the answer has none
}

func (v Version) bytes() []byte {
	if v.Text != "" {
		return []byte(v.Text)
	}
	return v.Payload
}

func (v Version) state() secretmanagerpb.SecretVersion_State {
	if v.State == "" {
		return secretmanagerpb.SecretVersion_ENABLED
	}
	return secretmanagerpb.SecretVersion_State(secretmanagerpb.SecretVersion_State_value[v.State])
}

// An Answer is given for a version of a secret or a rendered parameter without
// a look at what else is there: the form of the observed cases.
type Answer struct {
	Payload string `json:"payload"`
	Version string `json:"version"` // the name in the answer; the one asked for where it is empty

	Error   string `json:"error"` // a gRPC code by name ("NOT_FOUND", "NotFound"); answered in place of the payload
	Message string `json:"message"`
	FailN   int    `json:"failN"` // only the first so many times; 0: always

	NoPayload bool `json:"noPayload"`

	failed int
}

// SetSecret puts a secret or replaces it. The name is
// "projects/P/secrets/S" or "projects/P/locations/L/secrets/S".
func (s *Server) SetSecret(name string, secret Secret) {
	if secret.Created.IsZero() {
		secret.Created = s.opts.Now()
	}
	secret.Versions = slices.Clone(secret.Versions)
	for i := range secret.Versions {
		if secret.Versions[i].Created.IsZero() {
			secret.Versions[i].Created = secret.Created
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[name] = &secret
}

// SetSecretValue gives a secret a new version, and makes the secret where it is
// not there. It returns the version's number.
func (s *Server) SetSecretValue(name, value string) (version int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addVersion(name, []byte(value))
}

func (s *Server) addVersion(name string, payload []byte) int {
	now := s.opts.Now()
	secret := Secret{Created: now}
	if old := s.secrets[name]; old != nil {
		secret = *old // what is in the map is never changed: readers hold it
	}
	secret.Versions = append(slices.Clone(secret.Versions), Version{Payload: payload, Created: now})
	s.secrets[name] = &secret
	return len(secret.Versions)
}

// SetVersionState enables, disables or destroys a version.
func (s *Server) SetVersionState(name string, version int, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret := *s.secrets[name]
	secret.Versions = slices.Clone(secret.Versions)
	secret.Versions[version-1].State = state
	s.secrets[name] = &secret
}

// DeleteSecret removes a secret.
func (s *Server) DeleteSecret(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.secrets, name)
}

// SetAnswer gives an Answer to a full resource name.
func (s *Server) SetAnswer(name string, a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[name] = &a
}

// set is the answer that was set for a name; ok is false where there is none.
func (s *Server) set(name string) (a Answer, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.answers[name]
	if found == nil {
		return Answer{}, false, nil
	}
	if found.Error != "" && (found.FailN == 0 || found.failed < found.FailN) {
		found.failed++
		return *found, true, status.Error(codeNamed(found.Error), found.Message)
	}
	return *found, true, nil
}

// codeNamed reads NOT_FOUND and NotFound.
func codeNamed(name string) codes.Code {
	if c, ok := code.Code_value[name]; ok {
		return codes.Code(c)
	}
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		if c.String() == name {
			return c
		}
	}
	return codes.Unknown
}

// secretManager is google.cloud.secretmanager.v1.SecretManagerService. What it
// does not have is Unimplemented.
type secretManager struct {
	secretmanagerpb.UnimplementedSecretManagerServiceServer
	self
}

// canonical is a name with the project's number, as answers have it.
func (s *Server) canonical(name string) string {
	parts := strings.Split(name, "/")
	if len(parts) > 1 && !isNumber(parts[1]) {
		parts[1] = s.number(parts[1])
	}
	return strings.Join(parts, "/")
}

// local is a name as the data have it: with the project's id where the request
// gave its number.
func (s *Server) local(name string) string {
	parts := strings.Split(name, "/")
	if len(parts) < 2 || !isNumber(parts[1]) {
		return name
	}
	s.identities.mu.RLock()
	defer s.identities.mu.RUnlock()
	for id, number := range s.numbers {
		if number == parts[1] {
			parts[1] = id
		}
	}
	return strings.Join(parts, "/")
}

func isNumber(text string) bool {
	_, err := strconv.ParseUint(text, 10, 64)
	return err == nil
}

func (s *Server) secret(name string) *Secret {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.secrets[s.local(name)]
}

// cut splits the name of a version.
func cut(name string) (parent, version string, err error) {
	parent, version, ok := strings.Cut(name, "/versions/")
	if !ok || version == "" || strings.Contains(version, "/") {
		return "", "", status.Errorf(codes.InvalidArgument, "Invalid resource name: [%s]", name)
	}
	return parent, version, nil
}

// find finds a version by number, alias or "latest", which is the newest that is
// not destroyed, whatever its state: Secret Manager, "Access a secret version".
func (s *Server) find(name string) (*Secret, int, error) {
	parent, version, err := cut(name)
	if err != nil {
		return nil, 0, err
	}
	secret := s.secret(parent)
	if secret == nil || len(secret.Versions) == 0 {
		return nil, 0, status.Errorf(codes.NotFound, "Secret [%s] not found or has no versions.", s.canonical(parent))
	}

	n := len(secret.Versions)
	switch alias, aliased := secret.Aliases[version]; {
	case aliased:
		n = int(alias)
	case version != "latest":
		if n, err = strconv.Atoi(version); err != nil {
			return nil, 0, status.Errorf(codes.NotFound, "Secret Version [%s] not found.", s.canonical(name))
		}
	default:
		for n > 1 && secret.Versions[n-1].state() == secretmanagerpb.SecretVersion_DESTROYED {
			n--
		}
	}
	if n < 1 || n > len(secret.Versions) {
		return nil, 0, status.Errorf(codes.NotFound, "Secret Version [%s] not found.", s.canonical(name))
	}
	return secret, n, nil
}

// checksum is data_crc32c: the polynomial of Castagnoli.
func checksum(b []byte) int64 { return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))) }

// AccessSecretVersion: Secret Manager API reference.
func (s secretManager) AccessSecretVersion(
	ctx context.Context, req *secretmanagerpb.AccessSecretVersionRequest,
) (*secretmanagerpb.AccessSecretVersionResponse, error) {
	if err := s.authorize(ctx, "secretmanager.versions.access", req.GetName()); err != nil {
		return nil, err
	}
	if a, ok, err := s.set(req.GetName()); ok {
		return setAnswer(req.GetName(), a), err
	}
	secret, n, err := s.find(req.GetName())
	if err != nil {
		return nil, err
	}
	parent, _, _ := strings.Cut(req.GetName(), "/versions/")
	return s.access(parent, secret.Versions[n-1], n)
}

func setAnswer(name string, a Answer) *secretmanagerpb.AccessSecretVersionResponse {
	out := &secretmanagerpb.AccessSecretVersionResponse{Name: a.Version}
	if out.Name == "" {
		out.Name = name
	}
	if !a.NoPayload {
		sum := checksum([]byte(a.Payload))
		out.Payload = &secretmanagerpb.SecretPayload{Data: []byte(a.Payload), DataCrc32C: &sum}
	}
	return out
}

func (s *Server) access(parent string, v Version, n int) (*secretmanagerpb.AccessSecretVersionResponse, error) {
	name := fmt.Sprintf("%s/versions/%d", s.canonical(parent), n)
	if v.state() != secretmanagerpb.SecretVersion_ENABLED {
		return nil, status.Errorf(codes.FailedPrecondition, "Secret Version [%s] is in %s state.", name, v.state())
	}
	out := &secretmanagerpb.AccessSecretVersionResponse{Name: name}
	if v.NoPayload {
		return out, nil
	}
	sum := checksum(v.bytes())
	if v.WrongChecksum {
		sum++
	}
	out.Payload = &secretmanagerpb.SecretPayload{Data: v.bytes(), DataCrc32C: &sum}
	return out, nil
}

// GetSecretVersion: Secret Manager API reference.
func (s secretManager) GetSecretVersion(
	ctx context.Context, req *secretmanagerpb.GetSecretVersionRequest,
) (*secretmanagerpb.SecretVersion, error) {
	if err := s.authorize(ctx, "secretmanager.versions.get", req.GetName()); err != nil {
		return nil, err
	}
	secret, n, err := s.find(req.GetName())
	if err != nil {
		return nil, err
	}
	parent, _, _ := strings.Cut(req.GetName(), "/versions/")
	return s.versionInfo(parent, secret.Versions[n-1], n), nil
}

func (s *Server) versionInfo(parent string, v Version, n int) *secretmanagerpb.SecretVersion {
	return &secretmanagerpb.SecretVersion{
		Name:       fmt.Sprintf("%s/versions/%d", s.canonical(parent), n),
		CreateTime: timestamppb.New(v.Created),
		State:      v.state(),
	}
}

// GetSecret: Secret Manager API reference.
func (s secretManager) GetSecret(ctx context.Context, req *secretmanagerpb.GetSecretRequest) (*secretmanagerpb.Secret, error) {
	if err := s.authorize(ctx, "secretmanager.secrets.get", req.GetName()); err != nil {
		return nil, err
	}
	secret := s.secret(req.GetName())
	if secret == nil {
		return nil, status.Errorf(codes.NotFound, "Secret [%s] not found.", s.canonical(req.GetName()))
	}
	return s.info(req.GetName(), secret), nil
}

func (s *Server) info(name string, secret *Secret) *secretmanagerpb.Secret {
	return &secretmanagerpb.Secret{
		Name:           s.canonical(name),
		CreateTime:     timestamppb.New(secret.Created),
		Labels:         secret.Labels,
		Annotations:    secret.Annotations,
		VersionAliases: secret.Aliases,
	}
}

// below are the names of a kind that are right below a parent.
func below[V any](m map[string]V, parent, kind string) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		rest, ok := strings.CutPrefix(name, parent+"/"+kind+"/")
		if ok && !strings.Contains(rest, "/") {
			names = append(names, name)
		}
	}
	return names
}

// maxPage is the most that a list answers: Secret Manager API reference,
// ListSecrets.
const maxPage = 25_000

// page cuts a page out of sorted names.
func (s *Server) page(names []string, size int32, token string) ([]string, string, error) {
	limit := maxPage
	if s.opts.PageSize > 0 {
		limit = s.opts.PageSize
	}
	if size > 0 {
		limit = min(limit, int(size))
	}
	names, next, ok := traffic.Page(names, func(n string) string { return n }, token, limit)
	if size < 0 || !ok {
		return nil, "", status.Error(codes.InvalidArgument, "Request contains an invalid argument.")
	}
	return names, next, nil
}

// ListSecrets: Secret Manager API reference, and "Filter a list of secrets".
func (s secretManager) ListSecrets(
	ctx context.Context, req *secretmanagerpb.ListSecretsRequest,
) (*secretmanagerpb.ListSecretsResponse, error) {
	if err := s.authorize(ctx, "secretmanager.secrets.list", req.GetParent()); err != nil {
		return nil, err
	}
	matches, err := readFilter(req.GetFilter())
	if err != nil {
		return nil, err
	}

	parent := s.local(req.GetParent())
	s.mu.RLock()
	all := maps.Clone(s.secrets)
	s.mu.RUnlock()
	names := slices.DeleteFunc(below(all, parent, "secrets"), func(n string) bool { return !matches(n, all[n].Labels) })
	page, next, err := s.page(names, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}

	out := &secretmanagerpb.ListSecretsResponse{NextPageToken: next, TotalSize: int32(len(names))}
	for _, name := range page {
		out.Secrets = append(out.Secrets, s.info(name, all[name]))
	}
	return out, nil
}

// readFilter reads terms that are joined with AND: labels.KEY=VALUE,
// labels.KEY:*, labels:KEY, name:TEXT (a part of the name), name=NAME.
func readFilter(text string) (func(name string, labels map[string]string) bool, error) {
	type term func(string, map[string]string) bool
	var terms []term
	for _, t := range strings.Split(text, " AND ") {
		t = strings.TrimSpace(t)
		if t == "" {
			continue
		}
		i := strings.IndexAny(t, ":=")
		if i < 0 {
			return nil, badFilter(t)
		}
		field, op, value := strings.TrimSpace(t[:i]), t[i], strings.Trim(strings.TrimSpace(t[i+1:]), `"`)
		key, labelled := strings.CutPrefix(field, "labels.")
		switch {
		case labelled && op == '=':
			terms = append(terms, func(_ string, l map[string]string) bool { v, ok := l[key]; return ok && v == value })
		case labelled && value == "*":
			terms = append(terms, func(_ string, l map[string]string) bool { _, ok := l[key]; return ok })
		case field == "labels":
			terms = append(terms, func(_ string, l map[string]string) bool { _, ok := l[value]; return ok })
		case field == "name" && op == ':':
			terms = append(terms, func(n string, _ map[string]string) bool { return strings.Contains(last(n), value) })
		case field == "name":
			terms = append(terms, func(n string, _ map[string]string) bool { return last(n) == last(value) })
		default:
			return nil, badFilter(t)
		}
	}
	return func(name string, labels map[string]string) bool {
		return !slices.ContainsFunc(terms, func(t term) bool { return !t(name, labels) })
	}, nil
}

func badFilter(t string) error {
	return status.Errorf(codes.InvalidArgument, "Invalid filter: %q", t)
}

func last(name string) string { return name[strings.LastIndex(name, "/")+1:] }

// ListSecretVersions: Secret Manager API reference; newest first.
func (s secretManager) ListSecretVersions(
	ctx context.Context, req *secretmanagerpb.ListSecretVersionsRequest,
) (*secretmanagerpb.ListSecretVersionsResponse, error) {
	if err := s.authorize(ctx, "secretmanager.versions.list", req.GetParent()); err != nil {
		return nil, err
	}
	secret := s.secret(req.GetParent())
	if secret == nil {
		return nil, status.Errorf(codes.NotFound, "Secret [%s] not found.", s.canonical(req.GetParent()))
	}
	var numbers []string
	for n := len(secret.Versions); n > 0; n-- {
		if f := req.GetFilter(); f == "" || f == "state:"+secret.Versions[n-1].state().String() {
			numbers = append(numbers, strconv.Itoa(n))
		}
	}
	page, next, err := s.page(numbers, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}

	out := &secretmanagerpb.ListSecretVersionsResponse{NextPageToken: next, TotalSize: int32(len(numbers))}
	for _, text := range page {
		n, _ := strconv.Atoi(text)
		out.Versions = append(out.Versions, s.versionInfo(req.GetParent(), secret.Versions[n-1], n))
	}
	return out, nil
}

// CreateSecret: Secret Manager API reference; the secret has no version yet.
func (s secretManager) CreateSecret(ctx context.Context, req *secretmanagerpb.CreateSecretRequest) (*secretmanagerpb.Secret, error) {
	if err := s.authorize(ctx, "secretmanager.secrets.create", req.GetParent()); err != nil {
		return nil, err
	}
	name := s.local(req.GetParent()) + "/secrets/" + req.GetSecretId()
	if s.secret(name) != nil {
		return nil, status.Errorf(codes.AlreadyExists, "Secret [%s] already exists.", s.canonical(name))
	}
	if locationOf(name) == "global" && req.GetSecret().GetReplication() == nil {
		return nil, status.Error(codes.InvalidArgument, "Secret.replication must be provided.")
	}
	s.SetSecret(name, Secret{Labels: req.GetSecret().GetLabels(), Annotations: req.GetSecret().GetAnnotations()})
	return s.info(name, s.secret(name)), nil
}

// AddSecretVersion: Secret Manager API reference; a checksum is verified.
func (s secretManager) AddSecretVersion(
	ctx context.Context, req *secretmanagerpb.AddSecretVersionRequest,
) (*secretmanagerpb.SecretVersion, error) {
	if err := s.authorize(ctx, "secretmanager.versions.add", req.GetParent()); err != nil {
		return nil, err
	}
	name := s.local(req.GetParent())
	if s.secret(name) == nil {
		return nil, status.Errorf(codes.NotFound, "Secret [%s] not found.", s.canonical(name))
	}
	data := req.GetPayload().GetData()
	switch {
	case len(data) > 64<<10: // "Quotas and limits"
		return nil, status.Error(codes.InvalidArgument, "The secret payload is larger than 65536 bytes.")
	case req.GetPayload().DataCrc32C != nil && req.GetPayload().GetDataCrc32C() != checksum(data):
		return nil, status.Error(codes.InvalidArgument, "The checksum does not match the payload.")
	}

	s.mu.Lock()
	n := s.addVersion(name, data)
	v := s.secrets[name].Versions[n-1]
	s.mu.Unlock()
	return s.versionInfo(name, v, n), nil
}
