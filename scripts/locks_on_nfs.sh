#!/usr/bin/env bash
# Tests the lock of a run folder over NFS. A User-Mode Linux (a few minutes, no root needed) boots a kernel's NFS server
# and three clients, two of version 4.2 and one of 3, which compete for the lock of one run. Packages on Debian:
#   user-mode-linux nfs-kernel-server nfs-common rpcbind kmod
set -euo pipefail
script="$(realpath "${BASH_SOURCE[0]}")"
if [ $$ != 1 ]; then # outside: boot this file on the host's own files, read-only
    for program in linux.uml rpc.nfsd mount.nfs rpcbind depmod; do
        if ! PATH="$PATH:/usr/sbin:/sbin" command -v "$program" > /dev/null; then
            echo "$program is not installed; apt-get install user-mode-linux nfs-kernel-server nfs-common rpcbind kmod" >&2
            exit 1
        fi
    done
    exec linux.uml mem=512M root=/dev/root rootfstype=hostfs rootflags=/ ro init="$script" quiet loglevel=0 \
        con=null con0=fd:0,fd:1 < /dev/null 2> /dev/null
fi

trap 'echo "no NFS here, this failed: $BASH_COMMAND"' ERR # the kernel then ends too, with an exit code of its own
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
cd "$(dirname "$script")/.."
mount -t proc proc /proc
mount -t sysfs sys /sys
for folder in /tmp /run /var/lib/nfs /mnt; do mount -t tmpfs none "$folder"; done
mkdir -p /var/lib/nfs/{rpc_pipefs,sm,sm.bak,v4recovery} /mnt/{lib/modules,server,client4,other4,client3}
touch /var/lib/nfs/{etab,rmtab}
kernel="$(uname -r)"
cp -r "/usr/lib/uml/modules/$kernel" /mnt/lib/modules/
depmod -b /mnt "$kernel"
modprobe -d /mnt -a sunrpc lockd auth_rpcgss nfsd nfsv3 nfsv4
ip link set lo up
mount -t tmpfs none /mnt/server
mount -t nfsd none /proc/fs/nfsd
mount -t rpc_pipefs none /var/lib/nfs/rpc_pipefs
# A server that has just started grants no new lock for this time (90 s by default): old clients reclaim theirs first.
echo 10 > /proc/fs/nfsd/nfsv4leasetime
echo 10 > /proc/fs/nfsd/nfsv4gracetime
{ rpcbind && rpc.statd --no-notify && exportfs -o rw,no_root_squash,fsid=0,insecure 127.0.0.1:/mnt/server; } 2> /dev/null
{ rpc.nfsd 4 && rpc.mountd; } 2> /dev/null
mount -t nfs4 -o nosharecache 127.0.0.1:/ /mnt/client4
mount -t nfs4 -o nosharecache 127.0.0.1:/ /mnt/other4
mount -t nfs -o vers=3,nosharecache 127.0.0.1:/mnt/server /mnt/client3
sleep 14

hold() { # takes the lock of the run as the trainer does, and keeps it until it is killed
    .venv/bin/python -c '
import sys, time
from experiments.runs.folder import AlreadyRunningError, RunFolder
try:
    with RunFolder(sys.argv[1], "run").lock():
        print("holds it", flush=True)
        time.sleep(float(sys.argv[2]))
except AlreadyRunningError:
    print("is refused", flush=True)
' "/mnt/$1/runs" "$2"
}
for pair in "client4 other4" "other4 client4" "client4 client3" "client3 client4" "client4 server" "server client4"; do
    read -r first second <<< "$pair"
    coproc held { hold "$first" 60; }
    holder=$held_PID
    read -r first_answer <&"${held[0]}"
    second_answer="$(hold "$second" 0)"
    pkill -9 -P "$holder" && wait "$holder" 2> /dev/null || true # the process below the function's shell
    echo "$first $first_answer; $second $second_answer; once the first is killed, $second $(hold "$second" 0)"
done 2> /dev/null
echo o > /proc/sysrq-trigger
sleep 5
