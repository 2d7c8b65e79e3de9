"""What a server in a kernel makes of a client that goes, in whichever way."""

from __future__ import annotations

import socket
import struct
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nbllama.cassettes.http_server import LocalHandler

RESET = struct.pack("ii", 1, 0)


@pytest.mark.parametrize("way", ["closed", "reset", "there", "talking"])
def test_a_client_that_is_gone_is_told_from_one_that_waits(way: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        connection, _ = listening.accept()
    with connection, client:
        handler = cast(Any, SimpleNamespace(connection=connection))
        if way == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if way in ("closed", "reset"):
            client.close()
        elif way == "talking":
            client.sendall(b"x")
        # One that is there is waited for, the others are known at once.
        assert LocalHandler.leaves_within(handler, 0.01 if way == "there" else 10) is (way in ("closed", "reset"))
