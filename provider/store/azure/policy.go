package azure

import (
	"path"
	"strings"

	"github.com/coffre-csi/coffre/provider/store"
)

// Policy is what the dialect azure has of its own in the platform's file.
type Policy struct {
	// CloudEnvironmentFiles are globs of files of endpoints that classes may name.
	CloudEnvironmentFiles []string `yaml:"cloudEnvironmentFiles,omitempty"`
}

// NewPolicy is an empty one.
func NewPolicy() store.Settings { return &Policy{} }

// Check says what is wrong.
func (p *Policy) Check(bool) []store.Mistake {
	var found store.Mistakes
	for _, glob := range p.CloudEnvironmentFiles {
		if _, err := path.Match(glob, ""); err != nil || !strings.HasPrefix(glob, "/") {
			found.Add("cloudEnvironmentFiles", "%.80q is no pattern of absolute paths", glob)
		}
	}
	return found
}
