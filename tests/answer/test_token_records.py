"""Records hold what a view needs of tokens: bytes, places, times, probabilities, and why not more was cached."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from nbllama.answer import recorder
from nbllama.answer.service import Service
from nbllama.answer.token_places import pieces_of, prompt_offsets
from nbllama.answer.tokenise import prompt_ids
from nbllama.answer.trace import COMPARED, TraceStore
from nbllama.engine import reuse
from nbllama.engine.likelihood import Reader
from nbllama.engine.runtime import Vocabulary
from nbllama.engine.scripted_runtime import ScriptedVocabulary
from nbllama.wire.errors import InvalidRequest
from nbllama.wire.records import RequestRecord
from tests.answer.test_generated import Spaced, memory, prompt
from tests.answer.test_service import WEATHER, ask, body, run, script, serving

__all__ = ["script"]

TEXT = "Zürich 🌦 naïve\n日本語, e\u0301 and <|im_start|> as text"


class Bytewise(ScriptedVocabulary):
    """Each byte is a token: most of them begin inside of a character."""

    def tokenize(self, text: str, *, parse_control: bool) -> list[int]:
        whole = super().tokenize(text, parse_control=True)
        return whole if parse_control and len(whole) == 1 else list(text.encode(errors="replace"))


def placed(vocabulary: Vocabulary, *texts: str) -> list[tuple[str, bytes]]:
    """Each token as the text at its place, as long as it is, and its bytes."""
    whole = prompt(*texts)
    encoded = prompt_ids(whole, vocabulary, memory(vocabulary), "me")
    offsets = prompt_offsets(whole, encoded, vocabulary.piece)
    assert len(offsets) == len(encoded.ids)
    assert offsets == sorted(offsets)
    pieces = [vocabulary.piece(id) for id in encoded.ids]
    return [(whole.text[place:], piece) for place, piece in zip(offsets, pieces, strict=True)]


def test_words_begin_at_their_place() -> None:
    for text, piece in placed(ScriptedVocabulary(), "<|im_start|>", TEXT, "<|im_end|>", "", "é"):
        if piece[:1][0] & 0xC0 != 0x80:
            assert text.encode().startswith(piece)


def test_bytes_within_a_character_are_at_that_character() -> None:
    found = placed(Bytewise(), "<|im_start|>", TEXT)

    assert len(found) == 1 + len(TEXT.encode())
    assert [text[0] for text, _ in found[1:]] == [character for character in TEXT for _ in character.encode()]


def test_a_space_that_the_text_has_not_moves_nothing() -> None:
    found = placed(Spaced(), "<|im_start|>", "one two", "<|im_end|>", "three")

    at = {piece.strip(): text for text, piece in found}
    assert at[b"one"].startswith("one two")
    assert at[b"two"].startswith(" two")
    assert at[b"three"] == "three"


def test_a_half_of_a_surrogate_pair_has_a_place() -> None:
    assert [text[:1] for text, _ in placed(Bytewise(), "a\ud83eb")] == ["a", "\ud83e", "b"]


def test_places_take_time_in_proportion_to_the_prompt() -> None:
    """Counted in calls: each kind of token is looked at once."""
    vocabulary = ScriptedVocabulary()
    seen: list[int] = []
    whole = prompt("word and word " * 5000)
    encoded = prompt_ids(whole, vocabulary, memory(vocabulary), "me")
    prompt_offsets(whole, encoded, lambda id: (seen.append(id), vocabulary.piece(id))[1])  # type: ignore[func-returns-value]

    assert len(seen) <= 1 + len(set(encoded.ids))


def test_pieces_are_bytes_in_hex_each_once() -> None:
    assert pieces_of([65, 255, 65], ScriptedVocabulary().piece) == {"65": "41", "255": "ff"}


def joined(record: dict[str, Any], ids: list[int]) -> str:
    return b"".join(bytes.fromhex(record["pieces"][str(id)]) for id in ids).decode()


def check_tokens(record: dict[str, Any]) -> None:
    assert joined(record, record["prompt_ids"]) == record["prompt"]
    assert joined(record, record["output_ids"]) == record["output_text"]
    asked = [id for one in record["probabilities"] for id, _ in one["top"] + (one["raw_top"] or [])]
    assert set(record["pieces"]) == set(map(str, record["prompt_ids"] + record["output_ids"] + asked))
    assert record["n_ctx"] > len(record["prompt_ids"])
    assert len(record["prompt_offsets"]) == len(record["prompt_ids"])
    assert record["special"]
    for id in record["special"]:
        # A candidate may be any of them.
        assert re.fullmatch(r"<[^<>]+>", joined(record, [id]))
    assert len(record["token_times"]) == len(record["output_ids"])
    times = [record["prefill"][0][0], *record["token_times"], record["timings"]["total_s"]]
    assert times == sorted(times)
    assert record["prefill"][-1] == [record["token_times"][0], len(record["prompt_ids"])]


def test_the_record_of_a_scripted_answer(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": f"say {TEXT[:20]}"}], n_batch=16)) as service:
            await ask(service, TEXT * 3)
            record = service.trace("req_1", "local")

            check_tokens(record)
            assert record["model_id"] == "play"
            timings = record["timings"]
            assert timings["prefill_tokens"] == len(record["prompt_ids"])
            assert timings["prefill_steps"] == len(record["prefill"]) == -(-len(record["prompt_ids"]) // 16)
            assert timings["decode_steps"] == len(record["output_ids"])
            assert timings["queued_s"] < timings["first_token_s"] == record["token_times"][0]
            assert record["probabilities"] == []

    run(check())


FORCED = {"tools": [WEATHER], "tool_choice": {"type": "any"}}


@pytest.mark.parametrize("fields", [{}, FORCED])
def test_probabilities_of_the_demo_model(fields: dict[str, Any]) -> None:
    async def check() -> None:
        async with serving("demo") as service:
            asked: dict[str, Any] = {"nbllama": {"probabilities": 4}, "max_tokens": 30, "temperature": 0}
            await ask(service, "What is the weather in Paris?", **asked, **fields)
            record = service.trace("req_1", "local")

            check_tokens(record)
            told = record["probabilities"]
            assert len(told) == len(record["output_ids"])
            assert len(record["pieces"]) > len({*record["prompt_ids"], *record["output_ids"]})
            for id, one in zip(record["output_ids"], told, strict=True):
                if one["forced"]:
                    assert (one["top"], one["logprob"]) == ([[id, 0.0]], 0.0)
                else:
                    # Greedy: the token is the best of what the guide left.
                    assert one["top"][0] == [id, one["logprob"]]
                assert 0 <= (one["removed"] or 0) <= 1
            assert any(one["forced"] and one["raw_top"] for one in told) is bool(fields)

    run(check())


def test_who_asks_for_none_has_none_whatever_the_setting(
    script: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(service: Service, id: str, **fields: Any) -> list[dict[str, Any]]:
        await ask(service, "hello", id=id, **fields)
        told: list[dict[str, Any]] = service.trace(id, "local")["probabilities"]
        return told

    async def check() -> None:
        model = script(rules=[{"answer": "one two"}])
        async with serving(model, probabilities=3) as service:
            assert [len(one["top"]) for one in await asked(service, "a")] == [3, 3]
            assert [len(one["top"]) for one in await asked(service, "b", nbllama={"probabilities": 1})] == [1, 1]
            assert await asked(service, "c", nbllama={"probabilities": 0}) == []
        monkeypatch.setattr(Reader, "read", lambda *_: pytest.fail("somebody reads what nobody is told"))
        async with serving(model, probabilities=3, trace_count=0) as service:
            await ask(service, "hello", nbllama={"probabilities": 3})

    run(check())


@pytest.mark.parametrize("value", [-1, 21, "x", 1.5])
def test_how_many_are_wished_is_checked(script: Callable[..., str], value: Any) -> None:
    async def check() -> None:
        async with serving(script()) as service:
            with pytest.raises(InvalidRequest, match=r"^nbllama\.probabilities: "):
                await service.messages(body(nbllama={"probabilities": value}), client="local", request_id="r")

    run(check())


def test_a_long_answer_keeps_the_first_ones_and_says_so(
    script: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MOST_ALTERNATIVES", 40)

    async def check() -> None:
        async with serving(script(rules=[{"answer": "word " * 50}])) as service:
            await ask(service, nbllama={"probabilities": 10})
            record = service.trace("req_1", "local")
            assert len(record["probabilities"]) == 4
            assert "probabilities: kept of the first 4 tokens only" in record["warnings"]

    run(check())


def test_a_prompt_is_compared_with_the_clients_own_closest(script: Callable[..., str]) -> None:
    async def told(service: Service, id: str, text: str, *, client: str = "local") -> dict[str, Any]:
        answer = await service.messages(body(text), client=client, request_id=id)
        await answer.message()
        record: dict[str, Any] = service.trace(id, client)
        assert record["reuse"]["cached_tokens"] == record["cached_tokens"]
        return record

    async def check() -> None:
        async with serving(script(rules=[{"answer": "ok"}])) as service:
            first = await told(service, "a", "one two three four five")
            assert first["reuse"] == {
                "cached_tokens": 0,
                "source": "none",
                "compared_with": None,
                "first_difference": None,
                "reason": reuse.NOTHING,
            }
            await told(service, "theirs", "one two three four five six", client="you")
            await told(service, "side", "something else")
            second = await told(service, "b", "one two three nine five")
            place = second["reuse"]["first_difference"]
            assert second["reuse"]["compared_with"] == "a"
            assert first["prompt_ids"][:place] == second["prompt_ids"][:place]
            assert joined(second, [second["prompt_ids"][place]]) == " nine"
            again = (await told(service, "c", "one two three nine five"))["reuse"]
            assert (again["compared_with"], again["first_difference"]) == ("b", None)
            assert again["reason"] == reuse.ALL

    run(check())


def kept(id: str, ids: list[int], **fields: Any) -> RequestRecord:
    return RequestRecord(id, f"msg_{id}", "me", "m", 1.8e9, False, prompt_ids=ids, **{"model_id": "m"} | fields)


def test_the_answer_of_the_last_turn_counts_as_its_own() -> None:
    store = TraceStore(max_count=50, max_bytes=1 << 20)
    store.add(kept("a", [1, 2, 3], output_ids=[4, 5]))
    store.add(kept("b", [1, 2, 9]))
    store.add(kept("other model", [1, 2, 3, 4, 5, 6], model_id="n"))

    assert store.closest(kept("c", [1, 2, 3, 4, 5, 6])) == ("a", 5)
    assert store.closest(kept("c", [1, 2, 3])) == ("a", None)
    assert store.closest(kept("c", [7], model_id="none")) is None
    for place in range(COMPARED):
        store.add(kept(f"newer{place}", [8]))
    assert store.closest(kept("c", [1, 2, 3])) == ("newer15", 0)


def test_ids_that_are_kept_to_compare_count_as_bytes() -> None:
    store = TraceStore(max_count=1000, max_bytes=1 << 20)
    for place in range(300):
        store.add(kept(f"r{place}", list(range(1000, 3000))))
        assert store.n_bytes <= 1 << 20
    n = len(store.summaries("me"))
    assert store.n_bytes == sum(len(json.dumps(store.get(f"r{299 - place}", "me"))) + 8000 for place in range(n))


def test_a_record_that_is_too_large_loses_its_probabilities_first() -> None:
    store = TraceStore(max_count=10, max_bytes=200_000)
    told = [{"top": [[7, -0.5]] * 20, "raw_top": None}] * 1000
    pieces = {"1": "61", "3": "62", "7": "63"}
    store.add(kept("a", [1, 2], output_ids=[3], probabilities=told, pieces=pieces))
    found = store.get("a", "me")

    assert (found["probabilities"], found["prompt_ids"], found["pieces"]) == ([], [1, 2], {"1": "61", "3": "62"})
    assert found["warnings"] == ["this trace was too large to keep whole: probabilities left out"]

    store.add(
        kept("b", list(range(9000)), prompt_offsets=[0] * 9000, output_ids=[3], probabilities=told[:1], pieces=pieces)
    )
    found = store.get("b", "me")
    assert (found["prompt_offsets"], found["pieces"]) == ([], {"3": "62", "7": "63"})
