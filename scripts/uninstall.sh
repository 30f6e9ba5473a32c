#!/bin/bash
# Removes what install.sh placed, and what swarmd keeps on this machine. Leaves nothing.
#   PREFIX, DESTDIR  as for install.sh
#   FORCE=1          also while this node is in a swarm, whose other nodes then see it as down
set -eu
prefix=${PREFIX:-/usr/local}
dest=${DESTDIR:-}
lib=$prefix/lib/swarmctl
manifest=$dest$lib/manifest
data=/var/lib/swarmd

fail() {
  echo "uninstall: $1" >&2
  exit 1
}
[ -f "$manifest" ] || {
  echo "uninstall: nothing of swarmctl is installed below $prefix"
  exit 0
}
[ -w "$dest$lib" ] || fail "$dest$lib cannot be written to: run it again with sudo"

if [ -z "$dest" ] && [ -z "${FORCE:-}" ] && [ -n "$(find "$data" -name membership.json -print -quit 2>/dev/null)" ]; then
  fail "this node is in a swarm (its state is in $data): \"swarmctl swarm leave\" first, or \"make uninstall FORCE=1\""
fi
if [ -z "$dest" ] && [ -d /run/systemd/system ] && grep -qx '/etc/systemd/system/swarmd.service' "$manifest"; then
  systemctl disable --quiet --now swarmd.service swarmd-net.socket swarmd-net-plugin.socket || :
  systemctl stop --quiet swarmd-net.service || :
fi
pidfile=/run/swarmd/swarmd.pid
if [ -z "$dest" ] && [ -f "$pidfile" ] && grep -qs swarmd "/proc/$(cat "$pidfile")/cmdline"; then
  fail "swarmd (pid $(cat "$pidfile")), which was started by hand, still runs: stop it, then run this again"
fi

# namespace, links and rules of overlay networks, while there is a program to take them away
if [ -z "$dest" ] && [ "$(id -u)" = 0 ] && [ -d "$data/net" ]; then
  "$prefix/bin/swarmd-net" remove >/dev/null || fail "the data plane could not be removed: run \"swarmd-net remove\""
fi

made=$(tac "$manifest")
rm -f "$manifest"
while read -r path; do
  case $path in
    */) [ ! -d "$dest$path" ] || rmdir --ignore-fail-on-non-empty "$dest$path" ;;
    *) rm -f "$dest$path" ;;
  esac
done <<<"$made"
[ ! -d /run/systemd/system ] || [ -n "$dest" ] || systemctl daemon-reload
if [ -z "$dest" ] && [ "$(id -u)" = 0 ]; then
  # only tmpfs mounts for secrets lie below the runtime folder
  while read -r point; do umount -l "$point"; done < <(awk '$5 ~ "^/run/swarmd/" { print $5 }' /proc/self/mountinfo | sort -r)
  rm -rf /run/swarmd "$data"
fi
echo "removed swarmctl and swarmd from $prefix"
