package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/strict"
	"github.com/coffre-csi/coffre/provider/template"
)

// object is one entry of objects. The last four fields are Coffre's.
type object struct {
	ObjectName     string         `yaml:"objectName"`
	SecretPath     string         `yaml:"secretPath"`
	SecretKey      string         `yaml:"secretKey"`
	Method         string         `yaml:"method"`
	SecretArgs     map[string]any `yaml:"secretArgs"`
	FilePermission uint32         `yaml:"filePermission"`
	Encoding       string         `yaml:"encoding"`

	Keys     string `yaml:"keys"` // "*": every key is a file below objectName
	Template string `yaml:"template"`
	Optional bool   `yaml:"optional"`
	Refresh  string `yaml:"refresh"`

	field string
}

func fields() []string {
	return []string{"objectName", "secretPath", "secretKey", "method", "secretArgs", "filePermission", "encoding", "keys", "template", "optional", "refresh"}
}

// list reads objects as those providers do: one YAML document, names in their
// own letter case, scalars as text. A misspelt field is an error, and so is one
// that stands twice.
func (r *reader) list(text string) []*object {
	if len(text) > strict.MaxBytes {
		r.bad("objects", "is %d bytes; the limit is %d", len(text), strict.MaxBytes)
		return nil
	}
	if err := strict.ChargeReadTwice(r.budget, text); err != nil {
		r.bad("objects", "%s", err)
		return nil
	}

	var list []*object
	if err := unmarshal(text, &list); err != nil {
		r.bad("objects", "%s", err)
		return nil
	}
	r.unknownFields(text)
	if len(list) > plan.MaxObjects {
		r.bad("objects", "lists %d objects; the limit is %d", len(list), plan.MaxObjects)
		return nil
	}
	for i, o := range list {
		if o != nil {
			o.field = fmt.Sprintf("objects[%d]", i)
		}
	}
	return slices.DeleteFunc(list, func(o *object) bool { return o == nil })
}

// unmarshal keeps a fault of the parser from being more than an error.
func unmarshal(text string, into *[]*object) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("is no YAML that can be read")
		}
	}()
	return yaml.Unmarshal([]byte(text), into)
}

func (r *reader) unknownFields(text string) {
	root, err := strict.Parse(text, "objects")
	if err != nil || root == nil || root.Kind != yaml.SequenceNode {
		return
	}
	for i, entry := range root.Content {
		if entry.Kind != yaml.MappingNode {
			continue
		}
		for k := 0; k+1 < len(entry.Content); k += 2 {
			key := entry.Content[k]
			if key.Tag == "!!merge" || slices.Contains(fields(), key.Value) {
				continue
			}
			hint := "known: " + strings.Join(fields(), ", ")
			if near := nearest(key.Value); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			at := strict.Join(fmt.Sprintf("objects[%d]", i), key.Value)
			r.errors = append(r.errors, strict.Error{Path: at, Line: key.Line, Text: "is no field; " + hint})
		}
	}
}

func nearest(name string) string {
	for _, known := range fields() {
		if strings.EqualFold(known, name) {
			return known
		}
	}
	return strict.Nearest(name, fields())
}

// args is the body of the request, as JSON with sorted keys.
func (o *object) args() (string, error) {
	if o.SecretArgs == nil {
		return "", nil
	}
	raw, err := json.Marshal(o.SecretArgs)
	return string(raw), err
}

// mode is the file's. A decimal that is no mode and looks like an octal one
// (640) is read as that; those providers made 01200 of it.
func (o *object) mode(r *reader) int32 {
	switch n := o.FilePermission; {
	case n == 0:
		return r.req.Mode
	case n <= 0o777:
		return int32(n)
	}
	octal, err := strconv.ParseUint(fmt.Sprint(o.FilePermission), 8, 32)
	if err != nil || octal > 0o777 {
		r.bad(strict.Join(o.field, "filePermission"), "%d is no file mode; write it in octal, such as 0640", o.FilePermission)
	}
	return int32(octal)
}

func (o *object) output(r *reader) plan.Output {
	out := plan.Output{File: o.ObjectName, Mode: o.mode(r)}
	if o.ObjectName == "" {
		r.bad(strict.Join(o.field, "objectName"), "is missing: it is the file's name")
	} else if reason := plan.PathFault(o.ObjectName); reason != "" {
		r.bad(strict.Join(o.field, "objectName"), "%.120q %s", o.ObjectName, reason)
	}

	switch encoding := strings.ToLower(o.Encoding); {
	case o.Keys != "":
		if o.Keys != "*" || o.SecretKey != "" || o.Template != "" {
			r.bad(strict.Join(o.field, "keys"), `takes "*" only, and neither secretKey nor template beside it`)
		}
		out.File += "/"
		out.Keys, out.Select = &plan.Keys{All: true}, selected{path: o.SecretPath}
	case o.Template != "":
		if o.SecretKey != "" {
			r.bad(strict.Join(o.field, "template"), "takes the place of secretKey")
		}
		compiled, err := template.Parse(r.budget, o.Template)
		if err != nil {
			r.bad(strict.Join(o.field, "template"), "%s", err)
		}
		out.Template, out.Select = compiled, selected{path: o.SecretPath}
	case o.SecretKey != "":
		if !slices.Contains([]string{"", "utf-8", "base64", "hex"}, encoding) {
			r.bad(o.field, "{%s}: {invalid encoding type. Should be utf-8, base64, or hex}", o.SecretPath)
		}
		out.Select = selected{o.SecretPath, o.SecretKey, encoding}
		out.Signed = o.signed(r)
	}
	return out
}

// signed says how those providers make the object's version: of the entry as
// it was written and of the file.
func (o *object) signed(r *reader) *plan.Signed {
	if r.VersionKey == nil {
		return nil
	}
	entry, err := json.Marshal(struct {
		ObjectName, SecretPath, SecretKey, Method string
		SecretArgs                                map[string]any
		FilePermission                            uint32
		Encoding                                  string
	}{o.ObjectName, o.SecretPath, o.SecretKey, o.Method, o.SecretArgs, o.FilePermission, o.Encoding})
	if err != nil {
		return nil // args says so
	}
	return &plan.Signed{Key: r.VersionKey, Prefix: entry}
}
