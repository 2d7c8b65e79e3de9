#!/usr/bin/env bash
# A real model, fetched as a user fetches it.
set -euo pipefail
.venv/bin/nbllama models get smollm2
.venv/bin/python -m pytest tests/live_smollm2
