#!/bin/bash
# sbatch configs/deploy/slurm.sh RUN [options of visionkit fit]
#
# Trains into the folder RUN. Submitted again with the same words, or handed back to the queue, it goes on from the newest
# whole checkpoint there. Call it from the root of the repository, with visionkit on the PATH of the job; TRAINER=FILE
# takes another trainer file than configs/trainer/slurm.yaml.
#SBATCH --job-name=visionkit
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@120
# --signal: two minutes before the time is over every task is reported to save and to end with status 143.
set -u

run=${1:?usage: sbatch configs/deploy/slurm.sh RUN [options of visionkit fit]}
shift
srun visionkit fit -c "${TRAINER:-configs/trainer/slurm.yaml}" "$@" --run "$run" --ckpt_path last
status=$?
# 143 is "saved, and not done yet". Any other status is an end, good or bad, and is not tried again.
if [ "$status" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
