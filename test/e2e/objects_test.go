//go:build e2e

package e2e

import (
	"fmt"
	"strings"
)

// A secretProviderClass is what an application team writes.
type secretProviderClass struct {
	name       string
	provider   string // coffre where empty
	apiVersion string // v1 where empty
	parameters map[string]string
	secrets    []object // secretObjects
}

func (c secretProviderClass) object() object {
	if c.provider == "" {
		c.provider = "coffre"
	}
	if c.apiVersion == "" {
		c.apiVersion = "v1"
	}
	return object{
		"apiVersion": "secrets-store.csi.x-k8s.io/" + c.apiVersion,
		"kind":       "SecretProviderClass",
		"metadata":   object{"name": c.name},
		"spec":       object{"provider": c.provider, "parameters": c.parameters, "secretObjects": c.secrets},
	}
}

// opaque is a secretObject with one key: what the driver makes of a file.
func opaque(secret, key, file string) object {
	return object{
		"secretName": secret,
		"type":       "Opaque",
		"labels":     object{"environment": "test"},
		"data":       []object{{"objectName": file, "key": key}},
	}
}

// inline are the parameters that read an encrypted document standing in the
// SecretProviderClass itself.
func inline(document, objects string) map[string]string {
	return map[string]string{
		"inlineStore": "kind: sops\ndocument: |\n" + indent(document),
		"objects":     objects,
	}
}

// platformStore are the parameters that read a store of the chart's values.
func platformStore(store, objects string) map[string]string {
	return map[string]string{"store": store, "objects": objects}
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ") + "\n"
}

// A pod is an application that has the files of some SecretProviderClasses at
// /secrets/NAME.
type pod struct {
	name    string
	classes []string
	key     string            // nodePublishSecretRef: the Secret with the age key
	env     map[string]string // variable: Secret/key
	account string            // its ServiceAccount; app where empty
	command string            // what it does; sleeps where empty
}

func (p pod) object() object {
	return object{
		"apiVersion": "v1",
		"kind":       "Pod",
		"metadata":   object{"name": p.name, "labels": object{"app": p.name}},
		"spec":       p.spec(),
	}
}

// deployment is the pod under a Deployment, as the owner of its synced Secrets.
func (p pod) deployment() object {
	labels := object{"app": p.name}
	return object{
		"apiVersion": "apps/v1",
		"kind":       "Deployment",
		"metadata":   object{"name": p.name},
		"spec": object{
			"selector": object{"matchLabels": labels},
			"template": object{"metadata": object{"labels": labels}, "spec": p.spec()},
		},
	}
}

func (p pod) spec() object {
	if p.account == "" {
		p.account = "app"
	}
	if p.command == "" {
		p.command = "busybox sleep 3600"
	}
	var mounts, volumes, env []object
	for i, class := range p.classes {
		volume := fmt.Sprintf("secrets-%d", i)
		csi := object{
			"driver":           "secrets-store.csi.k8s.io",
			"readOnly":         true,
			"volumeAttributes": object{"secretProviderClass": class},
		}
		if p.key != "" {
			csi["nodePublishSecretRef"] = object{"name": p.key}
		}
		volumes = append(volumes, object{"name": volume, "csi": csi})
		mounts = append(mounts, object{"name": volume, "mountPath": "/secrets/" + class, "readOnly": true})
	}
	for variable, source := range p.env {
		secret, key, _ := strings.Cut(source, "/")
		env = append(env, object{"name": variable, "valueFrom": object{"secretKeyRef": object{"name": secret, "key": key}}})
	}
	return object{
		"serviceAccountName":            p.account,
		"terminationGracePeriodSeconds": 0, // a shell as the first process ignores SIGTERM
		"nodeSelector":                  object{"kubernetes.io/hostname": node},
		"securityContext":               object{"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true},
		"containers": []object{{
			"name":            "app",
			"image":           busyboxImage,
			"imagePullPolicy": "IfNotPresent",
			"command":         []string{"busybox", "sh", "-c", p.command},
			"env":             env,
			"volumeMounts":    mounts,
		}},
		"volumes": volumes,
	}
}
