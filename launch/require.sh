# shellcheck shell=bash
# What the scripts share: sourced, never run.

# require NAME... : ends with one message that names every variable not set.
require() {
  local name missing=()
  for name in "$@"; do
    [[ -n ${!name:-} ]] || missing+=("$name")
  done
  ((${#missing[@]} == 0)) && return
  echo "error: Expected these variables to be set: ${missing[*]}." >&2
  echo "The head of ${0##*/} and docs/launch.md tell what they mean." >&2
  exit 64
}

# require_bucket NAME : the variable must hold a gs:// address.
require_bucket() {
  [[ ${!1} == gs://* ]] && return
  echo "error: Expected \`$1\` to begin with gs://, as the disk is deleted" \
    "with the machine, got ${!1}." >&2
  exit 64
}
