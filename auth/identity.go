// Package auth says who asks for a secret and carries the tokens that prove it.
//
// An Identity is what kubelet vouches for: the pod, its namespace and its
// service account, with the projected tokens of the audiences that the
// CSIDriver object requests. The packages below auth turn a token into a
// cloud's credential, one folder a cloud. Nothing here logs, and the types
// that carry a secret print redacted whatever verb they are printed with.
package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Pod names the pod that mounts the volume, on kubelet's word.
type Pod struct {
	Name string
	UID  string
}

// Identity is who asks. The zero Identity asks for nobody and is refused by
// every store that needs one.
type Identity struct {
	Namespace      string
	ServiceAccount string
	Pod            Pod

	// Tokens are the pod's projected service account tokens.
	Tokens Tokens
	// Secrets is the data of the Secret that nodePublishSecretRef names: the
	// tenant's own static credentials.
	Secrets Secrets
}

// String names the identity as an error or an audit line does:
// "service account NAMESPACE/NAME".
func (id Identity) String() string {
	return "service account " + id.Namespace + "/" + id.ServiceAccount
}

// Subject is the "sub" claim of the identity's own tokens.
func (id Identity) Subject() string {
	return "system:serviceaccount:" + id.Namespace + ":" + id.ServiceAccount
}

// Token is a projected service account token. It prints redacted.
type Token struct {
	raw     string
	Expires time.Time // zero where kubelet did not say
}

// NewToken wraps a token's text.
func NewToken(raw string, expires time.Time) Token { return Token{raw: raw, Expires: expires} }

// Reveal gives the token's text, to be sent to the issuer's peer and nowhere else.
func (t Token) Reveal() string { return t.raw }

// Subject reads the token's "sub" claim without checking the signature (the
// cloud does that). ok is false for a text that is no JSON Web Token.
func (t Token) Subject() (subject string, ok bool) {
	c, ok := t.claims()
	return c.Subject, ok
}

// Issuer reads the "iss" claim in the same way.
func (t Token) Issuer() (issuer string, ok bool) {
	c, ok := t.claims()
	return c.Issuer, ok
}

type claims struct {
	Subject string `json:"sub"`
	Issuer  string `json:"iss"`
}

func (t Token) claims() (c claims, ok bool) {
	parts := strings.Split(t.raw, ".")
	if len(parts) != 3 {
		return c, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return c, false
	}
	if json.Unmarshal(payload, &c) != nil {
		return claims{}, false
	}
	return c, true
}

// Tokens maps an audience to its token. It prints as a list of audiences.
type Tokens map[string]Token

// Audiences lists the audiences in order, for an error that says what there is.
func (t Tokens) Audiences() []string { return slices.Sorted(maps.Keys(t)) }

// Secrets is the data of the nodePublishSecretRef Secret. It prints as a list
// of keys.
type Secrets map[string]string

// Keys lists the keys in order.
func (s Secrets) Keys() []string { return slices.Sorted(maps.Keys(s)) }

// Digest tells two sets of static credentials apart, in memory only: it is
// part of cache keys and must not be written anywhere. It is empty for none.
func (s Secrets) Digest() string {
	if len(s) == 0 {
		return ""
	}
	h := sha256.New()
	for _, k := range s.Keys() {
		fmt.Fprintf(h, "%d:%s%d:%s", len(k), k, len(s[k]), s[k])
	}
	return hex.EncodeToString(h.Sum(nil))
}
