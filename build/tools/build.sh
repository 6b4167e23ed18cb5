#!/bin/sh
# build.sh TOOL builds one pinned command-line tool from source and prints the
# path of the binary, and nothing else, on standard output.
#
# A tool is a folder beside this script: a Go module of its own, so that what
# the tool needs never reaches Coffre's go.mod, with one `tool` line in it. The
# version is the one in that go.mod; go.sum makes it the same on every machine.
#
# The binary is kept in $XDG_CACHE_HOME/coffre/tools under a key made from all
# that went into it, so a second call costs milliseconds and a changed pin
# cannot pick up an old binary.
set -eu

[ $# -eq 1 ] || { echo "usage: $0 TOOL" >&2; exit 2; }
tool=$1
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/$tool"

# A workspace or flags of the caller's have no say in what is built.
export GOWORK=off GOFLAGS= CGO_ENABLED=0

key=$({ go env GOVERSION GOOS GOARCH; cat go.mod go.sum "$here/build.sh"; } | sha256sum | cut -c1-16)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/coffre/tools/$tool-$key
binary=$folder/$tool

if [ ! -x "$binary" ]; then
	mkdir -p "$folder"
	# Two builds may run at once: each writes a name of its own, and the rename
	# makes a whole binary appear or none.
	unfinished=$binary.$$
	trap 'rm -f "$unfinished"' EXIT
	echo "building $tool (once for this pin; a minute or two)" >&2
	go build -mod=readonly -trimpath -buildvcs=false -ldflags "-s -w" -o "$unfinished" tool >&2
	mv "$unfinished" "$binary"
fi
echo "$binary"
