"""A player on its own port, for clients that need no kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from nbllama.cassettes.player import Player
from nbllama.cassettes.tape import Tape

Play = Callable[..., Player]


@pytest.fixture
def play() -> Iterator[Play]:
    players = []

    def start(tape: Tape, speed: float = 0) -> Player:
        player = Player(tape, speed)
        player.start()
        players.append(player)
        return player

    yield start
    for player in players:
        player.close()
