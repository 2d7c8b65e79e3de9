"""Runs the SDK's own tests against `nbllama serve`: `run_suite.py SOURCE PYTHON REPORT`.

SOURCE is an unpacked source distribution of the SDK, PYTHON the interpreter that has the SDK and what its tests need,
REPORT the XML file to write. The exit status is pytest's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.serve_process import Door, serving

HERE = Path(__file__).parent
# What the suite sends as its key, and the id that it expects GET /v1/models/{id} to know.
KEY, MODEL_ID = "my-anthropic-api-key", "model_id"
MODULES = [
    "tests/api_resources/test_messages.py",
    "tests/api_resources/test_models.py",
    "tests/api_resources/beta/test_messages.py",
    "tests/api_resources/beta/test_models.py",
]


def main(source: Path, python: Path, report: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="nbllama-suite-") as folder:
        script = Path(folder, "suite.json")
        script.write_text(json.dumps({"default": "Hello! How can I help you?"}))
        model = f"scripted:{script}"
        os.environ |= {"NBLLAMA_MODEL_ALIASES": f"{MODEL_ID}={model}", "NBLLAMA_LENIENT": "true"}
        with serving(model, "--token", KEY) as door:
            return run(source, python, report, door, home=folder)


def run(source: Path, python: Path, report: Path, door: Door, *, home: str) -> int:
    # The suite's own settings, but for the plugin that would run it in several processes.
    options = ["-o", "addopts=", "-p", "tests._alias_httpx", "-p", "no:cacheprovider", "-p", "expected_failures"]
    command = [str(python), "-m", "pytest", *options, "-q", "--tb=short", "--show-capture=no", f"--junitxml={report}"]
    env = {"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": str(HERE), "TEST_API_BASE_URL": door.url}
    return subprocess.run([*command, *MODULES], cwd=source, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*(Path(argument).absolute() for argument in sys.argv[1:4])))
