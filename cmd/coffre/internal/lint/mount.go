package lint

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/coffre-csi/coffre/cmd/coffre/internal/manifest"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/strict"
)

// mount checks what kubelet, the driver and the provider make of a volume.
func (c *check) mount(m manifest.Mount) {
	c.report.Checked++
	object := m.Workload + " volume " + m.Volume
	if !m.ReadOnly {
		c.say(mountReadOnly, m.At("csi.readOnly"), object, "csi.readOnly", "must be true: the driver refuses the volume otherwise")
	}
	if m.Class == "" {
		c.say(mountClass, m.At("csi.volumeAttributes"), object, "csi.volumeAttributes.secretProviderClass", "is missing")
		return
	}
	for _, at := range m.SubPaths {
		c.say(mountSubPath, at, object, "subPath", "a file mounted by subPath never sees a new value; mount the folder")
	}
	i := c.find(m.Namespace, m.Class)
	if i < 0 {
		c.missing(m, object)
		return
	}
	p, ok := c.plans[i]
	if !ok {
		return // its own mistakes come first
	}
	class := c.set.Classes[i]
	if len(m.Attributes) > 0 {
		if p, ok = c.overridden(class, m, object); !ok {
			return
		}
	}

	c.publishSecret(m, object, p)
	c.modes(m, object, p)
}

// find is the class that a pod of a namespace gets by a name.
func (c *check) find(namespace, name string) int {
	return slices.IndexFunc(c.set.Classes, func(class manifest.Class) bool {
		return class.Name == name && manifest.SameNamespace(class.Namespace, namespace)
	})
}

// missing says where the class might be instead.
func (c *check) missing(m manifest.Mount, object string) {
	const field = "csi.volumeAttributes.secretProviderClass"
	at := m.At(field)
	var near []string
	for _, class := range c.set.Classes {
		if class.Name == m.Class {
			c.say(mountClassElse, at, object, field, "class %q is in namespace %q, the pod in %q", m.Class, class.Namespace, m.Namespace)
			c.remedy("Put both into one namespace.")
			return
		}

		if manifest.SameNamespace(class.Namespace, m.Namespace) {
			near = append(near, class.Name)
		}
	}

	switch guess := strict.Nearest(m.Class, near); {
	case guess != "":
		c.say(mountClassUnknown, at, object, field, "%q is not in these files; did you mean %q?", m.Class, guess)
	case near != nil:
		c.say(mountClassAbsent, at, object, field, "SecretProviderClass %s is in none of these files", manifest.Qualified(m.Namespace, m.Class))
	default:
		c.say(mountClassOutside, at, object, field, "SecretProviderClass %s is in none of these files", manifest.Qualified(m.Namespace, m.Class))
	}
}

// overridden is the plan with the pod's own volumeAttributes over the class's
// parameters, as the driver lays them.
func (c *check) overridden(class manifest.Class, m manifest.Mount, object string) (plan.Plan, bool) {
	parameters := maps.Clone(class.Parameters)
	maps.Copy(parameters, m.Attributes)
	p, err := c.plan(class, m.Namespace, parameters)
	if err == nil {
		return p, true
	}
	mistakes := strict.Errors{}
	if !errors.As(err, &mistakes) {
		mistakes = strict.Errors{{Text: err.Error()}}
	}
	for _, mistake := range mistakes {
		field := "csi.volumeAttributes." + mistake.Path
		c.say(mountAttributes, m.At(field), object, field, "%s", mistake.Text)
	}

	return plan.Plan{}, false
}

