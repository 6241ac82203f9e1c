#!/bin/sh
# Last: the tree $1 as the ext4 disk $2 of size $3, and its packages as $4.
set -eu
root=$1 disk=$2 size=$3 packages=$4

chroot "$root" dpkg-query -W -f='${Package} ${Version}\n' >"$packages"

# mmdebstrap takes its own files away only after the last hook, and misses them if they are gone.
aside=$(mktemp -d)
for path in usr/sbin/policy-rc.d etc/apt/apt.conf.d/00mmdebstrap; do
    [ ! -e "$root/$path" ] || mv "$root/$path" "$aside/$(basename "$path")"
done
diverted=$root/sbin/start-stop-daemon
[ ! -e "$diverted.REAL" ] || { mv "$diverted" "$aside/stub"; mv "$diverted.REAL" "$diverted"; }

# A plain bind leaves out what is mounted inside: /proc, /sys, /dev.
tree=$(mktemp -d)
mount --bind "$root" "$tree"
rm -f "$disk"
truncate -s "$size" "$disk"
/usr/sbin/mkfs.ext4 -q -F -L root -E lazy_itable_init=1,lazy_journal_init=1 -d "$tree" "$disk"
umount "$tree"
rmdir "$tree"
chmod 644 "$disk" "$packages"

[ ! -e "$aside/stub" ] || { mv "$diverted" "$diverted.REAL"; mv "$aside/stub" "$diverted"; }
[ ! -e "$aside/policy-rc.d" ] || mv "$aside/policy-rc.d" "$root/usr/sbin/policy-rc.d"
[ ! -e "$aside/00mmdebstrap" ] || mv "$aside/00mmdebstrap" "$root/etc/apt/apt.conf.d/00mmdebstrap"
rmdir "$aside"
