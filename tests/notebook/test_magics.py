"""`%%llama` and `%llama` in a real IPython shell."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from IPython.core.error import UsageError

import nbllama
from nbllama.notebook import display
from nbllama.notebook.errors import AskError
from nbllama.notebook.magics import load_progress
from nbllama.notebook.magics.commands import COMMANDS, help_text
from nbllama.notebook.magics.interpolation import interpolate
from nbllama.notebook.magics.llama import NbllamaMagics
from nbllama.wire.errors import Overloaded
from nbllama.wire.events import ContentBlockDelta, ContentBlockStart, ErrorEvent, Ping
from tests.notebook.conftest import Shell
from tests.notebook.fake_worker import (
    DIE,
    HOLD,
    FakeWorker,
    Step,
    end,
    end_of_block,
    start,
    start_of_text,
    text,
    text_answer,
)


def thinking_answer() -> list[Step]:
    return [
        *start(),
        ContentBlockStart(0, {"type": "thinking", "thinking": "", "signature": ""}),
        ContentBlockDelta(0, {"type": "thinking_delta", "thinking": "A <b>hard</b> one."}),
        *end_of_block(0),
        ContentBlockStart(1, {"type": "tool_use", "id": "toolu_1", "name": "get_<i>weather", "input": {}}),
        ContentBlockDelta(1, {"type": "input_json_delta", "partial_json": '{"location": "Pa'}),
        ContentBlockDelta(1, {"type": "input_json_delta", "partial_json": 'ris <3"}'}),
        *end_of_block(1),
        *end("tool_use"),
    ]


def test_the_answer_is_shown_once_and_updated_in_place(shell: Shell, worker: FakeWorker) -> None:
    worker.steps = text_answer("Hello", " **there**")
    assert shell.run("%%llama\nHi") is None

    assert [update for _, update in shell.displays].count(False) == 1
    assert not shell.displays[0][1]
    assert shell.last["text/plain"] == "Hello **there**"
    assert "Hello <strong>there</strong>" in shell.last["text/html"]
    assert "fake · 4.8 M parameters · 7 tokens in, 3 out" in shell.last["text/html"]


def test_updates_are_limited(shell: Shell, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.steps = text_answer(*(f"{n} " for n in range(200)))
    clock = itertools.count(100.0, 0.03)
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    shell.run("%%llama\nCount")

    # 205 events 0.03 s apart: the first, then one in four, and the end.
    assert len(shell.displays) == 1 + 204 // 4 + 1
    assert shell.last["text/plain"].endswith("198 199 ")


def test_what_is_asked(shell: Shell, worker: FakeWorker) -> None:
    shell.run("country = 'Japan'")
    shell.run("%%llama -n 7 -t 0.5 -s 'Be {{country}}.' --thinking\n{\"a\": {country}} {{ country }}\n")

    (received,) = worker.requests("/v1/messages")
    assert received.body == {
        "model": "fake",
        "max_tokens": 7,
        "messages": [{"role": "user", "content": '{"a": {country}} Japan'}],
        "system": "Be Japan.",
        "temperature": 0.5,
        "thinking": {"type": "adaptive"},
        "stream": True,
    }


def test_one_answer_each_time(shell: Shell, worker: FakeWorker) -> None:
    shell.run("%%llama --greedy --seed 0\nHi")

    body = worker.requests("/v1/messages")[0].body
    assert (body["temperature"], body["nbllama"]) == (0, {"seed": 0})


def test_raw_shows_what_the_model_wrote(shell: Shell, worker: FakeWorker) -> None:
    worker.steps = text_answer("**bold** ", "<b>")
    worker.record = {
        "id": "req_fake",
        "message_id": "msg_fake",
        "timings": {},
        "output_text": "<think></think>**bold** <b>",
    }
    shell.run("%%llama --raw\nHi")

    assert not any("<strong>" in data["text/html"] for data, _ in shell.displays)
    assert "&lt;think&gt;&lt;/think&gt;**bold** &lt;b&gt;" in shell.last["text/html"]
    assert shell.last["text/plain"] == "<think></think>**bold** <b>"


def test_own_requests_are_seen_and_ended(shell: Shell, worker: FakeWorker, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run("%llama running")
    shell.run("%llama cancel req_1")
    shell.run("%llama cancel all")
    printed = capsys.readouterr().out

    assert "req_1  fake, reading the prompt: 25%\nreq_2  fake, running\n" in printed
    assert "cancelled req_1\ncancelled req_1\ncancelled req_2\n" in printed
    cancelled = [one.path for one in worker.received if one.path.endswith("/cancel")]
    assert cancelled == [f"/nbllama/requests/req_{n}/cancel" for n in (1, 1, 2)]


def test_a_model_on_its_way_has_a_bar(shell: Shell, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_progress, "_INTERVAL", 0.01)
    worker.loading = [0.0, 0.4, 0.9]
    shell.run("%llama load big")
    shown = [data["text/html"] for data, _ in shell.displays]

    assert [update for _, update in shell.displays] == [False, True, True, True]
    assert [f'value="{n}"' in html for n, html in zip((0, 40, 90), shown, strict=False)] == [True] * 3
    assert "loaded big, loaded" in shown[-1] and "<progress" not in shown[-1]


def test_an_interrupt_ends_the_waiting_for_a_model_only(
    shell: Shell, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = load_progress.ProgressBar.show

    def interrupted(bar: load_progress.ProgressBar, fraction: float) -> None:
        show(bar, fraction)
        worker.loading.clear()
        raise KeyboardInterrupt

    monkeypatch.setattr(load_progress.ProgressBar, "show", interrupted)
    worker.loading = [0.4, 0.9]

    assert isinstance(shell.fails("%llama load big"), KeyboardInterrupt)
    assert shell.last["text/plain"] == "loading big: nobody waits here any more; the worker loads on"
    assert not any(one.path.endswith("/cancel") for one in worker.received)


def test_help_tells_every_option_and_command() -> None:
    text = help_text()
    options = {name for action in NbllamaMagics.llama.parser._actions for name in action.option_strings}

    assert {name for name in options if name not in text} == set()
    assert [name for name in COMMANDS if f"%llama {name}" not in text] == []
    assert all(len(line) <= 120 for line in text.splitlines())


def test_defaults_can_be_configured(shell: Shell, worker: FakeWorker) -> None:
    shell.run("%config NbllamaMagics.max_tokens = 11")
    shell.run("%%llama\nHi")

    assert worker.requests("/v1/messages")[0].body["max_tokens"] == 11


def test_everything_from_the_model_is_escaped(shell: Shell, worker: FakeWorker) -> None:
    worker.steps = text_answer(
        "<script>alert(1)</script>\n\n![an <img src=x>](http://tracker/x.png) [y](javascript:alert(1)) <img src=y>\n\n",
        "```\n<script>\n```\n\n| a |\n|---|\n| <script> |\n\n<http://ok.example> `<script>`",
    )
    shell.run("%%llama\nHi")
    answer = shell.last["text/html"]
    worker.steps = thinking_answer()
    shell.run("%%llama\nHi")
    calls = shell.last["text/html"]

    assert not any(word in answer for word in ("<script", "<img", "tracker", '"javascript:'))
    assert "y (javascript:alert(1))" in answer
    assert answer.count("&lt;script&gt;") == 4 and "<td>&lt;script" in answer.replace("&#10;", "")
    assert "<b>" not in calls and "<i>" not in calls and "<3" not in calls


def test_thinking_is_collapsed_and_tool_calls_are_shown(shell: Shell, worker: FakeWorker) -> None:
    worker.steps = thinking_answer()
    shell.run("%%llama -o answer\nHi")
    html = shell.last["text/html"]

    assert "<details style=" in html and " open" not in html
    assert "Thinking (3 words)" in html
    assert "&quot;location&quot;: &quot;Paris &lt;3&quot;" in html
    assert shell.last["text/plain"] == '[tool call] get_<i>weather {"location": "Paris <3"}'
    call = shell.ip.user_ns["answer"].content[1]
    assert (call.type, call.input) == ("tool_use", {"location": "Paris <3"})


def test_the_message_is_kept_under_a_name(shell: Shell) -> None:
    from anthropic.types import Message

    shell.run("%%llama -o answer\nHi")
    answer = shell.ip.user_ns["answer"]

    assert isinstance(answer, Message)
    assert answer.content[0].text == "Hello there"  # type: ignore[union-attr]  # it is a text block
    assert (answer.stop_reason, answer.usage.output_tokens) == ("end_turn", 3)
    assert nbllama.last is not None and nbllama.last.id == "req_fake"


def test_waiting_is_shown(shell: Shell, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "INTERVAL", 0.0)
    progress = [
        {"state": "loading", "load": 0.4},
        {"state": "queued", "position": 2},
        {"state": "prefill", "prefill": 0.25},
    ]
    worker.steps = [*map(Ping, progress), *text_answer("Hello")]
    shell.run("%%llama\nHi")
    shown = "".join(data["text/html"] for data, _ in shell.displays)

    for words in ("loading the model: 40%", "place 2 in the queue", "reading the prompt: 25%"):
        assert words in shown
    assert "prompt" not in shell.last["text/html"]


def test_an_interrupt_stops_the_model_and_keeps_what_came(
    shell: Shell, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbllama.notebook.answer_view import AnswerView

    worker.steps = [*start_of_text(), text("Once"), text(" upon"), HOLD]
    add = AnswerView.add

    def interrupted(view: AnswerView, event: object) -> None:
        add(view, event)  # type: ignore[arg-type]  # as it comes
        if view.blocks and view.blocks[0]["text"] == "Once upon":
            raise KeyboardInterrupt

    monkeypatch.setattr(AnswerView, "add", interrupted)
    error = shell.fails("%%llama -o partial\nTell")

    assert isinstance(error, KeyboardInterrupt)
    # The traceback is kept, and must not keep the stream.
    assert worker.client_gone.wait(10)
    assert "Once upon" in shell.last["text/html"] and "interrupted" in shell.last["text/html"]
    assert shell.last["text/plain"] == "Once upon\n\n[interrupted]"
    assert shell.ip.user_ns["partial"].content[0].text == "Once upon"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [*start_of_text(), text("Hel"), ErrorEvent(Overloaded("too many").body("req_1"))],
            "overloaded_error: too many",
        ),
        ([*start_of_text(), text("Hel"), DIE], "WorkerDied: "),
    ],
)
def test_an_error_is_short_and_raised(
    shell: Shell, worker: FakeWorker, capsys: pytest.CaptureFixture[str], steps: list[Step], message: str
) -> None:
    worker.steps = steps
    error = shell.fails("%%llama\nHi")
    printed = capsys.readouterr().out

    assert isinstance(error, AskError)
    assert str(error).startswith(message)
    assert len(printed.splitlines()) == 2 and "\n→ " in printed and "Traceback" not in printed
    assert "Hel" in shell.last["text/plain"] and "[ended by an error]" in shell.last["text/plain"]


def test_a_refusal_shows_nothing_but_its_line(shell: Shell, worker: FakeWorker) -> None:
    worker.refusal = (
        400,
        {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9"}},
    )
    error = shell.fails("%%llama\nHi")

    assert str(error).startswith("invalid_request_error: prompt is too long: 9\n→ shorten it")
    assert shell.displays == []


def test_the_cell_after_a_death_finds_the_next_worker(shell: Shell, worker: FakeWorker, runtime: Path) -> None:
    worker.steps = [*start_of_text(), text("Hel"), DIE]
    shell.fails("%%llama\nHi")
    with FakeWorker(runtime, name="next"):
        shell.run("%%llama\nHi")

    assert shell.last["text/plain"] == "Hello there"


def test_a_worker_that_accepts_nothing_more_is_replaced(shell: Shell, worker: FakeWorker, runtime: Path) -> None:
    shell.run("%%llama\nHi")
    worker.stop_listening()
    with FakeWorker(runtime, name="next") as following:
        shell.run("%%llama\nHi")

        assert len(following.requests("/v1/messages")) == 1


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%llama -m fak\nHi", "did you mean fake?"),
        ("%%llama -m zebra\nHi", "`%llama load REF` loads another"),
        ("%%llama\n{{nobody}}", "no variable nobody"),
        ("%%llama -o a.b\nHi", "not a name"),
        ("%%llama Hi\nHi", "belongs below"),
        ("%%llama\n  \n", "no prompt"),
        ("%%llama --bogus\nHi", "unrecognized arguments: --bogus"),
        ("%%llama --max-tokns 5\nHi", "did you mean --max-tokens"),
        ("%%llama -s 'Be\nHi", "No closing quotation"),
        ("%%llama --greedy -t 1\nHi", "give one of them"),
        ("%%llama -n 0\nHi", "--max-tokens 0: at least 1"),
        ("%%llama --seed x\nHi", "--seed: invalid int value"),
        ("%%llama --drop\nHi", "--chat NAME"),
        ("%%llama --budget 9\nHi", "-i NAME"),
        ("%%llama --confirm\nHi", "--tools F,G"),
        ("%%llama --tools print --raw\nHi", "does not go together with --raw"),
        ("%%llama -i nobody\nHi", "no variable nobody"),
        ("%%llama -i In\nHi", "of type list, not a DataFrame"),
        ("%llama bogus", "there is status, models"),
        ("%llama statsu", "did you mean status"),
        ("%llama status --raw", "takes no options (--raw)"),
        ("%llama claude fish", "there is sh, powershell, settings"),
        ("%llama cancel req_9", "you have no such request; there is req_1, req_2"),
        ("%llama cancel req_", "the beginning of 2"),
        ("%llama chats show none", "no chat is called none"),
        ("%llama chats drop", "%llama chats clear"),
        ("%llama error", "no cell has failed"),
        ("%llama load", "%llama load REF"),
        ("%llama status now", "takes nothing more"),
    ],
)
def test_mistakes_are_said_and_ask_nothing(shell: Shell, worker: FakeWorker, cell: str, message: str) -> None:
    error = shell.fails(cell)

    assert isinstance(error, UsageError | AskError)
    assert message in str(error)
    assert worker.requests("/v1/messages") == []


def test_commands(shell: Shell, worker: FakeWorker, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("", "status", "models", "load smollm2", "load ./x.gguf", "help", "stop"):
        shell.run(f"%llama {command}")
    printed = capsys.readouterr().out

    adapter = "adapter fake-tools (6.5 MB, for the base c0ffee12…)"
    assert printed.count(f"model       fake, loaded, 4.8 M parameters, {adapter}, context 512 tokens, default") == 2
    assert printed.count("hint        a real one is to be had") == 2
    assert "default\na real one is to be had\n" in printed
    assert "1 running" in printed
    assert "warning     its build is worked around" in printed
    assert "loaded smollm2" in printed
    assert "%%llama                    ask" in printed
    assert "stopping the worker" in printed
    assert worker.requests("/nbllama/load")[1].body == {"model": str(Path("x.gguf").resolve())}


def test_status_starts_nothing(
    runtime: Path, shell: Shell, worker: FakeWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    worker.die()
    shell.run("%llama")

    assert "no worker is running" in capsys.readouterr().out


def test_reload_and_unload(shell: Shell, worker: FakeWorker) -> None:
    shell.run("%reload_ext nbllama")
    shell.run("%%llama\nHi")
    assert len(worker.requests("/v1/messages")) == 1

    shell.run("%unload_ext nbllama")
    assert shell.ip.find_line_magic("llama") is None and shell.ip.find_cell_magic("llama") is None


def test_interpolation_takes_double_braces_only() -> None:
    assert interpolate('{"a": {x}} {{ x }}{{x}} {{x.y}}', {"x": 1}) == '{"a": {x}} 11 {{x.y}}'
