package azure

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
	azurestore "github.com/coffre-csi/coffre/provider/store/azure"
)

// Values of objectType.
const (
	typeSecret = "secret"
	typeKey    = "key"
	typeCert   = "cert"
)

// Values of objectFormat and objectEncoding, in small letters.
const (
	formatPEM = "pem"
	formatPFX = "pfx"
	formatJKS = "jks"

	encodingUTF8   = "utf-8"
	encodingHex    = "hex"
	encodingBase64 = "base64"
)

// named is the object as the Azure provider names it in errors, of which each
// has it: what no object can be called is cut.
func (e *entry) named() string {
	return fmt.Sprintf("objectType:%.40s, objectName:%.256s, objectVersion:%.80s", e.ObjectType, e.ObjectName, e.ObjectVersion)
}

// file is the path of the object's file, or of the folder of its files.
func (e *entry) file() string { return cmp.Or(e.ObjectAlias, e.ObjectName) }

// object turns an entry into its planned objects; none where something is wrong
// with it, which is noted then.
func (r *reader) object(i int, e *entry) []plan.Object {
	before := len(r.lines)
	bad := func(format string, args ...any) {
		r.lines = append(r.lines, fmt.Sprintf("failed to get %s: %s", e.named(), fmt.Sprintf(format, args...)))
	}
	reads := 1
	if e.ObjectPassword != "" {
		reads++
	}
	if err := r.budget.Queries(reads); err != nil {
		bad("%s", err)
		return nil
	}
	e.check(bad)
	e.checkOwn(bad)
	mode := r.mode(e, bad)
	sources := r.sources(i, e, bad)
	if len(r.lines) > before {
		return nil
	}

	return r.parts(e, mode, sources)
}

// check says what the Azure provider says of an entry.
func (e *entry) check(bad func(string, ...any)) {
	switch format := strings.ToLower(e.ObjectFormat); {
	case format != "" && format != formatPEM && format != formatPFX && format != formatJKS:
		bad("invalid objectFormat: %.40s, should be PEM or PFX, or JKS", e.ObjectFormat)
	case e.ObjectFormat == formatPFX && e.ObjectType != typeSecret:
		bad("PFX format only supported for objectType: secret")
	case format == formatJKS && e.ObjectType != typeSecret:
		bad("JKS format only supported for objectType: secret")
	}
	switch strings.ToLower(e.ObjectEncoding) {
	case "":
	case encodingUTF8, encodingHex, encodingBase64:
		if e.ObjectType != typeSecret {
			bad("objectEncoding only supported for objectType: secret")
		}
	default:
		bad("invalid objectEncoding: %.40s, should be hex, base64 or utf-8", e.ObjectEncoding)
	}
	if text := e.fileFault(); text != "" {
		bad("%s", text)
		return
	}
	if e.ObjectType != typeSecret && e.ObjectType != typeKey && e.ObjectType != typeCert {
		bad("Invalid vaultObjectTypes. Should be secret, key, or cert")
	}
	if e.ObjectName == "" {
		bad("parameter name cannot be empty: set objectName")
	}
}

// fileFault says why the object's path cannot be one, "" where it can.
func (e *entry) fileFault() string {
	name := e.file()
	if e.ObjectNameMatch != "" {
		if name = e.ObjectAlias; name == "" {
			return ""
		}
	}
	switch {
	case name == "":
		return "file name must not be empty"
	case strings.HasPrefix(name, "/"):
		return "file name must be a relative path"
	case strings.Contains(name, ".."):
		return "file name must not contain '..'"
	}
	if e.ObjectVersionHistory > 1 {
		name = path.Clean(name) // a folder, which the Azure provider joins with the version's number
	}
	if reason := plan.PathFault(name); reason != "" {
		return fmt.Sprintf("file name %.120q %s", name, reason)
	}

	return ""
}

// mode is the file's: the object's own, or the request's. The Azure provider
// takes any text, and writes a file that nobody can read where it is no mode.
func (r *reader) mode(e *entry, bad func(string, ...any)) int32 {
	if e.FilePermission == "" {
		return r.req.Mode
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(e.FilePermission, "0o"), 8, 32)
	if err != nil || n > 0o777 || !octal.MatchString(e.FilePermission) {
		bad("filePermission: %.20q is no octal file mode from 0000 to 0777", e.FilePermission)
	}

	return int32(n)
}

