package azure

import (
	"path"
	"strings"

	"github.com/coffre-csi/coffre/provider/plan"
)

// checkOwn checks the fields that Coffre adds.
func (e *entry) checkOwn(bad func(string, ...any)) {
	keystore := strings.EqualFold(e.ObjectFormat, formatJKS)
	locked := keystore || e.ObjectPassword != "" && strings.EqualFold(e.ObjectFormat, formatPFX)
	switch {
	case keystore && e.ObjectPassword == "":
		bad("objectPassword is missing: a Java keystore has one; name the secret of the vault that holds it")
	case e.ObjectPassword != "" && !locked:
		bad("objectPassword locks the file of objectFormat pfx and jks")
	case locked && e.ObjectEncoding != "":
		bad("objectEncoding cannot stand beside objectPassword: what is locked is binary")
	}
	if e.ObjectNotAfter != "" && (e.ObjectVersion != "" || e.ObjectVersionHistory > 1) {
		bad("objectVersion and objectNotAfter are mutually exclusive (and objectVersionHistory)")
	}
	if e.JSONKeys != "" && e.JSONKeys != "*" {
		bad(`jsonKeys: %.40q must be "*"; one key is what jsonKey is for`, e.JSONKeys)
	}
	shapes := 0
	for _, given := range []bool{e.JSONKey != "", e.JSONKeys != "", e.SplitCertAndKey != nil && *e.SplitCertAndKey, locked} {
		if given {
			shapes++
		}
	}
	if shapes > 1 {
		bad("jsonKey, jsonKeys, splitCertAndKey and objectPassword cannot stand beside each other: each says what the file holds")
	}
	if e.ObjectType != typeSecret && (shapes > 0 || e.ObjectNameMatch != "") {
		bad("jsonKey, jsonKeys, splitCertAndKey, objectPassword and objectNameMatch are for objectType: secret")
	}

	single := e.ObjectVersion != "" || e.ObjectVersionHistory > 1 || e.ObjectNotAfter != ""
	switch {
	case e.ObjectNameMatch == "" && len(e.ObjectTags) > 0:
		bad("objectTags go with objectNameMatch: without it an object is one secret")
	case e.ObjectNameMatch != "" && e.ObjectNameMatch != "prefix" && e.ObjectNameMatch != "regexp":
		bad("objectNameMatch: %.40q is neither prefix nor regexp", e.ObjectNameMatch)
	case e.ObjectNameMatch != "" && single:
		bad("objectNameMatch finds any number of secrets, so that objectVersion, objectVersionHistory and objectNotAfter cannot stand beside it")
	}
}

// parts are the objects of an entry: its file, and the certificates and the key
// beside it where they are asked for. One read gives all three.
func (r *reader) parts(e *entry, mode int32, sources []plan.Source) []plan.Object {
	c := content{
		format: strings.ToLower(e.ObjectFormat), encoding: strings.ToLower(e.ObjectEncoding),
		vaultOrder: r.dialect.VaultOrder,
	}
	whole := plan.Object{Field: sources[0].Query.Field, Sources: sources, Output: plan.Output{
		File: e.file(), Mode: mode, Key: e.JSONKey,
		ID: e.ObjectType + "/" + e.ObjectName, StoreVersion: e.ObjectPassword == "", Overlaid: true,
	}}
	out := &whole.Output
	if e.JSONKeys != "" {
		out.Keys, out.ID = &plan.Keys{All: true}, ""
	}
	if e.ObjectPassword != "" {
		out.Format, c.format = plan.Format(c.format), formatPFX // read as it is, and written anew
	}
	if e.ObjectNameMatch != "" {
		out.File, out.ID = e.ObjectAlias, ""
	}
	if whole.Several() && out.File != "" {
		out.File = path.Clean(out.File) + "/"
	}
	if e.ObjectType == typeSecret {
		out.Select = c
	}

	split := r.dialect.SeparateFiles
	if e.SplitCertAndKey != nil {
		split, c.must = *e.SplitCertAndKey, *e.SplitCertAndKey
	}
	if !split || e.ObjectType != typeSecret || e.JSONKey != "" || e.JSONKeys != "" {
		return []plan.Object{whole}
	}

	return []plan.Object{r.part(whole, c, partCertificates), r.part(whole, c, partKey), whole}
}

// part is the object of a part of a certificate, beside the whole.
func (r *reader) part(whole plan.Object, c content, part string) plan.Object {
	c.part = part
	o := whole
	o.Sources = o.Sources[:1] // no password is needed
	o.Output.Select, o.Output.Format, o.Output.StoreVersion = c, "", true
	if !o.Several() {
		o.Output.File += "." + part
		return o
	}
	if end, err := r.budget.Compile("$"); err == nil {
		o.Output.Rewrite = &plan.Rewrite{Regexp: end, With: "." + part}
	}

	return o
}
