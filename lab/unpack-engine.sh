#!/bin/bash
# Unpacks the Docker Engine of another Debian release into a folder, for lab hosts that are to run it. Nothing is installed, and
# this machine's apt is neither used nor changed: what is fetched is checked from Debian's signature down to each package.
#   unpack-engine.sh SUITE DIR    SUITE: trixie, sid …; DIR is made, and holds a "usr" at the end. MIRROR: another mirror of Debian
set -euo pipefail
suite=$1 dir=$2
mirror=${MIRROR:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# runc of a newer release wants a newer C library, which programs of this machine run on as well; the rest of what they need is
# what any engine needs. One of the last two is docker-init.
packages=(docker.io containerd runc libc6 tini tini-static)
arch=$(dpkg --print-architecture)

mkdir -p "${dir%/*}"
work=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$work"' EXIT
fail() { echo "unpack-engine: $*" >&2; exit 1; }
# get PATH FILE SHA256    of the mirror; an empty SHA256 is checked otherwise
get() {
  curl -fsS --retry 2 --max-time 300 -o "$2" "$mirror/$1" || fail "$mirror/$1 cannot be fetched"
  [ -z "$3" ] || echo "$3  $2" | sha256sum --check --status || fail "$mirror/$1 is not what the index of $suite says"
}

get "dists/$suite/InRelease" "$work/InRelease" ""
gpgv --quiet --keyring "$keyring" --output "$work/Release" "$work/InRelease" 2>"$work/gpgv" ||
  fail "the signature of $suite is not one of $keyring: $(tail -n 1 "$work/gpgv")"
index=main/binary-$arch/Packages.gz
sum=$(awk -v name="$index" '/^[A-Z]/ { in_sums = $1 == "SHA256:" } in_sums && $3 == name { print $1; exit }' "$work/Release")
[ -n "$sum" ] || fail "$suite has no $index"
get "dists/$suite/$index" "$work/Packages.gz" "$sum"

# "PACKAGE VERSION FILE SHA256" of each
gzip -dc "$work/Packages.gz" | awk -v names="${packages[*]}" '
  BEGIN { RS = ""; FS = "\n"; split(names, list, " "); for (i in list) wanted[list[i]] }
  { split("", field); for (i = 1; i <= NF; i++) { at = index($i, ": "); field[substr($i, 1, at - 1)] = substr($i, at + 2) } }
  field["Package"] in wanted { print field["Package"], field["Version"], field["Filename"], field["SHA256"] }' >"$work/packages"
for package in docker.io containerd runc libc6; do
  grep -q "^$package " "$work/packages" || fail "$suite has no $package for $arch"
done
mkdir "$work/root"
while read -r package version file sum; do
  get "$file" "$work/package.deb" "$sum"
  dpkg-deb -x "$work/package.deb" "$work/root"
  echo "$package $version"
done <"$work/packages" >"$work/root/packages"
[ -x "$work/root/usr/sbin/dockerd" ] || fail "docker.io of $suite has no /usr/sbin/dockerd"
chmod 755 "$work/root"
rm -rf "$dir"
mv "$work/root" "$dir"
cat "$dir/packages"
