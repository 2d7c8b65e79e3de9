"""Thinking that comes back: ours as it was, ours changed, and everybody else's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from nbllama.answer.signatures import Signer, load_key
from nbllama.wire.errors import InvalidRequest
from nbllama.wire.requests import MessagesRequest, parse_messages_request

OURS = Signer(b"k" * 32)
SIGNATURE = OURS.sign(hashlib.sha256(b"hm").digest())


def request(**block: Any) -> MessagesRequest:
    ask = {"role": "user", "content": "hi"}
    content = [{"type": "thinking", "thinking": "hm", **block}, {"type": "text", "text": "yes"}]
    messages = [ask, {"role": "assistant", "content": content}, ask]
    return parse_messages_request(json.dumps({"model": "m", "max_tokens": 9, "messages": messages}).encode())


def test_our_own_is_accepted_as_it_was_and_when_it_was_omitted() -> None:
    assert OURS.check(request(signature=SIGNATURE)) == []
    assert OURS.check(request(signature=SIGNATURE, thinking="")) == []


@pytest.mark.parametrize("changed", [{"thinking": "hmm"}, {"signature": SIGNATURE[:-6] + "AAAAA="}])
def test_our_own_is_refused_when_it_was_changed(changed: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        OURS.check(request(**({"signature": SIGNATURE} | changed)))

    assert refused.value.message == "messages.1.content.0: Invalid `signature` in `thinking` block"


@pytest.mark.parametrize("signature", ["", None, "EqQBCkYIARgC", "not base64!", Signer(b"x" * 32).sign(b"")])
def test_what_others_signed_or_nobody_is_accepted_and_noted(signature: str | None) -> None:
    notes = OURS.check(request(signature=signature))

    assert len(notes) == 1
    assert notes[0].startswith("messages.1.content.0: thinking ")


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "signature.key"
    key = load_key(path)

    assert key is not None and len(key) == 32
    assert load_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["signature.key"]


def test_a_place_that_cannot_be_written_gives_no_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert load_key(tmp_path / "file" / "signature.key") is None
