#!/bin/sh
# A Slurm of one node on this machine, from Debian's packages: partitions cpu and gpu (one GPU that is only counted).
#
#     sudo tests/cluster/start_slurm.sh FOLDER     # logs and state in FOLDER
#     python tests/cluster/run_slurm.py FOLDER     # drives it, with SECANTUS_BIN set (see CONTRIBUTING.md)
#     sudo tests/cluster/start_slurm.sh FOLDER stop
#
# For a machine or container of your own: it writes /etc/slurm/slurm.conf and /etc/slurm/gres.conf.
set -eu
folder=$(realpath -m "$1")
mkdir -p "$folder/state" "$folder/spool"

if [ "${2:-start}" = stop ]; then
    for name in slurmd slurmctld munged; do
        [ ! -f "$folder/$name.pid" ] || kill "$(cat "$folder/$name.pid")" || true
    done
    exit 0
fi

if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge
fi

# what the packages started, where there is a systemd
if [ -d /run/systemd/system ]; then systemctl stop slurmd slurmctld munge || true; fi
[ -f /etc/munge/munge.key ] || mungekey --create

name=$(hostname -s)
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.8)}' /proc/meminfo)
cat >/etc/slurm/slurm.conf <<EOF
ClusterName=definet
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/jobs.txt
GresTypes=gpu
ReturnToService=2
SlurmdTimeout=3600
NodeName=node1 NodeHostname=$name NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory Gres=gpu:1
PartitionName=cpu Nodes=node1 Default=YES MaxTime=INFINITE
PartitionName=gpu Nodes=node1 MaxTime=INFINITE
EOF
echo "NodeName=node1 Name=gpu File=/dev/zero" >/etc/slurm/gres.conf  # any device counts

mkdir -p /run/munge
chown munge /run/munge /etc/munge/munge.key
runuser -u munge -- munged --force --pid-file /run/munge/munged.pid --log-file /run/munge/munged.log
cp /run/munge/munged.pid "$folder/munged.pid"
slurmctld -c # nothing of an earlier one
slurmd
for _ in $(seq 60); do
    [ "$(sinfo -h -p gpu -o %t 2>/dev/null)" != idle ] || { sinfo; exit 0; }
    sleep 1
done
sinfo
exit 1
