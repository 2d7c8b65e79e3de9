"""PDF documents of a request → their text, before anything renders it. Aside, so that streams go on meanwhile."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import sys
from collections import OrderedDict
from typing import TypeVar

from nbllama.answer import pdf_text
from nbllama.wire.content import DocumentBlock, InputMessage, ToolResultBlock
from nbllama.wire.errors import InvalidRequest
from nbllama.wire.requests import CountTokensRequest

Request = TypeVar("Request", bound=CountTokensRequest)

SECONDS = 30.0
"""How long the text of one document may take."""

_AT_ONCE = 2
_MAX_REMEMBERED = 32


class PdfTexts:
    """Texts by the document's digest: every turn of a conversation sends the document again. Event loop only."""

    def __init__(self) -> None:
        self._texts: OrderedDict[bytes, str] = OrderedDict()
        self._n_running = 0

    async def text(self, data: bytes, place: str) -> str:
        """The text of a PDF. Raises InvalidRequest, naming the `place`."""
        digest = hashlib.sha256(data).digest()
        if digest not in self._texts:
            while self._n_running >= _AT_ONCE:
                await asyncio.sleep(0.05)
            self._n_running += 1
            try:
                self._texts[digest] = await _extracted(data, place)
            finally:
                self._n_running -= 1
            while len(self._texts) > _MAX_REMEMBERED:
                self._texts.popitem(last=False)
        return self._texts[digest]


_texts = PdfTexts()


async def with_texts(request: Request) -> Request:
    """The request with the text of each PDF in its place; itself if it holds none. Raises InvalidRequest."""
    for index, message in enumerate(request.messages):
        for place, document in _documents(message, f"messages.{index}.content"):
            if _is_pdf(document):
                text = await _texts.text(_data(document, place), place)
                document.source = {"type": "text", "media_type": "text/plain", "data": text}
    return request


def _documents(message: InputMessage, path: str) -> list[tuple[str, DocumentBlock]]:
    found = []
    for position, block in enumerate(message.content):
        parts = block.content if isinstance(block, ToolResultBlock) else [block]
        found += [(f"{path}.{position}", part) for part in parts if isinstance(part, DocumentBlock)]
    return found


def _is_pdf(document: DocumentBlock) -> bool:
    source = document.source
    return source.get("type") == "base64" and source.get("media_type") == "application/pdf"


def _data(document: DocumentBlock, place: str) -> bytes:
    try:
        return base64.b64decode(document.source.get("data", ""), validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise InvalidRequest(f"{place}.document.source.base64.data: Input should be valid base64") from error


async def _extracted(data: bytes, place: str) -> str:
    """In a process of its own: a hostile file may want any time and any memory, and only a process can be ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        pdf_text.__file__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        # Not `wait_for`, which before Python 3.12 loses a cancellation that comes with the text.
        async with asyncio.timeout(SECONDS):
            out, problem = await process.communicate(data)
    except TimeoutError as error:
        raise InvalidRequest(f"{place}: the text of this PDF could not be read within {SECONDS:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        reason = problem.decode(errors="replace").strip() if process.returncode == 1 else ""
        raise InvalidRequest(f"{place}: {reason or 'the PDF needs more time or memory than a document may have'}")
    return out.decode(errors="replace")
