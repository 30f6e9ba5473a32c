#!/bin/bash
# The first process of a lab host (pid 1 of its pid namespace): makes the machine's file tree look like a machine of
# its own, says "ready", and then only reaps orphans. SIGKILL to it is a power loss: everything in the host dies.
#   host-init.sh DIR HOSTNAME [ENGINE]    DIR holds the host's disk; ENGINE: what unpack-engine.sh has made, for a host with
#                                         the engine of another release
set -eu
dir=$1
hostname "$2"

# The mount points below $1, deepest first. Read at once: the list changes under a reader who mounts.
mounts_below() {
  local lines line point
  mapfile -t lines </proc/self/mountinfo
  for line in "${lines[@]}"; do
    read -r _ _ _ _ point _ <<<"$line"
    case $point in "$1"/*) echo "$point" ;; esac
  done | sort -r
}

# /run of its own: no socket of the machine's engine, D-Bus, firewalld or systemd is in reach, a boot begins empty,
# and no other host's network namespace (bound below /run/netns) is kept alive from here
for point in $(mounts_below /run); do umount -l "$point" || :; done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sys /run/lock /run/netns /run/docker /run/containerd

# /sys of this network namespace, with what is mounted below it (cgroups, securityfs, bpf) as on the machine
mount --rbind /sys /run/sys
umount -R -l /sys
mount -t sysfs sysfs /sys
for point in $(mounts_below /run/sys | sort); do
  target=/sys${point#/run/sys}
  mountpoint -q "$target" || mount --rbind "$point" "$target"
done
umount -R -l /run/sys
rmdir /run/sys

# /etc of its own above the machine's: an engine writes /etc/docker/key.json, the host its own names
mkdir -p "$dir/etc" "$dir/etc.work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$dir/etc,workdir=$dir/etc.work" /etc
mkdir -p /etc/docker
echo "$2" >/etc/hostname
if [ -f "$dir/hosts" ]; then cp "$dir/hosts" /etc/hosts; fi

# containerd makes /opt/containerd: let it do so in a folder that shows the machine's /opt and keeps nothing
mkdir -p /run/opt
for entry in /opt/*/; do
  [ -d "$entry" ] || continue
  mkdir "/run$entry" && mount --rbind "$entry" "/run$entry"
done
mount --rbind /run/opt /opt

# the engine of another release above the machine's programs: neither a chroot (in which no container could be started) nor an
# installation, and everything else on the host stays as it is
if [ -n "${3-}" ]; then
  mkdir -p /run/usr
  mount --rbind /usr /run/usr
  mount -t overlay overlay -o "ro,lowerdir=$3/usr:/run/usr" /usr
  for point in $(mounts_below /run/usr | sort); do
    mount --rbind "$point" "/usr${point#/run/usr}"
  done
  umount -R -l /run/usr
  rmdir /run/usr
fi

mount --make-rshared / # as systemd leaves it; a group of this host's own, nothing leads back to the machine
echo 1 >/proc/sys/net/ipv4/ip_forward
ln -s "$dir/docker.sock" /run/docker.sock
cd /
echo ready
exec >/dev/null 2>&1
while :; do
  sleep infinity &
  wait $!
done
