#!/usr/bin/env bash
# Runs `torchperf-ci "$@"` in a private environment, made once per version of this action and reused after that.
# The caller's Python is not touched: it is only measured. Needs bash and a Python 3.10 or later with venv, or uv.
set -euo pipefail

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P) # -P: `run` at the top is a link to actions/run
package=$root${TORCHPERF_EXTRAS:+[$TORCHPERF_EXTRAS]} # what only some commands need is installed for those
home=${RUNNER_TOOL_CACHE:-${RUNNER_TEMP:-${TMPDIR:-/tmp}}}/torchperf-ci

newest_python() {
  local name
  for name in python3 python3.13 python3.12 python3.11 python3.14 python3.10 python; do
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  echo "::error::torchperf-ci needs uv, or a Python 3.10 or later with the venv module, on this runner." >&2
  return 2
}

# What the environment holds follows from these files alone.
version=$(find "$root/constraints.txt" "$root/pyproject.toml" "$root/src" -type f -not -path '*/__pycache__/*' -print0 |
  LC_ALL=C sort -z | xargs -0 cat | cksum | tr -d ' ')${TORCHPERF_EXTRAS:+-${TORCHPERF_EXTRAS//,/-}}
environment=$home/$version

if [[ ! -x $environment/bin/python ]]; then
  building=$home/$version.$$
  trap 'rm -rf "$building"' EXIT
  mkdir -p "$home"
  {
    if command -v uv >/dev/null; then
      uv venv --quiet --python '>=3.10' "$building"
      uv pip install --quiet --python "$building/bin/python" --constraint "$root/constraints.txt" "$package"
    else
      python=$(newest_python)
      "$python" -m venv "$building"
      "$building/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$root/constraints.txt" "$package"
    fi
  } >&2
  "$building/bin/python" -I -c 'import os, sys; os.rename(*sys.argv[1:])' "$building" "$environment" 2>/dev/null ||
    [[ -x $environment/bin/python ]] # another job may have been quicker
  trap - EXIT
  rm -rf "$building"
fi

# -I: nothing of the caller's, neither PYTHONPATH nor the current folder, takes the place of what is installed here.
exec "$environment/bin/python" -I -m torchperf_ci "$@"
