#!/usr/bin/env bash
# Runs `torchperf-ci "$@"` in a private environment, made once per version of this action and reused after that.
# The caller's Python is not touched: it is only measured. Needs bash and a Python 3.10 or later with venv, or uv.
set -euo pipefail

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# Few commands are enough with little, which is there in a moment; everything else shares one environment.
needs=all
case ${1:-} in
accept | post | check | update-expected) needs=light ;; # no statistics, no charts
plan) [[ -n ${TORCHPERF_HISTORY:-}${TORCHPERF_DATA_BRANCH:-}${TORCHPERF_ARGS:-} ]] || needs=light ;; # no history is read
esac

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

ours() { # a folder, not a link to one, that belongs to us, and into which nobody else may write: what it holds is run
  [[ -d $1 && ! -L $1 && -O $1 && -w $1 ]] && [[ -z $(find "$1" -prune \( -perm -020 -o -perm -002 \)) ]]
}

makes() { # the folder, if it may
  (umask 022 && mkdir -p "$1" 2>/dev/null) && ours "$1"
}

works() { # here: a container sees the environments of its host, whose Python it may not have
  ours "$1" && "$1/bin/python" -I -c 'import torchperf_ci' 2>/dev/null
}

# A container job may run as somebody who may not write into the runner's folders, and others may write into /tmp.
home=
for each in ${RUNNER_TOOL_CACHE:+"$RUNNER_TOOL_CACHE/torchperf-ci" "$RUNNER_TOOL_CACHE/torchperf-ci-$UID"} \
  ${RUNNER_TEMP:+"$RUNNER_TEMP/torchperf-ci"} "${TMPDIR:-/tmp}/torchperf-ci-$UID"; do
  if makes "$each"; then
    home=$each
    break
  fi
done
if [[ -z $home ]] && ! home=$(mktemp -d "${TMPDIR:-/tmp}/torchperf-ci-XXXXXXXX" 2>/dev/null); then
  echo "::error::torchperf-ci can write neither into RUNNER_TOOL_CACHE (${RUNNER_TOOL_CACHE:-not set}) nor into ${TMPDIR:-/tmp}." >&2
  exit 2
fi

# What an environment holds follows from these files alone.
version=$(find "$root/constraints.txt" "$root/actions" "$root/src" -type f -not -path '*/__pycache__/*' -not -name action.yml -print0 |
  LC_ALL=C sort -z | xargs -0 cat | cksum | tr -d ' ')

environment=
for each in "$home/$version-all"-* "$home/$version-$needs"-*; do
  if works "$each"; then
    environment=$each
    break
  fi
done

find_uv() { # the runner's, else ours, pinned to its hashes
  local uv python
  command -v uv && return
  read -r uv _ <"$root/actions/uv.txt"
  uv=$home/${uv/==/-}
  if ! { ours "$uv" && "$uv/bin/uv" --version >/dev/null 2>&1; }; then
    python=$(newest_python) || return
    "$python" -I -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
      --target "$building-uv" --requirement "$root/actions/uv.txt" >&2 || return
    rm -rf "$uv"
    mv "$building-uv" "$uv" 2>/dev/null || true # another job may have been quicker
  fi
  "$uv/bin/uv" --version >/dev/null && echo "$uv/bin/uv"
}

install() { # into the environment $building, with nothing that the caller has set for its own Python
  local uv requirements
  requirements=(--constraint "$root/constraints.txt" --requirement "$root/actions/requirements-$needs.txt")
  unset PYTHONHOME PYTHONPATH VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_CONSTRAINT PIP_REQUIREMENT \
    UV_CONSTRAINT UV_SYSTEM_PYTHON UV_PYTHON
  export UV_CACHE_DIR=$home/cache/uv PIP_CACHE_DIR=$home/cache/pip PIP_ROOT_USER_ACTION=ignore # others may have written into the usual ones
  umask 022
  if uv=$(find_uv); then
    "$uv" venv --quiet --no-project --python '>=3.10' "$building" &&
      "$uv" pip install --quiet --python "$building/bin/python" "${requirements[@]}" || return
  else
    python=$(newest_python 2>/dev/null) || return 2
    echo "torchperf-ci: uv cannot be installed here; pip installs instead, which takes longer" >&2
    "$python" -I -m venv "$building" &&
      "$building/bin/python" -I -m pip install --quiet --disable-pip-version-check "${requirements[@]}" || return
  fi
  cp -R "$root/src/torchperf_ci" "$("$building/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/"
}

if [[ -z $environment ]]; then
  building=$home/building-$version-$$-$RANDOM
  trap 'rm -rf "$building" "$building-uv"' EXIT
  (install) >&2
  environment=$home/$version-$needs-$("$building/bin/python" -I -c 'import sys; print(sys.version, sys.base_prefix)' | cksum | tr -d ' ')
  works "$environment" || rm -rf "$environment" # its Python is gone, or it is not ours
  "$building/bin/python" -I -c 'import os, sys; os.rename(*sys.argv[1:])' "$building" "$environment" 2>/dev/null ||
    works "$environment" # another job may have been quicker
  trap - EXIT
  rm -rf "$building" "$building-uv"
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
