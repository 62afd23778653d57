#!/usr/bin/env bash
# Starts an experiment on a GKE cluster with JobSet, on one slice of TPU hosts
# that the node pools of the cluster have.
#
# Required: NAME, of the JobSet; IMAGE, built from launch/Dockerfile
#   TPU_ACCELERATOR, TPU_TOPOLOGY, HOSTS, CHIPS_PER_HOST, such as
#   tpu-v5-lite-podslice, 4x4, 4, 4; WORKDIR (gs://...), folder of the run
#   DATA (gs://..., or none), data_dir of tfds
#   SERVICE_ACCOUNT, of Kubernetes, that may write to the bucket
# Optional: CONFIG (configs/cub.py); SPOT (1), 0 for nodes that are not spot
#   DRY_RUN=1, print the manifest
# Example: NAME=cub IMAGE=REGION-docker.pkg.dev/P/R/decern_jax HOSTS=4 \
#   CHIPS_PER_HOST=4 TPU_ACCELERATOR=tpu-v5-lite-podslice TPU_TOPOLOGY=4x4 \
#   WORKDIR=gs://B/runs/cub DATA=gs://B/tfds SERVICE_ACCOUNT=trainer \
#   launch/gke.sh --config.train.batch_size=256
# Further arguments are flags of decern_jax.main.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/require.sh
source "$here/require.sh"
require NAME IMAGE TPU_ACCELERATOR TPU_TOPOLOGY HOSTS CHIPS_PER_HOST WORKDIR \
  DATA SERVICE_ACCOUNT
require_bucket WORKDIR
[[ $DATA == none ]] || require_bucket DATA

export NAME IMAGE TPU_ACCELERATOR TPU_TOPOLOGY HOSTS CHIPS_PER_HOST WORKDIR \
  DATA SERVICE_ACCOUNT CONFIG=${CONFIG:-configs/cub.py}
export DISTRIBUTED=$((HOSTS > 1))
ARGS=$(python3 -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$@")
export ARGS

manifest=$(python3 -c "import os, string, sys
print(string.Template(sys.stdin.read()).substitute(os.environ))" \
  < <(grep -v "^ *#" "$here/jobset.yaml"))
[[ ${SPOT:-1} == 1 ]] ||
  manifest=$(grep -v "cloud.google.com/gke-spot" <<<"$manifest")

if [[ ${DRY_RUN:-0} == 1 ]]; then
  echo "$manifest"
  exit
fi
kubectl create -f - <<<"$manifest"
cat >&2 <<END
gke.sh: to see it: kubectl get jobset $NAME; what it prints:
  kubectl logs -f --prefix -l jobset.sigs.k8s.io/jobset-name=$NAME
It costs money until it ends or is deleted: kubectl delete jobset $NAME
END
