#!/bin/bash
# build.sh FOLDER makes what a one-node Kubernetes with the Secrets Store CSI
# driver consists of, and links it into FOLDER: the programs into FOLDER/bin,
# the container images into FOLDER/images.
#
# Everything comes from the Go module proxy and from Debian's packages, at the
# versions that stand here and in the go.mod files beside this script. Cold it
# takes about ten minutes on two cores. Each part is kept in
# $XDG_CACHE_HOME/coffre/e2e under a key made of all that goes into it, so that
# a changed version cannot meet an old build.
set -euo pipefail
shopt -s inherit_errexit

into=$1
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/coffre/e2e
mkdir -p "$cache" "$into/bin" "$into/images"

# The caller's workspace and flags have no say in what is built.
export GOTOOLCHAIN=local GOWORK=off GOFLAGS= CGO_ENABLED=0
gobuild=(go build -mod=readonly -trimpath -buildvcs=false)
goinstall=(go install -trimpath -buildvcs=false -ldflags "-s -w")

# part NAME INPUT... prints the cache folder of a part, and first has it built
# by build_NAME, in a folder that gets its name only when it is complete.
part() {
	local name=$1 key folder unfinished
	shift
	key=$({ go env GOVERSION GOARCH; declare -f "build_$name"; cat "$@"; } | sha256sum | cut -c1-16)
	folder=$cache/$name-$key
	if [ ! -d "$folder" ]; then
		echo "e2e: building $name, once for these versions" >&2
		unfinished=$(mktemp -d "$cache/unfinished-$name.XXXXXX")
		trap "rm -rf '$unfinished'" EXIT # of the subshell that part runs in
		(cd "$unfinished" && "build_$name") >&2
		chmod 755 "$unfinished"
		# A run beside this one may have been first: its folder is as good.
		mv -T "$unfinished" "$folder" 2>/dev/null || [ -d "$folder" ]
	fi
	echo "$folder"
}

# sources FOLDER lists the files that decide what a Go module builds to.
sources() { find "$1" -name '*.go' -o -name 'go.mod' -o -name 'go.sum' | sort; }

build_kube() {
	local out=$PWD version=v1.37.2 stamp=k8s.io/component-base/version
	cd "$here/kube"
	# Without the stamp the API server calls itself v0.0.0, and charts that ask
	# for the version render for a Kubernetes of long ago.
	"${gobuild[@]}" -o "$out/kube" -ldflags "-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=37" .
	for name in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do
		ln -s kube "$out/$name"
	done
}

build_containerd() {
	local containerd=github.com/containerd/containerd/v2@v2.4.2 cni=github.com/containernetworking/plugins@v1.9.1
	export GOBIN=$PWD
	# The left out snapshotters need C headers; overlayfs is the one in use.
	"${goinstall[@]}" -tags "no_btrfs no_zfs no_devmapper" "${containerd/@//cmd/containerd@}"
	"${goinstall[@]}" "${containerd/@//cmd/containerd-shim-runc-v2@}" "${containerd/@//cmd/ctr@}"
	"${goinstall[@]}" "${cni/@//plugins/main/bridge@}" "${cni/@//plugins/main/loopback@}" "${cni/@//plugins/ipam/host-local@}"
}

build_driver() {
	local out=$PWD module=sigs.k8s.io/secrets-store-csi-driver version
	cd "$here/driver"
	version=$(go list -m -f '{{.Version}}' $module)
	"${gobuild[@]}" -o "$out/secrets-store-csi" -ldflags "-s -w -X $module/pkg/version.BuildVersion=$version" $module/cmd/secrets-store-csi-driver
	# The chart is the driver's own, as released with this version.
	cp -r --no-preserve=mode "$(go list -m -f '{{.Dir}}' $module)/charts/secrets-store-csi-driver" "$out/chart"
}

build_node() {
	local out=$PWD
	cd "$here/node"
	"${gobuild[@]}" -o "$out" -ldflags "-s -w" ./...
}

# The names of the images do not resolve anywhere: only what is imported can run.
build_images() {
	local out=$PWD busybox
	busybox=$(command -v busybox)
	cd "$root/build/image"
	image() { # NAME PROGRAM SRC=DST...
		go run -mod=readonly . -ref "e2e.local/$1:1" -o "$out/$1.tar" -platform "linux/$(go env GOARCH)" -entrypoint "$2" "${@:3}"
	}
	image pause /pause "$node/pause=/pause"
	image registrar /registrar "$node/registrar=/registrar"
	image livenessprobe /livenessprobe "$node/livenessprobe=/livenessprobe"
	image faultyprovider /faultyprovider "$node/faultyprovider=/faultyprovider"
	# The examples' application calls sleep by name.
	image busybox /bin/busybox "$busybox=/bin/busybox" @busybox=/bin/sleep
	# The driver calls mount and umount by name.
	image driver /secrets-store-csi "$driver/secrets-store-csi=/secrets-store-csi" "$busybox=/bin/mount" "$busybox=/bin/umount"
}

mapfile -t kube_sources < <(sources "$here/kube")
mapfile -t driver_sources < <(sources "$here/driver")
mapfile -t node_sources < <(sources "$here/node")
mapfile -t image_sources < <(sources "$root/build/image")

kube=$(part kube "${kube_sources[@]}")
containerd=$(part containerd /dev/null)
driver=$(part driver "${driver_sources[@]}")
node=$(part node "${node_sources[@]}")
images=$(part images "${driver_sources[@]}" "${node_sources[@]}" "${image_sources[@]}" "$(command -v busybox)")

ln -sf "$kube"/* "$containerd"/* "$into/bin/"
ln -sf "$images"/*.tar "$into/images/"
ln -sfn "$driver/chart" "$into/driver-chart"
