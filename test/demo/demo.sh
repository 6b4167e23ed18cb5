#!/bin/sh
# The main job without a cloud and without a cluster: a provider on a socket,
# an encrypted document for a store, and the files that a pod would see.
#
#   demo.sh COFFRE TOOLS   the coffre program, and the folder of sops and age-keygen
set -eu
coffre=$(realpath "$1")
tools=$2
here=$(cd "$(dirname "$0")" && pwd)
examples=$(cd "$here/../../manifests/examples" && pwd)
work=$(mktemp -d)
cd "$work"
provider=
trap 'if [ -n "$provider" ]; then kill "$provider" 2>/dev/null || true; wait "$provider" 2>/dev/null || true; fi; rm -rf "$work"' EXIT
# Bold on a terminal only.
bold= plain=
if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

say "1. A document is encrypted with a fresh age key; Git would hold the ciphertext only"
"$tools/age-keygen" -o age.key 2>/dev/null
recipient=$(sed -n 's/^# public key: //p' age.key)
cp "$here/plain.yaml" plain.yaml
export SOPS_CONFIG=/dev/null SOPS_AGE_KEY_FILE="$work/age.key"
"$tools/sops" encrypt --age "$recipient" plain.yaml >document.yaml
sed -n '1,4p' document.yaml | cut -c1-90

say "2. The platform team connects the store"
sed "s|FOLDER|$work|" "$here/stores.yaml" >stores.yaml
cat stores.yaml

say "3. The provider serves the driver's socket"
"$coffre" serve --providers-dir "$work/sockets" --dialects coffre --stores stores.yaml --stores-poll-interval 100ms 2>provider.log &
provider=$!
i=0
until [ -S sockets/coffre.sock ]; do
	i=$((i + 1))
	if [ $i -gt 100 ] || ! kill -0 "$provider" 2>/dev/null; then cat provider.log >&2; exit 1; fi
	sleep 0.1
done
ls -l sockets/coffre.sock | awk '{print $1, $NF}'

say "4. The application team's SecretProviderClasses are mounted through it"
# The example's own class; only the store that it names is the demo's.
sed 's|store: aws-paris|store: documents|' "$examples/mysql/secretproviderclass.yaml" >mysql.yaml
render() { "$coffre" render --socket sockets/coffre.sock --out volumes -f mysql.yaml -f "$here/secretproviderclass.yaml" "$@"; }
"$coffre" lint mysql.yaml "$here/secretproviderclass.yaml" stores.yaml
render | sed "s|$work/||"

say "5. The password is changed in the document; the new version arrives"
before=$(cat volumes/mysql/database-password)
"$tools/sops" set document.yaml '["prod/mysql"]["password"]' '"second-password"'
i=0
while [ "$(cat volumes/mysql/database-password)" = "$before" ]; do
	i=$((i + 1))
	if [ $i -gt 30 ]; then echo "the new version did not arrive" >&2; cat provider.log >&2; exit 1; fi
	sleep 0.5
	render >tree
done
sed "s|$work/||" tree
echo "database-password: $before → $(cat volumes/mysql/database-password) (values of the demo, printed on purpose)"

say "6. The audit trail: who got which version of what, never the value"
grep 'audit: delivered' provider.log | sed -n '1p;$p' | sed 's/.*"audit/"audit/'
if grep -q 'first-password\|second-password\|AGE-SECRET-KEY' provider.log; then echo "a secret is in the log" >&2; exit 1; fi

kill "$provider" && wait "$provider" || true
provider=
[ ! -e sockets/coffre.sock ] && say "Done: the provider has stopped and its socket is gone"
