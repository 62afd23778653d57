#!/usr/bin/env bash
# Runs an experiment on a Cloud TPU VM or a slice of several hosts, through
# queued resources: creates, waits, installs, runs; after a preemption deletes,
# creates and runs again; deletes at the end, also after an error and Ctrl-C.
# The same command again continues the run that is in WORKDIR.
#
# Required: TPU_NAME ZONE; ACCELERATOR_TYPE and RUNTIME_VERSION, such as
#   v5litepod-16 and v2-alpha-tpuv5-lite; WORKDIR (gs://...), folder of the run
#   DATA (gs://..., or none), data_dir of tfds
# Optional: CONFIG (configs/cub.py); SPOT=1, cheap and preempted at any time
#   KEEP=1, do not delete; CREATE_FLAGS, more flags for `create`
#   POLL_SECONDS (30); MAX_FAILURES (3), runs that fail while the slice is well
#   MAX_PREEMPTIONS (100); MAX_GCLOUD_ERRORS (5), in a row
# Example: TPU_NAME=cub ZONE=us-west4-a ACCELERATOR_TYPE=v5litepod-16 SPOT=1 \
#   RUNTIME_VERSION=v2-alpha-tpuv5-lite WORKDIR=gs://B/runs/cub \
#   DATA=gs://B/tfds launch/tpu.sh --config.train.batch_size=256
# Further arguments are flags of decern_jax.main.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/require.sh
source "$here/require.sh"
require TPU_NAME ZONE ACCELERATOR_TYPE RUNTIME_VERSION WORKDIR DATA
require_bucket WORKDIR
[[ $DATA == none ]] || require_bucket DATA
poll=${POLL_SECONDS:-30}
tpus=(gcloud compute tpus)
delete=("${tpus[@]}" queued-resources delete "$TPU_NAME" --zone="$ZONE" --force
  --quiet)
exists=unknown # yes, no
installed=
failures=0
preemptions=0
child=

say() { echo "tpu.sh: $*" >&2; }

fail() {
  say "error: $1"
  exit "${2:-1}"
}

# Waits in the background, so that a signal is answered at once.
run() {
  local status=0
  "$@" &
  child=$!
  wait "$child" || status=$?
  child=
  return "$status"
}

# field COLLECTION FORMAT: what gcloud lists of TPU_NAME, or NONE.
field() {
  local found errors
  for ((errors = 0; errors < ${MAX_GCLOUD_ERRORS:-5}; errors++)); do
    if found=$("${tpus[@]}" "$1" list --zone="$ZONE" \
      --filter="name~/$TPU_NAME\$" --format="value($2)"); then
      echo "${found:-NONE}"
      return
    fi
    sleep "$poll"
  done
  say "error: gcloud failed $errors times in a row."
  return 1
}

request_state() { field queued-resources state.state; }
node_state() { field tpu-vm state; }

costs() {
  say "$TPU_NAME may still exist and cost money. To see: ${tpus[*]}" \
    "queued-resources list --zone=$ZONE; to delete: ${delete[*]}"
}

finish() {
  local status=$?
  trap - EXIT
  trap 'costs; exit 130' INT TERM HUP
  [[ -z $child ]] || kill "$child" 2>/dev/null || true
  rm -f "$archive"
  if [[ $exists == no ]]; then
    say "nothing of $TPU_NAME is left that costs money."
  elif [[ ${KEEP:-0} == 1 ]]; then
    say "kept, as KEEP=1."
    costs
  elif run "${delete[@]}"; then
    say "deleted $TPU_NAME. The run is in $WORKDIR."
  else
    say "error: could not delete $TPU_NAME."
    costs
  fi
  exit "$status"
}

interrupted() {
  trap '' INT TERM HUP
  say "interrupted. $TPU_NAME costs money until it is deleted, which" \
    "$([[ ${KEEP:-0} == 1 ]] && echo "KEEP=1 forbids" || echo "happens now")." \
    "The same command again continues the run."
  exit 130
}

