#!/usr/bin/env bash
# Every tutorial, executed on the demo model, and on smollm2 where it was fetched.
set -euo pipefail
.venv/bin/python -m pytest tests/live_tutorials
