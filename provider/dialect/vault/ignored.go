package vault

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/coffre-csi/coffre/provider/strict"
)

// prefixed are the parameters that have a provider's prefix.
func (d Dialect) prefixed() []string {
	names := []string{
		"Address", "AuthMethod", "AuthMountPath", "CACertPath", "CADirectory", "KubernetesMountPath", "Namespace",
		"SkipTLSVerify", "TLSClientCertPath", "TLSClientKeyPath", "TLSServerName",
	}
	if d.Provider == OpenBao {
		names = append(names, "RoleName")
	}
	return names
}

// prefixes are those of the provider's parameters; the first that is there wins.
func (d Dialect) prefixes() []string {
	if d.Provider == OpenBao {
		return []string{"bao", "openbao", "vault"}
	}
	return []string{"vault"}
}

// Ignored says what these providers, and so this dialect, take without a word
// and without effect: parameters that are misspelt, and those that another
// spelling hides. It is for whoever looks at a class before it is applied; a
// Mount never asks. Fields of objects that are misspelt are errors of Plan.
func (d Dialect) Ignored(parameters map[string]string) strict.Errors {
	known := []string{"audience", "forceRefresh", "objects", "refresh", "roleName"}
	hidden := map[string]string{}
	for _, name := range d.prefixed() {
		first := ""
		for _, prefix := range d.prefixes() {
			known = append(known, prefix+name)
			if _, there := parameters[prefix+name]; there && first != "" {
				hidden[prefix+name] = first
			} else if there {
				first = prefix + name
			}
		}
	}

	var errors strict.Errors
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		switch by := hidden[name]; {
		case by != "":
			errors = append(errors, strict.Error{Path: name, Text: fmt.Sprintf("is ignored: %s hides it", by)})
		case !slices.Contains(known, name):
			errors = append(errors, strict.Error{Path: name, Text: "unknown parameter, which is ignored" + hint(name, known)})
		}
	}
	return errors
}

func hint(name string, known []string) string {
	near := strict.Nearest(name, known)
	for _, k := range known {
		if strings.EqualFold(k, name) {
			near = k
		}
	}
	if slices.Contains(fields(), name) {
		return "; it belongs in an entry of objects"
	}
	if near == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", near)
}
