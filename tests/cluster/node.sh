#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# One node of a cluster, in namespaces of its own (mounts, network, names, processes): node.sh DIR CHECKOUT
set -eu
dir=$1
checkout=$2
node=n1

mount -t proc proc /proc
hostname "$node"
ip link set lo up
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/crm /run/lock /run/resource-agents
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
cp -a /usr/lib/ocf/resource.d "$dir/"
ln -s "$checkout/pacemaker/ocf" "$dir/resource.d/apvfio"
mount --bind "$dir/resource.d" /usr/lib/ocf/resource.d
printf '127.0.0.1 localhost %s\n' "$node" >"$dir/hosts"
mount --bind "$dir/hosts" /etc/hosts

cat >/etc/corosync/corosync.conf <<END
totem {
  version: 2
  cluster_name: apvfio
  transport: knet
  crypto_cipher: none
  crypto_hash: none
}
system {
  allow_knet_handle_fallback: yes
  sched_rr: no
  move_to_root_cgroup: no
}
logging {
  to_syslog: no
  to_logfile: yes
  logfile: /var/log/corosync/corosync.log
}
quorum {
  provider: corosync_votequorum
}
nodelist {
  node {
    name: $node
    nodeid: 1
    ring0_addr: 127.0.0.1
  }
}
END
corosync -f >"$dir/corosync.out" 2>&1 &
sleep 1
PCMK_logfile=/var/log/pacemaker/pacemaker.log PCMK_logfacility=none pacemakerd -f >"$dir/pacemakerd.out" 2>&1 &
touch "$dir/up"
exec sleep infinity
