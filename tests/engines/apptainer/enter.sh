#!/usr/bin/env bash
# Run a command in the Debian of setup_apptainer.sh, as its user, who is not root.
#
#   enter.sh [--bind FOLDER:PLACE]... COMMAND [ARGUMENT]...
#
# The command finds DEEPMRSEG_ENGINES_DIR/apptainer/shared as /shared, and the folder of each --bind,
# read-only, at its place. Mounts are of a namespace of their own and end with the command. Of this
# process's environment it gets what is named INSIDE_*, without that word.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
engines=${DEEPMRSEG_ENGINES_DIR:-$(cd "$here/../../.." && pwd)/.engines}
root=$engines/sid

if [[ ${1-} != --mounted ]]; then
  exec unshare --mount --propagation private -- "${BASH_SOURCE[0]}" --mounted "$@"
fi
shift

# user namespaces are refused in a chroot, so the folder becomes the root of a mount namespace
mount --bind "$root" "$root"
mount --rbind /proc "$root/proc"
mount --rbind /sys "$root/sys"
# of its own, for the user may need /dev/fuse, and the permissions of this machine's stay as they are
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0" "fuse 10 229"; do
  read -r name major minor <<<"$device"
  mknod -m 666 "$root/dev/$name" c "$major" "$minor"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for n in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${n%:*}" "$root/dev/${n#*:}"; done
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root/shared" "$root/.outside"
mount --bind "$engines/apptainer/shared" "$root/shared"

cp -L --remove-destination /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || true
while [[ ${1-} == --bind ]]; do
  place=$root${2##*:}
  mkdir -p "$place"
  mount --bind "${2%:*}" "$place"
  mount -o remount,bind,ro "$place"
  shift 2
done

environment=(HOME=/shared/home LOGNAME=researcher USER=researcher LANG=C.UTF-8
  PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
  APPTAINER_CACHEDIR=/shared/cache APPTAINER_TMPDIR=/shared/tmp)
while IFS= read -r -d '' variable; do
  [[ $variable == INSIDE_* ]] && environment+=("${variable#INSIDE_}")
done < <(env -0)

cd "$root"
pivot_root . .outside
umount -l /.outside
cd /shared
exec setpriv --reuid=researcher --regid=researcher --init-groups --inh-caps=-all \
  env -i "${environment[@]}" "$@"
