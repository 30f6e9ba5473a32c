#!/bin/bash
# Installs what this project needs and this machine lacks, after saying what. Never removes, replaces or upgrades a
# package, and never touches a Docker Engine that is here.
#   deps.sh [--node-only | --tests]    --node-only: what building needs, without the lab's programs
#                                      --tests: also what only the end-to-end tests need (a browser, a clock that can be set,
#                                      Docker's Python SDK)
set -eu
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# the lab's copy of busybox, where Debian's other busybox package is in the way of the static one
tools=.build/tools/bin
# the real redis and postgres for the lab's images: unpacked, not installed, so that no server starts on this machine
servers=.build/tools/servers

say() { echo "deps: $*"; }
fail() {
  echo "deps: $1" >&2
  shift
  for line in "$@"; do echo "      $line" >&2; done
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Node

have node || fail "Node.js 20.19 or newer is needed, and no node is in PATH" "see https://nodejs.org/en/download, or: apt-get install nodejs npm"
node -e 'const [a,b]=process.versions.node.split(".").map(Number); process.exit(a>20||a===20&&b>=19?0:1)' ||
  fail "Node.js 20.19 or newer is needed, this is $(node --version)" "see https://nodejs.org/en/download"
have npm || fail "npm is needed, and is not in PATH" "it comes with Node.js; on Debian: apt-get install npm"

# newer than the lock file: installed from it
if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then
  say "installing the npm packages of package-lock.json into node_modules (npm ci)"
  npm ci --no-audit --no-fund
  touch node_modules/.package-lock.json
fi
[ "${1-}" != --node-only ] || exit 0

# The lab's programs

[ "$(uname -s)" = Linux ] || fail "the lab (demo, end-to-end tests, bench) needs Linux, this is $(uname -s)" \
  "use a Linux machine or virtual machine; \"make unit\" runs the tests that need none"

static_busybox() {
  local file
  for file in "$tools/busybox" "$(command -v busybox || :)"; do
    if [ -x "$file" ] && ! ldd "$file" >/dev/null 2>&1; then return 0; fi
  done
  return 1
}

packages=()
need() { have "$1" || packages+=("$2"); }
need ip iproute2
need nft nftables
need iptables iptables
need bridge iproute2
need ss iproute2
need conntrack conntrack
need wireguard-go wireguard-go # encrypted networks, where the kernel has no WireGuard
need nsenter util-linux
need mount mount
need hostname hostname
need tar tar
need curl curl
if ! have dockerd; then
  packages+=(docker.io)
elif ! have docker; then
  packages+=(docker-cli) # Debian 13 has the client apart
fi
if [ "${1-}" = --tests ] && ! have chromium && ! have chromium-browser && ! have google-chrome; then
  packages+=(chromium)
fi
if [ "${1-}" = --tests ] && ! python3 -c 'import docker' 2>/dev/null; then
  packages+=(python3-docker)
fi
if [ "${1-}" = --tests ] && ! compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null; then
  packages+=(libfaketime)
fi
unpack_servers=
if [ ! -x $servers/usr/bin/redis-check-rdb ] || ! compgen -G "$servers/usr/lib/postgresql/*/bin/postgres" >/dev/null; then
  unpack_servers=1
fi
unpack_busybox=
if ! static_busybox; then
  # busybox-static cannot be installed beside busybox, and nothing here removes a package
  if dpkg-query -W -f '${Status}' busybox 2>/dev/null | grep -q ' installed$'; then unpack_busybox=1; else packages+=(busybox-static); fi
fi

if [ ${#packages[@]} -gt 0 ] || [ -n "$unpack_busybox$unpack_servers" ]; then
  have apt-get || fail "these are missing: ${packages[*]} ${unpack_busybox:+busybox-static} ${unpack_servers:+redis postgresql}" \
    "this machine has no apt-get: install them with its own package manager (Debian's names), then run this again"
fi

if [ ${#packages[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || fail "these Debian packages are missing, and installing them needs root: ${packages[*]}" \
    "run it again with sudo, or install them yourself"
  apt_flags=(--no-remove --no-upgrade --no-install-recommends)
  plan() { LC_ALL=C apt-get install -s "${apt_flags[@]}" "${packages[@]}" 2>&1; }
  if ! planned=$(plan); then
    say "fetching the package lists (apt-get update)"
    apt-get update -qq || :
    planned=$(plan) || fail "apt-get cannot install ${packages[*]} without removing or replacing other packages:" \
      "$(grep -E '^(E:| )' <<<"$planned" | head -n 10)" "install what is missing by hand, then run this again"
  fi
  if grep -q '^Remv ' <<<"$planned" || grep -qE '^Inst [^ ]+ \[' <<<"$planned"; then
    fail "installing ${packages[*]} would remove or replace packages, which this never does:" \
      "$(grep -E '^Remv |^Inst [^ ]+ \[' <<<"$planned" | head -n 10)" "install what is missing by hand, then run this again"
  fi
  say "installing these Debian packages (nothing is removed or upgraded):"
  sed -nE 's/^Inst ([^ ]+) \(([^ ]+).*/  \1 \2/p' <<<"$planned"
  if printf '%s\n' "${packages[@]}" | grep -qx docker.io && [ -d /run/systemd/system ]; then
    say "docker.io starts a Docker Engine of this machine's own, which is not used here;"
    say "to have it off: systemctl disable --now docker.service docker.socket"
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q "${apt_flags[@]}" "${packages[@]}" ||
    fail "apt-get could not install ${packages[*]}" "see above; then run this again"
fi

work=
trap 'rm -rf "$work"' EXIT

# Fetches the .deb files of packages into a fresh $work
fetch() {
  rm -rf "$work"
  work=$(mktemp -d)
  chown _apt "$work" 2>/dev/null || : # apt fetches as that user
  (cd "$work" && apt-get download -q "$@")
}

if [ -n "$unpack_busybox" ]; then
  say "unpacking Debian's busybox-static into $tools: the busybox package that is installed excludes it, and stays"
  fetch busybox-static || { apt-get update -qq && fetch busybox-static; } || fail "busybox-static could not be fetched"
  dpkg-deb -x "$work"/busybox-static_*.deb "$work/tree"
  mkdir -p "$tools"
  install -m 755 "$(find "$work/tree" -type f -path '*bin/busybox')" "$tools/busybox"
fi

if [ -n "$unpack_servers" ]; then
  # of what the two need: the libraries that this machine lacks, but for those of parts that the images leave out
  fetch_servers() {
    local server client missing
    server=$(apt-cache depends postgresql 2>/dev/null | sed -nE 's/.*Depends: (postgresql-[0-9]+)$/\1/p' | head -n 1)
    [ -n "$server" ] || return 1
    client=${server/postgresql-/postgresql-client-}
    missing=$(LC_ALL=C apt-get install -s --no-install-recommends redis-tools "$server" 2>/dev/null |
      sed -nE 's/^Inst (lib[^ ]+) \(.*/\1/p' | grep -vE -- '-perl$|^lib(perl|gdbm|llvm|z3|c-l10n)') || :
    # shellcheck disable=SC2086 # one word each
    fetch redis-tools "$server" "$client" $missing
  }
  say "unpacking Debian's redis and postgresql into $servers, for the images of the voting app (nothing is installed)"
  fetch_servers || { apt-get update -qq && fetch_servers; } || fail "redis-tools and postgresql could not be fetched"
  for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/tree"; done
  mkdir -p "${servers%/*}"
  rm -rf "$servers"
  mv "$work/tree" "$servers"
  chmod 755 "$servers"
fi
