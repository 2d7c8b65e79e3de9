"""A stream that breaks the rules, of whatever server, is recorded and played as it came."""

from __future__ import annotations

from typing import Any

import pytest

from nbllama.cassettes.played import Played
from nbllama.cassettes.recorded import Heard
from nbllama.cassettes.tape import Take
from nbllama.wire.cassette_file import MESSAGES, Cassette, Exchange, decode, encode
from nbllama.wire.errors import ServerFault
from nbllama.wire.sse import encode_data
from tests.cassettes.tapes import asking

STOP = {"type": "message_stop"}
BLOCK = {"type": "content_block_start", "index": 0}


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    "events",
    [
        [STOP],
        [{"type": "message_start"}, STOP],
        [{"type": "message_start", "message": "hello"}, BLOCK, STOP],
        [{"type": "message_start", "message": {}}, {**BLOCK, "content_block": "text"}, STOP],
        [{"type": "message_start", "message": {"id": 5}}, {"type": "content_block_delta"}, STOP],
    ],
)
def test_a_broken_stream_is_played_as_it_was_heard(events: list[dict[str, Any]], again: bool) -> None:
    heard = Heard(asking("hi", stream=True), "req_1")
    heard.feed(b"".join(encode_data(event["type"], event) for event in events))
    assert heard.ended
    file = encode(Cassette(exchanges=[Exchange(MESSAGES, heard.request, record=heard.record())]), compressed=True)
    (exchange,) = decode(file, "broken.json.gz").exchanges
    played = Played(Take(exchange, 1, again), heard.request, "req_2", "local", "replayed")

    assert [event for _, event in played.events] == events
    assert played.record().events == played.events and played.record().message_id.startswith("msg_")
    with pytest.raises(ServerFault, match="no whole Message; ask with `stream`"):
        played.message()
