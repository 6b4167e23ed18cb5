package aws

import (
	"regexp"

	"github.com/coffre-csi/coffre/provider/store"
)

// Pinned implements store.Pinner: a version id names one value for ever, a
// stage moves from one to the next.
func (s *secretsManager) Pinned(ref store.Ref) bool {
	version, stage := named(ref)
	return version != "" && stage == ""
}

var decimal = regexp.MustCompile(`^[0-9]+$`)

// Pinned implements store.Pinner: a number names one value for ever, a label
// may be moved.
func (s *parameterStore) Pinned(ref store.Ref) bool {
	return decimal.MatchString(ref.Version)
}
