package azure

import (
	"cmp"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// A Vault is what surrounds the objects of one vault.
type Vault struct {
	Tenant   string `json:"tenant,omitempty"`   // DefaultTenant where empty
	Location string `json:"location,omitempty"` // in errors; francecentral where empty

	// AccessPolicies makes the vault word a refusal as one with access policies
	// does, and not as one with roles (RBAC).
	AccessPolicies bool `json:"accessPolicies,omitempty"`

	// Closed refuses everybody: "firewall" to addresses that are not allowed,
	// "private" where public network access is disabled.
	Closed string `json:"closed,omitempty"`
}

// A Version is one version of a secret, key or certificate.
type Version struct {
	Version     string            `json:"version"`
	Value       string            `json:"value,omitempty"` // of a secret
	ContentType string            `json:"contentType,omitempty"`
	KID         string            `json:"kid,omitempty"` // of the key behind a certificate's secret
	Key         json.RawMessage   `json:"key,omitempty"` // a JSON web key, as an object or as its text
	Cer         []byte            `json:"cer,omitempty"` // DER
	Enabled     *bool             `json:"enabled,omitempty"`
	Created     int64             `json:"created,omitempty"` // seconds since 1970; 0 leaves it out
	NotBefore   int64             `json:"notBefore,omitempty"`
	Expires     int64             `json:"expires,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`

	NoAttributes bool `json:"noAttributes,omitempty"`
	NoValue      bool `json:"noValue,omitempty"` // a secret's answer has none

	// Status and Code are answered in the place of the version.
	Status int    `json:"status,omitempty"`
	Code   string `json:"code,omitempty"`
}

func (v Version) enabled() bool { return v.Enabled == nil || *v.Enabled }

// The kinds of objects, as routes name them.
const (
	Secrets      = "secrets"
	Keys         = "keys"
	Certificates = "certificates"
)

type vault struct {
	Vault
	objects map[string][]Version // "secrets/mysql"
	deleted map[string][]Version
}

// AnyVault is the name of a vault whose objects every other has too.
const AnyVault = "*"

// AddVault makes a vault, or changes what surrounds its objects.
func (s *Server) AddVault(name string, v Vault) {
	v.Tenant, v.Location = cmp.Or(v.Tenant, DefaultTenant), cmp.Or(v.Location, "francecentral")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.vaults[name] == nil {
		s.vaults[name] = &vault{objects: map[string][]Version{}, deleted: map[string][]Version{}}
	}
	s.vaults[name].Vault = v
}

// SetObject puts all versions of an object, and makes its vault where it is not
// there. Kind is Secrets, Keys or Certificates.
func (s *Server) SetObject(vaultName, kind, name string, versions ...Version) {
	s.ensure(vaultName)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vaults[vaultName].objects[kind+"/"+name] = slices.Clone(versions)
}

func (s *Server) ensure(name string) {
	s.mu.RLock()
	there := s.vaults[name] != nil
	s.mu.RUnlock()
	if !there {
		s.AddVault(name, Vault{})
	}
}

// SetSecretValue gives a secret a new current version, and makes the secret and
// its vault where they are not there. It returns the version.
func (s *Server) SetSecretValue(vaultName, name, value string) (version string) {
	return s.addSecret(vaultName, name, Version{Value: value})
}

func (s *Server) addSecret(vaultName, name string, v Version) string {
	s.ensure(vaultName)
	v.Version = strings.ReplaceAll(requestID(), "-", "")
	v.Created = s.opts.Now().Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	key := Secrets + "/" + name
	old := s.vaults[vaultName].objects[key]
	for _, o := range old { // a clock that went back makes none older
		v.Created = max(v.Created, o.Created)
	}
	s.vaults[vaultName].objects[key] = append(slices.Clone(old), v)
	return v.Version
}

// DeleteObject marks an object as deleted, as a vault with soft delete does.
func (s *Server) DeleteObject(vaultName, kind, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, key := s.vaults[vaultName], kind+"/"+name
	if v == nil || v.objects[key] == nil {
		return
	}
	v.deleted[key] = v.objects[key]
	delete(v.objects, key)
}

// A keyVaultError is an error as Key Vault answers it.
type keyVaultError struct {
	status               int
	code, inner, message string
	retryAfter           time.Duration
}

func (s *Server) refuseVault(w http.ResponseWriter, call *Call, e *keyVaultError) {
	s.End(call, e.status, cmp.Or(e.inner, e.code))
	retryAfter(w, e.retryAfter)
	body := map[string]any{"code": e.code, "message": e.message}
	if e.inner != "" {
		body["innererror"] = map[string]string{"code": e.inner}
	}
	writeJSON(w, e.status, map[string]any{"error": body})
}

// A visit is one request to a vault.
type visit struct {
	*http.Request
	cloud
	name, kind, object, version string // of the vault, the object
	op                          string // the SDK's name of the operation
	verb                        string // get, list, set
	vault                       Vault
	who                         *caller
}

var (
	objectPath  = regexp.MustCompile(`^/(secrets|keys|certificates)(?:/([0-9A-Za-z-]+)(?:/([0-9A-Za-z]+))?/?)?$`)
	deletedPath = regexp.MustCompile(`^/deleted(secrets|keys|certificates)/([0-9A-Za-z-]+)$`)
	singular    = map[string]string{Secrets: "Secret", Keys: "Key", Certificates: "Certificate"}
)

// read finds the operation; ok is false where there is none.
func (v *visit) read() (ok bool) {
	if m := deletedPath.FindStringSubmatch(v.URL.Path); m != nil && v.Method == http.MethodGet {
		v.kind, v.object, v.op, v.verb = m[1], m[2], "GetDeleted"+singular[m[1]], "get"
		return true
	}
	m := objectPath.FindStringSubmatch(v.URL.Path)
	if m == nil {
		return false
	}
	v.kind, v.object, v.version = m[1], m[2], m[3]
	one := singular[v.kind]
	switch {
	case v.Method == http.MethodPut && v.kind == Secrets && v.object != "" && v.version == "":
		v.op, v.verb = "SetSecret", "set"
	case v.Method != http.MethodGet:
		return false
	case v.object == "":
		v.op, v.verb = "List"+one+"Properties", "list"
	case v.version == "versions":
		v.op, v.verb, v.version = "List"+one+"PropertiesVersions", "list", ""
	default:
		v.op, v.verb = "Get"+one, "get"
	}
	return true
}

// serveVault records, disturbs, authenticates, authorizes and answers, in this
// order.
func (s *Server) serveVault(w http.ResponseWriter, r *http.Request, name string, c cloud) {
	v := &visit{Request: r, cloud: c, name: name}
	known := v.read()
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	entry := Call{Service: KeyVault, Region: name, Op: v.op}
	if v.object != "" {
		entry.IDs, entry.Also = []string{v.object}, []string{v.kind + "/" + v.object}
	}
	if v.version != "" {
		entry.IDs[0] += "@" + v.version
		entry.Also = append(entry.Also, v.object)
	}
	if bearer == "" {
		entry.Op, entry.IDs = "Challenge", nil
	}
	if v.who = s.token(bearer); v.who != nil {
		entry.Caller = v.who.app.ClientID
	}
	call := s.Begin(entry)
	if s.Disturb(w, r, call, func(outcome traffic.Outcome, f Fault) { s.disturbedVault(w, call, outcome, f) }) {
		return
	}

	if e := s.admit(w, v, known, bearer); e != nil {
		s.refuseVault(w, call, e)
		return
	}
	out, e := s.answerVault(v)
	if e != nil {
		s.refuseVault(w, call, e)
		return
	}
	s.End(call, http.StatusOK, "")
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) disturbedVault(w http.ResponseWriter, call *Call, outcome traffic.Outcome, f Fault) {
	if outcome == traffic.Throttle {
		f = Fault{Status: http.StatusTooManyRequests, Code: "Throttled", RetryAfter: time.Second,
			Message: "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached"}
	}
	s.refuseVault(w, call, &keyVaultError{status: cmp.Or(f.Status, http.StatusInternalServerError), code: f.Code,
		message: f.Message, retryAfter: f.RetryAfter})
}

// admit decides on everything before the object itself.
func (s *Server) admit(w http.ResponseWriter, v *visit, known bool, bearer string) *keyVaultError {
	settings, there := s.settings(v.name)
	v.vault = settings
	resource := "https://" + v.suffix
	challenge := func(code, format string, args ...any) *keyVaultError {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization="https://%s/%s", resource="%s"`,
			v.authority, v.vault.Tenant, resource))
		return &keyVaultError{status: http.StatusUnauthorized, code: "Unauthorized", message: code + ": " + fmt.Sprintf(format, args...)}
	}
	switch {
	case !there:
		return &keyVaultError{status: http.StatusNotFound, code: "UnknownVault", message: "This fake has no such vault; DNS would have no such host."}
	case bearer == "":
		return challenge("AKV10000", "Request is missing a Bearer or PoP token.")
	case v.who == nil:
		return challenge("AKV10022", "The token cannot be validated.")
	case !s.opts.Now().Before(v.who.expires):
		return challenge("AKV10023", "[TokenExpired] Error validating token: the lifetime validation failed, the token is expired.")
	case v.who.resource != resource:
		return challenge("AKV10022", "Invalid audience. Expected %s, found: %s.", resource, v.who.resource)
	case v.who.app.Tenant != v.vault.Tenant && !s.opts.AcceptAnyToken:
		return challenge("AKV10032", "Invalid issuer. Expected one of https://sts.windows.net/%s/, found https://sts.windows.net/%s/.",
			v.vault.Tenant, v.who.app.Tenant)
	case v.URL.Query().Get("api-version") == "":
		return &keyVaultError{status: http.StatusBadRequest, code: "BadParameter", message: "The request URI contains no api-version."}
	case !known:
		return &keyVaultError{status: http.StatusNotFound, code: "NotFound", message: "The requested resource was not found."}
	}
	return s.authorize(v)
}

func (s *Server) settings(name string) (Vault, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.vaults[name]
	if v == nil {
		v = s.vaults[AnyVault]
	}
	if v == nil {
		return Vault{}, false
	}
	return v.Vault, true
}

// authorize words a refusal as the vault's kind does.
func (s *Server) authorize(v *visit) *keyVaultError {
	a := v.who.app
	who := fmt.Sprintf("appid=%s;oid=%s;iss=https://sts.windows.net/%s/", a.ClientID, a.ObjectID, a.Tenant)
	forbidden := func(inner, message string) *keyVaultError {
		return &keyVaultError{status: http.StatusForbidden, code: "Forbidden", inner: inner, message: message}
	}
	at := "Vault: " + v.name + ";location=" + v.vault.Location
	object := ""
	if v.object != "" {
		object = v.kind + "/" + v.object
	}
	switch {
	case v.vault.Closed == "firewall":
		return forbidden("ForbiddenByFirewall", "Client address is not authorized and caller is not a trusted service.\r\n"+
			"Client address: 10.0.0.1\r\nCaller: "+who+"\r\n"+at)
	case v.vault.Closed != "":
		return forbidden("ForbiddenByConnection", "Public network access is disabled and request is not from a trusted service "+
			"nor via an approved private link.\r\nCaller: "+who+"\r\n"+at)
	case s.may(a, v.kind+" "+v.verb, v.name, object):
		return nil
	case v.vault.AccessPolicies:
		return forbidden("ForbiddenByPolicy", fmt.Sprintf("The user, group or application '%s' does not have %s %s permission on key vault "+
			"'%s;location=%s'. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125287",
			who, v.kind, v.verb, v.name, v.vault.Location))
	}
	return forbidden("ForbiddenByRbac", "Caller is not authorized to perform action on resource.\r\n"+
		"If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\n"+
		"Caller: "+who+"\r\nAction: '"+action(v)+"'\r\n"+
		"Resource: '/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/rg/providers/microsoft.keyvault/vaults/"+
		strings.TrimSuffix(v.name+"/"+object, "/")+"'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: null \r\n"+at+"\r\n")
}

// action is Azure's name of a permission, "Azure built-in roles for Key Vault".
func action(v *visit) string {
	const prefix = "Microsoft.KeyVault/vaults/"
	switch v.kind + " " + v.verb {
	case "secrets get":
		return prefix + "secrets/getSecret/action"
	case "secrets set":
		return prefix + "secrets/setSecret/action"
	case "secrets list":
		return prefix + "secrets/readMetadata/action"
	}
	return prefix + v.kind + "/read"
}

// versions are those of an object, newest first; of AnyVault too.
func (s *Server) versions(vaultName, key string) (found, deleted []Version) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, name := range []string{vaultName, AnyVault} {
		if v := s.vaults[name]; v != nil && found == nil {
			found, deleted = slices.Clone(v.objects[key]), v.deleted[key]
		}
	}
	slices.Reverse(found)
	slices.SortStableFunc(found, func(a, b Version) int { return cmp.Compare(b.Created, a.Created) })
	return found, deleted
}

func (s *Server) answerVault(v *visit) (any, *keyVaultError) {
	key := v.kind + "/" + v.object
	switch {
	case v.verb == "list" && v.object == "":
		return s.list(v, s.newest(v.name, v.kind))
	case v.op == "SetSecret":
		return s.setSecret(v)
	}

	found, deleted := s.versions(v.name, key)
	if strings.HasPrefix(v.op, "GetDeleted") {
		found = deleted
	}
	if len(found) == 0 {
		return nil, notFound(v)
	}
	if v.verb == "list" {
		var all []listed
		for _, one := range found {
			all = append(all, listed{v.object, one})
		}
		return s.list(v, all)
	}

	one := found[0]
	if v.version != "" {
		i := slices.IndexFunc(found, func(o Version) bool { return o.Version == v.version })
		if i < 0 {
			return nil, notFound(v)
		}
		one = found[i]
	}
	switch {
	case one.Status != 0:
		return nil, &keyVaultError{status: one.Status, code: one.Code, message: "fault"}
	case !one.enabled():
		kind := singular[v.kind]
		return nil, &keyVaultError{status: http.StatusForbidden, code: "Forbidden", inner: kind + "Disabled",
			message: "Operation get is not allowed on a disabled " + strings.ToLower(kind) + "."}
	}
	return bundle(v, one), nil
}

func notFound(v *visit) *keyVaultError {
	kind := singular[v.kind]
	name := v.object
	if v.version != "" {
		name += "/" + v.version
	}
	return &keyVaultError{status: http.StatusNotFound, code: kind + "NotFound", message: fmt.Sprintf(
		"A %s with (name/id) %s was not found in this key vault. If you recently deleted this %[1]s you may be able to recover it "+
			"using the correct recovery command. For help resolving this issue, please see "+
			"https://go.microsoft.com/fwlink/?linkid=2125182", strings.ToLower(kind), name)}
}

func (v *visit) id(kind, name, version string) string {
	id := "https://" + v.name + "." + v.suffix + "/" + kind + "/" + name
	if version != "" {
		id += "/" + version
	}
	return id
}

// properties are what every answer has of an object.
func (v *visit) properties(name string, one Version, withVersion bool) map[string]any {
	version := ""
	if withVersion {
		version = one.Version
	}
	out := map[string]any{"id": v.id(v.kind, name, version)}
	if v.kind == Keys {
		out = map[string]any{"kid": v.id(v.kind, name, version)}
	}
	if !one.NoAttributes {
		out["attributes"] = attributes(one)
	}
	if len(one.Tags) > 0 {
		out["tags"] = one.Tags
	}
	if one.ContentType != "" && v.kind == Secrets {
		out["contentType"] = one.ContentType
	}
	if one.KID != "" && v.kind == Secrets {
		out["managed"] = true
	}
	return out
}

func attributes(one Version) map[string]any {
	out := map[string]any{"enabled": one.enabled(), "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90}
	for name, at := range map[string]int64{"created": one.Created, "updated": one.Created, "nbf": one.NotBefore, "exp": one.Expires} {
		if at != 0 {
			out[name] = at
		}
	}
	return out
}

// bundle is the answer to a get.
func bundle(v *visit, one Version) map[string]any {
	out := v.properties(v.object, one, true)
	switch v.kind {
	case Secrets:
		if !one.NoValue {
			out["value"] = one.Value
		}
		if one.KID != "" {
			out["kid"] = one.KID
		}
	case Keys:
		delete(out, "kid")
		out["key"] = webKey(one.Key, v.id(Keys, v.object, one.Version))
	case Certificates:
		sum := sha1.Sum(one.Cer)
		out["cer"], out["x5t"] = one.Cer, base64.RawURLEncoding.EncodeToString(sum[:])
		out["kid"], out["sid"] = v.id(Keys, v.object, one.Version), v.id(Secrets, v.object, one.Version)
		if one.ContentType != "" {
			out["contentType"] = one.ContentType
		}
	}
	return out
}

// webKey is a key with its id. Its text may be JSON in JSON.
func webKey(raw json.RawMessage, id string) map[string]any {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		raw = json.RawMessage(text)
	}
	key := map[string]any{}
	_ = json.Unmarshal(raw, &key) // what is no key is answered as one without fields
	key["kid"] = id
	return key
}

// listed is one entry of a list.
type listed struct {
	name string
	Version
}

// newest are a vault's objects of a kind by name, each with its newest version.
func (s *Server) newest(vaultName, kind string) []listed {
	s.mu.RLock()
	names := map[string]bool{}
	for _, in := range []string{vaultName, AnyVault} {
		if v := s.vaults[in]; v != nil {
			for key := range v.objects {
				if name, ok := strings.CutPrefix(key, kind+"/"); ok {
					names[name] = true
				}
			}
		}
	}
	s.mu.RUnlock()

	var all []listed
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if found, _ := s.versions(vaultName, kind+"/"+name); len(found) > 0 {
			all = append(all, listed{name, found[0]})
		}
	}
	return all
}

// list answers a page with the link to the next.
func (s *Server) list(v *visit, all []listed) (any, *keyVaultError) {
	versions := v.object != ""
	name := func(l listed) string { return l.name + "/" + l.Version.Version }
	page, next, ok := traffic.Page(all, name, v.URL.Query().Get("$skiptoken"), s.opts.PageSize)
	if !ok {
		return nil, &keyVaultError{status: http.StatusBadRequest, code: "BadParameter", message: "The skip token is invalid."}
	}

	values := []map[string]any{}
	for _, l := range page {
		values = append(values, v.properties(l.name, l.Version, versions))
	}
	out := map[string]any{"value": values, "nextLink": nil}
	if next != "" {
		query := url.Values{"api-version": {v.URL.Query().Get("api-version")}, "$skiptoken": {next}}
		out["nextLink"] = "https://" + v.name + "." + v.suffix + v.URL.Path + "?" + query.Encode()
	}
	return out, nil
}

// setSecret makes a new version; a deleted name is taken until it is purged.
func (s *Server) setSecret(v *visit) (any, *keyVaultError) {
	if _, deleted := s.versions(v.name, Secrets+"/"+v.object); deleted != nil {
		return nil, &keyVaultError{status: http.StatusConflict, code: "Conflict", inner: "ObjectIsDeletedButRecoverable",
			message: "Secret " + v.object + " is currently in a deleted but recoverable state, and its name cannot be reused; " +
				"in this state, the secret can only be recovered or purged."}
	}
	var in struct {
		Value       *string
		ContentType string
		Tags        map[string]string
	}
	body, err := io.ReadAll(io.LimitReader(v.Body, 1<<20))
	if err != nil || json.Unmarshal(body, &in) != nil || in.Value == nil || len(*in.Value) > 25<<10 {
		return nil, &keyVaultError{status: http.StatusBadRequest, code: "BadParameter", message: "The parameter value is not valid."}
	}
	version := s.addSecret(v.name, v.object, Version{Value: *in.Value, ContentType: in.ContentType, Tags: in.Tags})
	found, _ := s.versions(v.name, Secrets+"/"+v.object)
	i := slices.IndexFunc(found, func(o Version) bool { return o.Version == version })
	return bundle(v, found[i]), nil
}
