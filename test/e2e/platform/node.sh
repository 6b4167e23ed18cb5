#!/bin/bash
# node.sh WORK CGROUP COMMAND... is cluster.sh's inner half: it runs
# inside the namespaces, starts the control plane and the node, and then
# COMMAND. It stops nothing: the namespaces end with it.
set -euo pipefail

work=$1 cgroup=$2
shift 2
platform=$work/platform
export PATH="$platform/bin:$PATH"

node=e2e-node
node_ip=10.99.0.1
service_ip=10.96.0.1 # kubernetes.default, the first address of the service range
logs=$work/logs
pki=$work/pki
mkdir -p "$logs" "$pki" "$work"/{etcd,kubelet,containerd,cni,sysctl} "$work"/overlay/{etc,var}/{upper,work}

# start NAME PROGRAM... runs a program in the background, with a log and
# without the terminal.
start() {
	local name=$1
	shift
	"$@" >"$logs/$name.log" 2>&1 </dev/null &
}

# await SECONDS WHAT COMMAND... repeats a command until it succeeds.
await() {
	local deadline=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		if [ $SECONDS -ge $deadline ]; then
			echo "e2e: no $what in time" >&2
			tail -n 15 "$logs"/*.log >&2
			exit 1
		fi
		sleep 0.1
	done
}

#
# 1. A machine of its own: host name, files, kernel settings, network.
#
hostname $node
for folder in etc var; do
	mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$work/overlay/$folder/upper,workdir=$work/overlay/$folder/work" /$folder
done
mount -t tmpfs -o mode=755 tmpfs /run
# Debian has /var/run as a link to /run. The kubelet's folder must be shared,
# or what the driver mounts in its container would not be seen outside it.
mkdir -p /var/lib/kubelet
mount --bind "$work/kubelet" /var/lib/kubelet
mount --make-rshared /var/lib/kubelet

# The kubelet insists on these; the machine's own stay as they are.
while read -r setting value; do
	echo "$value" >"$work/sysctl/${setting//\//_}"
	mount --bind "$work/sysctl/${setting//\//_}" "/proc/sys/$setting"
done <<END
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END

ip link set lo up
ip link add node0 type bridge # stands for a network card; not every kernel has dummy devices
ip address add $node_ip/24 dev node0
ip link set node0 up
ip route add default via 10.99.0.254 dev node0 # leads nowhere, but programs look for one
# The API server answers on its service address itself, so no kube-proxy is
# needed. Other services have no address that works: use pod IPs.
ip address add $service_ip/32 dev lo
# Where the agent of EKS Pod Identity listens on every node that has it.
ip address add 169.254.170.23/32 dev lo

#
# 2. The container runtime, and the images.
#
cat >"$work/cni/10-e2e.conflist" <<END
{"cniVersion": "1.0.0", "name": "e2e", "plugins": [{
  "type": "bridge", "bridge": "cni0", "isGateway": true,
  "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
}]}
END
cat >"$work/containerd.toml" <<END
version = 3
root = "$work/containerd"
state = "/run/containerd"
# What needs things that a fresh machine lacks: block devices, erofs, a tracing endpoint.
disabled_plugins = ["io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs", "io.containerd.differ.v1.erofs", "io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "e2e.local/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true # works without CAP_SYS_RESOURCE too
  disable_apparmor = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["$platform/bin"]
    conf_dir = "$work/cni"
    use_internal_loopback = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
END
start containerd containerd -c "$work/containerd.toml"

#
# 3. The control plane. Its clients are told apart by fixed tokens; the API
#    server makes its own certificate, which is its own authority too.
#
cat >"$work/tokens.csv" <<END
admin-token,admin,1,system:masters
controller-manager-token,system:kube-controller-manager,2
scheduler-token,system:kube-scheduler,3
kubelet-token,system:node:$node,4,system:nodes
END
for client in admin controller-manager scheduler kubelet; do
	cat >"$work/$client.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: "https://$node_ip:443", certificate-authority: $pki/apiserver.crt}}]
users: [{name: $client, user: {token: $client-token}}]
contexts: [{name: e2e, context: {cluster: e2e, user: $client}}]
current-context: e2e
END
done
export KUBECONFIG=$work/admin.kubeconfig

openssl genrsa -out "$pki/sa.key" 2048 2>/dev/null
openssl rsa -in "$pki/sa.key" -pubout -out "$pki/sa.pub" 2>/dev/null

start etcd etcd --name e2e --data-dir "$work/etcd" --unsafe-no-fsync --log-level warn
start kube-apiserver kube-apiserver \
	--etcd-servers=http://127.0.0.1:2379 \
	--bind-address=0.0.0.0 --secure-port=443 --advertise-address=$node_ip --cert-dir="$pki" \
	--endpoint-reconciler-type=none \
	--token-auth-file="$work/tokens.csv" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
	--service-account-issuer=https://kubernetes.default.svc --api-audiences=https://kubernetes.default.svc \
	--service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
	--service-cluster-ip-range=10.96.0.0/24 --allow-privileged=true \
	--kubelet-preferred-address-types=InternalIP

await 60 "container runtime" ctr --address /run/containerd/containerd.sock version
for image in "$platform"/images/*.tar; do
	ctr --address /run/containerd/containerd.sock --namespace k8s.io images import --local "$image" >>"$logs/images.log" 2>&1 ||
		{ echo "e2e: cannot import $image" >&2; tail -n 5 "$logs/images.log" >&2; exit 1; }
done

await 120 "API server" kubectl get --raw /readyz
# Without credentials of its own for each, the controller manager lacks the
# right to take the not-ready taint off the node.
start kube-controller-manager kube-controller-manager \
	--kubeconfig="$work/controller-manager.kubeconfig" --authentication-kubeconfig="$work/controller-manager.kubeconfig" --authorization-kubeconfig="$work/controller-manager.kubeconfig" \
	--service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/apiserver.crt" \
	--use-service-account-credentials=true --leader-elect=false --bind-address=127.0.0.1 --cert-dir="$work/controller-manager"
start kube-scheduler kube-scheduler \
	--kubeconfig="$work/scheduler.kubeconfig" --authentication-kubeconfig="$work/scheduler.kubeconfig" --authorization-kubeconfig="$work/scheduler.kubeconfig" \
	--leader-elect=false --bind-address=127.0.0.1 --cert-dir="$work/scheduler"

#
# 4. The node.
#
# syncFrequency is how often the kubelet offers a mounted volume to the driver
# again, and so how long a test of rotation takes: a minute by default.
cat >"$work/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
syncFrequency: 5s
nodeStatusUpdateFrequency: 2s
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
address: $node_ip
healthzPort: 0
resolvConf: ""
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
cgroupsPerQOS: true
enforceNodeAllocatable: [pods]
failSwapOn: false
protectKernelDefaults: true
oomScoreAdj: 0
maxOpenFiles: 20000
# Neither a full disk nor an old image is this test's business.
evictionHard: {memory.available: "1Mi", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
imageMaximumGCAge: 0s
END
start kubelet kubelet --config="$work/kubelet.yaml" --kubeconfig="$work/kubelet.kubeconfig" \
	--root-dir=/var/lib/kubelet --hostname-override=$node --node-ip=$node_ip \
	--node-labels=topology.kubernetes.io/region=eu-west-3
await 60 "node" kubectl get node $node
await 60 "ready node" kubectl wait --for=condition=Ready node/$node --timeout=10s
echo "e2e: the node is ready after $SECONDS s" >&2

#
# 5. What the cluster is for.
#
status=0
"$@" || status=$?
if [ -n "${COFFRE_E2E_KEEP:-}" ]; then
	echo "e2e: the cluster stays up until Ctrl-C; for a shell with kubectl and helm in it: $work/shell" >&2
	sleep infinity
fi
exit $status
