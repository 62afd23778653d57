#!/usr/bin/env bash
# Runs the experiment on one host: brings the data to its disk, then becomes the
# program, so that signals reach it and its status is this script's: 75 means
# stopped and saved, run again.  Every engine here runs this.
#
# Required: WORKDIR, folder of the run, the same for all hosts: gs://... or shared
#   DATA, data_dir of tfds: gs://..., or a local folder, or none
# Optional: CONFIG (configs/cub.py); DISTRIBUTED (0), 1 if there are several
#   processes; CACHE ($WORKDIR/cache), where features are kept, the same for all
#   STAGE_DIR (/tmp/decern_data), where to put data of a bucket
#   PYTHON (.venv/bin/python); PID_FILE, set: first stop the run that it names
#   STOP_SECONDS (120), how long that run has to save
# Example: WORKDIR=gs://B/runs/cub DATA=gs://B/tfds bash launch/worker.sh
# Further arguments are flags of decern_jax.main.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/require.sh
source launch/require.sh
require WORKDIR DATA
python=${PYTHON:-.venv/bin/python}

# is_run PID : a run of ours that has not ended.
is_run() { grep -q decern_jax "/proc/$1/cmdline" 2>/dev/null; }

# gcloud connects anew when a connection breaks, while what it had started may
# still hold the TPU.
stop_earlier_run() {
  local pid waited
  pid=$(cat "$PID_FILE" 2>/dev/null) && is_run "$pid" || return 0
  echo "worker.sh: stopping the earlier run, process $pid" >&2
  kill -TERM "$pid" 2>/dev/null || true
  for ((waited = 0; waited < ${STOP_SECONDS:-120}; waited++)); do
    is_run "$pid" || return 0
    sleep 1
  done
  kill -KILL "$pid" 2>/dev/null || true
}

if [[ -n ${PID_FILE:-} ]]; then
  stop_earlier_run
  echo $$ >"$PID_FILE"
fi

flags=(--config="${CONFIG:-configs/cub.py}" --workdir="$WORKDIR")
# All processes must share it, too.
flags+=(--config.system.cache_dir="${CACHE:-$WORKDIR/cache}")
if [[ $DATA == *://* ]]; then
  stage=${STAGE_DIR:-/tmp/decern_data}
  "$python" launch/stage.py "$DATA" "$stage"
  flags+=(--config.dataset.path="$stage")
elif [[ $DATA != none ]]; then
  flags+=(--config.dataset.path="$DATA")
fi
[[ ${DISTRIBUTED:-0} != 1 ]] || flags+=(--distributed)

exec "$python" -m decern_jax.main "${flags[@]}" "$@"
