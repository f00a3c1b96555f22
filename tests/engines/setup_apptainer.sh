#!/usr/bin/env bash
# Debian sid in a folder, with Apptainer in it, and a user who is not root to build and run images.
#
#   setup_apptainer.sh            makes .engines/sid once, and says which Apptainer is in it
#
# Needs root on Debian. It changes nothing of this machine but Debian packages, which it installs
# where they are absent; what it makes lies in DEEPMRSEG_ENGINES_DIR (default: .engines).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
engines=${DEEPMRSEG_ENGINES_DIR:-$(cd "$here/../.." && pwd)/.engines}
root=$engines/sid
# no fakeroot: it comes into the build, where an older C library may not know it, and none is needed
# skopeo and docker-registry serve an image from this machine, as a registry would
packages=ca-certificates,apptainer,squashfs-tools,squashfuse,fuse-overlayfs
packages+=,uidmap,skopeo,docker-registry
user_id=12345

[[ $(id -u) == 0 ]] || { echo "setup_apptainer.sh needs root: it makes a Debian in a folder" >&2; exit 1; }

install_packages() {
  command -v debootstrap unshare setpriv pivot_root >/dev/null && return
  export DEBIAN_FRONTEND=noninteractive
  apt-get -o DPkg::Lock::Timeout=600 -qq update
  apt-get -o DPkg::Lock::Timeout=600 -qq install -y --no-install-recommends debootstrap util-linux
}

# The Debian mirror that this machine's apt uses, or Debian's own.
mirror() {
  local sites
  # shellcheck disable=SC2016 # apt fills these in
  sites=$(apt-get indextargets --format '$(ORIGIN) $(SITE)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 == "Debian" && $2 ~ /^https?:/ && $2 !~ /security/ { print $2 }')
  head -n 1 <<<"${sites:-http://deb.debian.org/debian}"
}

make_root() {
  local partial=$root.partial
  rm -rf "$partial"
  debootstrap --variant=minbase --include="$packages" sid "$partial" "$(mirror)"
  rm -rf "$partial"/var/cache/apt/archives/*.deb
  # an ordinary user of a cluster: no range of subordinate ids, whatever useradd's defaults say
  chroot "$partial" useradd --no-create-home --home-dir /shared/home --uid "$user_id" \
    --shell /bin/bash researcher
  : >"$partial/etc/subuid"
  : >"$partial/etc/subgid"
  mv "$partial" "$root"
}

install_packages
mkdir -p "$engines"
if [[ ! -x $root/usr/bin/apptainer ]] || ! grep -q ^researcher: "$root/etc/passwd"; then
  rm -rf "$root"
  make_root
fi
mkdir -p "$engines/apptainer/shared"/{home,cache,tmp}
chown "$user_id:$user_id" "$engines/apptainer/shared"{,/home,/cache,/tmp}
"$here/apptainer/enter.sh" apptainer --version
