"""`--code`, `-i` and `%llama error` in a real IPython shell."""

from __future__ import annotations

import pytest

from nbllama.notebook.magics.code_cell import FIRST_LINE, PROMPT
from tests.notebook.conftest import Shell
from tests.notebook.fake_worker import FakeWorker, end, end_of_block, start_of_text, text, text_answer


def asked(worker: FakeWorker) -> str:
    content = worker.requests("/v1/messages")[-1].body["messages"][-1]["content"]
    assert isinstance(content, str)
    return content


@pytest.fixture
def cells(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The new cells that were asked for, with whether they replace the one that was run."""
    made: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        type(shell.ip), "set_next_input", lambda _, code, replace=False: made.append((code, replace)), raising=False
    )
    return made


def test_code_goes_into_a_new_cell_and_is_not_run(
    shell: Shell, worker: FakeWorker, cells: list[tuple[str, bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    worker.steps = text_answer("Here:\n```python\nran = ", "True\n```\n")
    shell.run("%%llama --code\nSet ran")

    assert cells == [(f"{FIRST_LINE}\nran = True", False)]
    assert "ran" not in shell.ip.user_ns
    assert asked(worker) == f"Set ran\n\n{PROMPT}"
    worker.steps = text_answer("I cannot.")
    shell.run("%%llama --code\nSet ran")
    assert len(cells) == 1 and "no block of Python code" in capsys.readouterr().out


def test_half_an_answer_makes_no_silent_cell(shell: Shell, worker: FakeWorker, cells: list[tuple[str, bool]]) -> None:
    worker.steps = [*start_of_text(), text("```python\nx = 1\ny ="), *end_of_block(0), *end("max_tokens")]
    shell.run("%%llama --code\nHi")
    assert cells[0][0].endswith("y =\n# the answer was cut off here (-n raises max_tokens)")

    worker.steps = [*start_of_text(), text("```python\nx = 1"), "die"]
    shell.fails("%%llama --code\nHi")
    assert len(cells) == 1


def test_a_frame_goes_along_and_is_shown_first(shell: Shell, worker: FakeWorker) -> None:
    shell.run("import pandas as pd\nprices = pd.DataFrame({'<b>city': ['{{x}}', 'Rome']})\nx = 1")
    shell.run("%%llama -i prices --budget 60\nWhich {{x}}?")
    first = shell.displays[0][0]

    frame, _, prompt = asked(worker).rpartition("\n\n")
    assert prompt == "Which 1?" and "2 rows x 1 columns" in frame and "\n{{x}}\nRome" in frame
    assert frame in first["text/plain"] and "prices, 18 of at most 60 tokens" in first["text/html"]
    assert "<b>" not in first["text/html"]
    assert [received.path for received in worker.received if received.path == "/v1/messages"] == ["/v1/messages"]


def test_the_last_error_is_asked_about_with_its_cell(shell: Shell, worker: FakeWorker) -> None:
    shell.fails("def half(x):\n    return x / 0\nhalf(8)")
    shell.fails("%%llama -m zebra\nHi")
    shell.fails("%llama bogus")
    shell.run("%llama error why so")
    question = asked(worker)

    assert "```python\ndef half(x):\n    return x / 0\nhalf(8)\n```" in question
    assert "ZeroDivisionError" in question and "IPython" not in question and question.endswith("\n\nwhy so")
    assert question in shell.displays[0][0]["text/plain"]


def test_errors_of_every_kind_can_be_asked_about(shell: Shell, worker: FakeWorker) -> None:
    for cell, words in (
        ("x ===", "SyntaxError"),
        ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    {}['a']", "During handling of the above"),
        ("raise ValueError('v' * 100_000)", "…"),
        ("1 / 0  # {{x}}", "{{x}}"),
    ):
        shell.fails(cell)
        shell.run("%llama error -n 5")
        assert words in asked(worker) and cell in asked(worker)
        assert len(asked(worker)) < 9_000
    assert asked(worker).endswith("What is wrong, and how is it mended?")
