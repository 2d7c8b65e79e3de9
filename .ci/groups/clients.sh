#!/usr/bin/env bash
# The examples of docs/clients.md by the newest version of each client, each in an environment without nbllama.
set -euo pipefail
NBLLAMA_CLIENTS=$PWD/build/ci/clients
export NBLLAMA_CLIENTS
rm -rf "$NBLLAMA_CLIENTS"
mkdir -p "$NBLLAMA_CLIENTS/node"

# environment NAME REQUIREMENT…
environment() {
    local python=$NBLLAMA_CLIENTS/$1/bin/python
    python3 -m venv "$NBLLAMA_CLIENTS/$1"
    "$python" -m pip install --quiet --disable-pip-version-check "${@:2}"
    "$python" -c 'import anthropic, sys; print(sys.argv[1], "has anthropic", anthropic.__version__)' "$1"
}

missing=()
command -v curl >/dev/null || missing+=(curl)
command -v npm >/dev/null || missing+=(nodejs npm)
[ ${#missing[@]} -eq 0 ] || .ci/apt-install "${missing[@]}"
environment python anthropic litellm langchain-anthropic 'chatlas[anthropic]'
environment anthropic-1 'anthropic>=1,<2'
environment claudette claudette 'anthropic<1'
echo '{"private": true}' >"$NBLLAMA_CLIENTS/node/package.json"
(cd "$NBLLAMA_CLIENTS/node" && npm install --no-audit --no-fund --no-package-lock --loglevel=error @anthropic-ai/sdk@latest)

.ci/alone .venv/bin/python -m pytest tests/live_clients
