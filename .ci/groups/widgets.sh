#!/usr/bin/env bash
# The live views of the inspectors in a browser.
set -euo pipefail
command -v chromium >/dev/null || .ci/apt-install chromium fonts-dejavu-core
.venv/bin/python -m pip install --quiet --disable-pip-version-check playwright
.venv/bin/python -m tests.browser.widgets_in_chromium
