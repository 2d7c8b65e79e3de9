#!/usr/bin/env bash
# A minute of fuzzing: request bodies, and streams of server-sent events. An input that breaks something stays in
# build/ci/fuzz; what finds new ways through the code may be added to tests/fuzz/corpus.
set -euo pipefail
work=$PWD/build/ci/fuzz
rm -rf "$work"
mkdir -p "$work/found"
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check atheris pydantic
PYTHONPATH=$PWD "$work/venv/bin/python" tests/fuzz/fuzz_wire.py "$work/found" tests/fuzz/corpus \
    "-artifact_prefix=$work/" -max_total_time="${NBLLAMA_FUZZ_SECONDS:-60}" -max_len=20000 -timeout=10 \
    -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0
echo "inputs that found something new: $(find "$work/found" -type f | wc -l)"
