#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# One node of a cluster, in namespaces of its own (mounts, network, names, processes): node.sh DIR CHECKOUT NODE [lab]
#
# DIR has corosync.conf and hosts, and keeps what a node has on its disk. In a lab, /run and /proc are there already,
# and there may be more for the node in DIR: bin, for /usr/bin, and ssh, in place of /etc/ssh.
set -eu
dir=$1
checkout=$2
node=$3
lab=${4:-}

hostname "$node"
ip link set lo up
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
if [ -z "$lab" ]; then
    mount -t proc proc /proc
    mount -t tmpfs -o mode=0755 tmpfs /run
fi
mkdir -p /run/crm /run/lock /run/resource-agents /run/sshd
chown hacluster:haclient /run/crm
chmod 0750 /run/crm
for path in /etc/corosync /var/lib/corosync /var/lib/pacemaker /var/log/corosync /var/log/pacemaker; do
    mkdir -p "$dir/fs$path" "$path"
    chown --reference="$path" "$dir/fs$path"
    mount --bind "$dir/fs$path" "$path"
done
for path in blackbox cib cores pengine; do
    install -d -o hacluster -g haclient -m 0750 "/var/lib/pacemaker/$path"
done
if [ ! -d "$dir/resource.d" ]; then
    cp -a /usr/lib/ocf/resource.d "$dir/"
    ln -s "$checkout/pacemaker/ocf" "$dir/resource.d/apvfio"
fi
mount --bind "$dir/resource.d" /usr/lib/ocf/resource.d
mount --bind "$dir/hosts" /etc/hosts
if [ -d "$dir/bin" ]; then
    mount -t overlay overlay -o "lowerdir=$dir/bin:/usr/bin" /usr/bin
fi
if [ -d "$dir/ssh" ]; then
    mount --bind "$dir/ssh" /etc/ssh
    /usr/sbin/sshd -D -e >"$dir/sshd.out" 2>&1 &
fi
cp "$dir/corosync.conf" /etc/corosync/
corosync -f >"$dir/corosync.out" 2>&1 &
sleep 1
PCMK_logfile=/var/log/pacemaker/pacemaker.log PCMK_logfacility=none pacemakerd -f >"$dir/pacemakerd.out" 2>&1 &
touch "$dir/up"
[ -n "$lab" ] || exec sleep infinity
