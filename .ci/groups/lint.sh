#!/usr/bin/env bash
# Lint and formatting.
set -euo pipefail
.venv/bin/ruff check .
.venv/bin/ruff format --check .
