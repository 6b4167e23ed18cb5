package gcp

import (
	"fmt"
	"time"

	gcpauth "github.com/coffre-csi/coffre/auth/gcp"
	"github.com/coffre-csi/coffre/provider/store"
)

// Settings are the fields of both kinds.
type Settings struct {
	// Project is that of names which say none: its id or its number.
	Project string `yaml:"project,omitempty"`
	// Location is a region for regional secrets and parameters; default: global.
	Location string `yaml:"location,omitempty"`
	// Auth is workload-identity (default), or key-file for the key.json of the
	// Secret that nodePublishSecretRef names, or provider for the provider's own
	// identity, where the platform allows it.
	Auth gcpauth.Method `yaml:"auth,omitempty"`
	// Audience is the full one of the workload identity provider. Default:
	// --gcp-audience, then the node's cluster.
	Audience string `yaml:"audience,omitempty"`
	// ServiceAccount is the one of Google's to act as, by way of Delegates.
	// Default: what the annotation iam.gke.io/gcp-service-account says.
	ServiceAccount string   `yaml:"serviceAccount,omitempty"`
	Delegates      []string `yaml:"delegates,omitempty"`
}

func newSettings() store.Settings { return &Settings{} }

// DefaultTimeout implements store.Patient: a service that is asked too much is
// waited for nearly as long as a mount may take (60 s).
func (*Settings) DefaultTimeout() time.Duration { return 50 * time.Second }

const maxDelegates = 10

// Check says what is wrong. Everything in here may be the pod author's word.
func (s *Settings) Check(bool) []store.Mistake {
	var found store.Mistakes
	if s.Project != "" && !projectName.MatchString(s.Project) {
		found.Add("project", "%.40q is no id and no number of a project", s.Project)
	}
	if s.Location != "" && !ValidLocation(s.Location) {
		found.Add("location", "%.40q is no location, such as europe-west9", s.Location)
	}
	switch s.Auth {
	case "", gcpauth.WorkloadIdentity, gcpauth.KeyFile, gcpauth.Provider:
	default:
		found.Add("auth", "%.40q is none of workload-identity, key-file and provider", s.Auth)
	}
	if s.Audience != "" && !gcpauth.ValidAudience(s.Audience) {
		found.Add("audience", "%.120q is no workload identity provider, such as //iam.googleapis.com/projects/123456789/locations/global/workloadIdentityPools/POOL/providers/PROVIDER", s.Audience)
	}
	if len(s.Delegates) > maxDelegates {
		found.Add("delegates", "%d are more than %d", len(s.Delegates), maxDelegates)
	}
	if len(s.Delegates) > 0 && s.ServiceAccount == "" {
		found.Add("delegates", "go with serviceAccount, which is missing")
	}
	if s.ServiceAccount != "" && !gcpauth.ValidAccount(s.ServiceAccount) {
		found.Add("serviceAccount", "%.80q is no email of a service account", s.ServiceAccount)
	}
	for i, email := range s.Delegates {
		if !gcpauth.ValidAccount(email) {
			found.Add(fmt.Sprintf("delegates[%d]", i), "%.80q is no email of a service account", email)
		}
	}
	return found
}

// ReadsSecret implements store.SecretReader.
func (s *Settings) ReadsSecret() string {
	if s.Auth == gcpauth.KeyFile {
		return gcpauth.KeyName
	}
	return ""
}

// Inline makes the store of a SecretProviderClass that says in its own way what
// a store would say. kind is SecretManager or ParameterManager.
func Inline(kind, name string, s Settings, o store.InlineOptions) (*store.Config, []store.Mistake) {
	return store.NewInline(kind, name, &s, o)
}
