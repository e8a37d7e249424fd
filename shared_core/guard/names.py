"""Names in two questions: what one side marks as a name and the other does not say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from shared_core.guard.lexicon import ALIKE_ENDINGS
from shared_core.guard.reading import Reading
from shared_core.guard.thesaurus import canonical

Sides = tuple[tuple[str, ...], tuple[str, ...]]

_FRONT = 4
"""Letters that two forms of one word have in common at least."""


def unnamed(asked: Reading, cached: Reading) -> Sides:
    """Return the names of either side that the other does not say in any spelling."""
    mine = [name for name in asked.names if not _named(name, cached)]
    theirs = [name for name in cached.names if not _named(name, asked)]
    return _unjoined(mine, asked, cached), _unjoined(theirs, cached, asked)


def _named(name: str, reading: Reading) -> bool:
    words = reading.words
    return (
        name in words
        or f"{name}s" in words
        or name.removesuffix("s") in words
        or canonical(name) in reading.terms
        or any(inflected(name, word) for word in words)
    )


def _unjoined(names: Iterable[str], here: Reading, there: Reading) -> tuple[str, ...]:
    """Drop the names that only stand in one word here and in two there: WiFi and Wi-Fi."""
    if not names:
        return ()
    whole = {one + other for one, other in pairwise(there.sequence)}
    parts = {
        part for pair in pairwise(here.sequence) if "".join(pair) in there.words for part in pair
    }
    return tuple(name for name in names if name not in whole | parts)


def inflected(one: str, other: str) -> bool:
    """Tell whether two words are forms of one word, by a common front and usual endings."""
    if one[:_FRONT] != other[:_FRONT]:
        return False
    front = shared(one, other)
    return one[front:] in ALIKE_ENDINGS and other[front:] in ALIKE_ENDINGS


def shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Count the items that two sequences have in common from their beginning on."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def relabelled(asked: Reading, cached: Reading) -> Sides | None:
    """Find letters that follow one word and differ: appendix a and appendix b, vitamin c and d."""
    if asked.labels and cached.labels:
        for word in {word for word, _ in asked.labels} & {word for word, _ in cached.labels}:
            mine, theirs = asked.labelled(word), cached.labelled(word)
            if set(mine) != set(theirs):
                return mine, theirs
    return None
