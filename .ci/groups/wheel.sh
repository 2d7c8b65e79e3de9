#!/usr/bin/env bash
# The package as users of pip get it: built without Node, installed into a clean environment, enabled, and answering.
set -euo pipefail
scratch=$(mktemp -d /tmp/nbllama-wheel.XXXXXX)
trap 'rm -rf "$scratch"' EXIT
unset PYTHONPATH PYTEST_ADDOPTS

# PATH without Node and npm: the build must not need them.
mkdir "$scratch/bin"
for tool in bash sh env git; do ln -s "$(command -v $tool)" "$scratch/bin/$tool"; done
PATH=$scratch/bin "$PWD/.venv/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$scratch" .
wheel=$(echo "$scratch"/nbllama-*.whl)
echo "built $(basename "$wheel"), $(stat -c %s "$wheel") bytes"

# Without its dependencies: finding a worker and reading what travels needs the standard library only.
python3 -m venv --without-pip "$scratch/bare"
.venv/bin/python -m pip --python "$scratch/bare/bin/python" install --quiet --disable-pip-version-check --no-deps "$wheel"
(cd / && "$scratch/bare/bin/python" -c 'import nbllama, nbllama.wire.sse, nbllama.worker.connection')
(cd / && NBLLAMA_RUNTIME_DIR=$scratch/run "$scratch/bare/bin/nbllama" status)

# With them, and with the llama.cpp that `make test` built.
llama=$(.venv/bin/python -c 'import sys; sys.path.insert(0, "scripts"); import llama_wheel; print(llama_wheel.cached())')
python3 -m venv "$scratch/full"
"$scratch/full/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel" "$llama"
"$scratch/full/bin/python" -m pip check
"$scratch/full/bin/jupyter" server extension list 2>&1 | tee "$scratch/extensions"
grep -q 'nbllama.*OK' "$scratch/extensions"
here=$PWD
(cd / && "$scratch/full/bin/python" "$here/.ci/installed.py" "$scratch/full/bin/nbllama" "$scratch/run2")
(cd / && "$scratch/full/bin/python" -c 'from nbllama.answer.published_models import SMOLLM2 as it; it.adapter.chat_template()')

# And nothing is left of it after stop, clean and uninstall.
(cd / && export HOME=$scratch/home NBLLAMA_RUNTIME_DIR=$scratch/run2 && mkdir "$HOME" &&
    { "$scratch/full/bin/nbllama" stop || true; } && "$scratch/full/bin/nbllama" clean --yes)
"$scratch/full/bin/python" -m pip uninstall --quiet --yes nbllama
left=$(find "$scratch/full" "$scratch/run2" "$scratch/home" -iname '*nbllama*' 2>/dev/null || true)
[ -z "$left" ] || { echo "left after the uninstall: $left"; exit 1; }
