// Package request turns the driver's MountRequest into a typed Request. Nothing
// after it touches JSON attributes, and nothing in it trusts the pod's author
// further than kubelet vouches: the namespace, the pod and the service account
// are kubelet's words, everything in Parameters is the author's.
package request

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/auth"
)

// Attributes that kubelet and the driver add to a volume's own
// (contracts: the driver's pkg/secrets-store/nodeserver.go).
const (
	attrClass          = "secretProviderClass"
	attrPrefix         = "csi.storage.k8s.io/"
	attrPodName        = attrPrefix + PartPod
	attrPodNamespace   = attrPrefix + PartNamespace
	attrPodUID         = attrPrefix + "pod.uid"
	attrServiceAccount = attrPrefix + PartAccount
	attrTokens         = attrPrefix + PartTokens
)

// Bounds of what one request may carry. The driver's own limit on a message is
// 4 MiB; a SecretProviderClass is at most about 1.5 MiB in etcd.
const (
	maxAttributes = 2 << 20
	maxSecrets    = 2 << 20
	maxTokens     = 32
)

// Request is one Mount: who asks, with what parameters.
type Request struct {
	Class      string // the SecretProviderClass; empty where the driver did not say
	Identity   auth.Identity
	Parameters map[string]string // of the SecretProviderClass, overlaid by the pod's volumeAttributes
	Mode       int32             // of files that name none: permission bits
	TargetPath string
}

// Parts of a request, as Error names them.
const (
	PartPod        = "pod.name"
	PartNamespace  = "pod.namespace"
	PartAttributes = "attributes"
	PartSecrets    = "secrets"
	PartAccount    = "serviceAccount.name"
	PartTokens     = "serviceAccount.tokens"
	PartPermission = "permission"
)

// Error is what is wrong with one part of a request.
type Error struct {
	Part  string
	Value string // of the permission; nothing else is kept
	Text  string
	Cause error // of the parser; nil where nothing was parsed
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Cause }

// Parse reads a MountRequest. Every error is the caller's fault and names the
// part of the request; none quotes an attribute or a secret. With an error
// comes what is known of who asked, for the log and for nothing else.
func Parse(req *pb.MountRequest) (Request, error) {
	if req.GetTargetPath() == "" {
		return Request{}, fmt.Errorf("Missing mount path: the request names no target path")
	}
	attributes, err := stringMap(PartAttributes, req.GetAttributes(), maxAttributes)
	if err != nil {
		return Request{}, err
	}
	if len(attributes) == 0 {
		return Request{}, &Error{Part: PartAttributes, Text: "failed to unmarshal attributes, error: there are none"}
	}

	id := auth.Identity{
		Namespace:      attributes[attrPodNamespace],
		ServiceAccount: attributes[attrServiceAccount],
		Pod:            auth.Pod{Name: attributes[attrPodName], UID: attributes[attrPodUID]},
	}

	known := Request{Class: attributes[attrClass], Identity: id, TargetPath: req.GetTargetPath()}
	for _, name := range []string{PartPod, PartNamespace} {
		if attributes[attrPrefix+name] == "" {
			return known, missing(name)
		}
	}

	secrets, err := stringMap(PartSecrets, req.GetSecrets(), maxSecrets)
	if err != nil {
		return known, err
	}
	// From Kubernetes 1.35 tokens come in secrets; the driver copies them into
	// attributes, but a provider that is called by something else may see only one.
	rawTokens := attributes[attrTokens]
	if rawTokens == "" {
		rawTokens = secrets[attrTokens]
	}
	if id.Tokens, err = tokens(rawTokens, id); err != nil {
		return known, err
	}
	delete(secrets, attrTokens)
	if len(secrets) > 0 {
		id.Secrets = secrets
	}

	mode, err := permission(req.GetPermission())
	if err != nil {
		return known, err
	}

	maps.DeleteFunc(attributes, func(k, _ string) bool { return k == attrClass || strings.HasPrefix(k, attrPrefix) })

	return Request{Class: known.Class, Identity: id, Parameters: attributes, Mode: mode, TargetPath: known.TargetPath}, nil
}

// stringMap reads a JSON object of texts. An absent one comes as "null", as an
// empty text or as "{}".
func stringMap(what, text string, limit int) (map[string]string, error) {
	if len(text) > limit {
		return nil, fmt.Errorf("failed to unmarshal %s, error: %d bytes are over the limit of %d", what, len(text), limit)
	}
	m := map[string]string{}
	if strings.TrimSpace(text) == "" {
		return m, nil
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return nil, &Error{Part: what, Text: fmt.Sprintf("failed to unmarshal %s, error: %s", what, jsonFault(err)), Cause: err}
	}
	if m == nil {
		m = map[string]string{}
	}

	return m, nil
}

// jsonFault says what is wrong with a JSON text without quoting any of it.
func jsonFault(err error) string {
	switch e := err.(type) {
	case *json.SyntaxError:
		return fmt.Sprintf("not JSON at byte %d", e.Offset)
	case *json.UnmarshalTypeError:
		return fmt.Sprintf("a JSON %s where text is expected, at byte %d", strings.Fields(e.Value)[0], e.Offset)
	default:
		return "not a JSON object of texts"
	}
}

// missing is said of what kubelet names of every pod.
func missing(part string) *Error {
	return &Error{Part: part, Text: fmt.Sprintf("the request names no %s%s, which kubelet adds where the CSIDriver object says podInfoOnMount: true", attrPrefix, part)}
}

// Named is the error of a request that names no service account, for dialects
// that cannot do without one.
func (r Request) Named() error {
	if r.Identity.ServiceAccount == "" {
		return missing(PartAccount)
	}
	return nil
}

// tokens reads the serviceAccount.tokens attribute: audience to token. The
// subject of each must be the pod's own service account: with tokens in
// secrets, a pod's author could name a Secret that holds somebody else's. A
// token that is no JSON Web Token is passed on: no issuer's peer will take it.
func tokens(text string, id auth.Identity) (auth.Tokens, error) {
	if text == "" {
		return nil, nil
	}
	var parsed map[string]*struct {
		Token   string `json:"token"`
		Expires string `json:"expirationTimestamp"`
	}
	if err := json.Unmarshal([]byte(text), &parsed); err != nil {
		text := "failed to unmarshal service account tokens (serviceAccount.tokens), error: " + jsonFault(err)
		return nil, &Error{Part: PartTokens, Text: text, Cause: err}
	}
	if len(parsed) > maxTokens {
		return nil, fmt.Errorf("serviceAccount.tokens holds %d tokens; the limit is %d", len(parsed), maxTokens)
	}
	out := make(auth.Tokens, len(parsed))
	for audience, t := range parsed {
		if t == nil {
			continue
		}
		expires, _ := time.Parse(time.RFC3339, t.Expires)
		token := auth.NewToken(t.Token, expires)
		if subject, ok := token.Subject(); ok && subject != id.Subject() {
			return nil, fmt.Errorf("serviceAccount.tokens: the token for audience %q belongs to %q, not to the pod's %s", audience, subject, id)
		}
		out[audience] = token
	}
	return out, nil
}

// permission reads the file mode that the driver sends as a decimal number.
func permission(text string) (int32, error) {
	mode, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	if err != nil || mode > 0o777 {
		fault := fmt.Sprintf("failed to unmarshal file permission, error: %.20q is no decimal file mode from 0 to %d", text, 0o777)
		return 0, &Error{Part: PartPermission, Value: text[:min(len(text), 20)], Text: fault}
	}
	return int32(mode), nil
}
