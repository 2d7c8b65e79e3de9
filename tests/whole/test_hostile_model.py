"""Model files whose chat templates are hostile: loaded or refused in words, and the worker answers on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbllama.answer.model_sources import resolve
from tests.chat.test_environment import BOMBS
from tests.whole.doors import Doors, ask, open_doors, worker_pid

gguf = pytest.importorskip("gguf", reason="gguf writes the model files of this test")
KINDS = ["doubling", "loops", "endless recursion", "nested blocks", "dense", "large message", "comparisons"]


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    with open_doors() as doors:
        yield doors


def with_template(path: Path, template: str) -> None:
    """The demo model with another template."""
    source = resolve("demo").path
    assert source is not None
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, reader.get_field("general.architecture").contents())
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", "tokenizer.chat_template"):
            kind = field.types[0]
            writer.add_key_value(field.name, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None)
    writer.add_chat_template(template)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_loaded_or_refused(doors: Doors, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"hostile-{kind.replace(chr(32), chr(45))}.gguf"
    with_template(path, BOMBS[kind])
    reply = doors.worker.post("/nbllama/load", json.dumps({"model": str(path)}).encode())
    # A file that cannot be used is no fault of the request: 500, with the reason.
    reply.check(200, 500)
    assert "template" in reply.body.decode(), reply.raw
    if reply.status == 200:
        asked = {**ask("hi"), "model": reply.json["id"]}
        doors.worker.post("/v1/messages", json.dumps(asked).encode()).check(200, 400)
    doors.worker.post("/v1/messages", json.dumps(ask("hi")).encode()).check(200)
    assert worker_pid(doors) == doors.pid
