#!/usr/bin/env bash
# Tests hydra/launcher=submitit_slurm with a real Slurm on this machine: the runs of a sweep are preempted by a job of
# higher priority, requeued and finished, then compared with the same sweep undisturbed. Needs root and, on Debian, the
# packages slurm-wlm and munge; takes four minutes, more than two of them until Slurm starts a requeued job again.
# Writes to /etc/slurm and leaves the daemons running.
set -euo pipefail
extras=experiments,slurm
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

if ! sinfo > /dev/null 2>&1; then
    node="$(hostname -s)"
    mkdir -p /etc/slurm /run/munge /var/spool/slurm
    chown munge: /run/munge /etc/munge/munge.key
    cat > /etc/slurm/slurm.conf << CONF
ClusterName=one
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
StateSaveLocation=/var/spool/slurm
SlurmdSpoolDir=/var/spool/slurm
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) SocketsPerBoard=1 CoresPerSocket=$(nproc) ThreadsPerCore=1
PartitionName=low Nodes=$node Default=YES PriorityTier=1 GraceTime=60
PartitionName=high Nodes=$node PriorityTier=10 PreemptMode=OFF
CONF
    pgrep -x munged > /dev/null || runuser -u munge munged # its package may have started it
    slurmctld && slurmd
    sleep 5
fi

folder="$(mktemp -d)"
sweep=(-m model=mlp "model.hidden_sizes=[64]" norm=none,ln,bn data=digits trainer.steps=20000 wandb.mode=disabled)
slurm=(hydra/launcher=submitit_slurm hydra.launcher.mem_gb=null) # the node above declares no memory
# sacct needs a database, which is not here; submitit works without it, but warns each time it polls.
python -m experiments.train "${sweep[@]}" "${slurm[@]}" runs_dir="$folder/slurm" \
    > >(grep --line-buffered -v "Bypassing sacct") 2> /dev/null &
sweeping=$!
until grep -qs '"step": [1-9]' "$folder"/slurm/*/status.json; do sleep 1; done
sbatch --partition high --exclusive --output /dev/null --wrap "sleep 5"
until grep -qs "stopped by SIGUSR2" "$folder"/slurm/*/status.json; do sleep 0.2; done
grep -h "stopped by" "$folder"/slurm/*/status.json
wait "$sweeping"
python -m experiments.train "${sweep[@]}" runs_dir="$folder/undisturbed" > /dev/null
python - "$folder" << 'PY'
import sys
from pathlib import Path
from experiments.runs.folder import RunFolder

for path in sorted(Path(sys.argv[1], "undisturbed").iterdir()):
    a, b = (RunFolder(Path(sys.argv[1], sweep), path.name).metrics() for sweep in ("undisturbed", "slurm"))
    equal = [{**row, "seconds": 0} for row in a] == [{**row, "seconds": 0} for row in b]
    print(f"{path.name}: {len(a)} rows, {'equal' if equal else 'NOT EQUAL'} to those of the undisturbed sweep")
PY