// publishSecret looks whether the volume brings what its stores need of it.
func (c *check) publishSecret(m manifest.Mount, object string, p plan.Plan) {
	const field = "csi.nodePublishSecretRef"
	if m.SecretRef != "" {
		c.secretElsewhere(m, object)
		return
	}
	for _, q := range p.Queries() {
		configs := c.stores[q.Store.Name]
		if q.Store.Inline != nil {
			configs = []*store.Config{q.Store.Inline}
		}
		for _, s := range configs {
			if s == nil {
				continue
			}
			reader, ok := s.Settings.(store.SecretReader)
			if !ok || reader.ReadsSecret() == "" {
				continue
			}
			c.say(mountSecret, m.At("csi"), object, field, "is missing: the store %q reads %s from the Secret that it names", s.Name, reader.ReadsSecret())
			c.remedy("Add nodePublishSecretRef: {name: …} to the volume's csi, with a Secret of the pod's namespace.")
			return
		}
	}
}

func (c *check) secretElsewhere(m manifest.Mount, object string) {
	const field = "csi.nodePublishSecretRef.name"
	var elsewhere []string
	for _, s := range c.set.Secrets {
		if s.Name != m.SecretRef {
			continue
		}
		if manifest.SameNamespace(s.Namespace, m.Namespace) {
			return
		}
		elsewhere = append(elsewhere, s.Namespace)
	}

	if elsewhere != nil {
		c.say(mountSecretOutside, m.At(field), object, field, "Secret %q is in namespace %s here, the pod in %q", m.SecretRef, list(elsewhere), m.Namespace)
	}
}

// modes finds files that a pod which is not root cannot read.
func (c *check) modes(m manifest.Mount, object string, p plan.Plan) {
	if !m.NonRoot {
		return
	}
	for _, o := range p.Objects {
		if o.Output.Mode&0o004 == 0 {
			c.say(mountMode, m.Place, object, o.Field+".mode", "%04o: the file is root's, and the driver applies no fsGroup, so that this pod's user cannot read it", o.Output.Mode)
		}
	}
}

// reference checks a variable that reads a Secret against those that classes
// make.
func (c *check) reference(r manifest.Reference) {
	if r.Optional || c.hasSecret(r) {
		return
	}
	var keys, names []string
	var makers []string
	for _, class := range c.set.Classes {
		if !manifest.SameNamespace(class.Namespace, r.Namespace) {
			continue
		}
		for _, so := range class.SecretObjects {
			names = append(names, so.Name)
			if so.Name != r.Secret {
				continue
			}
			makers = append(makers, class.Name)
			for _, e := range so.Entries {
				keys = append(keys, e.Key)
			}
		}
	}

	if makers == nil {
		if near := strict.Nearest(r.Secret, names); near != "" && len(r.Classes) > 0 {
			c.say(referenceName, r.Place, r.Workload, r.Field, "Secret %q is made by no class of these files; did you mean %q?", r.Secret, near)
		}
		return
	}

	if r.Key != "" && !slices.Contains(keys, r.Key) {
		hint := "its keys: " + list(keys)
		if near := strict.Nearest(r.Key, keys); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		c.say(referenceKey, r.Place, r.Workload, r.Field, "Secret %s has no key %q; %s", r.Secret, r.Key, hint)
		return
	}

	c.unmounted(r, makers)
}

// unmounted finds a Secret that nothing causes to be made.
func (c *check) unmounted(r manifest.Reference, makers []string) {
	mounted := slices.ContainsFunc(c.set.Mounts, func(m manifest.Mount) bool {
		return slices.Contains(makers, m.Class) && manifest.SameNamespace(m.Namespace, r.Namespace)
	})
	if !mounted {
		c.say(referenceUnmounted, r.Place, r.Workload, r.Field, "Secret %s is made while a pod mounts SecretProviderClass %s, and none of these does", r.Secret, list(makers))
		c.remedy("Mount the class in this pod too, even where only variables are read.")
	}
}

// hasSecret says whether the Secret itself stands in the files.
func (c *check) hasSecret(r manifest.Reference) bool {
	return slices.ContainsFunc(c.set.Secrets, func(s manifest.Secret) bool {
		return s.Name == r.Secret && manifest.SameNamespace(s.Namespace, r.Namespace)
	})
}
