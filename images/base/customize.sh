#!/bin/sh
# After the packages are installed: what a cloud's own Debian image would have set. $1 is the root.
set -eu
root=$1

echo 'LABEL=root / ext4 defaults,noatime,discard 0 1' >"$root/etc/fstab"

# vec: User-mode Linux names its cards so.
cat >"$root/etc/systemd/network/80-dhcp.network" <<'END'
[Match]
Name=en* eth* vec*
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
[DHCPv4]
UseDomains=no
SendRelease=no
END
# Otherwise systemd-resolved answers anybody on port 5355.
mkdir -p "$root/etc/systemd/resolved.conf.d"
printf '[Resolve]\nLLMNR=no\nMulticastDNS=no\n' >"$root/etc/systemd/resolved.conf.d/goldenfleet.conf"
chroot "$root" systemctl --quiet enable systemd-networkd systemd-resolved ssh
ln -sf /run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"

cat >"$root/etc/cloud/cloud.cfg.d/90_goldenfleet.cfg" <<'END'
datasource_list: [NoCloud, None]
network: {config: disabled}
system_info:
  default_user:
    name: admin
    lock_passwd: true
    sudo: ["ALL=(ALL) NOPASSWD:ALL"]
    shell: /bin/bash
apt: {preserve_sources_list: true}
locale: false
manage_etc_hosts: false
grub_dpkg: {enabled: false}
ssh_genkeytypes: [ed25519]
END

printf 'APT::Install-Recommends "false";\nAcquire::Languages "none";\n' >"$root/etc/apt/apt.conf.d/90goldenfleet"
# Dates of mirrors that are frozen lie in the past; signatures are checked all the same.
if [ "${FROZEN_MIRROR:-}" = 1 ]; then
    printf 'Acquire::Check-Valid-Until "false";\n' >"$root/etc/apt/apt.conf.d/91frozen-mirror"
fi
# systemd-firstboot would ask its questions on the console of every node, and wait for answers.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
    e2scrub_all.timer e2scrub_reap.service systemd-firstboot.service; do
    chroot "$root" systemctl --quiet mask "$unit"
done

rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/var/lib/dbus/machine-id"
: >"$root/etc/machine-id"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb
