#!/usr/bin/env bash
# Trains what needs no hub, evaluates it, and puts it into the package:
#
#     demo_model/run.sh smollm2 [MINUTES]     the adapter; run it again until it says that the schedule is over
#     demo_model/run.sh evaluate MODEL        the table of the model card
#
# Runs pause after MINUTES (default 55) and go on where they were. $TOKENS sets the length of the schedule.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv-training/bin/python}
runs=${RUNS:-build/training}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}

if [ ! -x "$python" ]; then
    python3 -m venv .venv-training
    "$python" -m pip install --quiet -r demo_model/requirements.txt
fi
mkdir -p "$runs"

case ${1:-} in
smollm2)
    checkpoint=$runs/smollm2.pt
    start=(--total-tokens "${TOKENS:-6e6}")
    [ -f "$checkpoint" ] && start=(--resume "$checkpoint")
    "$python" -u -m demo_model.smollm2.train --out "$checkpoint" "${start[@]}" --minutes "${2:-55}" |
        tee -a "$runs/smollm2.log"
    "$python" -m demo_model.smollm2.export "$checkpoint" nbllama/models/smollm2-tools.gguf
    ;;
evaluate)
    .venv/bin/python -m demo_model.evaluate "${2:-smollm2}" --json "$runs/${2:-smollm2}.json"
    ;;
*)
    sed -n '2,8p' "$0"
    exit 2
    ;;
esac
