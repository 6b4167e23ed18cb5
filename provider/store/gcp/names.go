package gcp

import (
	"cmp"
	"regexp"
	"strings"

	"github.com/coffre-csi/coffre/provider/store"
)

// Grammars, by the references of Resource Manager, Secret Manager and Parameter
// Manager. A location goes into a host name.
var (
	projectName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.:_-]{0,99}$`)
	location    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$`)
	objectName  = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,255}$`)
	version     = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,63}$`)
	decimal     = regexp.MustCompile(`^[0-9]+$`)

	// full is a name with its project: of a resource, or with the service
	// before it, as Google's "full resource names" have it.
	full = regexp.MustCompile(`^(//[a-z]+manager\.googleapis\.com/)?projects/([^/]+)/(?:locations/([^/]+)/)?(secrets|parameters)/([^/]+)$`)
)

const (
	latest = "latest"
	global = "global"
)

// ValidLocation says whether a text may stand in a host name as a location.
func ValidLocation(text string) bool { return location.MatchString(text) }

// resource is one secret or parameter, by what Google calls it.
type resource struct {
	prefix, project, location, object string
	version                           string // "" is the newest
}

// parent is what the object stands in.
func (r resource) parent() string {
	if r.location == "" {
		return "projects/" + r.project
	}
	return "projects/" + r.project + "/locations/" + r.location
}

// name reads a ref: a bare name in the store's own project, or a full one. A
// store reads one location, for a location is what fails as one.
func (s *session) name(ref store.Ref) (resource, *store.Error) {
	r := resource{project: s.settings.Project, location: s.location, object: ref.Name, version: ref.Version}
	if strings.Contains(ref.Name, "/") {
		m := full.FindStringSubmatch(ref.Name)
		if m == nil || m[4] != s.collection() {
			return r, store.Errorf(store.Invalid, "is no name of a store of kind %s: write %s, or projects/PROJECT/%s", s.kind, "NAME", s.collection()+"/NAME")
		}
		r.prefix, r.project, r.location, r.object = m[1], m[2], m[3], m[5]
		if at := cmp.Or(r.location, global); at != cmp.Or(s.location, global) {
			return r, store.Errorf(store.Invalid, "is in location %.40s, and this store reads %s: use a store of that location", at, cmp.Or(s.location, global))
		}
	}

	switch {
	case r.project == "":
		return r, store.Errorf(store.Invalid, "says no project, and neither does the store: set its project, or name projects/PROJECT/%s/NAME", s.collection())
	case !projectName.MatchString(r.project):
		return r, store.Errorf(store.Invalid, "%.40q is no id and no number of a project", r.project)
	case !objectName.MatchString(r.object):
		return r, store.Errorf(store.Invalid, "is no name that Google has: letters, digits, - and _ only, at most 255")
	case r.version != "" && !version.MatchString(r.version):
		return r, store.Errorf(store.Invalid, "version %.40q is no number, no alias and not latest", r.version)
	}
	return r, nil
}

// collection is what stands before a name.
func (s *session) collection() string {
	if s.kind == ParameterManager {
		return "parameters"
	}
	return "secrets"
}
