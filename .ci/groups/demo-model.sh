#!/usr/bin/env bash
# What trains the models: the data, and the trainer with PyTorch, which has a venv of its own on top of the project's.
set -euo pipefail
venv=$(mktemp -d /tmp/nbllama-training.XXXXXX)
trap 'rm -rf "$venv"' EXIT
.venv/bin/nbllama models get smollm2
python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r demo_model/requirements.txt pytest
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
PYTHONPATH=$site "$venv/bin/python" -m pytest tests/demo_model
