#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes recording-*.txt: run as root on a machine with emulated AP hardware (module ap_emul:
# adapters 00=accel,01=cca,0a=ep11, domains 1,2,4,1b) and vfio_ap loaded, freshly booted.
# What is written to ap_emul's parameters is done by the simulated kernel's levers in the replay.
#
# Commas at the ends of words are what is tested; commands are shown, then evaluated, as one text.
# shellcheck disable=SC2258,SC2294,SC2231
AP=/sys/bus/ap
MX=/sys/devices/vfio_ap/matrix
TYPE=$MX/mdev_supported_types/vfio_ap-passthrough
A=11111111-1111-4111-8111-aaaaaaaaaaaa
B=22222222-2222-4222-8222-bbbbbbbbbbbb

title() { printf '\n==== %s ====\n\n' "$*"; }
t() { echo "# $*"; eval "$@" 2>&1; echo; }
w() {
    printf '# echo %q > %s\n' "$2" "$1"
    python3 - "$1" "$2" <<'PY'
import errno, os, sys
try:
    fd = os.open(sys.argv[1], os.O_WRONLY)
    os.write(fd, sys.argv[2].encode("utf-8", "surrogateescape"))
    print("OK")
except OSError as e:
    print(f"-{errno.errorcode[e.errno]}")
PY
    echo
}
masks() { echo "apmask $(cat $AP/apmask)"; echo "aqmask $(cat $AP/aqmask)"; }
drivers() {
    local d
    for d in $AP/devices/[0-9a-f][0-9a-f].*; do
        printf '%s:%s ' "${d##*/}" "$(basename "$(readlink "$d/driver" 2>/dev/null)")"
    done
    echo
}
mdev() { local f; for f in matrix guest_matrix control_domains ap_config; do echo "$f:"; cat "$1/$f"; done; }
queue() {
    local f
    for f in request_count reset interrupt config online status; do
        [ ! -e "$AP/devices/$1/$f" ] || echo "$f: $(cat "$AP/devices/$1/$f")"
    done
}
hardware() { echo "$2" > "/sys/module/ap_emul/parameters/$1"; udevadm settle; }

title access
w $AP/bindings 1
w $AP/drivers 1
w $AP/nosuch 1
w $AP/apmask/x 1
t ls $AP/devices
t ls $AP/devices/card00
t ls $AP/devices/card0a
t ls $AP/devices/0a.0001

title bus attributes
for v in 5 4 120 121 0x10 ' 30' 30junk x -5 '' 4294967301 030; do w $AP/config_time "$v"; done
t cat $AP/config_time
for v in 1 y N off on oN 2 maybe o '' True falsch; do w $AP/poll_thread "$v"; done
for v in 0 0x10 010 120000000000 120000000001 18446744073709551616 99999999999999999999x x ' 5' +5 5$'\n' 5$'\n\n' 08; do
    w $AP/poll_timeout "$v"
    t cat $AP/poll_timeout
done
t cat $AP/ap_domain
for v in 1 0x2 010 ' 4' 4x -1 256 85 x 08; do
    w $AP/ap_domain "$v"
    t cat $AP/ap_domain
done
w $AP/aqmask -4
w $AP/ap_domain 4
w $AP/aqmask +4
w $AP/drivers_autoprobe x
t cat $AP/drivers_autoprobe
w $AP/drivers_autoprobe 0x
t cat $AP/drivers_autoprobe
w $AP/drivers_autoprobe 1
for v in add change bind nonsense adds 'add 11111111-1111-4111-8111-aaaaaaaaaaaa' ''; do w $AP/uevent "$v"; done

title mask grammar
for v in 0x41 41 x41 0xAbC 0X41 ' 0x41' '0x41 ' $'0x41\r\n' $'0x41\n\n' $'0x41\n' 0 0x x $'\n' \
    "$(printf 'f%.0s' {1..64})" "0x$(printf 'f%.0s' {1..65})" "0x$(printf 'f%.0s' {1..64})"; do
    w $AP/apmask "$v"
    t masks
done
for v in -5 -5, -0x10 -0X10 -010 -5-9 -0-255,+1 +0-255 -5+6 -5,+6 $'-5\n-6\n' -5,,-6 \
    -5,6 '-5, -6' ,-5 --5 '- 5' - -5- -a -08 -256 -0-256 -6-5 -5-+6 -0x -3x +; do
    w $AP/aqmask "$v"
    t masks
done
w $AP/aqmask +0-255
t drivers

title a queue on its way
t queue 00.0001
w $AP/apmask -0
t drivers
t queue 00.0001
w $AP/devices/00.0001/reset 1
t queue 00.0001
w $AP/drivers/vfio_ap/unbind 00.0001
t queue 00.0001
t ls $AP/devices/00.0001
t cat $AP/bindings
w $AP/drivers/cex4queue/bind 00.0001
w $AP/drivers/vfio_ap/bind $'00.0001\n\n'
w $AP/drivers/vfio_ap/bind $'00.0001\n'
w $AP/drivers/vfio_ap/bind 00.0001
t queue 00.0001
t ls $AP/devices/00.0001
w $AP/apmask +0
t queue 00.0001
w $AP/drivers/vfio_ap/bind 00.0001
w $AP/drivers/cex4queue/unbind 00.0001
w $AP/drivers/cex4queue/unbind 00.0001
w $AP/drivers/vfio_ap/bind 00.0001
w $AP/drivers/cex4card/bind 00.0001
w $AP/drivers_probe 00.0001
w $AP/drivers_probe 00.0001
w $AP/drivers_probe nosuch
w $AP/drivers_probe 0.1
w $AP/drivers_probe card00
w $AP/drivers/cex4queue/unbind card00
t drivers

