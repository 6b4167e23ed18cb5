#!/bin/sh
# manifests.sh prints one of the plain manifests, as the chart makes it with its
# default values: coffre.yaml, the install; or coffre-rbac.yaml, what Coffre may
# read in Kubernetes where its stores need that.
#
#   manifests.sh coffre.yaml|coffre-rbac.yaml
#
# Labels that would say Helm keeps these objects are left out: nobody does but
# the person who applies them.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
helm=$("$root/build/tools/build.sh" helm)

# Without --kube-version helm would render for the version it was built with.
render() { "$helm" template coffre "$root/charts/coffre" --namespace kube-system --kube-version 1.33.0 "$@"; }

# In a variable, because a pipe would hide that helm failed.
case $1 in
coffre.yaml)
	objects=$(render)
	cat <<'EOF'
# Coffre with its default settings. Made from charts/coffre by `make manifests`:
# edit the chart, not this file. What Coffre serves stands in the ConfigMap
# coffre-stores; an edit of it is reloaded and needs no restart.
EOF
	;;
coffre-rbac.yaml)
	objects=$(render --show-only templates/rbac.yaml --set rbac.serviceAccountAnnotations.enabled=true --set rbac.nodes.enabled=true)
	cat <<'EOF'
# What Coffre may read in Kubernetes, beside coffre.yaml: the annotations of
# ServiceAccounts (IAM roles of IRSA, client ids), and the region label of its
# node. Leave out a rule that you do not need. Made from charts/coffre by
# `make manifests`. Its pods need a token for it:
#
#   kubectl -n kube-system patch daemonset coffre --type merge -p '{"spec":{"template":{"spec":{"automountServiceAccountToken":true}}}}'
EOF
	;;
*)
	echo "manifests.sh: $1 is neither coffre.yaml nor coffre-rbac.yaml" >&2
	exit 2
	;;
esac
printf '%s\n' "$objects" |
	sed -e '/^# Source: /d' -e '/^ *app\.kubernetes\.io\/managed-by: Helm$/d' -e '/^ *helm\.sh\/chart: /d'
