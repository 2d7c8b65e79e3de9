"""`%llama record FILE` and `%llama replay FILE`, each until `off`; NBLLAMA_REPLAY=FILE does the second from the start.

Both put a server of this process between the kernel's requests and the worker: clients, cells and traces reach it as
they reach a worker.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nbllama.cassettes.speed import speed
from nbllama.notebook.kernel_link import Detour, Real, link
from nbllama.notebook.phrases import counted
from nbllama.wire.cassette_file import CassetteError
from nbllama.worker.connection import Endpoint

if TYPE_CHECKING:
    from nbllama.cassettes.player import Player
    from nbllama.cassettes.recorder import Recorder

REPLAY, SPEED = "NBLLAMA_REPLAY", "NBLLAMA_REPLAY_SPEED"
_HOW_TO_RECORD = "%llama record FILE, then ask, then `%llama record off`"
_HOW_TO_REPLAY = "%llama replay FILE [speed=X]: 1 as it was, 4 four times as fast, 0 at once; `%llama replay off`"


class _Server(Protocol):
    def close(self) -> None: ...


class Recording(Detour):
    """On until `off`; afterwards its server stays for the traces that were made through it."""

    instead = False

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def endpoint(self, real: Real) -> Endpoint:
        return self.recorder.endpoint_for(real(None))

    def told(self) -> str:
        recording = self.recorder.recording
        text = f"recording to {recording.path}: {counted(recording.n_recorded, 'request')} so far"
        if recording.n_broken_off:
            text += f"; {recording.n_broken_off} broken off, which are not recorded"
        return f"{text}\n{recording.failure}" if recording.failure else text


class Replay(Detour):
    instead = True

    def __init__(self, player: Player) -> None:
        self.player = player

    def endpoint(self, real: Real) -> Endpoint:
        return self.player.endpoint

    def told(self) -> str:
        tape = self.player.tape
        models = f" with {', '.join(tape.models)}" if tape.models else ""
        recordings = f"{counted(len(tape.cassette.exchanges), 'recording')}{models}"
        speed = f", at speed {self.player.speed:g}" if self.player.speed != 1 else ""
        return f"replaying {tape.name}: {recordings}{speed}, {tape.n_played} played"


def record(words: list[str]) -> str:
    """`%llama record …`: what to print. Nothing: how it stands. Raises CassetteError."""
    replay_from_environment()
    running = link.detour
    if not words:
        return running.told() if isinstance(running, Recording) else f"nothing is recorded: {_HOW_TO_RECORD}"
    if words == ["off"]:
        return _record_off()
    if len(words) > 1:
        raise CassetteError(f"one file is recorded to, not {len(words)}: {_HOW_TO_RECORD}")
    if isinstance(running, Replay):
        raise CassetteError("a replay would be recorded: end it first with `%llama replay off`")
    from nbllama.cassettes import recorder, recording

    path = Path(words[0]).expanduser().absolute()
    begun = recording.Recording(path)
    server = recorder.Recorder(begun, lambda instead_of=None: link.real(instead_of=instead_of))
    _switch(Recording(server), server)
    before = f" The {begun.n_replaced} recordings in it are replaced at the first one." if begun.n_replaced else ""
    return f"recording to {path} until `%llama record off`; keys, paths and e-mail addresses are masked.{before}"


def replay(words: list[str]) -> str:
    """`%llama replay …`: what to print. Nothing: how it stands. Raises CassetteError."""
    if words in ([], ["off"]):
        replay_from_environment()
    running = link.detour
    if not words:
        return running.told() if isinstance(running, Replay) else f"nothing is replayed: {_HOW_TO_REPLAY}"
    if words == ["off"]:
        if not isinstance(running, Replay):
            return "nothing is replayed"
        link.detour = None
        return f"no longer replaying {running.player.tape.name}: requests go to the model again"
    file, how_fast = _file_and_speed(words)
    if isinstance(running, Recording):
        raise CassetteError("a replay would be recorded: end the recording first with `%llama record off`")
    told = _replay(Path(file), how_fast).told()
    # The cell's own word counts, also after its `off`.
    _begun.add(os.environ.get(REPLAY, ""))
    return told


def replay_from_environment() -> None:
    """NBLLAMA_REPLAY=FILE (and NBLLAMA_REPLAY_SPEED), once: `%llama replay off` ends it. Raises CassetteError."""
    with _lock:
        file = os.environ.get(REPLAY, "")
        if not file or link.detour is not None or file in _begun:
            return
        try:
            _replay(Path(file), speed(os.environ.get(SPEED) or "1"))
        except CassetteError as error:
            raise CassetteError(f"{REPLAY}: {error}") from error
        _begun.add(file)


def _record_off() -> str:
    running = link.detour
    if not isinstance(running, Recording):
        return "nothing is recorded"
    link.detour = None
    recording = running.recorder.recording
    if recording.failure:
        raise CassetteError(f"not recorded: {recording.failure}")
    if not recording.n_recorded:
        return f"nothing was asked: {recording.path} is not written"
    left_out = f" ({recording.n_broken_off} broken off left out)" if recording.n_broken_off else ""
    n_recorded = counted(recording.n_recorded, "request")
    return f"{n_recorded} recorded{left_out} in {recording.path}; look through it, then share it"


def _replay(path: Path, how_fast: float) -> Replay:
    from nbllama.cassettes.player import Player
    from nbllama.cassettes.tape import Tape

    player = Player(Tape.load(path.expanduser()), how_fast)
    begun = Replay(player)
    _switch(begun, player)
    return begun


def _switch(detour: Detour, server: Recorder | Player) -> None:
    server.start()
    _servers.append(server)
    link.detour = detour
    # The one before still shows its traces; those before it have been looked at.
    while len(_servers) > 2:
        _servers.pop(0).close()


def _file_and_speed(words: list[str]) -> tuple[str, float]:
    """FILE, and `--speed X`, `--speed=X` or `speed=X` before or behind it."""
    files, speeds, rest = [], [], list(words)
    while rest:
        name, equals, value = (word := rest.pop(0)).removeprefix("--").partition("=")
        if name == "speed" and (equals or word.startswith("--")):
            speeds.append(value if equals else rest.pop(0) if rest else "")
        else:
            files.append(word)
    if len(files) != 1 or len(speeds) > 1:
        raise CassetteError(f"one file is replayed: {_HOW_TO_REPLAY}")
    return files[0], speed(speeds[0] if speeds else "1")


_lock = threading.Lock()
_begun: set[str] = set()
_servers: list[_Server] = []
