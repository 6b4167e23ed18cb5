package oidc

import (
	"errors"
	"sync"
)

// ErrIssuer says that nobody trusts who issued the token.
var ErrIssuer = errors.New("no such issuer")

// Issuers are the issuers that a fake trusts. The zero value trusts nobody;
// all methods are safe for concurrent use.
type Issuers struct {
	mu   sync.RWMutex
	keys map[string]KeySet
}

// AddIssuer registers an issuer: its URL and the keys that verify its tokens. A
// later call replaces the keys.
func (i *Issuers) AddIssuer(url string, keys KeySet) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.keys == nil {
		i.keys = map[string]KeySet{}
	}
	i.keys[url] = keys
}

// VerifyToken finds the issuer's keys and checks the signature with them.
// Times, audience and subject are the caller's to judge. The claims come with
// every error but ErrMalformed.
func (i *Issuers) VerifyToken(token string) (Claims, error) {
	claims, err := Parse(token)
	if err != nil {
		return claims, err
	}
	i.mu.RLock()
	keys, ok := i.keys[claims.Issuer]
	i.mu.RUnlock()
	if !ok {
		return claims, ErrIssuer
	}
	return keys.Verify(token)
}
