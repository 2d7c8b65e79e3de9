#!/usr/bin/env bash
# The official SDK against the TCP door: the newest, and 1.x in an environment that has nothing else.
set -euo pipefail
venv=$(mktemp -d /tmp/nbllama-sdk1.XXXXXX)
trap 'rm -rf "$venv"' EXIT
.venv/bin/python -m pytest tests/live_sdk
python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'anthropic>=1,<2' pytest
"$venv/bin/python" -c 'import anthropic; print("anthropic", anthropic.__version__)'
NBLLAMA_PYTHON=$PWD/.venv/bin/python "$venv/bin/python" -m pytest "--junitxml=${RESULTS:-$venv}/sdk.1x.xml" tests/live_sdk
