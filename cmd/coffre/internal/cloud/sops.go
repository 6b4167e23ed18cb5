package cloud

import (
	"github.com/coffre-csi/coffre/auth/kubernetes"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/sops"
)

// sopsCloud is SOPS documents, which need no cloud.
type sopsCloud struct{}

func (*sopsCloud) Flags(Flags) {}

func (*sopsCloud) Wire(Process, *kubernetes.Client) Parts {
	return Parts{Kinds: []store.Kind{sops.Kind()}}
}
