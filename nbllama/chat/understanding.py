"""What is known of a template: found out once, kept by its hash."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict

from nbllama.chat.capabilities import Capabilities, probe
from nbllama.chat.derivation import Derived, derive
from nbllama.chat.format import Format, to_data
from nbllama.chat.renderer import Renderer

_MAX_KNOWN = 128
_known: OrderedDict[str, tuple[Capabilities, Derived]] = OrderedDict()
_lock = threading.Lock()


def understand(renderer: Renderer, *, eos: str, given: Format | None) -> tuple[Capabilities, Derived]:
    """About fifty small renderings the first time. Raises ChatError where not even one user message is rendered."""
    key = _key(renderer, eos, given)
    with _lock:
        if key in _known:
            _known.move_to_end(key)
            return _known[key]
    can = probe(renderer)
    found = can, derive(renderer, can, eos=eos, given=given)
    with _lock:
        _known[key] = found
        while len(_known) > _MAX_KNOWN:
            _known.popitem(last=False)
    return found


def _key(renderer: Renderer, eos: str, given: Format | None) -> str:
    parts = [renderer.source, renderer.bos, eos, None if given is None else to_data(given)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
