package provider

import (
	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
)

// AuditLog writes one structured line a delivery: who got which version of
// which secret of which store, and whether it came from the cache; never the
// value.
func AuditLog(dialect string) func(request.Request, []plan.Answer) {
	return func(req request.Request, answers []plan.Answer) {
		var secrets []string
		for _, a := range answers {
			for _, f := range a.Found {
				secrets = append(secrets, a.Store+"/"+f.Ref.String()+" version="+f.Secret.Version+" "+string(f.Origin))
			}
		}
		klog.InfoS("audit: delivered", "dialect", dialect,
			"namespace", req.Identity.Namespace, "serviceAccount", req.Identity.ServiceAccount,
			"pod", req.Identity.Pod.Name, "podUID", req.Identity.Pod.UID,
			"secretProviderClass", req.Class, "secrets", secrets)
	}
}
