"""The stop button in a real kernel: the model stops, what it said is kept and marked, and "Run all" stops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nbllama.worker import connection
from tests.notebook.fake_worker import HOLD, FakeWorker
from tests.notebook.real_kernel import (
    SCRIPT,
    WORDS,
    Kernel,
    busy,
    real_kernel,
    requests,
    shows,
    wait_until,
)

# Event loops that jupyter_client does not close.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ASK = 'model="model", max_tokens=4000, messages=[{"role": "user", "content": "slow"}]'
SYNC, ASYNC = "KeyboardInterrupt", "CancelledError"

# What is run, and what its interrupt raises. Each prints or shows "tick" as soon as the model has said it.
STREAMS = {
    "%%llama": ("%%llama -n 4000 -o partial\nslow", SYNC),
    "%%llama in a cell with await": (
        'await asyncio.sleep(0)\nget_ipython().run_cell_magic("llama", "-n 4000 -o partial", "slow")',
        SYNC,
    ),
    "stream": (
        f"with nbllama.client().messages.stream({ASK}) as stream:\n"
        "    for text in stream.text_stream: print(text, flush=True)",
        SYNC,
    ),
    "create with stream=True": (
        f"events = nbllama.client().messages.create({ASK}, stream=True)\nfor event in events: print(event, flush=True)",
        SYNC,
    ),
    "create with stream=True, interrupted between two events": (
        f"events = nbllama.client().messages.create({ASK}, stream=True)\n"
        "for event in events:\n    print(event, flush=True)\n    if 'tick' in str(event): time.sleep(60)",
        SYNC,
    ),
    "stream in a cell with await": (
        f"await asyncio.sleep(0)\nwith nbllama.client().messages.stream({ASK}) as stream:\n"
        "    for text in stream.text_stream: print(text, flush=True)",
        SYNC,
    ),
    "async stream": (
        f"async with nbllama.async_client().messages.stream({ASK}) as stream:\n"
        "    async for text in stream.text_stream: print(text, flush=True)",
        ASYNC,
    ),
    "async create with stream=True": (
        f"events = await nbllama.async_client().messages.create({ASK}, stream=True)\n"
        "async for event in events: print(event, flush=True)",
        ASYNC,
    ),
    "async create with stream=True, interrupted between two events": (
        f"events = await nbllama.async_client().messages.create({ASK}, stream=True)\n"
        "async for event in events:\n    print(event, flush=True)\n"
        "    if 'tick' in str(event): await asyncio.sleep(60)",
        ASYNC,
    ),
}
WHOLE = {
    "create": (f"nbllama.client().messages.create({ASK}, timeout=600)", SYNC),
    "create in a cell with await": (
        f"await asyncio.sleep(0)\nnbllama.client().messages.create({ASK}, timeout=600)",
        SYNC,
    ),
    "async create": (f"await nbllama.async_client().messages.create({ASK}, timeout=600)", ASYNC),
}


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with real_kernel(SCRIPT) as started:
        yield started


def check_it_stopped(kernel: Kernel) -> None:
    """Nothing runs any more, the partial answer is kept, and the model's one place is free for the next cell."""
    wait_until(lambda: requests() == [])
    record = kernel.value("nbllama.last.record")
    assert record["ending"] == "cancelled"
    assert record["request"]["messages"][0]["content"].startswith("slow")
    assert kernel.run("%%llama\ncount")["status"] == "ok"
    assert kernel.shown["text/plain"] == WORDS


@pytest.mark.parametrize("way", STREAMS)
def test_in_the_middle_of_an_answer(kernel: Kernel, way: str) -> None:
    cell, raised = STREAMS[way]
    reply = kernel.run(cell, stop_when=shows("tick"))

    assert (reply["status"], reply["ename"]) == ("error", raised)
    assert len(kernel.traceback) < 20
    if "%%llama" in way:
        assert kernel.shown["text/plain"].startswith("tick") and "[interrupted]" in kernel.shown["text/plain"]
        assert "interrupted" in kernel.shown["text/html"]
        assert kernel.traceback == [f"{SYNC}: the model was stopped; what it had said is in nbllama.last"]
        assert kernel.value("[partial.stop_reason, partial.content[0].text[:9]]") == [None, "tick tick"]
    wait_until(lambda: requests() == [])
    assert kernel.value("[nbllama.last.message.stop_reason, nbllama.last.message.content[0].text[:4]]") == [
        None,
        "tick",
    ]
    check_it_stopped(kernel)


@pytest.mark.parametrize("way", WHOLE)
def test_while_nothing_has_come_yet(kernel: Kernel, way: str) -> None:
    cell, raised = WHOLE[way]
    watch = kernel.interrupt_when(lambda: any(one["state"] == "running" for one in requests()))
    reply = kernel.run(cell)
    watch.join()

    assert (reply["status"], reply["ename"]) == ("error", raised)
    wait_until(lambda: requests() == [])
    # Whatever had come by then; there is no message at all while the prompt is still being encoded.
    came = "''.join(block.text for block in getattr(nbllama.last.message, 'content', []))[:9]"
    assert "tick tick".startswith(kernel.value(came))
    check_it_stopped(kernel)


@pytest.mark.parametrize("cell", [STREAMS["%%llama"], WHOLE["async create"]], ids=["%%llama", "async create"])
def test_run_all_stops(kernel: Kernel, cell: tuple[str, str]) -> None:
    kernel.run("ran = []")
    watch = kernel.interrupt_when(lambda: any(one["state"] == "running" for one in requests()))
    statuses = kernel.run_all("ran.append(1)", cell[0], "ran.append(2)", "%%llama\ncount")
    watch.join()

    assert statuses == ["ok", "error", "aborted", "aborted"]
    assert kernel.value("ran") == [1]
    check_it_stopped(kernel)