title without autoprobe
w $AP/drivers_autoprobe 0
t hardware adapters 00=accel,01=cca,02=cca,0a=ep11
t drivers
t ls $AP/devices/card02
t queue 02.0001
t cat $AP/bindings
w $AP/drivers_autoprobe 1
w $AP/scans 1
t drivers
w $AP/drivers_probe card02
for d in 0001 0002 0004 001b; do w $AP/drivers_probe 02.$d; done
t queue 02.0001
t cat $AP/bindings
t hardware adapters 00=accel,01=cca,0a=ep11
t drivers

title online and config
w $AP/devices/01.0001/online 0
t queue 01.0001
w $AP/apmask -1
w $AP/apmask +1
t queue 01.0001
w $AP/devices/card01/online 0
t cat $AP/devices/card01/online
t queue 01.0002
w $AP/devices/01.0002/online 1
w $AP/devices/card01/online 1
t queue 01.0002
for v in 2 -1 x '' 0x1 ' 1 x'; do w $AP/devices/card01/online "$v"; done
t cat $AP/devices/card01/online
w $AP/devices/card01/online 1
w $AP/devices/card01/config 0
t cat $AP/devices/card01/config
t cat $AP/devices/card01/online
t queue 01.0002
w $AP/devices/01.0002/online 1
w $AP/devices/card01/online 1
w $AP/scans 1
t queue 01.0002
w $AP/aqmask -2
t queue 01.0002
w $AP/aqmask +2
t queue 01.0002
w $AP/devices/card01/config 1
t queue 01.0002
w $AP/scans 1
t queue 01.0002
t queue 01.0004
w $AP/devices/card01/config 2
w $AP/devices/card01/config ' 1 x'
w $AP/devices/card01/request_count junk

title making devices
w $TYPE/create ${A%?}
w $TYPE/create 1111111-11111-4111-8111-aaaaaaaaaaaa
w $TYPE/create 1111111g-1111-4111-8111-aaaaaaaaaaaa
w $TYPE/create 11111111-1111-4111-8111-AAAAAAAAAAAA
w $TYPE/create ${A}X
w $TYPE/create ${B}X
w $TYPE/create 33333333-3333-4333-8333-ccccccccccccXY
t ls /sys/bus/mdev/devices
t cat $TYPE/available_instances
t cat $TYPE/name
t readlink $MX/$A/iommu_group
t readlink $MX/$B/iommu_group
t readlink $MX/$B/mdev_type
for v in 0 x -1 99999999999999999999 '1 ' ''; do w $MX/$A/remove "$v"; done
w $MX/$A/remove 0x2
w $MX/$A/remove 1
w $TYPE/create $A
t readlink $MX/$A/iommu_group

title assigning
w $AP/apmask -0,-10
for v in 18446744073709551616 18446744073709551615 99999999999999999999x +0 0b1 00.0005 08 ' 5' 5' ' $'\n' 0xa; do
    w $MX/$A/assign_adapter "$v"
done
t mdev $MX/$A
w $MX/$B/assign_domain 1
w $MX/$B/assign_domain 2
w $MX/$B/assign_control_domain 200
t mdev $MX/$B
w $MX/$A/assign_domain 1
t mdev $MX/$A
w $MX/$B/assign_adapter 1
w $MX/$B/assign_adapter 0
w $MX/$B/unassign_domain 1
w $MX/$B/assign_adapter 0
t mdev $MX/$B
w $MX/$A/assign_domain 2
w $MX/$A/assign_adapter 1
t cat $AP/devices/00.0001/status
t cat $AP/devices/00.0002/status
t cat $AP/devices/00.0004/status
w $AP/apmask +0
w $AP/apmask +10
w $AP/aqmask +1
w $AP/aqmask -1,-2
w $AP/aqmask +1
w $AP/aqmask +2
t masks
t drivers

