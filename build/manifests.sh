#!/bin/sh
# manifests.sh prints the plain install, manifests/coffre.yaml, as the chart
# makes it with its default values.
#
# Labels that would say Helm keeps these objects are left out: nobody does but
# the person who applies them.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
helm=$("$root/build/tools/build.sh" helm)

# In a variable, because a pipe would hide that helm failed. Without
# --kube-version helm would render for the version it was built with.
objects=$("$helm" template coffre "$root/charts/coffre" --namespace kube-system --kube-version 1.33.0)

cat <<'EOF'
# Coffre with its default settings. Made from charts/coffre by `make manifests`:
# edit the chart, not this file. What Coffre serves stands in the ConfigMap
# coffre-stores; an edit of it is reloaded and needs no restart.
EOF
printf '%s\n' "$objects" |
	sed -e '/^# Source: /d' -e '/^ *app\.kubernetes\.io\/managed-by: Helm$/d' -e '/^ *helm\.sh\/chart: /d'
