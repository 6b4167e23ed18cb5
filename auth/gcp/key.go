package gcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"golang.org/x/oauth2/jwt"
	"google.golang.org/grpc/codes"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/peer"
)

// KeyName is the key of the nodePublishSecretRef Secret that holds a key file.
const KeyName = "key.json"

// keyFile is a service account's key.
type keyFile struct {
	Email  string
	config *jwt.Config
}

// tokenEndpoints are those that key files name. A tenant wrote the file, and
// what it is exchanged at is not the tenant's to say.
var tokenEndpoints = []string{"https://oauth2.googleapis.com/token", "https://accounts.google.com/o/oauth2/token", "https://www.googleapis.com/oauth2/v4/token"}

// readKey reads the tenant's key file. Files of other types name places to read
// tokens from, and are nobody's to bring.
func readKey(s auth.Secrets) (*keyFile, error) {
	raw := []byte(s[KeyName])
	const what = "unable to generate credentials from key.json"
	if len(raw) == 0 {
		return nil, fail(fault.Precondition, &Answer{}, "%s: the Secret that nodePublishSecretRef names has no %s", what, KeyName)
	}
	var kind struct {
		Type     string `json:"type"`
		Universe string `json:"universe_domain"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, fail(fault.Invalid, &Answer{}, "%s: %s", what, err)
	}
	if kind.Type != string(google.ServiceAccount) || kind.Universe != "" && kind.Universe != "googleapis.com" {
		return nil, fail(fault.Invalid, &Answer{}, "%s: it is of type %.40q; only key files of service accounts of googleapis.com are taken", what, kind.Type)
	}
	config, err := google.JWTConfigFromJSON(raw, scope)
	if err != nil {
		return nil, fail(fault.Invalid, &Answer{}, "%s: it is no key file", what)
	}
	if !slices.Contains(tokenEndpoints, config.TokenURL) || !ValidAccount(config.Email) {
		return nil, fail(fault.Invalid, &Answer{}, "%s: its token_uri or client_email is none of Google's", what)
	}
	return &keyFile{Email: config.Email, config: config}, nil
}

// exchangeKey signs in with the key file.
func (s *Session) exchangeKey(ctx context.Context, _ auth.Token) (auth.Token, error) {
	out, err := again(ctx, func(ctx context.Context) (auth.Token, error) {
		return s.broker.fromSource(s.key.config.TokenSource(s.broker.client(ctx)), "the key of "+s.key.Email+" in nodePublishSecretRef")
	})
	auth.Tried(s.broker.opts.Metrics, "gcp-key", err)
	return out, err
}

func (b *Broker) client(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, b.opts.Network.http)
}

// fromSource asks a library of Google's for a token.
func (b *Broker) fromSource(source oauth2.TokenSource, what string) (auth.Token, error) {
	t, err := source.Token()
	if err == nil {
		expires := t.Expiry
		if expires.IsZero() {
			expires = b.opts.Now().Add(unsaid)
		}
		return auth.NewToken(t.AccessToken, expires), nil
	}

	answered := new(oauth2.RetrieveError)
	if !errors.As(err, &answered) || answered.Response == nil {
		return auth.Token{}, fail(fault.Unavailable, &Answer{Code: codes.Unavailable}, "Google's token endpoint gives nothing for %s: %s", what, peer.Unreached(err))
	}
	a, oauth := oauthError(answered.Response.StatusCode, answered.Body)
	switch {
	case a.Status == 429:
		return auth.Token{}, fail(fault.Throttled, a, "throttled: Google's token endpoint was asked too often for %s", what)
	case a.Status >= 500 || oauth == "":
		return auth.Token{}, fail(fault.Unavailable, a, "Google's token endpoint answers HTTP %d for %s", a.Status, what)
	}
	return auth.Token{}, fail(fault.Denied, a, "Google refuses %s: %s: %s: was the key deleted, or the service account disabled?", what, oauth, a.Text)
}

// own is the provider's own identity: of the credentials file, or the node's.
func (s *Session) own(ctx context.Context, _ auth.Token) (auth.Token, error) {
	b := s.broker
	if b.opts.CredentialsFile == "" {
		t, err := b.metadata.token(ctx, b.opts.Now())
		if err != nil {
			return t, fail(fault.ReasonOf(err), &Answer{}, "google: could not find default credentials. See https://cloud.google.com/docs/authentication/external/set-up-adc for more information: %s; and GOOGLE_APPLICATION_CREDENTIALS names no file", err)
		}
		return t, nil
	}

	const what = "google: error getting credentials using GOOGLE_APPLICATION_CREDENTIALS environment variable"
	raw, err := os.ReadFile(b.opts.CredentialsFile)
	if err != nil {
		return auth.Token{}, fail(fault.Precondition, &Answer{}, "%s: %v", what, err)
	}
	var kind struct{ Type google.CredentialsType }
	if err := json.Unmarshal(raw, &kind); err != nil {
		return auth.Token{}, fail(fault.Precondition, &Answer{}, "%s: it is no JSON", what)
	}
	// The file is the platform's own: whatever type it is of, it is meant.
	credentials, err := google.CredentialsFromJSONWithType(b.client(ctx), raw, kind.Type, scope)
	if err != nil {
		return auth.Token{}, fail(fault.Precondition, &Answer{}, "%s: it is no file of credentials", what)
	}
	t, err := b.fromSource(credentials.TokenSource, fmt.Sprintf("the provider's own credentials (%s)", kind.Type))
	auth.Tried(b.opts.Metrics, "gcp-own", err)
	return t, err
}