title what a guest would see
w $MX/$A/assign_domain 9
t mdev $MX/$A
w $MX/$A/assign_adapter 20
t mdev $MX/$A
w $MX/$A/unassign_domain 9
w $MX/$A/unassign_adapter 20
t mdev $MX/$A
w $AP/drivers/vfio_ap/unbind 0a.0001
t mdev $MX/$A
w $MX/$A/assign_adapter 0xa
t mdev $MX/$A
w $MX/$A/assign_control_domain 4
t mdev $MX/$A
w $MX/$A/assign_adapter 20
t mdev $MX/$A
w $AP/drivers_probe 0a.0001
t mdev $MX/$A
w $MX/$A/unassign_adapter 20
w $AP/drivers/vfio_ap/unbind 0a.0001
w $AP/drivers/vfio_ap/unbind 0a.0002
w $AP/drivers_probe 0a.0002
t mdev $MX/$A
w $MX/$A/unassign_domain 1
t mdev $MX/$A
w $AP/drivers_probe 0a.0001
w $MX/$A/assign_domain 1
t mdev $MX/$A
t hardware domains 2,4,1b
t mdev $MX/$A
t hardware domains 1,2,4,1b
t mdev $MX/$A
t hardware adapters 00=accel,01=cca
t mdev $MX/$A
t drivers
t hardware adapters 00=accel,01=cca,0a=cca
t mdev $MX/$A
t hardware adapters 00=accel,01=cca,0a=ep11
t mdev $MX/$A
t hardware deconfigured 0a
t mdev $MX/$A
t queue 0a.0001
t hardware deconfigured ''
t mdev $MX/$A

if [ -e $MX/$A/ap_config ]; then
    title ap_config
    for v in 8,4,2 8,4 $'8,4\n' 8,4, ,, $'\n' '8, 4,2' 8,4,2,junk +0,+1,+2 80,40,40 0x8,0x4,0x2 802,2,g \
        802,08,8 "$(printf 'f%.0s' {1..65}),1,1"; do
        w $MX/$A/ap_config "$v"
        t cat $MX/$A/ap_config
    done
    t cat $MX/$A/guest_matrix
    w $MX/$A/ap_config c,4,0
    w $MX/$A/ap_config 8,2,0
    t cat $MX/$A/ap_config
    w $MX/$A/ap_config 802,08,8
    w $AP/drivers/vfio_ap/unbind 0a.0004
    w $AP/drivers_probe 0a.0004
    t mdev $MX/$A
    w $AP/drivers/vfio_ap/unbind 0a.0004
    w $MX/$A/ap_config 802,08,8
    t mdev $MX/$A
    w $AP/drivers_probe 0a.0004
    w $MX/$A/ap_config ,,
fi

if [ -e $AP/devices/00.0001/driver_override ]; then
    title driver_override
    w $AP/devices/01.0001/driver_override vfio_ap
    w $AP/devices/01.0001/driver_override $'\n'
    w $MX/$B/remove 1
    w $AP/apmask +0,+10
    w $AP/aqmask +0-255
    t masks
    for v in 'vfio_ap ' $'vfio_ap\nx' $'\nx' none; do
        w $AP/devices/01.0001/driver_override "$v"
        t cat $AP/devices/01.0001/driver_override
    done
    w $AP/apmask nonsense
    w $AP/drivers/cex4queue/unbind 01.0001
    w $AP/drivers/cex4queue/bind 01.0001
    w $AP/drivers/vfio_ap/bind 01.0001
    w $AP/drivers_probe 01.0001
    t drivers
    w $AP/devices/01.0001/driver_override vfio_ap
    w $AP/drivers/vfio_ap/bind 01.0001
    w $AP/devices/01.0002/driver_override vfio_ap
    w $MX/$A/assign_adapter 1
    w $MX/$A/assign_domain 1
    w $MX/$A/assign_domain 2
    w $AP/devices/01.0002/driver/unbind 01.0002
    w $MX/$A/assign_domain 2
    w $AP/drivers_probe 01.0002
    w $MX/$A/assign_domain 2
    t mdev $MX/$A
    w $MX/$A/assign_domain 9
    w $AP/devices/01.0001/driver_override $'\n'
    w $MX/$A/assign_domain 4
    w $AP/drivers/vfio_ap/unbind 01.0001
    t mdev $MX/$A
    w $AP/drivers_probe 01.0001
    t drivers
    w $AP/apmask -3
    t hardware adapters 00=accel,0a=ep11
    t hardware adapters 00=accel,01=cca,0a=ep11
    t drivers
    t mdev $MX/$A
    w $AP/apmask -3
fi

title drivers come and go
w /sys/bus/mdev/drivers/vfio_ap_mdev/unbind nosuch
w /sys/bus/mdev/drivers/vfio_ap_mdev/unbind $A
t ls $MX/$A
t ls /sys/bus/mdev/drivers/vfio_ap_mdev
t ls /sys/kernel/iommu_groups
w /sys/bus/mdev/drivers/vfio_ap_mdev/bind $A
w /sys/bus/mdev/drivers_probe $A
w /sys/bus/mdev/drivers_probe nosuch
w $MX/$A/remove 1
t ls /sys/bus/mdev/devices
w $AP/drivers/cex4card/unbind card0a
t ls $AP/devices/card0a
t drivers
w $AP/drivers/cex4card/bind card0a
w $AP/drivers/cex4card/bind card0a
t ls $AP/devices/card0a
t rmmod zcrypt_cex4
t drivers
t ls $AP/drivers
t cat $AP/bindings
t rmmod vfio_ap
t drivers
t ls $AP/drivers
t ls /sys/class/mdev_bus
t modprobe zcrypt_cex4
t modprobe vfio_ap
t drivers
t masks
t ls /sys/bus/mdev/devices
t cat $AP/bindings
