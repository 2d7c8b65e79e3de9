"""The syntaxes of calls: a further one is one module and one line here."""

from __future__ import annotations

from collections.abc import Mapping

from nbllama.chat.format import Syntax
from nbllama.chat.syntaxes import json_calls, literal, nested, pythonic, tag_json, tagged
from nbllama.chat.syntaxes.reading import Reader

READERS: Mapping[Syntax, Reader] = {
    "json": json_calls.read,
    "tag_json": tag_json.read,
    "tagged": tagged.read,
    "pythonic": pythonic.read,
    "literal": literal.read,
    "nested": nested.read,
}
