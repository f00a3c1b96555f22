#!/usr/bin/env bash
# Podman from Debian's packages, with its settings, images and containers in a folder of ours.
# A second call does nothing. Prints the file that a shell must source before it calls podman.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
engines=${DEEPMRSEG_ENGINES_DIR:-$repository/.engines}
mkdir -p "$engines"
engines=$(cd "$engines" && pwd)
settings=$engines/podman

# crun is no part of it: it asks for more of the kernel than some virtual machines give
packages=(podman buildah runc debootstrap uidmap netavark aardvark-dns fuse-overlayfs)
missing=()
for package in "${packages[@]}"; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if ((${#missing[@]})); then
  echo "installing ${missing[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get -o DPkg::Lock::Timeout=600 update -qq >&2
  apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "${missing[@]}" >&2
fi

mkdir -p "$settings"/{storage,run,tmp,networks}

# New processes get limits that the kernel surely grants; cgroups are managed without systemd.
cat >"$settings/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=2048:2048"]

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
image_copy_tmp_dir = "$settings/tmp"
tmp_dir = "$settings/run/libpod"

[network]
network_config_dir = "$settings/networks"
CONF

cat >"$settings/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$settings/storage"
runroot = "$settings/run"
CONF

# No registry is ever asked: images come from this machine alone.
cat >"$settings/registries.conf" <<CONF
unqualified-search-registries = []
CONF

cat >"$settings/env" <<CONF
export CONTAINERS_CONF='$settings/containers.conf'
export CONTAINERS_STORAGE_CONF='$settings/storage.conf'
export CONTAINERS_REGISTRIES_CONF='$settings/registries.conf'
export TMPDIR='$settings/tmp'
CONF

echo "$settings/env"
