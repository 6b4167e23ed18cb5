#!/bin/bash
# cluster.sh WORK COMMAND... starts a one-node Kubernetes from what build.sh has
# put into the folder WORK/platform, runs COMMAND with KUBECONFIG and PATH set,
# and takes everything away again: processes, mounts, network, cgroups and WORK
# itself, also when COMMAND fails or a signal ends it. Needs root.
#
# All of it runs in namespaces of its own, so the machine's /etc, /var, /run,
# network and other processes stay untouched. COFFRE_E2E_KEEP=1 keeps the
# cluster up after COMMAND, until Ctrl-C; COFFRE_E2E_LOGS names a folder that
# the logs are copied to when COMMAND fails.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(cd "$1" && pwd)
shift

[ "$(id -u)" = 0 ] || { echo "e2e: the cluster needs root" >&2; exit 1; }

# The cgroup tree is the one thing that has no namespace worth using here (the
# kubelet wants to see the real one), so the cluster gets a branch of its own.
cgroup=$(basename "$work")

cgroup_folders() { # one in cgroup v2; in v1 one in each hierarchy
	if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
		echo "/sys/fs/cgroup/$cgroup"
	else
		for hierarchy in /sys/fs/cgroup/*/; do
			# cpu and cpuacct are often two names of one hierarchy.
			[ -L "${hierarchy%/}" ] || echo "$hierarchy$cgroup"
		done
	fi
}

make_cgroups() {
	local folder parent
	for folder in $(cgroup_folders); do
		mkdir "$folder"
		parent=$(dirname "$folder")
		if [ -f "$folder/cgroup.controllers" ]; then
			# In v2 a controller must be handed down before it can be used.
			for controller in cpu cpuset memory pids hugetlb; do
				! grep -qw $controller "$parent/cgroup.controllers" || echo "+$controller" >"$parent/cgroup.subtree_control"
			done
		elif [ -f "$folder/cpuset.cpus" ]; then
			# A new v1 cpuset is empty, and no process may enter an empty one.
			cat "$parent/cpuset.cpus" >"$folder/cpuset.cpus"
			cat "$parent/cpuset.mems" >"$folder/cpuset.mems"
		fi
	done
}

remove_cgroups() {
	local folder
	for folder in $(cgroup_folders); do
		find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || true
	done
	for folder in $(cgroup_folders); do
		[ ! -d "$folder" ] || return 1
	done
}

clean_up() {
	local status=$?
	trap - EXIT INT TERM
	if [ -n "${namespaces:-}" ]; then
		# unshare's death is the death of the first process in the PID
		# namespace (--kill-child), and that is the death of all the others.
		kill -KILL "$namespaces" 2>/dev/null || true
		wait "$namespaces" 2>/dev/null || true
	fi
	# A cgroup can go once the last of its processes is quite gone.
	for _ in $(seq 100); do
		remove_cgroups && break
		sleep 0.1
	done
	remove_cgroups || { echo "e2e: cgroups are left: $(cgroup_folders | tr '\n' ' ')" >&2; status=1; }
	if [ "$status" != 0 ] && [ -n "${COFFRE_E2E_LOGS:-}" ]; then
		mkdir -p "$COFFRE_E2E_LOGS"
		cp "$work"/logs/* "$COFFRE_E2E_LOGS"
	fi
	rm -rf "$work"
	exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

make_cgroups
# In the background, because a shell handles signals only while it waits.
unshare --mount --net --pid --ipc --uts --fork --kill-child --mount-proc --propagation private \
	"$here/node.sh" "$work" "$cgroup" "$@" <&0 &
namespaces=$!

cat >"$work/shell" <<END
#!/bin/sh
exec nsenter --target \$(cat /proc/$namespaces/task/$namespaces/children) --mount --net --pid --ipc --uts --wd="$PWD" \\
	env KUBECONFIG=$work/admin.kubeconfig PATH="$work/platform/bin:\$PATH" "\${@:-bash}"
END
chmod +x "$work/shell"

wait "$namespaces"
