#!/usr/bin/env bash
# The welcome notebook in a browser, every kind of answer, and each inspector.
set -euo pipefail
command -v chromium >/dev/null || .ci/apt-install chromium fonts-dejavu-core
.venv/bin/python -m pip install --quiet --disable-pip-version-check playwright
.venv/bin/python tests/browser/welcome_in_chromium.py
.venv/bin/python -m tests.browser.answers_in_chromium
.venv/bin/python -m tests.browser.inspectors_in_chromium
