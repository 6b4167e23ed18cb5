package vault

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/coffre-csi/coffre/provider/store"
)

// version names an answer without saying anything about its value, the same on
// every node:
//
//  1. KV v2 counts versions; the time of its making tells apart a secret that
//     was deleted for good and made again.
//  2. What has a lease, or a certificate's serial number, is named by that.
//  3. Everything else by its value: keyed where the platform gave a key, else
//     stretched, so that trying values is dear.
func (a *asking) version(secret *api.Secret, content []byte, rd read) string {
	if v := kvVersionOf(secret.Data, rd); v != "" {
		return v
	}
	if secret.LeaseID != "" {
		return digest("lease", secret.LeaseID)
	}
	if serial, ok := secret.Data["serial_number"].(string); ok && secret.Data["certificate"] != nil {
		return digest("serial", serial)
	}
	return a.cloud.byValue(a.address+"\x00"+a.settings.VaultNamespace+"\x00"+rd.ref.Name+"\x00"+rd.ref.Type+"\x00"+rd.ref.Extra, content)
}

// kvVersionOf is the version of KV v2, "" where the answer is none of its.
func kvVersionOf(data map[string]any, rd read) string {
	if rd.kv != 2 && !strings.Contains(rd.call.Path, "/data/") {
		return ""
	}
	meta, ok := data["metadata"].(map[string]any)
	if !ok || rd.ref.Type == typeMetadata {
		return ""
	}
	number, ok := meta["version"].(json.Number)
	created, text := meta["created_time"].(string)
	if !ok || !text {
		return ""
	}
	at, err := time.Parse(time.RFC3339Nano, created)
	if err != nil {
		return ""
	}
	return number.String() + "-" + strconv.FormatInt(at.UnixNano(), 36)
}

func digest(kind, text string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + text))
	return base64.RawURLEncoding.EncodeToString(sum[:15])
}

const (
	// rounds of PBKDF2: a few milliseconds for a value that changed, once.
	rounds       = 20_000
	maxStretched = 10_000
)

func (c *cloud) byValue(place string, content []byte) string {
	if c.opts.VersionKey != nil {
		h := hmac.New(sha256.New, c.opts.VersionKey)
		h.Write([]byte(place + "\x00"))
		h.Write(content)
		return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:15])
	}

	known := sha256.Sum256(append([]byte(place+"\x00"), content...)) // stays in memory
	c.mu.Lock()
	text, ok := c.stretched[known]
	c.mu.Unlock()
	if ok {
		return text
	}
	sum, err := pbkdf2.Key(sha256.New, string(content), []byte("coffre vault 1\x00"+place), rounds, 15)
	if err != nil {
		panic("store/vault: PBKDF2: " + err.Error()) // of constant lengths
	}
	text = base64.RawURLEncoding.EncodeToString(sum)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.stretched) >= maxStretched {
		clear(c.stretched)
	}
	c.stretched[known] = text
	return text
}

type steadyKey struct {
	principal string
	ref       store.Ref
}

// steadyReply is what differs in two replies that say the same.
type steadyReply struct {
	rest      [32]byte // a digest of all else
	requestID string
	duration  int
}

// steadied is a reply in Vault's own form. Where nothing but what changes at
// every read (the request's id, the time that is left) differs from the one
// before, it is that one: a file that says nothing new is not written anew.
func (c *cloud) steadied(k steadyKey, secret *api.Secret) []byte {
	bare := *secret
	bare.RequestID, bare.LeaseDuration = "", 0
	now := steadyReply{sha256.Sum256(marshal(bare)), secret.RequestID, secret.LeaseDuration}

	c.mu.Lock()
	if before, ok := c.steady[k]; ok && before.rest == now.rest {
		now = before
	} else if len(c.steady) >= maxStretched {
		clear(c.steady)
	}
	c.steady[k] = now
	c.mu.Unlock()

	bare.RequestID, bare.LeaseDuration = now.requestID, now.duration
	raw, err := json.Marshal(bare) // escapes <, > and &, as the Vault provider's files have them
	if err != nil {
		return nil
	}
	return raw
}
