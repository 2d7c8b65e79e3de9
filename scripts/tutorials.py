"""Runs the tutorials and writes their outputs back, with what differs from run to run masked.

    .venv/bin/python scripts/tutorials.py [NAME …] [--model MODEL]

The notebooks are their own source: edit them in JupyterLab, then run this before a commit. NAME is the beginning of a
file's name, as in `04`; without one, all tutorials are run, each with a kernel and a worker of its own. MODEL is as in
NBLLAMA_MODEL; without it, `smollm2` where it is, else `demo`. Exit status 0 only if each cell gives what its tags say.

Tags of cells: `exercise` (to be filled in), `check` (prints how an exercise went), `solution` (Markdown, the code of
the exercise before it), `shows-answer`, `shows-text`, `shows-table` (what a code cell must give), `times` (its decimals
are masked), `raises-exception` (it must raise).
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
REAL_MODEL = "smollm2"

ID = re.compile(r"\b(msg|req|toolu)_[A-Za-z0-9]{6,}")
MASKS = (
    (re.compile(r"[\d,.]+ tokens/s"), "… tokens/s"),
    (re.compile(r"(signature[\"']?[:=] ?[\"'])[A-Za-z0-9+/=_-]{8,}"), r"\1…"),
    (re.compile(r"sk-[A-Za-z0-9_-]{8,}"), "sk-…"),
    (re.compile(r"(?<![\w/.<])/(?:home|root|tmp|work|usr|opt|Users|private|var)/[^\s\"'<>,)]*"), "/…"),
    (re.compile(r"\bpid \d+"), "pid …"),
    (re.compile(r"\b\d+\.\d+ s\b"), "… s"),
    (re.compile(rf"\b{re.escape(socket.gethostname())}\b(?<!localhost)"), "…"),
)
DECIMAL = re.compile(r"\b\d+\.\d+\b")
SOLUTION = re.compile(r"```python\n(.*?)```", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help="the beginning of a file's name; all without one")
    parser.add_argument("--model", help="as in NBLLAMA_MODEL; without it, smollm2 where it is, else demo")
    arguments = parser.parse_args()
    failed = False
    for path in tutorials(arguments.names):
        started = time.perf_counter()
        notebook = execute(read(path), arguments.model or best_model())
        found = problems(notebook)
        for problem in found:
            print(f"{path.name}: {problem}", file=sys.stderr)
        if found:
            failed = True
            continue
        mask(notebook)
        path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")  # type: ignore[no-untyped-call]
        print(f"{path.name}: {time.perf_counter() - started:.0f} s")
    return int(failed)


def tutorials(names: list[str] | None = None) -> list[Path]:
    """The files of the lessons, in their order: each notebook that says how many minutes it takes."""
    paths = [path for path in sorted(FOLDER.glob("*.ipynb")) if minutes(read(path)) is not None]
    return [path for path in paths if not names or path.name.startswith(tuple(names))]


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def minutes(notebook: Any) -> int | None:
    """The reading time that a lesson states; None if it is none."""
    found = re.search(r"\*\*Reading time\*\*: (\d+) minutes", notebook.cells[0].source)
    return int(found[1]) if found else None


def best_model() -> str:
    from nbllama.answer.model_sources import ModelError, resolve

    try:
        resolve(REAL_MODEL)
    except ModelError:
        return "demo"
    return REAL_MODEL


def execute(notebook: Any, model: str, timeout: int = 300) -> Any:
    """The notebook after a run from its top in a fresh kernel, whose worker is its own. `timeout`: seconds per cell.

    Raises nbclient's CellExecutionError where a cell fails that is not tagged `raises-exception`."""
    with tempfile.TemporaryDirectory(prefix="nb-", dir="/tmp") as folder:
        env = environment(folder, model)
        client = NotebookClient(notebook, timeout=timeout, kernel_name="python3", coalesce_streams=True)
        try:
            client.execute(cwd=str(FOLDER), env=env)
        finally:
            stop = [sys.executable, "-m", "nbllama", "stop"]
            subprocess.run(stop, env=env, capture_output=True, check=False, timeout=60)
    return tidy(client.nb)


def environment(folder: str, model: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NBLLAMA_", "ANTHROPIC_"))}
    own = {"IPYTHONDIR": str(Path(folder, "ipython")), "NBLLAMA_RUNTIME_DIR": str(Path(folder, "run"))}
    return {**kept, **own, "NBLLAMA_MODEL": model, "PYTHONPATH": str(ROOT)}


def tidy(notebook: Any) -> Any:
    """Without what a run leaves in metadata."""
    notebook.metadata.language_info = {"name": "python"}
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    return notebook


def problems(notebook: Any) -> list[str]:
    """A sentence for each code cell that does not give what its tags say."""
    found = []
    for cell in code_cells(notebook):
        for tag, holds in RULES.items():
            if tag in tags(cell) and not holds(cell):
                found.append(f"the cell {cell.id} is tagged {tag}, but gives {kinds(cell)}")
        if "raises-exception" not in tags(cell) and "error" in kinds(cell):
            found.append(f"the cell {cell.id} ends in an error")
    return found


def unsolved(notebook: Any) -> list[str]:
    """The ids of the checks that do not find the exercise done."""
    from notebooks.lesson import NOT_YET

    checks = [cell for cell in code_cells(notebook) if "check" in tags(cell)]
    return [cell.id for cell in checks if not text(cell) or NOT_YET in text(cell)]


def with_solutions(notebook: Any) -> Any:
    """The notebook with the code of each solution in its exercise."""
    exercise = None
    for cell in notebook.cells:
        if "exercise" in tags(cell):
            exercise = cell
        elif "solution" in tags(cell) and exercise is not None:
            exercise.source = "\n".join(SOLUTION.findall(cell.source)).rstrip()
            exercise = None
    return notebook


def mask(notebook: Any) -> None:
    """Replaces in the outputs what is of this run or this machine alone; an id gets the same name wherever it is."""
    names: dict[str, str] = {}
    numbers = itertools.count(1)

    def name(match: re.Match[str]) -> str:
        if match[0] not in names:
            names[match[0]] = f"{match[1]}_{next(numbers):02}"
        return names[match[0]]

    for cell in code_cells(notebook):
        for place, key in texts(cell):
            masked = ID.sub(name, place[key])
            for pattern, instead in MASKS:
                masked = pattern.sub(instead, masked)
            place[key] = DECIMAL.sub("…", masked) if "times" in tags(cell) else masked


def texts(cell: Any) -> Iterator[tuple[Any, Any]]:
    """Where the outputs of a cell keep text: a container and its key."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output, "text"
        elif output.output_type == "error":
            yield output, "evalue"
            yield from ((output.traceback, n) for n in range(len(output.traceback)))
        else:
            yield from ((output.data, kind) for kind, data in output.data.items() if isinstance(data, str))


def text(cell: Any) -> str:
    return "\n".join(place[key] for place, key in texts(cell))


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def kinds(cell: Any) -> list[str]:
    """Stream, error, or the types of what is shown."""
    found: list[str] = []
    for output in cell.outputs:
        found += output.data if "data" in output else [output.output_type]
    return found


RULES: dict[str, Callable[[Any], bool]] = {
    "raises-exception": lambda cell: "error" in kinds(cell),
    "shows-answer": lambda cell: "text/html" in kinds(cell) and "stream" not in kinds(cell),
    "shows-table": lambda cell: "<table" in text(cell),
    "shows-text": lambda cell: bool(text(cell).strip()),
    "check": lambda cell: "stream" in kinds(cell),
}


if __name__ == "__main__":
    # A script has its own folder on the path, not that of the project.
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
