#!/usr/bin/env bash
# Runs `torchperf-ci "$@"` in a private environment, made once per version of this action and reused after that.
# The caller's Python is not touched: it is only measured. Needs bash and a Python 3.10 or later with venv, or uv.
set -euo pipefail

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
package=$root[history,hud] # with what only some commands need, so that all actions of a job share one environment

newest_python() {
  local name
  for name in python3 python3.13 python3.12 python3.11 python3.14 python3.10 python; do
    if "$name" -I -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  echo "::error::torchperf-ci needs uv, or a Python 3.10 or later with the venv module, on this runner." >&2
  return 2
}

writable() { # makes the folder, if it may
  mkdir -p "$1" 2>/dev/null && [[ -w $1 ]]
}

works() { # here: a container sees the environments of its host, whose Python it may not have
  "$1/bin/python" -I -c 'import torchperf_ci' 2>/dev/null
}

# A container job may run as somebody who may not write into the runner's folders.
home=${RUNNER_TOOL_CACHE:-${RUNNER_TEMP:-${TMPDIR:-/tmp}}}/torchperf-ci
if ! writable "$home"; then
  home=${TMPDIR:-/tmp}/torchperf-ci-$UID
  if ! writable "$home" || [[ ! -O $home ]]; then
    echo "::error::torchperf-ci can write neither into RUNNER_TOOL_CACHE (${RUNNER_TOOL_CACHE:-not set}) nor into $home." >&2
    exit 2
  fi
fi

# What the environment holds follows from these files alone.
version=$(find "$root/constraints.txt" "$root/pyproject.toml" "$root/src" -type f -not -path '*/__pycache__/*' -print0 |
  LC_ALL=C sort -z | xargs -0 cat | cksum | tr -d ' ')

environment=
for each in "$home/$version"-*; do
  if works "$each"; then
    environment=$each
    break
  fi
done

if [[ -z $environment ]]; then
  building=$home/building-$version-$$-$RANDOM
  trap 'rm -rf "$building"' EXIT
  ( # nothing that the caller has set for its own Python counts
    unset PYTHONHOME PYTHONPATH VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_CONSTRAINT UV_CONSTRAINT
    if command -v uv >/dev/null; then
      uv venv --quiet --no-project --python '>=3.10' "$building"
      uv pip install --quiet --python "$building/bin/python" --constraint "$root/constraints.txt" "$package"
    else
      python=$(newest_python)
      "$python" -I -m venv "$building"
      "$building/bin/python" -I -m pip install --quiet --disable-pip-version-check --constraint "$root/constraints.txt" "$package"
    fi
  ) >&2
  environment=$home/$version-$("$building/bin/python" -I -c 'import sys; print(sys.version, sys.base_prefix)' | cksum | tr -d ' ')
  works "$environment" || rm -rf "$environment" # its Python is gone
  "$building/bin/python" -I -c 'import os, sys; os.rename(*sys.argv[1:])' "$building" "$environment" 2>/dev/null ||
    works "$environment" # another job may have been quicker
  trap - EXIT
  rm -rf "$building"
  # What earlier versions left, when nobody has used it for a month.
  find "$home" -mindepth 1 -maxdepth 1 -type d -mtime +30 -exec rm -rf {} + 2>/dev/null || true
fi
touch -c "$environment" 2>/dev/null || true

# In a container job the checkout may belong to another user than the one who runs, and git would refuse it. The job
# trusts its checkout; so does git in what is started here, in worktrees of it as well.
if [[ ${GITHUB_ACTIONS:-} == true ]]; then
  count=${GIT_CONFIG_COUNT:-0}
  export GIT_CONFIG_COUNT=$((count + 1)) "GIT_CONFIG_KEY_$count=safe.directory" "GIT_CONFIG_VALUE_$count=*"
fi

# -I: nothing of the caller's, neither PYTHONPATH nor the current folder, takes the place of what is installed here.
exec "$environment/bin/python" -I -m torchperf_ci "$@"
