"""The welcome notebook, executed by nbclient with the real demo model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from nbllama.worker import connection

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "00_welcome.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The notebook after a run with a worker of its own; executing raises if a cell fails."""
    folder = tmp_path_factory.mktemp("w")
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]  # nbformat is not typed
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBLLAMA_RUNTIME_DIR", str(folder / "run"))
        patch.delenv("NBLLAMA_MODEL", raising=False)
        patch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
        client = NotebookClient(notebook, timeout=120, kernel_name="python3", coalesce_streams=True)
        client.execute(cwd=str(folder))
        yield client.nb
        if endpoint := connection.find():
            connection.stop(endpoint)


def outputs_after(notebook: Any, first_line: str) -> list[Any]:
    """The outputs of the first code cell that contains this line."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and first_line in cell.source]
    return list(cells[0].outputs)


def test_an_answer_is_on_the_screen_once_as_text_and_html(executed: Any) -> None:
    outputs = outputs_after(executed, "Who are you?")

    assert len(outputs) == 1
    assert outputs[0].data["text/plain"] == "I am a tiny demo model that runs inside Jupyter."
    assert "I am a tiny demo model" in outputs[0].data["text/html"]
    assert "4.8 M parameters" in outputs[0].data["text/html"]


def test_thinking_is_collapsed(executed: Any) -> None:
    (output,) = outputs_after(executed, "--thinking")

    assert "<details" in output.data["text/html"]
    assert "<details open" not in output.data["text/html"]


def test_the_tool_loop_ends_with_an_answer(executed: Any) -> None:
    (output,) = outputs_after(executed, "tool_result")

    assert "get_weather" in output.text
    assert "The weather in Paris is sunny" in output.text


def test_the_committed_outputs_are_those_of_a_run(executed: Any) -> None:
    """What a reader sees before running anything is what running gives."""
    committed = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]  # nbformat is not typed

    for first_line in ("Who are you?", "tool_result"):
        then, now = outputs_after(committed, first_line), outputs_after(executed, first_line)
        assert [_text(output) for output in then] == [_text(output) for output in now]


def _text(output: Any) -> str:
    return str(output.text if output.output_type == "stream" else output.data["text/plain"])
