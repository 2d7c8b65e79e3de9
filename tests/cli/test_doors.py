"""Two doors on one worker, a door over loopback TCP, and a door to a worker whose settings an admin has locked."""

from __future__ import annotations

import http.client
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbllama.worker import connection
from tests.cli.test_serve import PATIENCE, Place, ask, end, model_that_answers

LOCKING = "from jupyter_core import paths; paths.SYSTEM_CONFIG_PATH = [{folder!r}]"


class SetPlace(Place):
    """A place with variables of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.variables: dict[str, str] = {}

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | self.variables


@pytest.fixture
def place() -> Iterator[SetPlace]:
    with tempfile.TemporaryDirectory(prefix="nbl", dir="/tmp") as folder:
        place = SetPlace(Path(folder))
        try:
            yield place
        finally:
            place.close()


def test_another_context_is_refused_with_both_numbers_and_another_model_is_loaded_beside(place: SetPlace) -> None:
    _, _, port = place.open("--model", "scripted:first.json", "--ctx", "2048", "--token", "t")
    worker = place.worker()
    refused = place.fails("--model", "scripted:first.json", "--ctx", "4096", "--token", "t", "--port", "0")
    same, _, _ = place.open("--model", "scripted:first.json", "--ctx", "2048", "--token", "t")
    _, _, second = place.open("--model", "scripted:second.json", "--ctx", "4096", "--token", "t")

    assert "first is loaded with a context of 2048 tokens, not 4096" in refused
    assert (model_that_answers(port, "t"), model_that_answers(second, "t")) == ("first", "second")
    models = ask(port, "t", "GET", "/nbllama/status")[1]["models"]
    assert {model["id"]: model["n_ctx"] for model in models} == {"first": 2048, "second": 4096}
    end(same, signal.SIGINT)
    assert place.worker() == worker
    assert model_that_answers(port, "t") == "first"


def test_the_whole_chain_over_loopback_tcp(place: SetPlace) -> None:
    place.variables["NBLLAMA_TRANSPORT"] = "tcp"
    process, _, port = place.open("--model", "scripted:first.json", "--token", "t")
    info = json.loads((place.folder / "run" / "nbllama-p1.json").read_text())

    assert "socket" not in info
    assert not list((place.folder / "run").glob("*.sock"))
    # Another user of this machine reaches the port, and nothing behind it.
    assert ask(info["port"], "t", "GET", "/nbllama/status")[0] in (401, 403)
    # Nor does a web page whose name was bound anew to this address, with the secret or without.
    for name, expected in (("evil.example", 403), (f"127.0.0.1:{info['port']}", 200)):
        assert status_under(name, info["port"], info["secret"]) == expected
    assert ask(port, "t")[1]["content"][0]["text"] == "Hello from the script."
    stream, response = stream_of(port)
    os.kill(info["pid"], signal.SIGKILL)
    rest = response.read().decode()
    stream.close()
    assert rest.count("event: error") == 1
    assert "message_stop" not in rest
    status, answer = ask(port, "t")
    assert status == 200, answer
    assert place.worker() not in (None, info["pid"])
    stream, response = stream_of(port)
    # Both hold the socket.
    response.close()
    stream.close()
    wait_for_nothing_running(port)
    end(process, signal.SIGTERM)


def stream_of(port: int) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """An answer without end, of which the first words have come."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    body = {"model": "any", "max_tokens": 4000, "stream": True, "messages": [{"role": "user", "content": "for ever"}]}
    connection.request("POST", "/v1/messages", body=json.dumps(body), headers={"x-api-key": "t"})
    response = connection.getresponse()
    data = b""
    while b"content_block_delta" not in data:
        data += (more := response.read1(65536))
        assert more, data
    return connection, response


def wait_for_nothing_running(port: int) -> None:
    for _ in range(600):
        if ask(port, "t", "GET", "/nbllama/status")[1]["requests_running"] == 0:
            return
    raise AssertionError("the answer goes on though its client has gone")


def test_what_an_admin_has_locked_holds_behind_a_door(place: SetPlace) -> None:
    system = place.folder / "system"
    system.mkdir()
    locked = {"model": f"scripted:{place.folder}/first.json", "ctx": 1024, "locked": ["model", "ctx"]}
    (system / "jupyter_nbllama_config.json").write_text(json.dumps({"NbllamaApp": locked}))
    # A system's folder of this test only: Python runs this file at the start of every process.
    packages = place.folder / "site-packages"
    packages.mkdir()
    (packages / "sitecustomize.py").write_text(LOCKING.format(folder=str(system)))
    place.variables |= {"PYTHONPATH": f"{packages}:{place.environment['PYTHONPATH']}", "NBLLAMA_CTX": "5"}
    _, model, port = place.open("--token", "t")

    assert model == "first"
    assert ask(port, "t", "GET", "/nbllama/status")[1]["models"][0]["n_ctx"] == 1024
    refused = place.fails("--model", "scripted:second.json", "--token", "t", "--port", "0")
    assert "the administrator of this machine allows" in refused
    assert "not 99" in place.fails("--ctx", "99", "--token", "t", "--port", "0")
    # A Jupyter server's own default, which it sends along, is not taken either.
    info = json.loads((place.folder / "run" / "nbllama-p1.json").read_text())
    worker = connection.Endpoint("http://localhost", socket=info["socket"], pid=info["pid"])
    body = {"model": "any", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"nbllama-default-model": f"scripted:{place.folder}/second.json"}
    connection.request_json(worker, "POST", "/v1/messages", body, headers=headers)
    assert [one["id"] for one in ask(port, "t", "GET", "/nbllama/status")[1]["models"]] == ["first"]
    assert "ctx: 5 is not used" in (place.folder / "run" / "nbllama-p1.log").read_text()


def status_under(host: str, port: int, secret: str) -> int:
    opened = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        opened.request("GET", "/nbllama/status", headers={"Host": host, connection.SECRET_HEADER: secret})
        return opened.getresponse().status
    finally:
        opened.close()
