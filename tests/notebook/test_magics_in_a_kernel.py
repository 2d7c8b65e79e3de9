"""The magics in a real kernel with a worker and a scripted model: chats, the cache, new cells, Tab, cancelling."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from nbllama.worker import connection
from tests.notebook.real_kernel import WORDS, Kernel, real_kernel, requests, shows, wait_until

# Event loops that jupyter_client does not close.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SCRIPT = {
    "n_ctx": 400,
    "rules": [
        {"when": "slow", "answer": "tick " * 300, "delay_s": 0.05},
        {"when": "think", "answer": "<think>\nIt is hard.\n</think>\n\nDone."},
        {"when": "code", "answer": "So:\n```python\nx = 1\n```"},
        {"when": "long", "answer": "word " * 500},
    ],
    "default": WORDS,
}
USAGE = "[nbllama.last.usage.input_tokens, nbllama.last.usage.cache_read_input_tokens]"
SENT = "nbllama.last.request['messages']"


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with real_kernel(SCRIPT) as started:
        yield started


@pytest.fixture(autouse=True)
def no_chats(kernel: Kernel) -> None:
    kernel.run("%llama chats clear")


def ok(kernel: Kernel, cell: str) -> dict[str, Any]:
    reply: dict[str, Any] = kernel.run(cell)
    assert reply["status"] == "ok", kernel.traceback
    return reply


def test_a_chat_goes_on_from_the_cache(kernel: Kernel) -> None:
    ok(kernel, "%%llama --chat pupil -s 'Be brief.' --thinking\nthink of {{1}} and count")
    n_first = kernel.value("nbllama.last.usage.input_tokens + nbllama.last.usage.output_tokens")
    ok(kernel, "%%llama --chat pupil\nand once more")
    assert "pupil: turn 2, " in kernel.shown["text/html"] and " of 400 tokens" in kernel.shown["text/html"]
    n_new, n_cached = kernel.value(USAGE)
    sent = kernel.value(SENT)

    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert [block["type"] for block in sent[1]["content"]] == ["thinking", "text"]
    assert kernel.value("nbllama.last.request['system']") == "Be brief."
    # The template leaves the thoughts of past turns out, so that the last answer is read anew.
    assert 0 < n_cached <= n_first and n_new < 40


def test_without_thoughts_the_whole_past_is_cached(kernel: Kernel) -> None:
    ok(kernel, "%%llama --chat pupil\ncount")
    n_first = kernel.value("nbllama.last.usage.input_tokens + nbllama.last.usage.output_tokens")
    ok(kernel, "%%llama --chat pupil\nagain")
    n_new, n_cached = kernel.value(USAGE)

    assert n_cached >= n_first - 1 and n_new < n_cached


def test_an_interrupted_turn_is_part_of_the_chat(kernel: Kernel) -> None:
    reply = kernel.run("%%llama --chat pupil\nslow", stop_when=shows("tick"))
    assert reply["ename"] == "KeyboardInterrupt" and "pupil: turn 1" in kernel.shown["text/html"]
    ok(kernel, "%%llama --chat pupil\ncount")

    assert kernel.value(SENT)[1]["content"][0]["text"].startswith("tick")
    ok(kernel, "%llama chats show pupil")
    assert "[1, interrupted]\nuser: slow\nassistant: tick" in kernel.printed
    ok(kernel, "%llama chats")
    assert kernel.printed.startswith("pupil") and "2 turns" in kernel.printed


def test_a_full_context_offers_a_way_on(kernel: Kernel) -> None:
    ok(kernel, "%%llama --chat pupil\na long one")
    assert "the context is full: --drop leaves out the oldest turns of pupil" in kernel.shown["text/html"]
    reply = kernel.run("%%llama --chat pupil\ncount")
    assert reply["ename"] == "AskError" and "prompt is too long" in reply["evalue"]
    assert "→ --drop leaves out the oldest turns of pupil and says which; `%llama chats clear pupil`" in reply["evalue"]

    ok(kernel, "%%llama --chat pupil --drop -n 50\ncount")
    assert 'left out, since the context of 400 tokens is full: turn 1 of pupil ("a long one")' in kernel.printed
    assert kernel.value(SENT) == [{"role": "user", "content": "count"}]
    ok(kernel, "%%llama --chat pupil --drop -n 50\nagain")
    assert "left out, since" not in kernel.printed
    assert [message["content"] for message in kernel.value(SENT)][::2] == ["count", "again"]


def test_code_goes_into_a_new_cell(kernel: Kernel) -> None:
    reply = ok(kernel, "%%llama --code\ncode please")
    (payload,) = [one for one in reply["payload"] if one["source"] == "set_next_input"]

    assert payload["text"].endswith("\nx = 1") and not payload["replace"]
    assert kernel.run("x")["ename"] == "NameError"


def test_a_cell_with_await_can_do_all_this(kernel: Kernel) -> None:
    ok(kernel, "await asyncio.sleep(0)\nget_ipython().run_cell_magic('llama', '--chat a --raw -o kept', 'count')")
    assert kernel.value("kept.content[0].text") == WORDS
    ok(kernel, "await asyncio.sleep(0)\n%llama chats\nawait asyncio.sleep(0)")
    assert kernel.printed.startswith("a ")
    kernel.run("await asyncio.sleep(0)\n1 / 0")
    ok(kernel, "await asyncio.sleep(0)\n%llama error -n 3")
    assert "await asyncio.sleep(0)\n1 / 0" in kernel.value(SENT)[0]["content"]


def test_tab_and_help(kernel: Kernel) -> None:
    reply = kernel.client.complete("%llama can", reply=True, timeout=30)["content"]
    assert reply["matches"] == ["cancel"]
    reply = kernel.client.complete("%%llama --gre\nHi", 13, reply=True, timeout=30)["content"]
    assert reply["matches"] == ["--greedy"]
    reply = kernel.client.inspect("%%llama", reply=True, timeout=30)["content"]
    assert "--budget" in reply["data"]["text/plain"]


def test_looking_inside(kernel: Kernel) -> None:
    ok(kernel, "%%llama\ncount")
    ok(kernel, "words = 'two  words'\n%llama tokens {{words}} $x^2$")
    assert kernel.shown["text/plain"].endswith("$│x│^│2│$") and "$x^2$" not in kernel.shown["text/html"]
    ok(kernel, "%llama trace")
    assert f"text     {WORDS}" in kernel.shown["text/plain"]
    ok(kernel, "%llama format")
    assert "ChatML is assumed" in kernel.printed and '"<tool_call>' in kernel.printed
    assert kernel.run("%llama format modl")["evalue"].endswith("did you mean model?")
    assert kernel.run("%llama trace req_none")["ename"] == "TraceError"


def test_a_request_is_ended_from_another_kernel(kernel: Kernel) -> None:
    """By the first one's id, as another notebook sees it; somebody else's stays."""
    id = kernel.client.execute("%%llama -o half\nslow")
    wait_until(lambda: [one["state"] for one in requests()] == ["running"])
    worker = connection.find()
    assert worker is not None
    strangers = connection.request_json(worker, "GET", "/nbllama/requests", headers={"nbllama-client": "stranger"})
    assert strangers == {"requests": []}

    from nbllama.notebook.kernel_link import link
    from nbllama.notebook.magics.running import cancel_text, running_text

    shown = running_text()
    try:
        assert shown.startswith("req_") and "model, running" in shown
        assert cancel_text(shown[:12]) == f"cancelled {shown.split()[0]}"
    finally:
        link.detach()
    wait_until(lambda: requests() == [])
    while (reply := kernel.client.get_shell_msg(timeout=30))["parent_header"]["msg_id"] != id:
        pass
    assert reply["content"]["ename"] == "AskError" and "cancel" in json.dumps(reply["content"])
