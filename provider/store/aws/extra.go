package aws

import (
	"cmp"
	"net/url"
	"strings"

	"github.com/coffre-csi/coffre/provider/store"
)

// Extra is what only AWS knows of a ref, the text of store.Ref.Extra.
type Extra struct {
	// Stage is a staging label beside a version id, where both are named.
	Stage string
	// Failover is what the other regions call the secret, where that differs;
	// its Version is a version id, its Stage a label.
	Failover Alternate
}

// Alternate is another name of a secret. Zero is none.
type Alternate struct{ Name, Version, Stage string }

// String is the canonical text; "" for nothing.
func (e Extra) String() string {
	v := url.Values{}
	for key, text := range map[string]string{
		"stage": e.Stage, "name": e.Failover.Name, "version": e.Failover.Version, "alternateStage": e.Failover.Stage,
	} {
		if text != "" {
			v.Set(key, text)
		}
	}
	return v.Encode()
}

func extraOf(ref store.Ref) Extra {
	v, err := url.ParseQuery(ref.Extra)
	if ref.Extra == "" || err != nil {
		return Extra{}
	}
	return Extra{
		Stage:    v.Get("stage"),
		Failover: Alternate{Name: v.Get("name"), Version: v.Get("version"), Stage: v.Get("alternateStage")},
	}
}

// stagePrefix marks a stage in a ref's version; see staged.
const stagePrefix = "stage:"

// Version is how a ref names a version id or a stage of a secret in Secrets
// Manager: Version and Extra of a store.Ref.
func Version(id, stage string) (version string, extra Extra) {
	switch {
	case stage == "":
		return id, Extra{}
	case id == "":
		return stagePrefix + stage, Extra{}
	}
	return id, Extra{Stage: stage}
}

// refIn is what a ref is called in the nth region.
func refIn(ref store.Ref, n int, region string) store.Ref {
	extra := extraOf(ref)
	alt := extra.Failover
	extra.Failover = Alternate{}
	ref.Extra = extra.String()
	if n == 0 {
		return ref
	}
	if alt != (Alternate{}) {
		ref.Name = cmp.Or(alt.Name, ref.Name)
		ref.Version, extra = Version(alt.Version, alt.Stage)
		ref.Extra = extra.String()
		return ref
	}

	// A secret that is replicated has the same ARN but for its region.
	if parts := strings.SplitN(ref.Name, ":", 6); len(parts) == 6 && parts[0] == "arn" {
		parts[3] = region
		ref.Name = strings.Join(parts, ":")
	}

	return ref
}
