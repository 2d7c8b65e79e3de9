"""What a cell shows of an error: what is wrong and what to do, in a real kernel with a real worker."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.notebook.real_kernel import Kernel, real_kernel

# Event loops that jupyter_client does not close.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SCRIPT = {"n_ctx": 60, "rules": [{"when": "break", "answer": "one two three four", "fail_after": 2}]}
IMAGE = (
    '[{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}, '
    '{"type": "text", "text": "What is it?"}]'
)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with real_kernel(SCRIPT) as started:
        started.run("client = nbllama.client(max_retries=0); long = 'word ' * 500")
        yield started


def create(content: str, more: str = "") -> str:
    message = f'{{"role": "user", "content": {content}}}'
    return f'client.messages.create(model="model", max_tokens=20, messages=[{message}]{more})'


@pytest.mark.parametrize(
    ("cell", "what", "fix"),
    [
        ("%%llama\n{{long}}", "AskError: invalid_request_error: prompt is too long", "shorten it"),
        ("%%llama\nbreak", "AskError: api_error: ", ""),
        ("%%llama -m modle\nHi", "AskError: not_found_error: ", "did you mean model?"),
        ("%llama load /nowhere.gguf", "AskError: ", "→ "),
        ("%llama load nobody", "AskError: ", ""),
        ("nbllama.trace('req_nobody')", "TraceError: no trace of req_nobody", ""),
        (create("long"), "BadRequestError: invalid_request_error (400): prompt is too long", "shorten it"),
        (create(IMAGE), "BadRequestError: invalid_request_error (400): ", "load a model that sees images"),
        (create('"Hi"', ", extra_body={'temperature': 7}"), "BadRequestError: invalid_request_error (400): ", ""),
        ('client.models.retrieve("nobody")', "NotFoundError: not_found_error (404): ", ""),
        (
            "with " + create('"break"').replace("create", "stream") + " as stream:\n    stream.get_final_message()",
            "APIStatusError: api_error: ",
            "",
        ),
        (
            "await nbllama.async_client(max_retries=0)." + create("long").removeprefix("client."),
            "BadRequestError: invalid_request_error (400): prompt is too long",
            "shorten it",
        ),
        (
            'nbllama.client(base_url="http://127.0.0.1:9", api_key="x", max_retries=0).models.list()',
            "APIConnectionError: ",
            "",
        ),
    ],
)
def test_an_error_is_a_line_and_its_fix(kernel: Kernel, cell: str, what: str, fix: str) -> None:
    reply = kernel.run(cell)
    lines = kernel.traceback
    said = f"{reply['ename']}: {reply['evalue']}" if what.startswith(("Ask", "Trace")) else "\n".join(lines)

    assert reply["status"] == "error"
    assert said.startswith(what) and fix in said
    assert len(lines) <= 3 and "Traceback" not in "".join(lines)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%%llama --bogus\nHi", "unrecognized arguments: --bogus\n→ %%llama [-m MODEL]"),
        ("%%llama -n many\nHi", "invalid int value: 'many'\n→ %%llama [-m MODEL]"),
        ("%%llama\n{{lnog}}", "there is no variable lnog\n→ did you mean long?"),
        ("%%llama\n{{zzzzz}}", "there is no variable zzzzz\n→ give it a value"),
    ],
)
def test_a_mistake_is_told_with_its_usage(kernel: Kernel, cell: str, said: str) -> None:
    reply = kernel.run(cell)

    assert (reply["status"], reply["ename"]) == ("error", "UsageError")
    assert said in reply["evalue"] and said in kernel.printed
    assert len(kernel.printed.splitlines()) == 2


def test_the_users_own_line_is_named(kernel: Kernel) -> None:
    kernel.run("def ask(content):\n    text = content * 3\n    return " + create("text"))
    kernel.run("print('before')\nask(long)")

    assert kernel.traceback[2].startswith("  in line 3 of ask: return client.messages.create(")


@pytest.mark.parametrize("cell", ["%%llama\n{{long}}", create("long")])
def test_tb_shows_the_whole_traceback(kernel: Kernel, cell: str) -> None:
    kernel.run(cell)
    short = len(kernel.traceback)
    kernel.run("%tb")
    whole = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(kernel.traceback) + kernel.printed)

    assert short <= 3 < 10 < len(whole.splitlines())
    assert "Traceback (most recent call last)" in whole and "prompt is too long" in whole


def test_the_sdks_errors_stay_the_sdks(kernel: Kernel) -> None:
    cell = f"try:\n    {create('long')}\nexcept anthropic.BadRequestError as error:\n    print(type(error), error)"
    kernel.run(cell)

    assert kernel.printed.startswith("<class 'anthropic.BadRequestError'> Error code: 400")
    assert kernel.value("isinstance(client.with_options(timeout=5), type(client))")
    kernel.run(create("long").replace("client.", "client.with_options(timeout=5)."))
    assert len(kernel.traceback) <= 3


def test_the_users_own_errors_are_as_ever(kernel: Kernel) -> None:
    kernel.run("1 / 0")
    text = "\n".join(kernel.traceback)

    assert "Traceback (most recent call last)" in text and len(text.splitlines()) > 3
