#!/bin/sh
# Turns a fresh minimal Debian into a node image. Run by mmdebstrap with the root folder as the only argument.
set -eu
root=$1

# Boot data is the seed folder; modules that need a cloud, an archive or a console have nothing to do in a node.
cat > "$root/etc/cloud/cloud.cfg.d/90_castrum.cfg" <<'CFG'
datasource_list: [NoCloud, None]
cloud_init_modules:
 - seed_random
 - bootcmd
 - write-files
 - mounts
 - set_hostname
 - update_hostname
 - update_etc_hosts
 - ca-certs
 - users-groups
 - ssh
cloud_config_modules:
 - ssh-import-id
 - locale
 - set-passwords
 - timezone
 - runcmd
cloud_final_modules:
 - write-files-deferred
 - scripts-vendor
 - scripts-per-once
 - scripts-per-boot
 - scripts-per-instance
 - scripts-user
 - phone-home
 - final-message
 - power-state-change
CFG
printf 'policy: enabled\ndatasource: NoCloud\n' > "$root/etc/cloud/ds-identify.cfg"

# Nobody advertises routes on the nodes' bridge; waiting for it costs twelve seconds at every boot.
dropin="$root/etc/systemd/network/10-cloud-init-eth0.network.d"
mkdir -p "$dropin"
printf '[Network]\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n' > "$dropin/no-ra.conf"
chroot "$root" systemctl enable systemd-networkd >/dev/null 2>&1

for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer \
    e2scrub_reap.service man-db.timer motd-news.timer systemd-pstore.service cloud-init-hotplugd.socket \
    getty@tty1.service console-getty.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nSystemMaxUse=64M\nRuntimeMaxUse=64M\n' > "$root/etc/systemd/journald.conf.d/size.conf"

# A node names its own peers; until something serves names, a query fails at once and does not wait.
rm -f "$root/etc/resolv.conf"
echo 'nameserver 127.0.0.1' > "$root/etc/resolv.conf"
: > "$root/etc/fstab"
echo localhost > "$root/etc/hostname"

# What must be every node's own, and what told of the machine that built it.
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id"
: > "$root/etc/machine-id"
rm -rf "$root"/var/lib/cloud/* "$root"/var/log/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
rm -f "$root/etc/apt/sources.list" "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
mkdir -p "$root/var/log/journal" "$root/var/lib/castrum"
