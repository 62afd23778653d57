#!/usr/bin/env bash
#SBATCH --job-name=decern_jax
#SBATCH --nodes=1
#SBATCH --gpus-per-node=4
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# Runs an experiment on GPU nodes of a Slurm cluster, one task per GPU (jax gives
# each task the GPU of its rank on the node).  Tasks are told to stop 120 s
# before the time limit and at a preemption: they save and end with status 75,
# and the job goes back to the queue.  Other failures end the job.
#
# Required: WORKDIR, folder of the run, on a file system of all nodes or gs://...
#   DATA, data_dir of tfds: on a file system of all nodes, or gs://..., or none
# Optional: CONFIG (configs/cub.py); PYTHON (.venv/bin/python), made by
#   `EXTRA=cuda12 bash launch/install.sh`; STAGE_DIR (/tmp/decern_data), on the
#   disk of each node, for data of a bucket; MAX_RESTARTS (100)
# Example, in the checkout: WORKDIR=$SCRATCH/runs/cub DATA=$SCRATCH/tfds \
#   sbatch --nodes=2 launch/slurm.sh --config.train.batch_size=256
# Further arguments are flags of decern_jax.main.
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:?run this with sbatch}"
if [[ ! -f launch/worker.sh ]]; then
  echo "error: Expected sbatch to be run in the checkout, got $PWD." >&2
  exit 64
fi
# shellcheck source=launch/require.sh
source launch/require.sh
require WORKDIR DATA
say() { echo "slurm.sh: $*" >&2; }

# Slurm tells the tasks to stop.  This script gets the signal only where the
# whole job is to end, and must not pass it on: srun would kill its tasks.
ended=0
trap 'ended=$((ended + 1))' TERM

# run COMMAND... : its status, also if a signal comes in between.
run() {
  local status before
  "$@" &
  while true; do
    before=$ended
    status=0
    wait $! || status=$?
    ((ended != before)) || return "$status"
  done
}

if [[ $DATA == *://* ]]; then
  stage=${STAGE_DIR:-/tmp/decern_data}
  run srun --ntasks="$SLURM_NNODES" --ntasks-per-node=1 \
    "${PYTHON:-.venv/bin/python}" launch/stage.py "$DATA" "$stage"
  export DATA=$stage
fi
export DISTRIBUTED=$((SLURM_NTASKS > 1))

# A task that has saved must not make Slurm kill those that still save.
status=0
run srun --kill-on-bad-exit=0 bash launch/worker.sh "$@" || status=$?

case $status in
  0) say "done. The run is in $WORKDIR." ;;
  75)
    if ((ended)); then
      say "stopped and saved, as the job was ended. Slurm itself puts a" \
        "preempted job back; otherwise the same sbatch continues."
      exit "$status"
    fi
    if ((${SLURM_RESTART_COUNT:-0} >= ${MAX_RESTARTS:-100})); then
      say "error: stopped again after ${MAX_RESTARTS:-100} restarts."
      exit "$status"
    fi
    say "stopped and saved; back to the queue."
    scontrol requeue "$SLURM_JOB_ID" || {
      say "error: Slurm did not take the job back; the same sbatch continues."
      exit "$status"
    }
    ;;
  *)
    say "error: the run failed with status $status. This is no preemption: the" \
      "job is not run again; what it printed above tells more."
    exit "$status"
    ;;
esac
