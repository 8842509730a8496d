#!/usr/bin/env bash
# Builds the distributions into dist/ and runs the tests against the installed wheel, away from the source.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rm -rf dist
scratch=$(mktemp -d)
python -m venv "$scratch/venv"
trap 'rm -rf "$scratch"' EXIT
bin=$scratch/venv/bin
"$bin/python" -m pip install --quiet --upgrade pip build -c constraints.txt
"$bin/python" -m build --outdir dist .
"$bin/python" -m pip install --quiet -c constraints.txt "$(echo dist/*.whl)[bench]" --group dev

tag=${GITHUB_REF_NAME:-}
version=$("$bin/torchperf-ci" --version | grep -oE '[0-9]+(\.[0-9]+)+.*')
if [[ $tag == v* && $tag != "v$version" ]]; then
  echo "::error::the tag is $tag, and the wheel says that it is $version" >&2
  exit 2
fi
"$bin/python" -I -m pytest -m "not gpu and not engine"
