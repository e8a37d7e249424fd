"""Find what must not differ between two questions that are to share one answer.

    text --tokens--> words and figures --reading--> Reading; two Readings --compare--> Differences

It knows English; numbers, quotes, code and addresses it knows in any language. It is pure: no
model, no file, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shared_core.guard.compare import KINDS, Difference, compare
from shared_core.guard.reading import Reading, is_timeless, read
from shared_core.guard.vocabulary import STOP, canonical

__all__ = ["KINDS", "STOP", "Difference", "Guard", "Reading", "canonical", "read"]


@dataclass(frozen=True, slots=True)
class Guard:
    """Tells in what two questions differ where it matters.

    ``kinds`` are those that it reports; all by default. What was read in a text is remembered for
    the latest few thousand texts of the process, so that a candidate is read once.

    >>> Guard().differences("Flights on May 3", "Flights on May 4")
    (Difference(kind='number', asked=('3',), cached=('4',)),)
    >>> Guard().differences("Please delete my account!", "how can I remove my account")
    ()

    Raises ValueError for a kind that does not exist.
    """

    kinds: Iterable[str] = KINDS

    def __post_init__(self) -> None:
        kinds = frozenset(self.kinds)
        if unknown := sorted(kinds - KINDS):
            raise ValueError(f"Guard(kinds) has no kind {unknown[0]!r}; it has {sorted(KINDS)}")
        object.__setattr__(self, "kinds", kinds)

    def differences(self, asked: str, cached: str) -> tuple[Difference, ...]:
        """Return what matters and differs; empty if nothing does.

        Never raises for any two texts. Whether it is empty does not depend on which text is which.
        """
        if asked == cached:
            return ()
        found = compare(read(asked), read(cached))
        if self.kinds is KINDS:
            return found
        return tuple(each for each in found if each.kind in self.kinds)

    def timeless(self, question: str) -> bool:
        """Tell whether a question has no "today", "latest", "this week" and the like."""
        return is_timeless(question)