create() {
  local flags=()
  read -ra flags <<<"${CREATE_FLAGS:-}"
  [[ ${SPOT:-0} != 1 ]] || flags+=(--spot)
  exists=unknown
  run "${tpus[@]}" queued-resources create "$TPU_NAME" --node-id="$TPU_NAME" \
    --zone="$ZONE" --accelerator-type="$ACCELERATOR_TYPE" \
    --runtime-version="$RUNTIME_VERSION" "${flags[@]}" && exists=yes
}

recreate() {
  ((++preemptions <= ${MAX_PREEMPTIONS:-100})) ||
    fail "preempted more than ${MAX_PREEMPTIONS:-100} times."
  say "$TPU_NAME was preempted; deleting it to create it again."
  run "${delete[@]}" || fail "could not delete what was preempted."
  exists=no
  installed=
}

on_workers() {
  run "${tpus[@]}" tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all --quiet \
    --command="$1"
}

install() {
  [[ -z $installed ]] || return 0
  run "${tpus[@]}" tpu-vm scp "$archive" "$TPU_NAME:decern_jax.tar.gz" \
    --zone="$ZONE" --worker=all --quiet &&
    on_workers "mkdir -p decern_jax && tar -xzf decern_jax.tar.gz -C decern_jax\
 && EXTRA=tpu bash decern_jax/launch/install.sh" &&
    installed=yes
}

# Installs and runs; the status is that of the first worker that failed.
work() {
  local hosts distributed=0 command
  install || return
  hosts=$(field tpu-vm "networkEndpoints.len()") || return
  ((hosts <= 1)) || distributed=1
  command=$(printf "%q " env WORKDIR="$WORKDIR" DATA="$DATA" \
    CONFIG="${CONFIG:-configs/cub.py}" DISTRIBUTED="$distributed" \
    PID_FILE=decern_jax.pid bash decern_jax/launch/worker.sh "$@")
  on_workers "$command"
}

# A run ended with a status that is not 0: was it the slice, or the program?
judge() {
  local request node
  run sleep "$poll" # a preemption shows with a delay
  request=$(request_state) && node=$(node_state) || exit 1
  [[ $request == ACTIVE && $node == READY ]] || return 0
  if (($1 == 75)); then
    ((++preemptions <= ${MAX_PREEMPTIONS:-100})) ||
      fail "stopped more than ${MAX_PREEMPTIONS:-100} times." 75
    say "the run was stopped and saved; running it again."
    return
  fi
  ((++failures < ${MAX_FAILURES:-3})) ||
    fail "the run failed $failures times, with status $1, while $TPU_NAME was\
 well. This is no preemption; what it printed above tells more." "$1"
  say "the run failed with status $1 while $TPU_NAME was well: $failures of" \
    "${MAX_FAILURES:-3}; once more."
}

archive=$(mktemp)
git -C "$here/.." archive --format=tar.gz --output="$archive" HEAD
[[ -z $(git -C "$here/.." status --porcelain) ]] ||
  say "warning: what is not committed is not sent to the workers."
trap finish EXIT
trap interrupted INT TERM HUP

while true; do
  request=$(request_state) || exit 1
  [[ $request == NONE ]] && exists=no || exists=yes
  case $request in
    NONE)
      create || {
        [[ $(request_state) != NONE ]] || exists=no
        fail "could not create $TPU_NAME, for the reason above."
      }
      ;;
    SUSPENDED) recreate ;;
    FAILED)
      "${tpus[@]}" queued-resources describe "$TPU_NAME" --zone="$ZONE" \
        --format="yaml(state)" >&2 || true
      fail "the request for $TPU_NAME failed, for the reason above."
      ;;
    ACTIVE)
      node=$(node_state) || exit 1
      case $node in
        READY)
          status=0
          work "$@" || status=$?
          ((status != 0)) || exit 0
          judge "$status"
          ;;
        PREEMPTED | TERMINATED | STOPPED) recreate ;;
        *)
          say "$TPU_NAME is $node; waiting."
          run sleep "$poll"
          ;;
      esac
      ;;
    *)
      say "$TPU_NAME is $request; waiting."
      run sleep "$poll"
      ;;
  esac
done
