package vault

import (
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/coffre-csi/coffre/auth/vault"
	"github.com/coffre-csi/coffre/provider/store"
)

// Settings are the fields of both kinds.
type Settings struct {
	// Address is https://HOST[:PORT][/PREFIX]; for a store of the platform's also
	// unix:///PATH, an agent's socket. A class of another dialect that names none
	// has the policy's.
	Address string `yaml:"address,omitempty"`
	// VaultNamespace is that of Vault Enterprise, and of OpenBao.
	VaultNamespace string `yaml:"vaultNamespace,omitempty"`

	// Auth is kubernetes (default), jwt, approle, userpass, token or cert.
	Auth vault.Method `yaml:"auth,omitempty"`
	// AuthMount is where the auth method is mounted; default its name.
	AuthMount string `yaml:"authMount,omitempty"`
	// Role of the auth method; cert takes it as the certificate's name.
	Role string `yaml:"role,omitempty"`
	// Audience of the pod's token; default vault, or openbao.
	Audience string `yaml:"audience,omitempty"`
	// APIServerToken takes the token of the API server's own audience where
	// there is none of Audience. It goes with the platform's stores only.
	APIServerToken bool `yaml:"apiServerToken,omitempty"`
	// TokenFile is what identity: provider signs in with; default the token of
	// the provider's own service account.
	TokenFile string `yaml:"tokenFile,omitempty"`

	// Mount and KVVersion are of the KV engine that names stand in; default
	// secret and 2.
	Mount     string `yaml:"mount,omitempty"`
	KVVersion int    `yaml:"kvVersion,omitempty"`

	CACert          string `yaml:"caCert,omitempty"` // PEM
	CACertFile      string `yaml:"caCertFile,omitempty"`
	CACertDirectory string `yaml:"caCertDirectory,omitempty"`
	TLSServerName   string `yaml:"tlsServerName,omitempty"`
	ClientCertFile  string `yaml:"clientCertFile,omitempty"`
	ClientKeyFile   string `yaml:"clientKeyFile,omitempty"`
	SkipTLSVerify   bool   `yaml:"skipTLSVerify,omitempty"`

	// Files are those of the provider's container that a class of another
	// dialect names; its policy must list them in tlsFiles.
	Files Files `yaml:"-"`
}

// Files are paths of TLS material.
type Files struct{ CACert, CADirectory, ClientCert, ClientKey string }

func (f Files) all() []string {
	return slices.DeleteFunc([]string{f.CACert, f.CADirectory, f.ClientCert, f.ClientKey}, func(s string) bool { return s == "" })
}

// Policy is what the dialects vault and openbao have of their own in the
// platform's file.
type Policy struct {
	Address         string   `yaml:"address,omitempty"` // where a class names none
	VaultNamespace  string   `yaml:"vaultNamespace,omitempty"`
	AuthMount       string   `yaml:"authMount,omitempty"`
	CACertFile      string   `yaml:"caCertFile,omitempty"`
	CACertDirectory string   `yaml:"caCertDirectory,omitempty"`
	TLSServerName   string   `yaml:"tlsServerName,omitempty"`
	ClientCertFile  string   `yaml:"clientCertFile,omitempty"` // shown to Address only
	ClientKeyFile   string   `yaml:"clientKeyFile,omitempty"`
	SkipTLSVerify   bool     `yaml:"skipTLSVerify,omitempty"`
	TLSFiles        []string `yaml:"tlsFiles,omitempty"` // globs of files that classes may name
}

// NewPolicy is an empty one.
func NewPolicy() store.Settings { return &Policy{} }

// Check says what is wrong.
func (p *Policy) Check(bool) []store.Mistake {
	var found store.Mistakes
	if p.Address != "" {
		if reason := addressFault(p.Address, true); reason != "" {
			found.Add("address", "%.120q %s", shown(p.Address), reason)
		}
	}
	pair(found.Add, p.ClientCertFile, p.ClientKeyFile)
	for _, glob := range p.TLSFiles {
		if _, err := path.Match(glob, ""); err != nil || !strings.HasPrefix(glob, "/") {
			found.Add("tlsFiles", "%.80q is no pattern of absolute paths", glob)
		}
	}
	return found
}

func newSettings() store.Settings { return &Settings{} }

