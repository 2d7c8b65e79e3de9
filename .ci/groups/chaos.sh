#!/usr/bin/env bash
# A minute of starters, requests and SIGKILLs; `make test` has twenty seconds of it.
set -euo pipefail
NBLLAMA_CHAOS_SECONDS=60 .venv/bin/python -m pytest -s tests/whole/test_chaos.py
