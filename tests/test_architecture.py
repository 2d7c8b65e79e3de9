"""Imports point one way, heavy libraries have one door each, and a kernel stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "nbllama"

EVERYBODY = {"errors", "_version"}
CLIENT_SIDE = {"worker.api_key", "worker.connection", "worker.errors"}
# Folder → what of ours it may import: a folder, or one module of a folder.
MAY_IMPORT: dict[str, set[str]] = {
    "wire": set(),
    "chat": {"wire"},
    "engine": set(),
    "answer": {"wire", "chat", "engine"},
    # Pure: a record in, rows, text and HTML out.
    "views": {"wire"},
    # Requests in, recorded answers out; a kernel plays and records in its own process.
    "cassettes": {"wire", "views", *CLIENT_SIDE},
    "worker": {"wire", "answer", "engine", "views"},
    "server": {"wire", "worker.relay", "worker.link", *CLIENT_SIDE},
    "notebook": {"wire", "views", "cassettes", *CLIENT_SIDE},
    "cli": {"wire", "chat", "engine", "answer", "worker", "server", "notebook", "views", "cassettes"},
}

# Library → the only places that may import it.
DOORS: dict[str, set[str]] = {
    "llama_cpp": {f"engine/llama_{name}.py" for name in ("adapter", "runtime", "sampler", "vocabulary")},
    "llguidance": {"chat/grammar.py"},
    "jinja2": {"chat"},
    "pydantic": {"wire"},
    "tornado": {"worker", "server", "cli"},
    "jupyter_server": {"server"},
    "prometheus_client": {"server"},
    "anthropic": {"notebook"},
    "pandas": {"notebook"},
    # The hooks of `%load_ext` name its type; that they do not load it is tested below.
    "IPython": {"notebook", "__init__.py"},
    "ipywidgets": {"notebook"},
    "pypdf": {"answer/pdf_text.py"},
    "numpy": {"engine", "chat/grammar.py"},
    "gguf": {"engine/merging.py"},
}

# What a kernel imports must not pull a server or an engine into it: all of these folders, and the client's side.
LIGHT_FOLDERS = ("wire", "chat", "views", "cassettes", "notebook")
# Grammars are made where a model is, in the worker.
NOT_LIGHT = {"nbllama.chat.grammar"}
BLOCKED = ("llama_cpp", "llguidance", "tornado", "jupyter_server")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_point_one_way(folder: str) -> None:
    allowed = MAY_IMPORT[folder] | {folder} | EVERYBODY
    for path in files(folder):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "nbllama" or len(parts) == 1:
                continue
            known = {parts[1], ".".join(parts[1:3])}
            # `from nbllama.worker import connection` names the folder first and the module after it.
            if len(parts) == 2 and any(rule.startswith(f"{parts[1]}.") for rule in allowed):
                continue
            assert known & allowed, f"{path.relative_to(ROOT)} imports {name}"


def test_every_folder_has_a_row() -> None:
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} <= set(MAY_IMPORT)


@pytest.mark.parametrize("library", DOORS)
def test_heavy_libraries_have_one_door(library: str) -> None:
    for path in ROOT.rglob("*.py"):
        relative = path.relative_to(ROOT)
        if any(name.split(".")[0] == library for name in imports(path)):
            places = {relative.parts[0], relative.as_posix()}
            assert places & DOORS[library], f"{relative} imports {library}"


def test_views_need_nothing_but_python_and_the_wire() -> None:
    for path in files("views"):
        for name in imports(path):
            library = name.split(".")[0]
            assert library in sys.stdlib_module_names or library == "nbllama", f"{path.name} imports {name}"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=False)


def test_a_kernel_needs_no_server_and_no_engine() -> None:
    paths = [path.relative_to(ROOT.parent) for folder in LIGHT_FOLDERS for path in files(folder)]
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths}
    modules |= {f"nbllama.{module}" for module in CLIENT_SIDE}
    modules -= NOT_LIGHT
    block = f"import sys\nfor name in {BLOCKED}: sys.modules[name] = None\n"
    result = run(block + "\n".join(f"import {module}" for module in sorted(modules)))

    assert result.returncode == 0, result.stderr


def test_importing_nbllama_loads_nothing_heavy() -> None:
    heavy = "('pandas', 'llama_cpp', 'anthropic', 'pydantic', 'tornado', 'IPython', 'jinja2', 'numpy')"
    result = run(f"import sys, nbllama\nprint([name for name in {heavy} if name in sys.modules])")

    assert result.stdout.strip() == "[]", result.stdout + result.stderr
