"""Find what must not differ between two questions that are to share one answer.

    text --tokens--> words and figures --reading--> Reading; two Readings --compare--> Differences

It knows English; numbers, quotes, code and addresses it knows in any language. It is pure: no
model, no clock, and of files only the word list beside it.
"""

from __future__ import annotations

from shared_core.guard.compare import KINDS, Difference, Guard
from shared_core.guard.reading import Reading, read
from shared_core.guard.vocabulary import ALTERNATIVES, IDLE, STOP, canonical, meanings, opposites

__all__ = [
    "ALTERNATIVES",
    "IDLE",
    "KINDS",
    "STOP",
    "Difference",
    "Guard",
    "Reading",
    "canonical",
    "meanings",
    "opposites",
    "read",
]
