"""`python pdf_text.py < FILE`: the text of a PDF, within bounds of time and memory. Imports nothing of ours.

The exit code is 0, 1 after one sentence on standard error that says what is wrong with the file, or another one when
the system ended it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys

MAX_PAGES = 100
"""The API's own limit for models of up to a million tokens (anthropic-api §2.4)."""

MAX_CHARS = 4_000_000
MEMORY_BYTES = 1 << 30
CPU_SECONDS = 30


class Refused(Exception):
    """What is wrong with the file, for its sender."""


def text_of(data: bytes) -> str:
    """The text, with a line before each page. Raises Refused."""
    import pypdf
    from pypdf.errors import PyPdfError

    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted:
            raise Refused("the PDF is encrypted: send it without a password")
        if len(reader.pages) > MAX_PAGES:
            raise Refused(f"the PDF has {len(reader.pages)} pages: a maximum of {MAX_PAGES} PDF pages may be provided")
        return _joined(reader)
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        # pypdf tells of a broken file by whatever went wrong in it.
        raise Refused("the PDF is not valid: it cannot be read") from error


def _joined(reader: object) -> str:
    parts, n_chars, found = [], 0, False
    for number, page in enumerate(reader.pages, 1):  # type: ignore[attr-defined]  # a PdfReader, which only runs here
        text = page.extract_text().strip()
        found = found or bool(text)
        parts.append(f"[Page {number}]\n{text}")
        n_chars += len(text)
        if n_chars > MAX_CHARS:
            raise Refused(f"the PDF holds more than {MAX_CHARS:,} characters")
    if not found:
        raise Refused("the PDF holds no text (scanned pages are images, which this model cannot see)")
    return "\n\n".join(parts)


def _limit() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))


def main() -> int:
    _limit()
    # pypdf tells its own story of a broken file on standard error.
    logging.disable()
    try:
        text = text_of(sys.stdin.buffer.read())
        sys.stdout.buffer.write(text.encode("utf-8", errors="replace"))
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except MemoryError:
        return 2
    except ImportError:
        print("PDF documents cannot be read here: pypdf is not installed", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
