#!/usr/bin/env bash
# A base image without any registry: Debian with its Python 3.11, as localhost/python:3.11-slim and
# as an archive for Apptainer; and what a build needs of this machine to install from the network.
# A second call does nothing.
#
#   .engines/podman/env             to be sourced before podman is called
#   .engines/python_3.11-slim.tar   the base image as a docker archive
#   .engines/build/pip.conf         this machine's settings of pip, for /etc/pip.conf in a build
#   .engines/build/ca.crt           this machine's certificates, for a build
#   .engines/build/mounts           folders that pip.conf names, one a line, to be seen in a build
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
engines=${DEEPMRSEG_ENGINES_DIR:-$(cd "$here/../.." && pwd)/.engines}
mkdir -p "$engines"
engines=$(cd "$engines" && pwd)
python=${PYTHON:-$(command -v python3.11 || command -v python3)}
name=localhost/python:3.11-slim
release=bookworm # the last of Debian whose own Python is 3.11
archive=$engines/python_3.11-slim.tar

exec 9>"$engines/lock"
flock 9

# shellcheck source=/dev/null
source "$("$here/setup_podman.sh")"

"$python" "$here/build_settings.py" "$engines/build"

# What apt uses on this machine is surely reached; nothing where this is another release.
mirror_of() {
  apt-get indextargets --format "\$(SITE) \$(RELEASE)" "Identifier: Packages" |
    awk -v release="$1" '$2 == release { print $1; exit }'
}

make_base() {
  local rootfs=$engines/base mirror updates security
  mirror=$(mirror_of "$release")
  updates=$(mirror_of "$release-updates")
  security=$(mirror_of "$release-security")
  rm -rf "$rootfs"
  debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv \
    "$release" "$rootfs" ${mirror:+"$mirror"} >"$engines/debootstrap.log" 2>&1 || {
    tail -n 20 "$engines/debootstrap.log" >&2
    exit 1
  }
  {
    [[ -z $updates ]] || echo "deb $updates $release-updates main"
    [[ -z $security ]] || echo "deb $security $release-security main"
  } >>"$rootfs/etc/apt/sources.list"
  # where the official image has them
  ln -s /usr/bin/python3 "$rootfs/usr/local/bin/python3"
  ln -s /usr/bin/python3 "$rootfs/usr/local/bin/python"
  # what slim images leave out
  rm -rf "$rootfs"/var/cache/apt/*.bin "$rootfs"/var/cache/apt/archives/*.deb \
    "$rootfs"/var/lib/apt/lists/* "$rootfs"/var/log/*.log \
    "$rootfs"/usr/share/{doc,man,info,locale}/*
  tar -C "$rootfs" --numeric-owner -c . |
    podman import --quiet --change 'CMD ["python"]' \
      --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$name"
  rm -rf "$rootfs"
}

podman image exists "$name" || make_base
if [[ ! -s $archive ]]; then
  rm -f "$archive.part"
  podman save --quiet --format docker-archive --output "$archive.part" "$name"
  mv "$archive.part" "$archive"
fi
echo "$archive"
