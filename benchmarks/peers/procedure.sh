#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The documented procedure for one guest, as a script that knows what the guest is to have:
# procedure.sh start|stop UUID ADAPTER,... DOMAIN,...
#
# Each call of lszcrypt, lszdev and chzdev is one cat of files that the tool reads; what chzdev writes is
# written by the shell. mdevctl is called as the procedure does. No result is checked.
set -eu
ap=/sys/bus/ap uuid=$2 adapters=$3 domains=$4
IFS=,

# Only processes that write need the kernel that is played.
lszcrypt() {
    LD_PRELOAD='' cat /sys/devices/ap/card*/type /sys/devices/ap/card*/*.*/config \
        /sys/devices/ap/card*/*.*/chkstop /sys/devices/ap/card*/*.*/request_count \
        /sys/devices/ap/card*/*.*/*q_count /sys/devices/ap/card*/*.*/online \
        /sys/devices/ap/card*/*.*/status >/dev/null 2>&1 || :
}

lszdev() {
    LD_PRELOAD='' cat $ap/apmask $ap/aqmask >/dev/null
}

chzdev() {
    lszdev
    text=''
    for id in $adapters; do text=$text,$1$id; done
    echo "${text#,}" >$ap/apmask
}

attributes() {
    text=''
    for id in $adapters; do text="$text,{\"assign_adapter\":\"$id\"}"; done
    for id in $domains; do text="$text,{\"assign_domain\":\"$id\"},{\"assign_control_domain\":\"$id\"}"; done
    echo "${text#,}"
}

case $1 in
start)
    lszcrypt
    chzdev -
    lszdev
    lszcrypt
    mdevctl define --uuid "$uuid" --parent matrix --jsonfile /dev/stdin <<JSON
{"mdev_type": "vfio_ap-passthrough", "start": "manual", "attrs": [$(attributes)]}
JSON
    mdevctl start --uuid "$uuid"
    ;;
stop)
    mdevctl stop --uuid "$uuid"
    mdevctl undefine --uuid "$uuid"
    chzdev +
    lszcrypt
    ;;
esac
