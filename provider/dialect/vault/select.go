package vault

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/jsontext"
	"github.com/coffre-csi/coffre/provider/store"
)

// selected takes from a reply of Vault's: its data, or one key of it. It is a
// plan.Selector.
type selected struct{ path, key, encoding string }

// String is what shapes the file.
func (s selected) String() string { return s.key + " " + s.encoding }

// Select implements plan.Selector.
func (s selected) Select(b *budget.Budget, reply store.Secret) ([]byte, error) {
	if err := b.Bytes(2 * len(reply.Value)); err != nil {
		return nil, err
	}
	parsed, err := jsontext.Parse(b, reply.Value)
	if err != nil {
		return nil, err
	}
	whole, _ := parsed.(map[string]any)
	data, _ := whole["data"].(map[string]any)
	inner, nested := data["data"].(map[string]any)
	if s.key == "" {
		if nested {
			data = inner
		}
		return json.Marshal(data)
	}

	value, found := inner[s.key]
	if !found && !(nested && isKV2(data)) {
		// In a secret of KV v1 a mapping named data hides nothing.
		value, found = data[s.key]
	}
	if !found {
		return nil, fmt.Errorf("{%s}: {key %q does not exist at the secret path}", s.path, s.key)
	}
	text, isText := value.(string)
	if !isText {
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("{%s}: {key %q cannot be written}", s.path, s.key)
		}
		text = string(raw)
	}
	return s.decode(text)
}

// isKV2 says whether data is the envelope of KV v2.
func isKV2(data map[string]any) bool {
	for key := range data {
		if key != "data" && key != "metadata" {
			return false
		}
	}
	_, ok := data["metadata"].(map[string]any)
	return ok
}

func (s selected) decode(text string) ([]byte, error) {
	var out []byte
	var err error
	switch s.encoding {
	case "base64":
		out, err = base64.StdEncoding.DecodeString(text)
	case "hex":
		if out, err = hex.DecodeString(text); err != nil && !strings.Contains(err.Error(), "odd length") {
			return nil, fmt.Errorf("{%s}: {encoding/hex: invalid byte}", s.path) // its own text quotes one
		}
	default:
		return []byte(text), nil
	}
	if err != nil {
		return nil, fmt.Errorf("{%s}: {%w}", s.path, err)
	}
	return out, nil
}
