"""The inspectors on any text, asked of a real worker with the demo model and a scripted one beside it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbllama
from nbllama.notebook.errors import TraceError
from nbllama.notebook.kernel_link import link
from nbllama.worker import connection
from tests.notebook.conftest import _ENVIRONMENT
from tests.views.asking import CALL, RULES, WEATHER, asked, user

SCRIPT = "<script>alert('x')</script>"
RECORDINGS = Path(__file__).parents[1] / "recordings"


@pytest.fixture(scope="module", autouse=True)
def worker() -> Iterator[connection.Endpoint]:
    """A process of its own."""
    folder = Path(tempfile.mkdtemp(prefix="nb-", dir="/tmp"))
    script = folder / "words.json"
    script.write_text(json.dumps({"rules": RULES}))
    with pytest.MonkeyPatch.context() as patch:
        for name in (*_ENVIRONMENT, "NBLLAMA_MODEL"):
            patch.delenv(name, raising=False)
        patch.setenv("NBLLAMA_RUNTIME_DIR", str(folder))
        endpoint = link.endpoint()
        connection.request_json(endpoint, "POST", "/nbllama/load", {"model": f"scripted:{script}"}, timeout=60)
        yield endpoint
        link.detach()
        connection.stop(endpoint)
        assert connection.wait_until_gone(endpoint)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_text_in_the_model_s_own_tokens() -> None:
    text = f"Paris, Zürich 🙂 {SCRIPT} <|im_end|>"
    shown: Any = nbllama.tokens(text)

    assert b"".join(bytes.fromhex(part) for part in shown.df.bytes).decode() == text
    assert shown.counts == {"text": len(shown.df)} and shown.df.cached.isna().all() and not shown.df.special.any()
    assert f"{len(shown.df)} tokens of demo" in shown.text and "cached" not in shown.text
    assert "<script" not in shown.html


def test_messages_are_shown_as_the_request_that_is_made_of_them() -> None:
    body = asked(user(f"Hello {SCRIPT}"), system="Be brief.", tools=[WEATHER], model="demo", max_tokens=3)
    nbllama.client().messages.create(**body)
    last: Any = nbllama.last
    del body["model"], body["max_tokens"]
    shown: Any = nbllama.tokens(body.pop("messages"), **body)

    columns = ["i", "id", "piece", "origin", "message", "block"]
    asked_for = last.tokens().df[last.tokens().df.part == "prompt"]
    assert shown.df[columns].equals(asked_for[columns])
    assert last.tokens().compare("words").view.names == shown.compare("words").view.names == ["demo", "words"]


def test_two_tokenizers_over_one_text() -> None:
    text = "Tokyo and Paris\nare <b>far</b>\n" * 30
    both: Any = nbllama.tokens(text, models=["demo", "words"])

    for name, tokens in both.df.groupby("model"):
        assert "".join(tokens.piece) == text, name
    assert both.counts.model.tolist() == ["demo", "words"] and both.counts.tokens.sum() == len(both.df)
    assert both.df.same.any() and not both.df.same.all()
    assert "demo needs" in both.text and "lines left out" in both.html and "<b>far" not in both.html
    assert str(both.df.same.dtype) == "boolean"


def test_a_raw_text_is_taken_apart() -> None:
    calls: Any = nbllama.parse(f"I look. {SCRIPT}\n{CALL}", tools=[WEATHER])
    broken: Any = nbllama.parse(CALL.replace('"Paris"', '"Paris'), "demo", tools=[WEATHER])

    assert calls.failures == [] and "Call of get_weather" in calls.text and "<script" not in calls.html
    assert calls.view.raw[: calls.df.start.max()].startswith("I look.")
    assert broken.failures and "character" in broken.failures[0]


def test_an_answer_is_read_again_by_another_format(tmp_path: Path) -> None:
    body = asked(user("The weather in Paris?"), tools=[WEATHER], model="words", stop_sequences=["</tool_call>"])
    nbllama.client().messages.create(**body)
    last: Any = nbllama.last
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"calls": {"open": "<call>", "close": "</call>"}}))
    template = tmp_path / "plain.jinja"
    template.write_text("{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}")

    same = [name for name in last.calls().df if name != "events"]
    assert last.calls("words").df[same].equals(last.calls().df[same])
    assert "1 call" in last.calls("demo").text
    # A template without tools of its own gets JSON in tags, as this answer has it.
    assert "1 call" in last.calls(str(template)).text
    for format in (other, {"think": None, "calls": None}):
        assert "no calls" in last.calls(format).text
    loaded = nbllama.trace(last.save(tmp_path / "trace.json"))
    assert "1 call" in loaded.calls("words").text


def test_streams_of_others_are_judged(tmp_path: Path) -> None:
    path = RECORDINGS / "tool_use.sse"
    good: Any = nbllama.events(path)
    data = path.read_bytes()
    cut = nbllama.events(data[: data.rindex(b"event: message_stop")])

    assert good.faults == [] and len(good.df) > 5 and good.df.time.isna().all()
    assert cut.faults and nbllama.events(data.decode()).df.equals(good.df)
    evil = nbllama.events([{"type": SCRIPT}, [0.5, {"type": "content_block_delta", "delta": {"text": SCRIPT}}]])
    assert evil.faults and "<script" not in evil.html
    with pytest.raises(TraceError, match=r"cannot read .*nowhere\.sse"):
        nbllama.events(tmp_path / "nowhere.sse")


@pytest.mark.parametrize(
    ("ask", "error", "sentence"),
    [
        (lambda: nbllama.tokens("x", "dmo"), TraceError, "tokenize: .*no model 'dmo'.*did you mean demo"),
        (lambda: nbllama.parse("x", format="wrds"), TraceError, "parse: .*did you mean words"),
        (lambda: nbllama.tokens(""), TraceError, "text: "),
        (lambda: nbllama.tokens("x", system="y"), TypeError, "system: belongs to messages"),
        (lambda: nbllama.parse("x", "demo", format="demo"), TypeError, "not both"),
        (lambda: nbllama.parse("x", format="no/where.jinja"), TraceError, r"cannot read no/where\.jinja"),
        (lambda: nbllama.parse("x", format=RECORDINGS / "sdk.json"), TraceError, r"format\.\w+: no such part"),
    ],
)
def test_what_cannot_be_shown(ask: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        ask()


def test_half_a_character_pair() -> None:
    half = json.loads('"a \\ud83d b"')

    for shown in (nbllama.tokens(half), nbllama.parse(half)):
        assert shown.html.encode() and shown.text.encode()
    assert re.search(r"a.+b", "".join(nbllama.tokens(half).df.piece))


def test_a_megabyte() -> None:
    shown: Any = nbllama.tokens("the weather in Paris, " * 50_000)

    assert len(shown.df) > 200_000 and "tokens left out" in shown.html and len(shown.html) < 1_000_000
