package aws

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/coffre-csi/coffre/provider/jmespath"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
)

// descriptor is one entry of objects. The last six fields are Coffre's; the
// AWS provider ignores them.
type descriptor struct {
	ObjectName         string      `json:"objectName"`
	ObjectType         string      `json:"objectType"`
	ObjectAlias        string      `json:"objectAlias"`
	ObjectVersion      string      `json:"objectVersion"`
	ObjectVersionLabel string      `json:"objectVersionLabel"`
	FilePermission     string      `json:"filePermission"`
	JMESPath           []jmesEntry `json:"jmesPath"`
	FailoverObject     failover    `json:"failoverObject"`

	ObjectNameMatch string `json:"objectNameMatch"` // prefix or regexp: objectName finds any number of secrets
	JSONKeys        string `json:"jsonKeys"`        // "*": every top-level key becomes a file
	Decode          string `json:"decode"`          // base64, base64url, hex, auto
	Optional        bool   `json:"optional"`        // a missing secret is left out
	Refresh         string `json:"refresh"`         // how old the value may get
}

type jmesEntry struct {
	Path           string `json:"path"`
	ObjectAlias    string `json:"objectAlias"`
	FilePermission string `json:"filePermission"`

	AllowNonString bool   `json:"allowNonString"` // a result that is no text is written as JSON
	Decode         string `json:"decode"`

	compiled *jmespath.Expression // by check
}

type failover struct {
	ObjectName         string `json:"objectName"`
	ObjectVersion      string `json:"objectVersion"`
	ObjectVersionLabel string `json:"objectVersionLabel"`
}

// Values of objectType, which is case-sensitive.
const (
	secretsManager = "secretsmanager"
	ssmParameter   = "ssmparameter"
)

// Services as ARNs name them.
var serviceTypes = map[string]string{"secretsmanager": secretsManager, "ssm": ssmParameter}

// check says everything that is wrong with an entry, in the AWS provider's
// sentences where it has one.
func (d *descriptor) check(r *reader, field string) {
	bad := func(format string, args ...any) { r.bad(field, format, args...) }
	if d.ObjectName == "" {
		bad("Object name must be specified")
		return
	}
	if len(d.ObjectName) > 2048 || strings.ContainsFunc(d.ObjectName, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		bad("objectName is longer than 2048 bytes, or holds a control character")
		return
	}
	if text := checkType(d.ObjectName, d.ObjectType, r.regions[0]); text != "" {
		bad("%s", text)
	}
	if d.service() == ssmParameter && d.ObjectVersion != "" && d.ObjectVersionLabel != "" {
		bad("ssm parameters can not specify both objectVersion and objectVersionLabel: %s", d.ObjectName)
	}
	if !validPermission(d.FilePermission) {
		bad("Invalid File Permission: %s", d.FilePermission)
	}
	if text := fileFault(r.translation, d.ObjectAlias, d.ObjectName); text != "" && d.ObjectNameMatch == "" {
		bad("%s", text)
	}
	d.checkFailover(r, bad)
	for i, j := range d.JMESPath {
		at := fmt.Sprintf("jmesPath[%d]", i)
		switch compiled, err := jmespath.Parse(r.budget, j.Path); {
		case j.Path == "":
			bad("Path must be specified for JMES object")
		case err != nil:
			bad("%s: path %.80q %s", at, j.Path, err)
		default:
			d.JMESPath[i].compiled = compiled
		}
		if j.ObjectAlias == "" {
			bad("Object alias must be specified for JMES object")
		} else if text := fileFault(r.translation, j.ObjectAlias, ""); text != "" {
			bad("%s: %s", at, text)
		}
		if !validPermission(j.FilePermission) {
			bad("Invalid File Permission: %s", j.FilePermission)
		}
		if !validDecode(j.Decode) {
			bad("%s: decode: %.40q is not base64, base64url, hex or auto", at, j.Decode)
		}
	}

	d.checkOwnFields(r, bad)
}

// checkOwnFields checks what Coffre adds.
func (d *descriptor) checkOwnFields(r *reader, bad func(string, ...any)) {
	switch d.ObjectNameMatch {
	case "":
	case "prefix", "regexp":
		if d.ObjectAlias != "" || d.ObjectVersion != "" || d.ObjectVersionLabel != "" || d.FailoverObject.ObjectName != "" || len(d.JMESPath) > 0 {
			bad("objectNameMatch: finds any number of secrets, so that objectAlias, objectVersion, objectVersionLabel, failoverObject and jmesPath cannot stand beside it")
		}
		if d.ObjectNameMatch == "prefix" {
			break
		}
		if _, err := r.budget.Compile(d.ObjectName); err != nil {
			bad("objectName: is no regular expression, which objectNameMatch: regexp asks for: %s", err)
		}
	default:
		bad("objectNameMatch: %.40q is neither prefix nor regexp", d.ObjectNameMatch)
	}
	if d.JSONKeys != "" && d.JSONKeys != "*" {
		bad(`jsonKeys: %.40q must be "*"; single keys are what jmesPath is for`, d.JSONKeys)
	}
	if d.JSONKeys != "" && len(d.JMESPath) > 0 {
		bad("jsonKeys: cannot stand beside jmesPath")
	}
	if !validDecode(d.Decode) {
		bad("decode: %.40q is not base64, base64url, hex or auto", d.Decode)
	}
	if d.Refresh != "" {
		if err := new(store.Refresh).UnmarshalText([]byte(d.Refresh)); err != nil {
			bad("refresh: %s", err)
		}
	}
}