var (
	hostName  = regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9_.-]{0,251}[a-zA-Z0-9])?\.?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?$`)
	mountPath = regexp.MustCompile(`^[\w.~@-]+(/[\w.~@-]+)*/?$`)
)

// addressFault says why a text is no address of Vault, "" where it is one.
func addressFault(text string, sockets bool) string {
	if socket, ok := strings.CutPrefix(text, "unix://"); ok {
		if !sockets {
			return "is a Unix socket, which only the platform may name"
		}
		if !strings.HasPrefix(socket, "/") || path.Clean(socket) != socket {
			return "is no absolute path of a socket, such as unix:///var/run/vault/agent.sock"
		}
		return ""
	}

	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "https" && u.Scheme != "http", !hostName.MatchString(u.Host):
		return "is no address of Vault, such as https://vault.example.com:8200"
	case u.User != nil, u.RawQuery != "", u.Fragment != "", u.Opaque != "", strings.ContainsAny(text, "?#\\%"):
		return "holds more than a scheme, a host, a port and a path"
	case pathFault(strings.Trim(u.Path, "/")) != "" && strings.Trim(u.Path, "/") != "":
		return "has a path that is not in its shortest form"
	}
	return ""
}

// shown is an address without who signs in to it: that may be a password.
func shown(address string) string {
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return "…" + address[i:]
	}
	return address
}

// mountFault says why a text is no path of a mount.
func mountFault(text string) string {
	if !mountPath.MatchString(text) || pathFault(strings.TrimSuffix(text, "/")) != "" {
		return "is no path of a mount: letters, digits and any of ._~@- between slashes"
	}
	return ""
}

func pair(bad func(field, format string, args ...any), cert, key string) {
	if (cert == "") != (key == "") {
		bad("clientCertFile", "goes with clientKeyFile: both client cert and client key must be provided")
	}
}

// Check says what is wrong. An inline store's fields are the pod author's word.
func (s *Settings) Check(inline bool) []store.Mistake {
	var found store.Mistakes
	bad := found.Add
	if s.Address == "" && !inline {
		bad("address", "is missing, such as https://vault.example.com:8200")
	}
	if s.Address != "" {
		if reason := addressFault(s.Address, !inline); reason != "" {
			bad("address", "%.120q %s", shown(s.Address), reason)
		}
	}
	for field, text := range map[string]string{"mount": s.Mount, "authMount": s.AuthMount, "vaultNamespace": s.VaultNamespace} {
		if text != "" && mountFault(text) != "" {
			bad(field, "%.80q %s", text, mountFault(text))
		}
	}
	if s.KVVersion < 0 || s.KVVersion > 2 {
		bad("kvVersion", "is 1 or 2")
	}
	s.checkAuth(inline, bad)
	pair(bad, s.ClientCertFile, s.ClientKeyFile)
	if inline {
		for field, file := range map[string]string{
			"caCertFile": s.CACertFile, "caCertDirectory": s.CACertDirectory, "clientCertFile": s.ClientCertFile, "tokenFile": s.TokenFile,
		} {
			if file != "" {
				bad(field, "cannot stand in an inline store: it is a file of the provider's own container")
			}
		}
	}
	return found
}

func (s *Settings) checkAuth(inline bool, bad func(field, format string, args ...any)) {
	switch s.Auth {
	case "", vault.Kubernetes, vault.JWT:
		if s.Role == "" {
			bad("role", "is missing: the role of the auth method that the pod signs in to")
		}
	case vault.AppRole, vault.Userpass, vault.Token:
	case vault.Cert:
		if s.ClientCertFile == "" {
			bad("auth", "cert needs clientCertFile and clientKeyFile, which only the platform's stores have")
		}
	default:
		bad("auth", "%.40q is none of kubernetes, jwt, approle, userpass, token and cert", s.Auth)
	}
	if inline && s.APIServerToken {
		bad("apiServerToken", "is the platform's word: it stands in a policy's apiServerToken.namespaces")
	}
}

// ReadsSecret implements store.SecretReader.
func (s *Settings) ReadsSecret() string {
	switch s.Auth {
	case vault.AppRole:
		return "roleID and secretID (or secretIDWrapped)"
	case vault.Userpass:
		return "username and password"
	case vault.Token:
		return "token"
	}
	return ""
}
