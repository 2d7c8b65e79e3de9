"""What only the whole service shows of the wire: documents, counting, the cache in the usage, aliases."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbllama.answer import attachments
from nbllama.answer.service import Service
from nbllama.answer.service_settings import ServiceSettings
from nbllama.wire.errors import ApiError, NotFound
from tests.answer.pdf_files import encrypted_pdf, pdf

ASK: dict[str, Any] = {"role": "user", "content": "question"}
TOOL: dict[str, Any] = {"name": "look", "description": "looks", "input_schema": {"type": "object"}}
CALL: dict[str, Any] = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]}
FOUND: dict[str, Any] = {
    "type": "search_result",
    "source": "s",
    "title": "t",
    "content": [{"type": "text", "text": "r"}],
}
SEARCHED: list[dict[str, Any]] = [
    {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "moon"}},
    {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"type": "web_search_result", "url": "u"}]},
]


def document(data: bytes, **fields: Any) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(data).decode()}
    return {"type": "document", "source": source, **fields}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def result(*blocks: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    return [ASK, CALL, user({"type": "tool_result", "tool_use_id": "t1", "content": list(blocks), **fields})]


KINDS: dict[str, dict[str, Any]] = {
    "text": {"messages": [ASK]},
    "system": {"system": "be brief", "messages": [ASK, {"role": "system", "content": "note"}]},
    "tools": {"tools": [TOOL, {"type": "bash_20250124", "name": "bash"}], "messages": [ASK]},
    "server tool": {"tools": [{"type": "web_search_20250305", "name": "web_search"}], "messages": [ASK]},
    "tool result": {"tools": [TOOL], "messages": result({"type": "text", "text": "r"}, FOUND, is_error=True)},
    "empty result": {"tools": [TOOL], "messages": result()},
    "pdf in a result": {"tools": [TOOL], "messages": result(document(pdf("in a result")))},
    "tool reference": {
        "tools": [TOOL, TOOL | {"name": "later", "defer_loading": True}],
        "messages": result({"type": "tool_reference", "tool_name": "later"}),
    },
    "search result": {"messages": [user(FOUND)]},
    "text document": {
        "messages": [user({"type": "document", "title": "t", "context": "c", "source": {"type": "text", "data": "d"}})]
    },
    "pdf": {"messages": [user(document(pdf("one", "two"), title="t"))]},
    "thinking": {
        "messages": [ASK, {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, FOUND]}, ASK],
        "thinking": {"type": "adaptive"},
    },
    "redacted": {
        "messages": [ASK, {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}, ASK]
    },
    "server blocks": {"messages": [ASK, {"role": "assistant", "content": SEARCHED}, ASK]},
    "compaction": {"messages": [ASK, {"role": "assistant", "content": [{"type": "compaction", "content": "c"}]}, ASK]},
    "prefill": {"messages": [ASK, {"role": "assistant", "content": "It is"}]},
}
# A search result is the user's.
KINDS["thinking"]["messages"][1]["content"].pop()


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    def write(**fields: Any) -> str:
        path = tmp_path / "play.json"
        path.write_text(json.dumps(fields))
        return f"scripted:{path}"

    return write


def run(work: Callable[[Service], Any], model: str, **settings: Any) -> None:
    async def check() -> None:
        service = Service(ServiceSettings(model=model, **settings))
        await service.start()
        try:
            await work(service)
        finally:
            await service.close()

    asyncio.run(asyncio.wait_for(check(), 120))


async def create(service: Service, id: str = "req_1", **fields: Any) -> dict[str, Any]:
    body = {"model": "m", "max_tokens": 64, "messages": [ASK]} | fields
    return await (await service.messages(json.dumps(body).encode(), client="local", request_id=id)).message()


async def count(service: Service, **fields: Any) -> int:
    body = {"model": "m", "messages": [ASK]} | fields
    return (await service.counted(json.dumps(body).encode(), client="local")).input_tokens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["demo", "scripted"])
def test_counting_tells_what_create_evaluates(kind: str, model: str, script: Callable[..., str]) -> None:
    async def check(service: Service) -> None:
        counted = await count(service, **KINDS[kind])
        usage = (await create(service, max_tokens=1, **KINDS[kind]))["usage"]

        total = usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]
        assert counted == total == len(service.trace("req_1", "local")["prompt_ids"])

    run(check, "demo" if model == "demo" else script())


def test_a_pdf_is_read_by_its_text_with_title_and_pages(script: Callable[..., str]) -> None:
    async def check(service: Service) -> None:
        await create(service, messages=[user(document(pdf("first page", "second page"), title="Report"))])
        prompt = service.trace("req_1", "local")["prompt"]

        assert prompt.index("Report") < prompt.index("[Page 1]\nfirst page") < prompt.index("[Page 2]\nsecond page")

    run(check, script())


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"%PDF-1.4 broken", "the PDF is not valid"),
        (b"", "the PDF is not valid"),
        (pdf(""), "the PDF holds no text"),
        (pdf(*["x"] * 101), "the PDF has 101 pages: a maximum of 100"),
        ("encrypted", "the PDF is encrypted"),
    ],
)
def test_a_pdf_that_cannot_be_read_is_a_clear_error(data: Any, text: str, script: Callable[..., str]) -> None:
    async def check(service: Service) -> None:
        file = encrypted_pdf() if data == "encrypted" else data
        for ask in (create, count):
            with pytest.raises(ApiError) as refused:
                await ask(service, messages=[user(document(file))])
            assert refused.value.status == 400
            assert refused.value.message.startswith(f"messages.0.content.0: {text}")

    run(check, script())


def test_a_pdf_that_takes_for_ever_is_ended(script: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "SECONDS", 0.0)

    async def check(service: Service) -> None:
        with pytest.raises(ApiError, match="could not be read within"):
            await create(service, messages=[user(document(pdf("never read before")))])

    run(check, script())


def test_breakpoints_are_counted_and_add_up(script: Callable[..., str]) -> None:
    async def check(service: Service) -> None:
        marked = {"type": "text", "text": "a long beginning " * 20, "cache_control": {"type": "ephemeral"}}
        first = (await create(service, messages=[user(marked, {"type": "text", "text": "and a question"})]))["usage"]
        again = (await create(service, id="2", messages=[user(marked, {"type": "text", "text": "and another"})]))[
            "usage"
        ]
        plain = (await create(service, id="3", messages=[user({"type": "text", "text": "something else"})]))["usage"]

        assert first["cache_creation_input_tokens"] > 60 > first["input_tokens"] > 0
        assert first["cache_creation"]["ephemeral_5m_input_tokens"] == first["cache_creation_input_tokens"]
        assert again["cache_read_input_tokens"] >= first["cache_creation_input_tokens"]
        assert again["cache_creation_input_tokens"] == plain["cache_creation_input_tokens"] == 0
        hour = marked | {"text": "another one " * 20, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
        long = (await create(service, id="4", messages=[user(hour)]))["usage"]["cache_creation"]
        assert long["ephemeral_1h_input_tokens"] > 30 and long["ephemeral_5m_input_tokens"] == 0

    run(check, script())


def test_a_prompt_can_be_warmed(script: Callable[..., str]) -> None:
    async def check(service: Service) -> None:
        warmed = await create(service, max_tokens=0)
        assert (warmed["content"], warmed["stop_reason"], warmed["usage"]["output_tokens"]) == ([], "max_tokens", 0)
        assert (await create(service, id="2"))["usage"]["cache_read_input_tokens"] > 0

    run(check, script())


def test_who_asks_for_context_management_is_told_that_nothing_was_cut(script: Callable[..., str]) -> None:
    async def check(service: Service) -> None:
        edits: dict[str, Any] = {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}
        body = {"model": "m", "messages": [ASK], **edits}
        counted = await service.counted(json.dumps(body).encode(), client="local")

        assert (await create(service, **edits))["context_management"] == {"applied_edits": []}
        assert counted.edits_context
        assert "context_management" not in await create(service, "req_2")

    run(check, script())


def test_thinking_is_signed_and_a_changed_one_refused(script: Callable[..., str]) -> None:
    async def check(service: Service) -> None:
        content = (await create(service, thinking={"type": "adaptive"}))["content"]
        assert content[0]["type"] == "thinking"
        back = {"role": "assistant", "content": content}
        await create(service, id="2", messages=[ASK, back, ASK])
        assert not any("thinking" in warning for warning in service.trace("2", "local")["warnings"])
        content[0]["thinking"] += "!"
        for ask in (create, count):
            with pytest.raises(ApiError, match="Invalid `signature` in `thinking` block"):
                await ask(service, messages=[ASK, back, ASK])
        content[0]["signature"] = "of another"
        await create(service, id="4", messages=[ASK, back, ASK])
        assert "messages.1.content.0: thinking of another server" in service.trace("4", "local")["warnings"]

    run(check, script(rules=[{"answer": "<think>\nHm.\n</think>\n\nYes."}]))


def test_aliases_choose_the_model_and_are_listed(script: Callable[..., str]) -> None:
    async def check(service: Service) -> None:
        async def answered_by(model: str) -> str:
            body = {"model": model, "messages": [ASK]}
            return (await service.counted(json.dumps(body).encode(), client="local")).model_id

        assert [await answered_by(name) for name in ("claude-x", "mine", "other")] == ["demo", "demo", "play"]
        assert [model["id"] for model in service.models()][-1] == "mine"
        assert service.model("mine")["id"] == "demo"
        with pytest.raises(NotFound):
            service.model("claude-x")

    run(check, script(), aliases={"claude-*": "demo", "mine": "demo"})
