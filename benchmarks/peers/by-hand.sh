#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a person's script does for a guest, without any check: by-hand.sh ROOT prepare|release <DOMAIN.
# xmllint reads the domain, once; the rest is the shell's own: no mdevctl, which would cost it another process.
set -eu
sys=$1/sys
what='//*[local-name()="matrix"]'
found=$(xmllint --xpath "concat(//hostdev/source/address/@uuid, ' ', $what/@adapters, ' ', $what/@domains)" -)
uuid=${found%% *}
found=${found#* }
adapters=${found%% *}
domains=${found#* }
matrix=$sys/devices/vfio_ap/matrix
IFS=,

signed() {
    text=''
    for id in $adapters; do text=$text,$1$id; done
    echo "${text#,}"
}

case $2 in
prepare)
    signed - >"$sys/bus/ap/apmask"
    echo "$uuid" >"$matrix/mdev_supported_types/vfio_ap-passthrough/create"
    for id in $adapters; do echo "$id" >"$matrix/$uuid/assign_adapter"; done
    for id in $domains; do
        echo "$id" >"$matrix/$uuid/assign_domain"
        echo "$id" >"$matrix/$uuid/assign_control_domain"
    done
    ;;
release)
    echo 1 >"$matrix/$uuid/remove"
    signed + >"$sys/bus/ap/apmask"
    ;;
esac
