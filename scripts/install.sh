#!/bin/bash
# Places swarmd and swarmctl on this machine. Existing clusters and the Docker Engine are left as they are.
#   PREFIX   where programs go, /usr/local unless told
#   DESTDIR  a folder that stands for / (for packaging): nothing outside of it is touched, nothing is started
set -eu
cd "$(dirname "$0")/.."
prefix=${PREFIX:-/usr/local}
dest=${DESTDIR:-}
lib=$prefix/lib/swarmctl
socket=/run/swarmd/swarmd.sock
unit=/etc/systemd/system/swarmd.service
systemd=
[ -n "$dest" ] || [ ! -d /run/systemd/system ] || systemd=1

fail() {
  echo "install: $1" >&2
  exit 1
}
for file in swarmctl.mjs swarmd.mjs swarmd-net.mjs classic-level.node; do
  [ -f "dist/$file" ] || fail "dist/$file is missing: run \"make build\" first"
done
if [ -z "$dest" ] && [ "$(id -u)" != 0 ] && ! [ -w "$prefix" ]; then
  fail "$prefix cannot be written to: run it again with sudo, or with PREFIX=\$HOME/.local"
fi
node=$(command -v node) || fail "Node.js 20.19 or newer is needed, and no node is in PATH"

# what is made is written down first, folders with a slash at the end, so that uninstall removes exactly that, also
# after half an install
manifest=$dest$lib/manifest
pending=
note() {
  if [ -d "$dest$lib" ]; then
    grep -qxF "$1" "$manifest" 2>/dev/null || echo "$1" >>"$manifest"
  else
    pending+="$1"$'\n'
  fi
}
folder() {
  [ ! -d "$dest$1" ] || return 0
  folder "$(dirname "$1")"
  note "$1/"
  mkdir "$dest$1"
}
place() { # MODE TARGET: standard input becomes TARGET
  folder "$(dirname "$2")"
  note "$2"
  cat >"$dest$2.new"
  chmod "$1" "$dest$2.new"
  mv -f "$dest$2.new" "$dest$2" # a running program keeps its file
}
[ -z "$dest" ] || mkdir -p "$dest"
folder "$lib"
printf %s "$pending" >>"$manifest"

for program in swarmctl swarmd swarmd-net; do
  # the node that is here now: sudo and systemd may have another PATH ("--": see scripts/bundle.mjs)
  sed "1s|.*|#!$node --|" "dist/$program.mjs" | place 755 "$lib/$program.mjs"
  [ ! -f "dist/$program.mjs.LEGAL.txt" ] || place 644 "$lib/$program.mjs.LEGAL.txt" <"dist/$program.mjs.LEGAL.txt"
  folder "$prefix/bin"
  note "$prefix/bin/$program"
  ln -sfn "../lib/swarmctl/$program.mjs" "$dest$prefix/bin/$program"
done
place 755 "$lib/classic-level.node" <dist/classic-level.node

complete() { # SHELL TARGET
  local script
  if script=$("$node" dist/swarmctl.mjs completion "$1" 2>/dev/null) && [ -n "$script" ]; then
    place 644 "$2" <<<"$script"
  fi
}
complete bash "$prefix/share/bash-completion/completions/swarmctl"
complete zsh "$prefix/share/zsh/site-functions/_swarmctl"
complete fish "$prefix/share/fish/vendor_completions.d/swarmctl.fish"

echo "installed swarmctl and swarmd below $dest$prefix"
start="$prefix/bin/swarmd -H unix://$socket"
if [ -n "$systemd" ] && [ "$(id -u)" = 0 ] || [ -n "$dest" ]; then
  place 644 "$unit" <<EOF
[Unit]
Description=swarmd, a cluster manager beside the Docker Engine
Documentation=file://$lib
After=network-online.target docker.service swarmd-net.socket
Wants=network-online.target docker.service swarmd-net.socket

[Service]
ExecStart=$start
# the socket is for root and, as the Docker Engine's, for the group docker
RuntimeDirectory=swarmd
# mounted secrets of running containers lie there while swarmd restarts
RuntimeDirectoryPreserve=yes
Restart=always
RestartSec=1
# managers and workers are told before it goes
TimeoutStopSec=90
KillMode=process
LimitNOFILE=1048576
TasksMax=infinity
OOMScoreAdjust=-500

[Install]
WantedBy=multi-user.target
EOF
  for name in swarmd-net.service swarmd-net.socket swarmd-net-plugin.socket; do
    sed "s|@LIB@|$lib|; s|@BIN@|$prefix/bin|" "packaging/systemd/$name" | place 644 "/etc/systemd/system/$name"
  done
fi
if [ -n "$systemd" ] && [ "$(id -u)" = 0 ]; then
  systemctl daemon-reload
  # before swarmd, which would start one of its own
  systemctl enable --quiet --now swarmd-net.socket swarmd-net-plugin.socket
  systemctl enable --quiet swarmd.service
  systemctl restart swarmd.service
  echo "swarmd runs as a service of systemd (systemctl status swarmd)"
elif [ -z "$dest" ]; then
  echo "this machine has no systemd (or you are not root): start swarmd as root with"
  echo "  $start"
fi
[ -z "$dest" ] || exit 0
echo "begin with"
echo "  swarmctl swarm init"
echo "the docker client speaks to it with"
echo "  export DOCKER_HOST=unix://$socket"
