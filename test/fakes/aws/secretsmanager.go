package aws

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// A Secret of Secrets Manager. Its JSON is the form of the observed cases.
type Secret struct {
	Name        string            `json:"name,omitempty"`
	ARN         string            `json:"arn,omitempty"` // made from the name where empty
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	KMSKeyID    string            `json:"kmsKeyId,omitempty"`
	Created     time.Time         `json:"created,omitzero"`
	Deleted     bool              `json:"deleted,omitempty"` // marked for deletion
	Versions    []SecretVersion   `json:"versions"`
}

// A SecretVersion holds text or bytes.
type SecretVersion struct {
	ID      string    `json:"id"`
	Stages  []string  `json:"stages"` // absent in JSON: AWSCURRENT where it is the only version
	String  *string   `json:"string,omitempty"`
	Binary  []byte    `json:"binaryBase64,omitempty"`
	Created time.Time `json:"created,omitzero"`
}

const (
	current  = "AWSCURRENT"
	previous = "AWSPREVIOUS"
)

// SetSecret puts a secret into a region or replaces it.
func (s *Server) SetSecret(region, name string, secret Secret) {
	secret.Name = name
	if secret.ARN == "" {
		secret.ARN = SecretARN(region, name)
	}
	if secret.Created.IsZero() {
		secret.Created = s.opts.Now()
	}
	secret.Versions = slices.Clone(secret.Versions)
	for i := range secret.Versions {
		v := &secret.Versions[i]
		if v.Stages == nil && len(secret.Versions) == 1 {
			v.Stages = []string{current}
		}
		if v.Created.IsZero() {
			v.Created = secret.Created
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[regional{region, name}] = &secret
}

// SetSecretValue gives a secret a new current version, as PutSecretValue does,
// and makes the secret where it is not there. It returns the version's id.
func (s *Server) SetSecretValue(region, name, value string) (versionID string) {
	s.rotate.Lock() // from the read to the write
	defer s.rotate.Unlock()
	s.mu.RLock()
	old := s.secrets[regional{region, name}]
	s.mu.RUnlock()
	version := SecretVersion{ID: requestID(), Stages: []string{current}, String: &value, Created: s.opts.Now()}
	if old == nil {
		s.SetSecret(region, name, Secret{Versions: []SecretVersion{version}})
		return version.ID
	}
	secret := *old // what is in the map is never changed: readers hold it
	secret.Versions = nil
	for _, v := range old.Versions {
		v.Stages = slices.DeleteFunc(slices.Clone(v.Stages), func(stage string) bool { return stage == previous })
		if i := slices.Index(v.Stages, current); i >= 0 {
			v.Stages[i] = previous
		}
		secret.Versions = append(secret.Versions, v)
	}
	secret.Versions = append(secret.Versions, version)
	s.SetSecret(region, name, secret)
	return version.ID
}

// DeleteSecret removes a secret at once, as ForceDeleteWithoutRecovery does.
func (s *Server) DeleteSecret(region, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.secrets, regional{region, name})
}

// SecretARN is the ARN of a secret that was given none. AWS ends it in six
// random characters; the fake's are always the same.
func SecretARN(region, name string) string { return secretARNPrefix(region, name) + "-AbCdEf" }

func secretARNPrefix(region, name string) string {
	return "arn:" + partition(region) + ":secretsmanager:" + region + ":" + Account + ":secret:" + name
}

// arnSuffix is what a partial ARN leaves out: Secrets Manager User Guide,
// "What's in a Secrets Manager secret?".
var arnSuffix = regexp.MustCompile(`-[A-Za-z0-9]{6}$`)

// findSecret finds a secret by name, full ARN or partial ARN, in the request's
// region only.
func (s *Server) findSecret(region, id string) *Secret {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !strings.HasPrefix(id, "arn:") {
		return s.secrets[regional{region, id}]
	}
	// The name is in the ARN, with or without the suffix.
	if parts := strings.SplitN(id, ":", 7); len(parts) == 7 && parts[3] == region {
		for _, name := range []string{arnSuffix.ReplaceAllString(parts[6], ""), parts[6]} {
			secret := s.secrets[regional{region, name}]
			if secret != nil && (secret.ARN == id || arnSuffix.ReplaceAllString(secret.ARN, "") == id) {
				return secret
			}
		}
	}
	for at, secret := range s.secrets { // an ARN that was set by hand
		if at.region == region && secret.ARN == id {
			return secret
		}
	}
	return nil
}

// version selects one. Where both are given they must agree.
func (s *Secret) version(id, stage string) (*SecretVersion, *apiError) {
	if id == "" && stage == "" {
		stage = current
	}
	for i := range s.Versions {
		v := &s.Versions[i]
		switch {
		case id != "" && v.ID != id:
		case id != "" && stage != "" && !slices.Contains(v.Stages, stage):
			return nil, badRequest("InvalidRequestException", "You provided a VersionStage that is not associated to the provided VersionId.")
		case id != "" || slices.Contains(v.Stages, stage):
			return v, nil
		}
	}
	if id != "" {
		return nil, badRequest("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for VersionId: %s", id)
	}
	return nil, badRequest("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: %s", stage)
}

func (s *Secret) usable() *apiError {
	if s.Deleted {
		return badRequest("InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion.")
	}
	return nil
}

// permitted finds a secret that the caller may act on. Whoever may not learns
// nothing of whether it exists.
func (s *Server) permitted(q *request, action, id string) (*Secret, *apiError) {
	if len(id) == 0 || len(id) > 2048 { // API reference: 1 to 2048
		return nil, invalid("secretId", id, "Member must have length between 1 and 2048")
	}
	secret := s.findSecret(q.region, id)
	if secret == nil {
		resource := id
		if !strings.HasPrefix(id, "arn:") {
			resource = secretARNPrefix(q.region, id) + "-??????"
		}
		if !q.who.allows(action, resource) {
			return nil, q.authorize(action, id)
		}
		return nil, badRequest("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	}
	if e := q.authorize(action, secret.ARN); e != nil {
		return nil, e
	}
	return secret, nil
}

type getSecretValueInput struct{ SecretId, VersionId, VersionStage string }

func (in *getSecretValueInput) ids() []string {
	id := in.SecretId
	for _, v := range []string{in.VersionId, in.VersionStage} {
		if v != "" {
			id += "@" + v
		}
	}
	return []string{id}
}

type secretValue struct {
	ARN           string
	CreatedDate   epoch
	Name          string
	SecretBinary  []byte  `json:",omitempty"`
	SecretString  *string `json:",omitempty"`
	VersionId     string
	VersionStages []string
}

func valueOf(s *Secret, v *SecretVersion) secretValue {
	return secretValue{s.ARN, epoch(v.Created), s.Name, v.Binary, v.String, v.ID, v.Stages}
}

// getSecretValue: Secrets Manager API reference, GetSecretValue. The lower
// bound of 32 characters for VersionId is not checked, so that tests may use
// short ids.
func (s *Server) getSecretValue(q *request, in *getSecretValueInput) (any, *apiError) {
	if len(in.VersionId) > 64 {
		return nil, invalid("versionId", in.VersionId, "Member must have length less than or equal to 64")
	}
	if len(in.VersionStage) > 256 {
		return nil, invalid("versionStage", in.VersionStage, "Member must have length less than or equal to 256")
	}
	return s.value(q, in.SecretId, in.VersionId, in.VersionStage)
}

func (s *Server) value(q *request, id, versionID, stage string) (any, *apiError) {
	secret, e := s.permitted(q, "secretsmanager:GetSecretValue", id)
	if e != nil {
		return nil, e
	}
	if e := secret.usable(); e != nil {
		return nil, e
	}
	v, e := secret.version(versionID, stage)
	if e != nil {
		return nil, e
	}
	return valueOf(secret, v), nil
}

type filter struct {
	Key    string
	Values []string
}

type batchInput struct {
	SecretIdList []string
	Filters      []filter
	MaxResults   *int
	NextToken    string
}

func (in *batchInput) ids() []string { return in.SecretIdList }

// batchGetSecretValue: Secrets Manager API reference, BatchGetSecretValue: it
// needs its own permission and GetSecretValue for each secret, and lists the
// secrets that it cannot read in Errors. Only AWSCURRENT is read.
func (s *Server) batchGetSecretValue(q *request, in *batchInput) (any, *apiError) {
	if e := q.authorize("secretsmanager:BatchGetSecretValue", "*"); e != nil {
		return nil, e
	}
	ids, next, e := s.batch(q, in)
	if e != nil {
		return nil, e
	}
	type failure struct{ ErrorCode, Message, SecretId string }
	out := struct {
		Errors       []failure
		NextToken    string `json:",omitempty"`
		SecretValues []any
	}{[]failure{}, next, []any{}}
	for _, id := range ids {
		names := []string{id}
		if secret := s.findSecret(q.region, id); secret != nil {
			names = append(names, secret.Name, secret.ARN)
		}
		e := s.itemFault(q, names...)
		var v any
		if e == nil {
			v, e = s.value(q, id, "", "")
		}
		if e != nil {
			out.Errors = append(out.Errors, failure{e.Code, e.Message, id})
			continue
		}
		out.SecretValues = append(out.SecretValues, v)
	}
	slices.Reverse(out.SecretValues) // the reference promises no order
	return out, nil
}

// batch is which secrets one call reads.
func (s *Server) batch(q *request, in *batchInput) (ids []string, next string, e *apiError) {
	size := 20
	switch {
	case (len(in.SecretIdList) > 0) == (len(in.Filters) > 0):
		return nil, "", badRequest("InvalidParameterException", "You must include Filters or SecretIdList, but not both.")
	case len(in.SecretIdList) > 20:
		return nil, "", invalid("secretIdList", strconv.Itoa(len(in.SecretIdList))+" items", "Member must have length less than or equal to 20")
	case in.MaxResults != nil && len(in.SecretIdList) > 0:
		return nil, "", badRequest("InvalidParameterException", "You can't use MaxResults without Filters.")
	case len(in.SecretIdList) > 0:
		return in.SecretIdList, "", nil
	}
	if in.MaxResults != nil {
		if size = *in.MaxResults; size < 1 || size > 20 {
			return nil, "", invalid("maxResults", strconv.Itoa(size), "Member must have value between 1 and 20")
		}
	}
	found, e := s.matching(q.region, in.Filters)
	if e != nil {
		return nil, "", e
	}
	sortSecrets(found, "", "")
	found, next, ok := traffic.Page(found, secretName, in.NextToken, size)
	if !ok {
		return nil, "", badRequest("InvalidNextTokenException", "The NextToken value is invalid.")
	}
	for _, secret := range found {
		ids = append(ids, secret.ARN)
	}
	return ids, next, nil
}

type describeSecretInput struct{ SecretId string }

func (in *describeSecretInput) ids() []string { return []string{in.SecretId} }

type tag struct{ Key, Value string }

type secretEntry struct {
	ARN                    string
	Name                   string
	Description            string `json:",omitempty"`
	KmsKeyId               string `json:",omitempty"`
	CreatedDate            epoch
	LastChangedDate        epoch
	DeletedDate            *epoch              `json:",omitempty"`
	Tags                   []tag               `json:",omitempty"`
	VersionIdsToStages     map[string][]string `json:",omitempty"` // DescribeSecret
	SecretVersionsToStages map[string][]string `json:",omitempty"` // ListSecrets
}

func (s *Secret) entry() secretEntry {
	e := secretEntry{ARN: s.ARN, Name: s.Name, Description: s.Description, KmsKeyId: s.KMSKeyID,
		CreatedDate: epoch(s.Created), LastChangedDate: epoch(s.changed())}
	if s.Deleted {
		e.DeletedDate = &e.LastChangedDate
	}
	for _, k := range sortedKeys(s.Tags) {
		e.Tags = append(e.Tags, tag{k, s.Tags[k]})
	}
	return e
}

func (s *Secret) changed() time.Time {
	last := s.Created
	for _, v := range s.Versions {
		if v.Created.After(last) {
			last = v.Created
		}
	}
	return last
}

// stages lists versions with labels only, as both operations do.
func (s *Secret) stages() map[string][]string {
	m := map[string][]string{}
	for _, v := range s.Versions {
		if len(v.Stages) > 0 {
			m[v.ID] = v.Stages
		}
	}
	return m
}

// describeSecret: Secrets Manager API reference, DescribeSecret. It answers for
// secrets that are marked for deletion too.
func (s *Server) describeSecret(q *request, in *describeSecretInput) (any, *apiError) {
	secret, e := s.permitted(q, "secretsmanager:DescribeSecret", in.SecretId)
	if e != nil {
		return nil, e
	}
	entry := secret.entry()
	entry.VersionIdsToStages = secret.stages()
	return entry, nil
}

type listInput struct {
	Filters                []filter
	IncludePlannedDeletion bool
	MaxResults             *int
	NextToken              string
	SortBy, SortOrder      string
}

// listSecrets: Secrets Manager API reference, ListSecrets.
func (s *Server) listSecrets(q *request, in *listInput) (any, *apiError) {
	if e := q.authorize("secretsmanager:ListSecrets", "*"); e != nil {
		return nil, e
	}
	size := 100
	if in.MaxResults != nil {
		if size = *in.MaxResults; size < 1 || size > 100 {
			return nil, invalid("maxResults", strconv.Itoa(size), "Member must have value between 1 and 100")
		}
	}
	found, e := s.matching(q.region, in.Filters)
	if e != nil {
		return nil, e
	}
	if !in.IncludePlannedDeletion {
		found = slices.DeleteFunc(found, func(s *Secret) bool { return s.Deleted })
	}
	sortSecrets(found, in.SortBy, in.SortOrder)
	found, next, ok := traffic.Page(found, secretName, in.NextToken, s.atMost(size))
	if !ok {
		return nil, badRequest("InvalidNextTokenException", "The NextToken value is invalid.")
	}
	out := struct {
		NextToken  string `json:",omitempty"`
		SecretList []secretEntry
	}{next, []secretEntry{}}
	for _, secret := range found {
		entry := secret.entry()
		entry.SecretVersionsToStages = secret.stages()
		out.SecretList = append(out.SecretList, entry)
	}
	return out, nil
}

func secretName(s *Secret) string { return s.Name }

// sortSecrets sorts by creation unless told otherwise, newest first; names make
// the order stable.
func sortSecrets(found []*Secret, by, order string) {
	slices.SortFunc(found, func(a, b *Secret) int {
		var c int
		switch by {
		case "name":
		case "last-changed-date":
			c = a.changed().Compare(b.changed())
		default:
			c = a.Created.Compare(b.Created)
		}
		if order != "asc" {
			c = -c
		}
		if c == 0 && by == "name" && order != "asc" {
			return cmp.Compare(b.Name, a.Name)
		}
		return cmp.Or(c, cmp.Compare(a.Name, b.Name))
	})
}

// matching are the secrets that satisfy all filters.
func (s *Server) matching(region string, filters []filter) ([]*Secret, *apiError) {
	if len(filters) > 10 {
		return nil, invalid("filters", strconv.Itoa(len(filters))+" items", "Member must have length less than or equal to 10")
	}
	for _, f := range filters {
		if !slices.Contains([]string{"name", "description", "tag-key", "tag-value", "primary-region", "owning-service", "all"}, f.Key) {
			return nil, invalid("filters.1.member.key", f.Key, "Member must satisfy enum value set: [all, description, name, owning-service, primary-region, tag-key, tag-value]")
		}
		if len(f.Values) < 1 || len(f.Values) > 10 {
			return nil, invalid("filters.1.member.values", fmt.Sprint(f.Values), "Member must have length between 1 and 10")
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []*Secret
	for at, secret := range s.secrets {
		if at.region == region && secret.matches(filters) {
			found = append(found, secret)
		}
	}
	return found, nil
}

// matches: every filter must hold, and a filter holds where one of its values
// does. A value that starts with "!" holds where the rest does not.
func (s *Secret) matches(filters []filter) bool {
	return !slices.ContainsFunc(filters, func(f filter) bool {
		return !slices.ContainsFunc(f.Values, func(v string) bool {
			if not, negated := strings.CutPrefix(v, "!"); negated {
				return !s.holds(f.Key, not)
			}
			return s.holds(f.Key, v)
		})
	})
}

// holds compares as the API reference says of Filter: prefixes, in the same
// case but for description and all.
func (s *Secret) holds(key, value string) bool {
	prefix := func(text string) bool { return strings.HasPrefix(text, value) }
	switch key {
	case "name":
		return prefix(s.Name)
	case "description":
		return strings.HasPrefix(strings.ToLower(s.Description), strings.ToLower(value))
	case "tag-key":
		return slices.ContainsFunc(sortedKeys(s.Tags), prefix)
	case "tag-value":
		for _, v := range s.Tags {
			if prefix(v) {
				return true
			}
		}
		return false
	case "all":
		return s.holdsWords(value)
	}
	return false // primary-region, owning-service: the fake's secrets have none
}

// holdsWords looks for every word of the value at the start of a word of any
// attribute.
func (s *Secret) holdsWords(value string) bool {
	words := func(text string) []string {
		return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	}
	have := words(s.Name + " " + s.Description)
	for k, v := range s.Tags {
		have = append(have, words(k+" "+v)...)
	}
	return !slices.ContainsFunc(words(value), func(word string) bool {
		return !slices.ContainsFunc(have, func(h string) bool { return strings.HasPrefix(h, word) })
	})
}

// Text makes a secret of one current version, for tests.
func Text(value string) Secret {
	return Secret{Versions: []SecretVersion{{ID: "v1", Stages: []string{current}, String: &value}}}
}
