"""Several guides of one sequence as one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol


class Guide(Protocol):
    """The engine's contract, as far as it is needed here, and what the engine need not know."""

    @property
    def stop(self) -> str | None: ...
    def mask(self, row: Any) -> None: ...
    def forced(self) -> Sequence[int]: ...
    def accept(self, ids: Sequence[int]) -> None: ...
    def rollback(self, n: int) -> None: ...
    def possible(self, ids: Collection[int]) -> Collection[int]: ...


class Guides:
    """What one of them forbids is forbidden; the first that has something to force forces; each may stop."""

    def __init__(self, guides: Sequence[Guide]) -> None:
        self._guides = guides

    @property
    def stop(self) -> str | None:
        """The reason of the first that stops."""
        return next((guide.stop for guide in self._guides if guide.stop), None)

    def mask(self, row: Any) -> None:
        for guide in self._guides:
            guide.mask(row)

    def forced(self) -> Sequence[int]:
        for guide in self._guides:
            if ids := guide.forced():
                return ids
        return ()

    def accept(self, ids: Sequence[int]) -> None:
        for guide in self._guides:
            guide.accept(ids)

    def rollback(self, n: int) -> None:
        for guide in self._guides:
            guide.rollback(n)

    def possible(self, ids: Collection[int]) -> Collection[int]:
        """Those of `ids` that may come next."""
        for guide in self._guides:
            ids = guide.possible(ids)
        return ids


def together(guides: Sequence[Guide]) -> Guide | None:
    """One guide for all of them; None for none."""
    return guides[0] if len(guides) == 1 else Guides(guides) if guides else None
