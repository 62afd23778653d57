#!/usr/bin/env bash
# Installs the checkout around this script into a virtual environment, with the
# versions of constraints.txt.  TPU VMs come with an older Python than we need,
# so uv brings one.
#
# Optional: EXTRA (tpu), the extra of jax: tpu, cuda12 or cuda13
#   VENV (.venv), where to; PYTHON_VERSION (3.11)
# Example: EXTRA=cuda12 bash launch/install.sh
set -euo pipefail

extra=${EXTRA:-tpu}
venv=${VENV:-.venv}
case $extra in
  tpu | cuda12 | cuda13) ;;
  *)
    echo "error: Expected \`EXTRA\` in tpu, cuda12, cuda13, got $extra." >&2
    exit 64
    ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! command -v uv >/dev/null; then
  python3 -m pip install --user --quiet uv 2>/dev/null ||
    python3 -m pip install --user --quiet --break-system-packages uv
  PATH=$(python3 -m site --user-base)/bin:$PATH
fi
[[ -x $venv/bin/python ]] ||
  uv venv --quiet --python "${PYTHON_VERSION:-3.11}" "$venv"
uv pip install --quiet --python "$venv/bin/python" -c constraints.txt \
  ".[run,hub,tfds]" "jax[$extra]" -r launch/requirements.txt
