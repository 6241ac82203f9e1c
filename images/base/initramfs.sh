#!/bin/sh
# Before the kernel is installed: an initrd with the few drivers that virtual machines need. $1 is the root.
set -eu
mkdir -p "$1/etc/initramfs-tools/conf.d"
printf 'MODULES=list\nCOMPRESS=lz4\nFSTYPE=ext4\n' >"$1/etc/initramfs-tools/conf.d/goldenfleet.conf"
printf 'virtio_pci\nvirtio_blk\nvirtio_net\next4\n' >"$1/etc/initramfs-tools/modules"
