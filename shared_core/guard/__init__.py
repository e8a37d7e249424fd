"""The guard: what must not differ between two questions that are to share one answer.

text --tokens--> figures, words --reading--> Reading; two Readings --compare--> Differences
"""

from __future__ import annotations

import re

from shared_core.guard.compare import Difference, compare
from shared_core.guard.reading import read

__all__ = ["KINDS", "Difference", "Guard"]

KINDS = frozenset(
    "number unit date version negation quote identifier name opposite direction frame content unread".split()
)


class Guard:
    """Tells how two questions differ where it matters."""

    def differences(self, asked: str, cached: str) -> tuple[Difference, ...]:
        """Return what matters and differs, empty if nothing does."""
        return tuple(compare(read(asked), read(cached)))

    def timeless(self, question: str) -> bool:
        return True
