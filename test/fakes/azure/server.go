// Package azure is a fake of the Azure services that Coffre talks to, for tests,
// benchmarks and demonstrations: Key Vault's data plane with its bearer
// challenge, Entra's token endpoint in every cloud, the instance metadata
// service (managed identities), NMI (pod identity) and the token proxy of
// identity bindings.
//
// It speaks the wire protocols, so that the product and Microsoft's SDK run
// against it unmodified, and it rejects by default: hosts, routes and API
// versions that it does not have, tokens that it did not issue, applications
// without a role. README.md says what the real SDK confirms and what is this
// fake's own belief.
//
// It is never linked into the product.
package azure

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// The services, as Fault, Limit and Call name them.
const (
	KeyVault   = "keyvault"
	Entra      = "entra"
	IMDS       = "imds"
	NMI        = "nmi"
	TokenProxy = "tokenproxy"
)

// What goes wrong and what was asked is the same for every fake. A Region is a
// vault's name. A Fault's Code is Key Vault's error code, or Entra's with its
// AADSTS.
type (
	Fault = traffic.Fault
	Limit = traffic.Limit
	Call  = traffic.Call
)

// Options are what does not change while the server runs.
type Options struct {
	// Now is the fake's clock. Latency is real time whatever the clock.
	Now func() time.Time

	// AcceptAnyToken makes Entra take any credential of any application in any
	// tenant, and lets everybody read everything.
	AcceptAnyToken bool

	// PageSize is the most that a list answers at once; 0 is Key Vault's 25.
	PageSize int

	// Record is traffic.Options'.
	Record func(call string)
}

// Server is the fake. Its handlers may be served on any number of listeners;
// all methods are safe for concurrent use, and data may change while it runs.
type Server struct {
	opts Options

	mu     sync.RWMutex // guards the data
	vaults map[string]*vault

	oidc.Issuers  // whose tokens are trusted
	identities    // who may do what
	*traffic.Gate // what was asked, and what goes wrong
}

// New makes a server that holds nothing and trusts nobody.
func New(opts Options) *Server {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.PageSize == 0 {
		opts.PageSize = 25 // Key Vault REST API, "Get Secrets": maxresults
	}
	s := &Server{opts: opts, vaults: map[string]*vault{}}
	s.identities.init()
	s.Gate = traffic.New(traffic.Options{Now: opts.Now, Record: opts.Record})
	return s
}

// A cloud is what differs between Azure's clouds (azcore's cloud package, and
// "Azure Key Vault security: DNS suffixes").
type cloud struct{ suffix, authority string }

var clouds = []cloud{
	{"vault.azure.net", "login.microsoftonline.com"},
	{"vault.azure.cn", "login.chinacloudapi.cn"},
	{"vault.usgovcloudapi.net", "login.microsoftonline.us"},
	{"vault.microsoftazure.de", "login.microsoftonline.de"},
}

// privateSuffix starts the host names of a custom cloud (Azure Stack):
// NAME.vault.DOMAIN, with its authority at login.DOMAIN.
const privateSuffix, privateAuthority = "vault.", "login."

// Serves says whether a host is one of Azure's: a vault, an authority, IMDS.
func (s *Server) Serves(host string) bool {
	host = hostname(host)
	_, _, isVault := vaultHost(host)
	return isVault || isAuthority(host) || host == imdsAddress
}

// imdsAddress is the instance metadata service's, which Google's has too.
const imdsAddress = "169.254.169.254"

// ServeHTTP routes by host name.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("x-ms-request-id", requestID())
	host := hostname(r.Host)
	if name, c, ok := vaultHost(host); ok {
		s.serveVault(w, r, name, c)
		return
	}
	switch {
	case isAuthority(host):
		s.serveEntra(w, r, Entra)
	case host == imdsAddress:
		s.serveIMDS(w, r)
	default:
		c := s.Begin(Call{Service: "unknown", Op: r.Method + " " + host + r.URL.Path})
		s.End(c, http.StatusNotFound, "")
		http.Error(w, "this fake serves no such host", http.StatusNotFound)
	}
}

func vaultHost(host string) (name string, c cloud, ok bool) {
	name, domain, _ := strings.Cut(host, ".")
	for _, c := range clouds {
		if domain == c.suffix {
			return name, c, true
		}
	}
	if rest, ok := strings.CutPrefix(domain, privateSuffix); ok {
		return name, cloud{domain, privateAuthority + rest}, true
	}
	return "", cloud{}, false
}

func isAuthority(host string) bool {
	for _, c := range clouds {
		if host == c.authority {
			return true
		}
	}
	return strings.HasPrefix(host, privateAuthority)
}

func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

func requestID() string {
	var b [16]byte
	rand.Read(b[:])
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
