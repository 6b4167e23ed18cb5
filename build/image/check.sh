#!/bin/sh
# check.sh VERSION builds Coffre's image twice and fails unless every digest is
# the same: in two folders of different names, the second time with an empty
# build cache, because a shared one would hand the second build the first
# one's objects and prove nothing. It compiles everything: minutes, for CI.
#
# COFFRE_SOURCE is the module to build when it is not this repository.
set -eu

version=$1
here=$(cd "$(dirname "$0")" && pwd)
source=${COFFRE_SOURCE:-$(cd "$here/../.." && pwd)}
package=${COFFRE_PACKAGE:-./cmd/coffre}

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

(cd "$here" && GOFLAGS= GOWORK=off go build -o "$work/image" .)
# Only what git knows of, or would: no output of earlier builds.
(cd "$source" && git ls-files -z -co --exclude-standard | tar -c --null -T -) >"$work/source.tar"

build() { # FOLDER: prints the digests
	mkdir -p "$work/$1"
	tar -x -C "$work/$1" -f "$work/source.tar"
	"$work/image" coffre -source "$work/$1" -package "$package" -version "$version" -o "$work/$1.out"
}
build here >"$work/first"
GOCACHE=$work/cache build some-where-else >"$work/second"

cat "$work/first"
diff "$work/first" "$work/second" || { echo "two builds of one source differ" >&2; exit 1; }
