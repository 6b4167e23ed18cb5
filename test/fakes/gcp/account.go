package gcp

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/iam/credentials/apiv1/credentialspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

// An account is a service account and its keys.
type account struct {
	keys     oidc.KeySet
	disabled bool
}

// AddServiceAccount registers a service account.
func (s *Server) AddServiceAccount(email string) {
	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.addAccount(email)
}

func (i *identities) addAccount(email string) *account {
	if i.accounts[email] == nil {
		i.accounts[email] = &account{keys: oidc.KeySet{}}
	}
	return i.accounts[email]
}

// KeyFile gives a service account a new key, and is the JSON file of it.
func (s *Server) KeyFile(email string) []byte {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // no entropy
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err) // a key of our own making
	}
	id := rand.Text()

	s.identities.mu.Lock()
	defer s.identities.mu.Unlock()
	s.addAccount(email).keys[id] = &key.PublicKey
	_, domain, _ := strings.Cut(email, "@")
	project, _, _ := strings.Cut(domain, ".")
	return []byte(jsonText(map[string]string{
		"type": "service_account", "project_id": project, "private_key_id": id, "client_email": email, "client_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   "https://oauth2.googleapis.com/token", "auth_uri": "https://accounts.google.com/o/oauth2/auth",
		"universe_domain": "googleapis.com",
	}))
}

// selfSigned is who a JWT speaks for that a service account's key has signed:
// iss and sub are its email (AIP-4111).
func (s *Server) selfSigned(token string) *caller {
	claims, err := oidc.Parse(token)
	if err != nil {
		return nil
	}
	s.identities.mu.RLock()
	a := s.accounts[claims.Issuer]
	s.identities.mu.RUnlock()
	if a == nil || a.disabled {
		return nil
	}
	if _, err := a.keys.Verify(token); err != nil {
		return nil
	}
	who := asAccount(claims.Issuer)
	who.expires = time.Unix(int64(claims.Expires), 0)
	return &who
}

// serveOAuth is the token endpoint for service account keys, "Using OAuth 2.0
// for Server to Server Applications": a JWT bearer assertion for its own
// address.
func (s *Server) serveOAuth(w http.ResponseWriter, r *http.Request) {
	form, call, ok := s.oauthForm(w, r, OAuth, "Token")
	if !ok {
		return
	}
	who := s.selfSigned(form.Get("assertion"))
	claims, _ := oidc.Parse(form.Get("assertion"))
	switch {
	case form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
		s.refuseOAuth(w, call, http.StatusBadRequest, "unsupported_grant_type", "Invalid grant_type: "+form.Get("grant_type"))
	case who == nil:
		s.refuseOAuth(w, call, http.StatusBadRequest, "invalid_grant", "Invalid JWT Signature.")
	case !slices.Contains(claims.Audience, "https://oauth2.googleapis.com/token"):
		s.refuseOAuth(w, call, http.StatusBadRequest, "invalid_grant", "Invalid JWT: Failed audience check.")
	case !s.opts.Now().Before(who.expires):
		s.refuseOAuth(w, call, http.StatusBadRequest, "invalid_grant", "Invalid JWT: Token must be a short-lived token "+
			"(60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.")
	default:
		s.Amend(call, func(c *Call) { c.Caller = who.principal })
		s.answerToken(w, call, *who, time.Hour, "")
	}
}

// iamCredentials is the service that makes tokens of service accounts.
type iamCredentials struct {
	credentialspb.UnimplementedIAMCredentialsServer
	self
}

// GenerateAccessToken: IAM Service Account Credentials API reference. Each in
// the chain of delegates needs the permission on the next.
func (s iamCredentials) GenerateAccessToken(
	ctx context.Context, req *credentialspb.GenerateAccessTokenRequest,
) (*credentialspb.GenerateAccessTokenResponse, error) {
	lifetime := time.Hour
	if req.GetLifetime() != nil {
		lifetime = req.GetLifetime().AsDuration()
	}
	switch {
	case len(req.GetScope()) == 0:
		return nil, status.Error(codes.InvalidArgument, "Request contains an invalid argument.")
	case lifetime <= 0 || lifetime > time.Hour: // longer needs an organisation policy
		return nil, status.Error(codes.InvalidArgument, "Request contains an invalid argument.")
	}

	who, _ := ctx.Value(callerKey{}).(*caller)
	chain := append(slices.Clone(req.GetDelegates()), req.GetName())
	for i, name := range chain {
		permission := "iam.serviceAccounts.getAccessToken"
		if i < len(chain)-1 {
			permission = "iam.serviceAccounts.implicitDelegation"
		}
		email := name[strings.LastIndex(name, "/")+1:]
		if !s.knows(email) || !s.may(who, permission, "projects/-/serviceAccounts/"+email) {
			return nil, s.notOnAccount(permission)
		}
		next := asAccount(email)
		who = &next
	}

	token, expires := s.issue(*who, lifetime)
	return &credentialspb.GenerateAccessTokenResponse{AccessToken: token, ExpireTime: timestamppb.New(expires)}, nil
}

func (s *Server) notOnAccount(permission string) error {
	return status.Errorf(codes.PermissionDenied, "Permission '%s' denied on resource (or it may not exist).", permission)
}

func (s *Server) knows(email string) bool {
	s.identities.mu.RLock()
	defer s.identities.mu.RUnlock()
	a := s.accounts[email]
	return s.opts.AcceptAnyToken || a != nil && !a.disabled
}