func (d *descriptor) checkFailover(r *reader, bad func(string, ...any)) {
	f := d.FailoverObject
	if f.ObjectName == "" {
		return
	}
	if len(r.regions) < 2 {
		bad("failover object allowed only when failover region is defined: %s", d.ObjectName)
		return
	}
	if d.ObjectAlias == "" {
		bad("object alias must be specified for objects with failover entries: %s", d.ObjectName)
	}
	if text := checkType(f.ObjectName, d.ObjectType, r.regions[1]); text != "" {
		bad("%s", text)
	}
	if d.service() == ssmParameter && f.ObjectVersion != "" && f.ObjectVersionLabel != "" {
		bad("ssm parameters can not specify both objectVersion and objectVersionLabel: %s", d.ObjectName)
	}
	if d.ObjectVersion != f.ObjectVersion {
		bad("object versions must match between primary and failover regions: %s", d.ObjectName)
	}
}

// service is the objectType, or what an ARN says.
func (d *descriptor) service() string {
	if d.ObjectType != "" {
		return d.ObjectType
	}
	parsed, _ := arn.Parse(d.ObjectName)
	return serviceTypes[parsed.Service]
}

// checkType holds a name against its type and region; "" where they agree.
func checkType(name, objectType, region string) string {
	if objectType != "" && objectType != secretsManager && objectType != ssmParameter {
		return "Invalid objectType: " + objectType
	}
	if !strings.HasPrefix(name, "arn:") {
		if objectType == "" {
			return "Must use objectType when a full ARN is not specified: " + name
		}
		return ""
	}

	parsed, err := arn.Parse(name)
	if err != nil {
		return "Invalid ARN format in object name: " + name
	}
	typeOf, known := serviceTypes[parsed.Service]
	switch {
	case objectType == "" && !known:
		return "Invalid service in ARN: " + parsed.Service
	case objectType != "" && typeOf != objectType:
		return "objectType does not match ARN: " + name
	case region != "" && parsed.Region != region:
		return fmt.Sprintf("ARN region must match region %s: %s", region, name)
	}

	return ""
}

var fourOctal = regexp.MustCompile(`^[0-7]{4}$`)

func validPermission(text string) bool { return text == "" || fourOctal.MatchString(text) }

func validDecode(text string) bool {
	switch plan.Decoding(text) {
	case "", plan.Base64, plan.Base64URL, plan.Hex, plan.Auto:
		return true
	}
	return false
}

// permission is the mode of a file: its own, its parent's, or the request's.
// The driver takes permission bits only.
func permission(mode int32, texts ...string) int32 {
	for _, text := range texts {
		if n, err := strconv.ParseInt(text, 8, 32); err == nil {
			return int32(n) & 0o777
		}
	}
	return mode
}

// longestName leaves room for the suffix that the AWS provider's temporary
// files have: a longer name would work here, and no more after moving back.
const longestName = 245

// fileName is the path of an entry's file. A leading slash is translated like
// any other, and dropped where slashes stay.
func fileName(translation, alias, name string) string {
	if alias != "" {
		name = alias
	}
	if translation == "" {
		return strings.TrimLeft(name, "/")
	}
	return strings.ReplaceAll(name, "/", translation)
}

// fileFault says why a name cannot be a file's, "" where it can.
func fileFault(translation, alias, name string) string {
	shown := alias
	if shown == "" {
		shown = name
	}
	file := fileName(translation, alias, name)
	switch {
	case strings.HasPrefix(file, "../") || strings.Contains(file, "/../") || strings.HasSuffix(file, "/.."):
		return "path can not contain ../: " + shown
	case file == "..":
		return `".." is the folder of the volume itself: no file can be renamed onto it`
	case len(path.Base(file)) > longestName:
		return fmt.Sprintf("%.40q…: file name too long: %d bytes are over %d", shown, len(path.Base(file)), longestName)
	}
	if reason := plan.PathFault(file); reason != "" {
		return fmt.Sprintf("%.120q %s", file, reason)
	}
	return ""
}
