#!/usr/bin/env bash
# The tests and the examples of the official SDK, as its source distribution has them, against `nbllama serve`: the
# generation that nbllama itself uses, and 1.x.
set -euo pipefail
work=$PWD/build/ci/sdk-suite
rm -rf "$work"
mkdir -p "$work"

# What the suite's own conftest imports, beside the SDK.
needs=(respx pytest pytest-asyncio time-machine dirty-equals importlib-metadata rich inline-snapshot 'http-snapshot[httpx]==0.1.9')
# For the example that starts an MCP server.
command -v npm >/dev/null || .ci/apt-install nodejs npm
echo '{"private": true}' >"$work/package.json"
(cd "$work" && npm install --no-audit --no-fund --no-package-lock --loglevel=error @modelcontextprotocol/server-filesystem@latest)
export NBLLAMA_SDK_NODE_MODULES=$work/node_modules
status=0

# suite NAME VERSION
suite() {
    local python=$work/$1/bin/python source
    python3 -m venv "$work/$1"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary anthropic --dest "$work/$1" "anthropic$2"
    tar xzf "$work/$1"/anthropic-*.tar.gz -C "$work/$1"
    source=$(echo "$work/$1"/anthropic-*/)
    "$python" -m pip install --quiet --disable-pip-version-check "$source[aiohttp,mcp]" "${needs[@]}"
    echo "--- $(basename "$source"): its tests"
    PYTHONPATH=$PWD .ci/alone .venv/bin/python tests/live_sdk_suite/run_suite.py \
        "$source" "$python" "${RESULTS:-$work}/sdk-suite.$1.xml" || status=1
    echo "--- $(basename "$source"): its examples"
    NBLLAMA_SDK=$source NBLLAMA_SDK_PYTHON=$python .ci/alone .venv/bin/python -m pytest tests/live_sdk_suite \
        "--junitxml=${RESULTS:-$work}/sdk-suite.$1.examples.xml" || status=1
}

suite 2x "==$(.venv/bin/python -c 'import anthropic; print(anthropic.__version__)')"
suite 1x ">=1,<2"
exit $status
