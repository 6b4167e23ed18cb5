#!/bin/sh
# The main job with HashiCorp Vault: its real core, a provider on a socket, and
# the files that a pod would see.
#
#   vault.sh COFFRE TOOLS   the coffre program, and the folder of vaultcore
#
# Needs curl and openssl, which make the requests and the token that kubectl,
# vault and kubelet make elsewhere.
set -eu
coffre=$(realpath "$1")
tools=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
cd "$work"
provider= vault=
stop() { if [ -n "$1" ]; then kill "$1" 2>/dev/null || true; wait "$1" 2>/dev/null || true; fi; }
trap 'stop "$provider"; stop "$vault"; rm -rf "$work"' EXIT
bold= plain=
if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

say "1. Vault's own core, 1.14.0, and what its administrator writes into it"
mkfifo hold
"$tools/vaultcore" <hold >core.json &
vault=$!
exec 3>hold
i=0
until [ -s core.json ]; do
	i=$((i + 1))
	if [ $i -gt 100 ]; then echo "Vault does not start" >&2; exit 1; fi
	sleep 0.1
done
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" core.json; }
address=$(field address) root=$(field token)
ask() { curl --silent --show-error --fail --request "$1" --header "X-Vault-Token: $root" "$address/v1/$2" ${3:+--data "$3"}; }
write() { printf 'POST %s %s\n' "$1" "$2" | cut -c1-110; ask POST "$1" "$2" >/dev/null; }

openssl genrsa -out issuer.key 2048 2>/dev/null
public=$(openssl rsa -in issuer.key -pubout 2>/dev/null | awk '{printf "%s\\n", $0}')
write sys/mounts/secret '{"type":"kv","options":{"version":"2"}}'
write sys/mounts/lender '{"type":"lender"}'
write sys/mounts/pki '{"type":"pki"}'
write pki/root/generate/internal '{"common_name":"example.com","key_type":"ec","ttl":"24h"}'
write pki/roles/web '{"allow_any_name":true,"key_type":"ec","max_ttl":"2h"}'
write secret/data/prod/mysql '{"data":{"password":"first-password"}}'
rules='path \"secret/data/prod/*\" { capabilities = [\"read\"] } path \"lender/creds/*\" { capabilities = [\"read\"] } path \"pki/issue/*\" { capabilities = [\"update\"] } path \"sys/leases/revoke\" { capabilities = [\"update\"] }'
write sys/policies/acl/shop "{\"policy\":\"$rules\"}"
write sys/auth/jwt '{"type":"jwt"}'
write auth/jwt/config "{\"jwt_validation_pubkeys\":[\"$public\"]}"
write auth/jwt/role/shop '{"role_type":"jwt","user_claim":"sub","bound_audiences":["vault"],"bound_subject":"system:serviceaccount:shop:api","token_policies":["shop"]}'

# The token that kubelet gives the driver for the pod.
base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
now=$(date +%s)
claims="{\"iss\":\"https://kubernetes.default.svc\",\"sub\":\"system:serviceaccount:shop:api\",\"aud\":[\"vault\"],\"iat\":$now,\"nbf\":$now,\"exp\":$((now + 3600))}"
signed=$(printf '{"alg":"RS256","typ":"JWT"}' | base64url).$(printf '%s' "$claims" | base64url)
printf '%s.%s' "$signed" "$(printf '%s' "$signed" | openssl dgst -sha256 -sign issuer.key -binary | base64url)" >token

say "2. The platform team connects the store"
sed "s|ADDRESS|$address|" "$here/vault/stores.yaml" >stores.yaml
cat stores.yaml

say "3. The provider serves the driver's socket"
"$coffre" serve --providers-dir "$work/sockets" --dialects coffre,vault --stores stores.yaml 2>provider.log &
provider=$!
i=0
until [ -S sockets/coffre.sock ]; do
	i=$((i + 1))
	if [ $i -gt 100 ] || ! kill -0 "$provider" 2>/dev/null; then cat provider.log >&2; exit 1; fi
	sleep 0.1
done
ls sockets

say "4. The application team's SecretProviderClass is mounted through it: a file, a credential that Vault issues, a certificate"
"$coffre" lint "$here/vault/secretproviderclass.yaml" stores.yaml
render() { "$coffre" render --socket sockets/coffre.sock --out volume --service-account api --token vault=token -f "$here/vault/secretproviderclass.yaml"; }
render | sed "s|$work/||"
echo "secretObjects: the driver makes the Secret shop, for DATABASE_PASSWORD, of database-password; lint has checked that there is such a file"

say "5. The password is changed in Vault; the new version arrives, and the credential stays the one that was issued"
before=$(cat volume/database-password) user=$(cat volume/database/username)
write secret/data/prod/mysql '{"data":{"password":"second-password"}}'
i=0
while [ "$(cat volume/database-password)" = "$before" ]; do
	i=$((i + 1))
	if [ $i -gt 30 ]; then echo "the new version did not arrive" >&2; cat provider.log >&2; exit 1; fi
	sleep 0.5
	render >tree
done
echo "database-password: $before → $(cat volume/database-password) (values of the demo, printed on purpose)"
echo "database/username: $user → $(cat volume/database/username)"
[ "$user" = "$(cat volume/database/username)" ]
leases() { ask LIST sys/leases/lookup/lender/creds/shop 2>/dev/null | grep -o '"keys":\[[^]]*\]' | grep -o '"[A-Za-z0-9]*"' | grep -vc keys || true; }
echo "leases in Vault: $(leases)"
[ "$(leases)" = 1 ]

say "6. The audit trail: who got which version of what, never the value"
grep 'audit: delivered' provider.log | sed -n '1p;$p' | sed 's/.*"audit/"audit/' | cut -c1-220
if grep -q 'first-password\|second-password\|hvs\.' provider.log; then echo "a secret is in the log" >&2; exit 1; fi

kill "$provider" && wait "$provider" || true
provider=
echo "leases in Vault after a clean stop: $(leases)"
[ "$(leases)" = 0 ] && say "Done: the provider has stopped and has ended what was issued to it"
