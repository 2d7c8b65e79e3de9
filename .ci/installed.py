"""Asks an installed nbllama one question over its TCP door: `installed.py NBLLAMA RUNTIME_FOLDER`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from importlib.resources import files


def main(nbllama: str, runtime_dir: str) -> None:
    demo = files("nbllama") / "models" / "demo.gguf"
    assert demo.is_file(), "the wheel lacks the embedded model"
    env = {**os.environ, "NBLLAMA_RUNTIME_DIR": runtime_dir}
    command = [nbllama, "serve", "--model", "demo", "--port", "0", "--token", "of-this-test"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as door:
        try:
            line = door.stdout.readline() if door.stdout else ""
            print(line, end="")
            print(ask(line.split()[-1]))
        finally:
            door.terminate()


def ask(url: str) -> str:
    body = {"model": "demo", "max_tokens": 40, "messages": [{"role": "user", "content": "Hello!"}]}
    headers = {"content-type": "application/json", "x-api-key": "of-this-test"}
    request = urllib.request.Request(f"{url}/v1/messages", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        message = json.load(answer)
    assert message["usage"]["output_tokens"] > 0, message
    return str(message["content"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