@pytest.mark.parametrize("way", ["%%llama", "async create"])
def test_in_a_prefill(kernel: Kernel, way: str) -> None:
    kernel.run("long = 'slow ' * 3000")
    cell = f"%%llama\n{{{{long}}}} {way}" if way == "%%llama" else WHOLE[way][0].replace('"slow"', f"long + '{way}'")
    watch = kernel.interrupt_when(lambda: any(one.get("prefill") for one in requests()))
    reply = kernel.run(cell)
    watch.join()

    assert reply["status"] == "error"
    check_it_stopped(kernel)
    assert kernel.value("nbllama.traces().output.to_list()[1]") == 0


@pytest.mark.parametrize("way", ["%%llama", "create", "async create"])
def test_while_it_waits_in_the_queue(kernel: Kernel, way: str) -> None:
    cell, raised = (STREAMS | WHOLE)[way]
    worker = connection.find()
    assert worker is not None
    other = connection.stream_events(worker, asking("slow"))
    while next(other).name != "content_block_delta":
        pass
    watch = kernel.interrupt_when(lambda: any(one["state"] == "queued" for one in requests()))
    reply = kernel.run(cell)
    watch.join()

    assert (reply["status"], reply["ename"]) == ("error", raised)
    wait_until(lambda: len(requests()) == 1)
    # The neighbour's answer goes on.
    while next(other).name != "content_block_delta":
        pass
    other.close()  # type: ignore[attr-defined]  # a generator
    check_it_stopped(kernel)


@pytest.mark.parametrize("way", ["%%llama", "stream", "async stream"])
def test_twice_quickly(kernel: Kernel, way: str) -> None:
    cell, raised = STREAMS[way]
    reply = kernel.run(cell, stop_when=shows("tick"), n=3)

    assert (reply["status"], reply["ename"]) == ("error", raised)
    if way == "%%llama":
        assert "[interrupted]" in kernel.shown["text/plain"]
        assert kernel.value("partial.stop_reason") is None
    check_it_stopped(kernel)


def test_half_a_tool_call_is_none(kernel: Kernel) -> None:
    cell = (
        f"with nbllama.client().messages.stream({ASK}, tools=[dict(name='f', input_schema=dict(type='object'))]) as s:"
    )
    cell = cell.replace("slow", "call") + "\n    for event in s: print(event.type, flush=True)"
    reply = kernel.run(cell, stop_when=shows("input_json"))

    assert reply["ename"] == SYNC
    wait_until(lambda: requests() == [])
    assert kernel.value("nbllama.last.message.to_dict()['content']") == []


@pytest.mark.parametrize("way", ["%%llama", "create", "async create"])
def test_while_the_worker_starts(kernel: Kernel, way: str) -> None:
    worker = connection.find()
    if worker is not None:
        kernel.run("%llama stop")
        assert connection.wait_until_gone(worker)
    cell, raised = (STREAMS | WHOLE)[way]
    reply = kernel.run(cell, stop_when=shows("starting the nbllama worker"))

    assert (reply["status"], reply["ename"]) == ("error", raised)
    assert kernel.run("%%llama\ncount")["status"] == "ok"
    assert kernel.shown["text/plain"] == WORDS
    assert not busy()


def test_while_the_model_loads(kernel: Kernel, worker: FakeWorker) -> None:
    from nbllama.wire.events import Ping

    worker.steps = [Ping({"state": "loading", "load": 0.4}), HOLD]
    kernel.run(
        f"import os; before = os.environ['NBLLAMA_RUNTIME_DIR']; os.environ['NBLLAMA_RUNTIME_DIR'] = {folder()!r}"
    )
    try:
        kernel.run("nbllama.notebook.kernel_link.link.detach()")
        reply = kernel.run("%%llama\nslow", stop_when=shows("loading the model: 40%"))
        assert (reply["ename"], worker.client_gone.wait(60)) == (SYNC, True)
        assert kernel.shown["text/plain"] == "[interrupted]"
    finally:
        kernel.run("nbllama.notebook.kernel_link.link.detach(); os.environ['NBLLAMA_RUNTIME_DIR'] = before")
    assert kernel.run("%%llama\ncount")["status"] == "ok"


def test_the_demo_model() -> None:
    with real_kernel(model="demo") as kernel:
        kernel.run("%%llama\nHello!")
        kernel.run("long = 'Count to 100. ' * 150")
        # It is fast: an answer may have ended before the interrupt came.
        for _ in range(20):
            reply = kernel.run("%%llama -n 400\n{{long}}", stop_when=lambda message: bool(displayed(message)))
            if reply["status"] == "error":
                break
        assert reply["ename"] == SYNC
        assert "[interrupted]" in kernel.shown["text/plain"]
        wait_until(lambda: requests() == [])
        assert kernel.value("nbllama.last.record['ending']") == "cancelled"
        assert kernel.run("%%llama\nHello! Who are you?")["status"] == "ok"
        assert "tiny demo model" in kernel.shown["text/plain"]


def displayed(message: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = message["content"].get("data", {})
    return data


def folder() -> str:
    import os

    return os.environ["NBLLAMA_RUNTIME_DIR"]


def asking(text: str) -> dict[str, Any]:
    return {"model": "model", "max_tokens": 4000, "messages": [{"role": "user", "content": text}]}
