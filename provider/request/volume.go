package request

import (
	"encoding/json"
	"maps"
	"strconv"
	"time"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/auth"
)

// A Volume is one volume of one pod, as kubelet and the driver know it when
// they ask for a Mount: what Parse reads, written. Whatever asks without a
// kubelet (coffre render, tests) makes its requests from it.
type Volume struct {
	Class      string
	Identity   auth.Identity     // the pod, its tokens by audience, its nodePublishSecretRef Secret
	Parameters map[string]string // of the SecretProviderClass, overlaid by the pod's volumeAttributes
	Mode       int32             // of files that name none; 0644 where it is 0
	TargetPath string            // that of kubelet for the pod's uid where it is empty
}

// MountRequest is what the driver sends for the volume.
func (v Volume) MountRequest() *pb.MountRequest {
	id := v.Identity
	attributes := map[string]string{}
	maps.Copy(attributes, v.Parameters)
	maps.Copy(attributes, map[string]string{
		attrClass:                v.Class,
		attrPodName:              id.Pod.Name,
		attrPodNamespace:         id.Namespace,
		attrPodUID:               id.Pod.UID,
		attrServiceAccount:       id.ServiceAccount,
		attrPrefix + "ephemeral": "true",
	})

	if len(id.Tokens) > 0 {
		attributes[attrTokens] = tokensText(id.Tokens)
	}

	if v.Mode == 0 {
		v.Mode = 0o644
	}
	if v.TargetPath == "" {
		v.TargetPath = "/var/lib/kubelet/pods/" + id.Pod.UID + "/volumes/kubernetes.io~csi/v/mount"
	}
	return &pb.MountRequest{
		Attributes: text(attributes),
		Secrets:    text(map[string]string(id.Secrets)),
		TargetPath: v.TargetPath,
		Permission: strconv.Itoa(int(v.Mode)),
	}
}

// tokensText is the attribute as kubelet writes it; a token without an expiry
// gets an hour.
func tokensText(tokens auth.Tokens) string {
	type token struct {
		Token   string `json:"token"`
		Expires string `json:"expirationTimestamp"`
	}
	all := map[string]token{}
	for audience, t := range tokens {
		expires := t.Expires
		if expires.IsZero() {
			expires = time.Now().Add(time.Hour)
		}
		all[audience] = token{t.Reveal(), expires.UTC().Format(time.RFC3339)}
	}
	return text(all)
}

// text is JSON of maps of texts, which cannot fail; no map at all is null, as
// the driver writes it.
func text(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
