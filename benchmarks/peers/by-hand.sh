#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a person's script does for a guest, without any check: by-hand.sh prepare|release <DOMAIN.
# xmllint reads the domain, once; the masks are the shell's own to write, the device is mdevctl's.
set -eu
what='//*[local-name()="matrix"]'
found=$(xmllint --xpath "concat(//hostdev/source/address/@uuid, ' ', $what/@adapters, ' ', $what/@domains)" -)
uuid=${found%% *}
found=${found#* }
adapters=${found%% *}
domains=${found#* }
IFS=,

signed() {
    text=''
    for id in $adapters; do text=$text,$1$id; done
    echo "${text#,}"
}

attributes() {
    text=''
    for id in $adapters; do text="$text,{\"assign_adapter\":\"$id\"}"; done
    for id in $domains; do text="$text,{\"assign_domain\":\"$id\"},{\"assign_control_domain\":\"$id\"}"; done
    echo "${text#,}"
}

case $1 in
prepare)
    signed - >/sys/bus/ap/apmask
    mdevctl start --uuid "$uuid" --parent matrix --jsonfile /dev/stdin <<EOF
{"mdev_type": "vfio_ap-passthrough", "start": "manual", "attrs": [$(attributes)]}
EOF
    ;;
release)
    mdevctl stop --uuid "$uuid"
    signed + >/sys/bus/ap/apmask
    ;;
esac
