"""Order that matters: from here to there, this bigger than that, who does what to whom."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

from shared_core.guard.alternatives import ALTERNATIVES
from shared_core.guard.figures import UNIT_NAMES
from shared_core.guard.lexicon import listed
from shared_core.guard.reading import SYMMETRIC, Operands, Reading
from shared_core.guard.thesaurus import canonical

Sides = tuple[tuple[str, ...], tuple[str, ...]]

UNSIDED = frozenset(
    map(
        canonical,
        listed("""
        compare comparison difference different differ distance between similar similarity vs versus
        """),
    )
)
"""Terms that make the order of two operands of no matter."""


def turned(asked: Reading, cached: Reading) -> Sides | None:
    """Find what one side goes to and the other comes from."""
    to = (asked.targets & cached.origins) - asked.origins - cached.targets
    since = (asked.origins & cached.targets) - asked.targets - cached.origins
    if not to and not since:
        return None
    mine = *(f"from {word}" for word in sorted(since)), *(f"to {word}" for word in sorted(to))
    theirs = *(f"to {word}" for word in sorted(since)), *(f"from {word}" for word in sorted(to))
    return mine, theirs


def reversed_operands(asked: Sequence[Operands], cached: Sequence[Operands]) -> Sides | None:
    """Find two operands that have changed sides of one connector."""
    for one in asked:
        for other in cached:
            if _reversed(one, other) and _reversed(other, one):
                return _spelt(one), _spelt(other)
    return None


def _spelt(operands: Operands) -> tuple[str, str]:
    _, left, right = operands
    return " ".join(sorted(left)), " ".join(sorted(right))


def _reversed(one: Operands, other: Operands) -> bool:
    """Tell whether what stands left of one connector stands right of the other."""
    return one[0] == other[0] and bool(
        (one[1] - other[1]) & other[2] and (one[2] - other[2]) & other[1]
    )


def swapped(mine: Sequence[str], theirs: Sequence[str], names: Collection[str]) -> Sides | None:
    """Return the operands if two have changed places: "do cats eat dogs", "do dogs eat cats".

    All other words must be the same, and those between must not be "and", "or" and the like. If
    none is between, both must be names or of one class: "train Rome Oslo", "French-English".
    """
    if len(mine) != len(theirs) or mine == theirs:
        return None
    moved = [
        place for place, pair in enumerate(zip(mine, theirs, strict=True)) if pair[0] != pair[1]
    ]
    start, end = moved[0], moved[-1] + 1
    mine, theirs = mine[start:end], theirs[start:end]
    for size in range(1, min(4, len(mine))):
        for other in range(1, min(4, len(mine) - size + 1)):
            between = mine[size : len(mine) - other]
            if (
                mine[:size] == theirs[-size:]
                and mine[-other:] == theirs[:other]
                and between == theirs[other : len(theirs) - size]
                and _is_ordered(mine[:size], between, mine[-other:], names)
            ):
                one, two = " ".join(mine[:size]), " ".join(mine[-other:])
                return (one, two), (two, one)
    return None


def _is_ordered(
    one: Sequence[str], between: Sequence[str], other: Sequence[str], names: Collection[str]
) -> bool:
    if between:
        return not set(between) <= SYMMETRIC
    if all(word in names or word in UNIT_NAMES for word in (*one, *other)):
        return True
    nowhere: frozenset[int] = frozenset()
    return bool(ALTERNATIVES.get(one[-1], nowhere) & ALTERNATIVES.get(other[0], nowhere))


def enumerated(line: Sequence[str]) -> bool:
    """Tell whether the numbers are joined by words of no direction: 3 and 5; 1, 2 or 3."""
    at = [place for place, term in enumerate(line) if term.startswith("#")]
    joints = [set(line[one + 1 : other]) for one, other in pairwise(at)]
    return all(joint <= SYMMETRIC for joint in joints) and any(joint - {","} for joint in joints)
