#!/usr/bin/env bash
# mypy, strict.
set -euo pipefail
.venv/bin/mypy