// sources are the object's secret, and the one that holds its password.
func (r *reader) sources(i int, e *entry, bad func(string, ...any)) []plan.Source {
	config, err := r.store(cmp.Or(e.KeyvaultName, r.settings.Vault))
	if err != nil {
		r.lines = append(r.lines, err.Error())
		return nil
	}
	q := plan.Query{
		Field: fmt.Sprintf("objects[%d]", i), Object: e.named(), Store: store.Selector{Inline: config},
		Optional: e.Optional, Force: r.force, Refresh: r.refresh.Duration(),
	}
	if e.Refresh != "" {
		var own store.Refresh
		if err := own.UnmarshalText([]byte(e.Refresh)); err != nil {
			bad("refresh: %s", err)
		}
		q.Refresh = own.Duration()
	}
	if q.Refresh == 0 {
		// The Azure provider reads on every republish; so does this dialect,
		// unless somebody chose a refresh time.
		q.Volume = r.req.Class + "\x00" + r.req.TargetPath
	}

	own, word := q, q
	r.asked(e, &own, bad)
	sources := []plan.Source{{Query: own}}
	if e.ObjectPassword != "" {
		word.Ref = store.Ref{Name: e.ObjectPassword, Type: azurestore.Secret}
		word.Object = fmt.Sprintf("objectType:%s, objectName:%s, objectVersion:", typeSecret, e.ObjectPassword)
		sources = append(sources, plan.Source{Query: word, Password: plan.LocksFile})
	}

	return sources
}

// storeTypes are the types of the store.
func storeType(objectType string) string {
	switch objectType {
	case typeKey:
		return azurestore.Key
	case typeCert:
		return azurestore.PublicCertificate
	}
	return azurestore.Secret
}

// listed is how often a search looks again where nobody chose a refresh time.
const listed = 5 * time.Minute

// asked says which secrets the query asks for: one, its versions, or all that
// match.
func (r *reader) asked(e *entry, q *plan.Query, bad func(string, ...any)) {
	q.Ref = store.Ref{Name: e.ObjectName, Version: e.ObjectVersion, Type: storeType(e.ObjectType)}
	if e.ObjectNotAfter != "" {
		at, err := time.Parse(time.RFC3339, e.ObjectNotAfter)
		if err != nil {
			bad("objectNotAfter: %.40q is no time of RFC 3339, such as 2026-01-31T12:00:00Z", e.ObjectNotAfter)
		}
		q.Ref.Extra = azurestore.NotAfter(at)
	}
	if e.ObjectVersionHistory > 1 {
		q.History = int(min(e.ObjectVersionHistory, plan.MaxFound))
		if q.Ref.Version == "latest" {
			q.Ref.Version = ""
		}
	}

	var tags []string
	for _, k := range slices.Sorted(maps.Keys(e.ObjectTags)) {
		if strings.ContainsAny(k+e.ObjectTags[k], ",=") {
			bad("objectTags: %.40q: commas and equals signs cannot be searched for", k)
		}
		tags = append(tags, k+"="+e.ObjectTags[k])
	}
	switch e.ObjectNameMatch {
	case "prefix":
		q.Find = &store.Filter{Prefix: e.ObjectName, Tags: strings.Join(tags, ",")}
	case "regexp":
		if _, err := r.budget.Compile(e.ObjectName); err != nil {
			bad("objectName: is no regular expression, which objectNameMatch: regexp asks for: %s", err)
		}
		q.Find = &store.Filter{Regexp: e.ObjectName, Tags: strings.Join(tags, ",")}
	}
	if q.Find != nil && q.Volume != "" {
		q.Volume, q.Refresh = "", listed
	}
	if q.Find != nil {
		q.Ref = store.Ref{}
	}
}

// store is that of a vault, shared by all objects that stand in it.
func (r *reader) store(vault string) (*store.Config, error) {
	if c := r.stores[vault]; c != nil {
		return c, nil
	}
	if text := vaultFault(vault); text != "" {
		return nil, fmt.Errorf("failed to get vault: %s", text)
	}
	s := r.settings
	if s.Vault = vault; vault != r.settings.Vault {
		s.FailoverVault = ""
	}
	config, mistakes := azurestore.Inline(vault, s, store.InlineOptions{Dialect: Name})
	for _, m := range mistakes {
		if m.Field == "tenantID" {
			return nil, fmt.Errorf("failed to get keyvault client: invalid tenantID. You can locate your tenantID by following the instructions listed here: https://learn.microsoft.com/partner-center/find-ids-and-domain-names")
		}
		return nil, fmt.Errorf("%s: %s", m.Field, m.Text)
	}
	r.stores[vault] = config

	return config, nil
}

var vaultLetters = regexp.MustCompile(`^[-a-zA-Z0-9]*$`)

// vaultFault says why a text is no vault's name, "" where it is one.
func vaultFault(name string) string {
	switch {
	case len(name) < 3 || len(name) > 24:
		return fmt.Sprintf("Invalid vault name: %.80q, must be between 3 and 24 chars", name)
	case !vaultLetters.MatchString(name):
		return fmt.Sprintf("Invalid vault name: %.80q, must match [-a-zA-Z0-9]{3,24}", name)
	}
	return ""
}
