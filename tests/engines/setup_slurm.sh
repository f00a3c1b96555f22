#!/usr/bin/env bash
# A Slurm of one node on this machine's loopback, for tests: as root, from Debian's packages.
#
#   setup_slurm.sh install         install Slurm and munge, unless they are there
#   setup_slurm.sh run plain       start a cluster; stop it when standard input ends
#   setup_slurm.sh run cgroup      the same, and jobs that go over their --mem are killed for it
#
# `run` prints the cluster's SLURM_CONF=FILE once it takes jobs. By hand, type Ctrl-D to stop it.
# Everything lies in .engines/slurm, or DEEPMRSEG_ENGINES_DIR/slurm, and in control groups of its
# own; nothing in /etc is read or changed. All of it goes when the cluster stops.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
engines=${DEEPMRSEG_ENGINES_DIR:-$here/../../.engines}
wait_s=60

fail() {
  echo "setup_slurm.sh: $*" >&2
  exit 1
}

install_packages() {
  if type slurmctld slurmd munged sbatch setpriv > /dev/null 2>&1; then
    return
  fi
  [ "$(id -u)" = 0 ] || fail "only root can install Slurm"
  # RUNLEVEL=1 keeps the packages from starting daemons of their own
  local apt=(env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update
  "${apt[@]}" install -y --no-install-recommends slurm-wlm munge util-linux > /dev/null
}

free_port() {
  local port
  for port in $(shuf -i 20000-32000 -n 200); do
    if ! (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
      echo "$port"
      return
    fi
  done
  fail "no free port on loopback"
}

# What the plain cluster and the one with control groups differ in
confinement() {
  if [ "$1" = cgroup ]; then
    echo "ProctrackType=proctrack/cgroup"
    echo "TaskPlugin=task/cgroup"
  else
    echo "ProctrackType=proctrack/linuxproc"
    echo "TaskPlugin=task/none"
  fi
}

write_cgroup_conf() {
  echo "CgroupPlugin=autodetect"
  echo "CgroupMountpoint=/sys/fs/cgroup"
  echo "ConstrainRAMSpace=yes"
  echo "ConstrainSwapSpace=no"
  echo "ConstrainCores=no"
  # version 2 asks systemd for a scope, which a container or a bare machine does not have
  [ -d /run/systemd/system ] || echo "IgnoreSystemd=yes"
}

# More CPUs than there are, so that several jobs run at once on a machine of two.
# MinJobAge: ended jobs can still be asked for, for this Slurm keeps no accounts.
write_slurm_conf() {
  local host memory_mb
  host=$(hostname)
  host=${host%%.*}
  memory_mb=$(awk '/^MemTotal/ { print int($2 / 1024 * 0.9) }' /proc/meminfo)
  cat << END
ClusterName=deepmrseg
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$sockets/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
MpiDefault=none
SwitchType=switch/none
$(confinement "$1")
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PropagateResourceLimits=NONE
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MinJobAge=900
DefMemPerCPU=1000
NodeName=$node NodeHostname=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=$memory_mb
PartitionName=short Nodes=ALL Default=YES MaxTime=UNLIMITED DefaultTime=30 State=UP
END
}

# Daemons get a signal when this script ends, even if it is killed
start() {
  local log=$1
  shift
  setpriv --pdeathsig TERM "$@" > "$folder/$log.out" 2>&1 < /dev/null &
  daemons+=("$!")
}

wait_until_idle() {
  local n
  for ((n = 0; n < wait_s * 5; n++)); do
    if [ "$(sinfo --noheader --format=%T 2> /dev/null)" = idle ]; then
      return
    fi
    sleep 0.2
  done
  tail -n 20 "$folder"/*.log "$folder"/*.out >&2
  fail "the node was not idle after $wait_s s; its logs are above"
}

# Those of version 2 lie in system.slice; all bear the name of the node
remove_cgroups() {
  local found group
  found=$(find /sys/fs/cgroup -maxdepth 3 -type d -name "*slurm*$node*" -prune 2> /dev/null || true)
  for group in $found; do
    find "$group" -depth -type d -exec rmdir {} \; 2> /dev/null
  done
  [ -z "$found" ]
}

stop() {
  trap '' INT TERM HUP
  local n
  scancel --quiet --user=root 2> /dev/null || true
  for ((n = 0; n < wait_s * 5; n++)); do
    [ -n "$(squeue --noheader 2> /dev/null)" ] || break
    sleep 0.2
  done
  for ((n = ${#daemons[@]} - 1; n >= 0; n--)); do
    kill "${daemons[n]}" 2> /dev/null || true
    wait "${daemons[n]}" 2> /dev/null || true
  done
  for n in 1 2 3 4 5; do
    remove_cgroups && break
    sleep 0.5
  done
  rm -rf "$folder" "$sockets"
}

run() {
  [ "$1" = plain ] || [ "$1" = cgroup ] || fail "a cluster is plain or cgroup, not '$1'"
  [ "$(id -u)" = 0 ] || fail "only root can start Slurm's daemons"
  install_packages
  mkdir -p "$engines/slurm"
  folder=$(mktemp -d "$(cd "$engines" && pwd)/slurm/$1.XXXXXX")
  sockets=$(mktemp -d /tmp/slurm.XXXXXX) # the name of a socket must be short
  node=deepmrseg$$
  daemons=()
  export SLURM_CONF=$folder/slurm.conf
  trap stop EXIT
  trap 'exit 1' INT TERM HUP
  chmod 755 "$folder" "$sockets"
  mkdir "$folder/state" "$folder/spool"
  (umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
  write_slurm_conf "$1" > "$SLURM_CONF"
  [ "$1" = plain ] || write_cgroup_conf > "$folder/cgroup.conf"

  start munged munged --foreground --force --socket="$sockets/munge" \
    --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
    --seed-file="$folder/munged.seed" --log-file="$folder/munged.log"
  start slurmctld slurmctld -D
  start slurmd slurmd -D -N "$node"
  wait_until_idle
  echo "SLURM_CONF=$SLURM_CONF"
  cat > /dev/null
}

case ${1:-} in
  install) install_packages ;;
  run) run "${2:-plain}" ;;
  *) fail "say install, run plain or run cgroup" ;;
esac
