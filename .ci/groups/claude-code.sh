#!/usr/bin/env bash
# The newest Claude Code against `nbllama serve`, in a network of its own that has nothing but loopback.
set -euo pipefail
scratch=$(mktemp -d /tmp/nbllama-cc.XXXXXX)
trap 'rm -rf "$scratch"' EXIT
if command -v npm >/dev/null; then
    echo '{"name":"cc","private":true}' >"$scratch/package.json"
    (cd "$scratch" && npm install --no-audit --no-fund --loglevel=error @anthropic-ai/claude-code@latest)
    claude=$scratch/node_modules/.bin/claude
else
    # The Python SDK brings the same program, without Node.
    python3 -m venv "$scratch/venv"
    "$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps claude-agent-sdk
    claude=$(echo "$scratch"/venv/lib/python3*/site-packages/claude_agent_sdk/_bundled/claude)
fi
export CLAUDE=$claude
"$CLAUDE" --version
alone=()
if unshare -n true 2>/dev/null; then
    command -v ip >/dev/null || .ci/apt-install iproute2
    alone=(unshare -n bash -c 'ip link set lo up; exec "$@"' _)
fi
"${alone[@]}" .venv/bin/python -m pytest tests/live_claude_code
