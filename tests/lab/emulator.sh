#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# QEMU for the lab's guests: the real one, without the vfio-ap device, which needs KVM on
# IBM Z. Says so on standard error, which libvirt puts into the guest's log.

left=$#
while [ "$left" -gt 0 ]; do
    word=$1
    shift
    left=$((left - 1))
    if [ "$word" = -device ] && [ "$left" -gt 0 ]; then
        case $1 in
        vfio-ap,* | *'"driver":"vfio-ap"'*)
            echo "left out: -device $1" >&2
            shift
            left=$((left - 1))
            continue
            ;;
        esac
    fi
    set -- "$@" "$word"
done
exec /usr/bin/qemu-system-s390x "$@"
