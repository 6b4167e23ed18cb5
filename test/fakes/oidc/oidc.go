// Package oidc issues and verifies service account tokens as a Kubernetes API
// server does, for the fakes that exchange them for a cloud's credentials. Keys
// are made at test time. It is never linked into the product.
package oidc

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"time"
)

// An Issuer signs tokens with a key of its own. As an http.Handler it serves
// the discovery document and the keys.
type Issuer struct {
	URL string // the claim iss

	key *rsa.PrivateKey
	kid string
}

// NewIssuer makes an issuer with a new key.
func NewIssuer(url string) (*Issuer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(key.N.Bytes())
	return &Issuer{URL: url, key: key, kid: encode(sum[:])}, nil
}

// Request says whose token to make. What is left empty gets a default.
type Request struct {
	Namespace      string    // "default"
	ServiceAccount string    // "default"
	Pod            string    // "pod-1"
	Audiences      []string  // none
	Issued         time.Time // now
	Expires        time.Time // an hour after Issued

	// Claims are set last, over what was made of the rest; nil removes a claim.
	Claims map[string]any
}

// Token is a signed token as the TokenRequest API answers it.
func (i *Issuer) Token(r Request) string {
	r = r.defaults()
	claims := map[string]any{
		"iss": i.URL,
		"sub": Subject(r.Namespace, r.ServiceAccount),
		"aud": r.Audiences,
		"iat": r.Issued.Unix(),
		"nbf": r.Issued.Unix(),
		"exp": r.Expires.Unix(),
		"jti": rand.Text(),
		"kubernetes.io": map[string]any{
			"namespace":      r.Namespace,
			"serviceaccount": map[string]string{"name": r.ServiceAccount, "uid": "uid-of-" + r.ServiceAccount},
			"pod":            map[string]string{"name": r.Pod, "uid": "uid-of-" + r.Pod},
		},
	}
	maps.Copy(claims, r.Claims)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return i.Sign(claims)
}

func (r Request) defaults() Request {
	if r.Namespace == "" {
		r.Namespace = "default"
	}
	if r.ServiceAccount == "" {
		r.ServiceAccount = "default"
	}
	if r.Pod == "" {
		r.Pod = "pod-1"
	}
	if r.Issued.IsZero() {
		r.Issued = time.Now()
	}
	if r.Expires.IsZero() {
		r.Expires = r.Issued.Add(time.Hour)
	}
	return r
}

// Subject is the claim sub of a service account.
func Subject(namespace, serviceAccount string) string {
	return "system:serviceaccount:" + namespace + ":" + serviceAccount
}

// Sign makes a token of any claims.
func (i *Issuer) Sign(claims map[string]any) string {
	signed := encodeJSON(map[string]string{"alg": "RS256", "typ": "JWT", "kid": i.kid}) + "." + encodeJSON(claims)
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err) // a key of our own making
	}
	return signed + "." + encode(sig)
}

func encodeJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	return encode(b)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Keys are the public keys that verify the issuer's tokens.
func (i *Issuer) Keys() KeySet { return KeySet{i.kid: &i.key.PublicKey} }

// ServeHTTP serves the paths of the API server's issuer discovery.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		json.NewEncoder(w).Encode(map[string]any{
			"issuer": i.URL, "jwks_uri": i.URL + "/openid/v1/jwks",
			"response_types_supported":              []string{"id_token"},
			"subject_types_supported":               []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	case "/openid/v1/jwks":
		w.Write(i.Keys().JWKS())
	default:
		http.NotFound(w, r)
	}
}

// A KeySet holds RSA public keys by their id.
type KeySet map[string]*rsa.PublicKey

type jwk struct {
	Use string `json:"use"`
	Kty string `json:"kty"`
	Kid string `json:"kid"`
	Alg string `json:"alg"`
	N   string `json:"n"`
	E   string `json:"e"`
}

// JWKS writes the keys as RFC 7517 has them.
func (k KeySet) JWKS() []byte {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	for id, key := range k {
		set.Keys = append(set.Keys, jwk{"sig", "RSA", id, "RS256", encode(key.N.Bytes()), encode(big.NewInt(int64(key.E)).Bytes())})
	}
	b, _ := json.Marshal(set)
	return b
}

// ParseJWKS reads the RSA keys of a set, as an API server's /openid/v1/jwks
// answers it. A set without any is an error.
func ParseJWKS(data []byte) (KeySet, error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	keys := KeySet{}
	for _, k := range set.Keys {
		if k.Kty != "RSA" {
			continue
		}
		n, err1 := base64.RawURLEncoding.DecodeString(k.N)
		e, err2 := base64.RawURLEncoding.DecodeString(k.E)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("key %q: %w", k.Kid, err)
		}
		keys[k.Kid] = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	}
	if len(keys) == 0 {
		return nil, errors.New("key set: no RSA key")
	}
	return keys, nil
}

// Why a token is refused; the caller answers each with its service's own code.
var (
	ErrMalformed = errors.New("not a JWT")
	ErrKey       = errors.New("no such key, or not the algorithm RS256")
	ErrSignature = errors.New("the signature is wrong")
)

// Claims are the parts of a token that a fake decides on.
type Claims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  Audience `json:"aud"`
	Expires   float64  `json:"exp"` // seconds since 1970
	NotBefore float64  `json:"nbf"`

	Kubernetes struct {
		Namespace      string `json:"namespace"`
		ServiceAccount struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"serviceaccount"`
		Pod struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"pod"`
	} `json:"kubernetes.io"`
}

// Audience is one string or a list of them, RFC 7519 section 4.1.3.
type Audience []string

func (a *Audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = Audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// Parse reads the claims without any check: to find the issuer's keys, or to
// say in a record who asked.
func Parse(token string) (Claims, error) {
	var c Claims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, ErrMalformed
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &c) != nil {
		return c, ErrMalformed
	}
	return c, nil
}

// Expiry is the end of a token's time; zero for what is no token.
func Expiry(token string) time.Time {
	c, err := Parse(token)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(int64(c.Expires), 0)
}

// Verify checks the signature. Times, issuer, audience and subject are the
// caller's to judge.
func (k KeySet) Verify(token string) (Claims, error) {
	c, err := Parse(token)
	if err != nil {
		return c, err
	}
	parts := strings.Split(token, ".")
	var header struct{ Alg, Kid string }
	b, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil || json.Unmarshal(b, &header) != nil {
		return c, ErrMalformed
	}
	key := k[header.Kid]
	if key == nil || header.Alg != "RS256" {
		return c, ErrKey
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return c, ErrMalformed
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) != nil {
		return c, ErrSignature
	}
	return c, nil
}
