"""Compare two readings, kind by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from shared_core.guard.alternatives import ALTERNATIVES, exclude
from shared_core.guard.figures import Figure
from shared_core.guard.lexicon import ALIKE_ENDINGS, DENIALS, STOP, listed
from shared_core.guard.order import (
    UNSIDED,
    reversed_neighbours,
    reversed_operands,
    swapped,
    turned,
)
from shared_core.guard.reading import SYMMETRIC, Reading
from shared_core.guard.thesaurus import FAILURES, canonical, opposites_of

KINDS = frozenset(
    listed("""
    number unit date version negation quote identifier name opposite direction frame content
    symbol unread
    """)
)
"""Every kind of difference. "unread": the texts differ beyond what the guard reads closely."""

FRAME = 25
"""Words that two questions must share at their ends to be called one frame filled twice."""

_WHOLE = ("sequence", "quotes", "signs", "emoji")
"""Readings that are equal in these are of one text, but for case and punctuation."""

_FRONT = 4
"""Letters that two forms of one word have in common at least."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that matters and is not the same: its kind, and what either question says."""

    kind: str
    asked: tuple[str, ...]
    cached: tuple[str, ...]


def compare(asked: Reading, cached: Reading) -> tuple[Difference, ...]:
    """Return every difference; none between readings of one sequence of words."""
    same = all(getattr(asked, part) == getattr(cached, part) for part in _WHOLE)
    found = [] if same else [each for kind in _KINDS for each in kind(asked, cached)]
    if not found and not same:
        found = list(_content(asked, cached))
    if asked.rest != cached.rest:
        found.append(Difference("unread", (), ()))
    return tuple(found)


def _figures(asked: Reading, cached: Reading) -> Iterator[Difference]:
    if asked.figures == cached.figures:
        return
    mine, theirs = (
        _unmatched(asked.figures, cached.figures),
        _unmatched(cached.figures, asked.figures),
    )
    hard = any(not figure.soft for figure in mine + theirs)
    if hard or (mine and theirs):
        if not (mine and theirs):  # "one" or "first" alone may be no number
            mine, theirs = [f for f in mine if not f.soft], [f for f in theirs if not f.soft]
        for kind in dict.fromkeys(figure.kind for figure in mine + theirs):
            yield Difference(kind, _values(mine, kind), _values(theirs, kind))
    elif not mine and not theirs and _reordered(asked, cached):
        yield Difference("number", _values(asked.figures), _values(cached.figures))


def _unmatched(some: Sequence[Figure], others: Sequence[Figure]) -> list[Figure]:
    if not some:
        return []
    values = Counter(figure.value for figure in others)
    found: list[Figure] = []
    for figure in some:
        values[figure.value] -= 1
        if values[figure.value] < 0:
            found.append(figure)
    return found


def _values(figures: Iterable[Figure], kind: str | None = None) -> tuple[str, ...]:
    return tuple(f"{f.value} {f.unit}".strip() for f in figures if kind in (None, f.kind))


def _reordered(asked: Reading, cached: Reading) -> bool:
    """Tell whether the same numbers stand in another order, in roles that the order gives them."""
    mine, theirs = ([f for f in each.figures if f.kind == "number"] for each in (asked, cached))
    if [f.value for f in mine] == [f.value for f in theirs]:
        return False
    roles, others = ({f.value: f.role for f in each} for each in (mine, theirs))
    if any(roles.values()) and roles == others:
        return False  # each still counts the same things
    return not (_listed(asked) and _listed(cached))


def _listed(reading: Reading) -> bool:
    """Tell whether the numbers are joined by words of no direction: 3 and 5, 3 or 5."""
    at = [i for i, word in enumerate(reading.sequence) if word[0].isdecimal()]
    return all(set(reading.sequence[one + 1 : other]) <= SYMMETRIC for one, other in pairwise(at))


def _units(asked: Reading, cached: Reading) -> Iterator[Difference]:
    bound, other = ({f.value: f.unit for f in each.figures if f.unit} for each in (asked, cached))
    swapped = [
        (bound[value], other[value])
        for value in bound
        if value in other and not _same_unit(bound[value], other[value])
    ]
    if swapped:
        yield Difference("unit", *zip(*swapped, strict=True))
        return
    mine, theirs = _units_apart(asked, cached), _units_apart(cached, asked)
    if (mine and theirs) or not all((*mine.values(), *theirs.values())):
        yield Difference("unit", tuple(mine), tuple(theirs))


def _units_apart(one: Reading, other: Reading) -> dict[str, bool]:
    """Return the units that only one side has, each with whether it is soft."""
    if not one.units:
        return {}
    units = [unit for unit, _ in other.units]
    return {u: soft for u, soft in one.units if not any(_same_unit(u, each) for each in units)}


def _same_unit(one: str, other: str) -> bool:
    return one == other or ("pound" in (one, other) and bool({"lb", "gbp"} & {one, other}))


def _negation(asked: Reading, cached: Reading) -> Iterator[Difference]:
    if (asked.odd ^ _contradicts(asked, cached)) == (cached.odd ^ _contradicts(cached, asked)):
        return
    if asked.odd != cached.odd:
        plain, negated = (cached, asked) if asked.odd else (asked, cached)
        if (plain.terms - negated.terms) & FAILURES:
            return  # "the payment failed" beside "the payment did not go through"
    yield Difference("negation", *(_negations(each) for each in (asked, cached)))


def _contradicts(one: Reading, other: Reading) -> bool:
    """Tell whether one side says "unsafe" where the other says "safe"."""
    denied = [
        (term, canonical(term.removeprefix(start)))
        for term in one.terms - other.terms
        for start in DENIALS
        if term.startswith(start)
    ]
    pairs = {*one.negatives, *denied} if denied else set(one.negatives)
    against = {n for n, p in pairs if p in other.terms and n not in other.terms}
    return len(against) % 2 == 1


def _negations(reading: Reading) -> tuple[str, ...]:
    return ("not",) * reading.odd + tuple(negative for negative, _ in reading.negatives)


def _absent(
    kind: str, mine: Sequence[str], theirs: Sequence[str], asked: Reading, cached: Reading
) -> Iterator[Difference]:
    """Find what one side marks as to be taken literally and the other does not say at all."""
    if mine == theirs:
        return
    only_mine = tuple(each for each in mine if each not in theirs and not _says(cached, each))
    only_theirs = tuple(each for each in theirs if each not in mine and not _says(asked, each))
    if only_mine or only_theirs:
        yield Difference(kind, only_mine, only_theirs)


def _says(reading: Reading, literal: str) -> bool:
    return literal in reading.words or literal.replace(" ", "") in reading.squashed


def _letters(asked: Reading, cached: Reading) -> Iterator[Difference]:
    """Find one letter in the place of another: vitamin A, vitamin D."""
    mine, theirs = asked.sequence, cached.sequence
    if len(mine) != len(theirs):
        return
    apart = [pair for pair in zip(mine, theirs, strict=True) if pair[0] != pair[1]]
    if apart and all(len(word) == 1 and word.isalpha() for pair in apart for word in pair):
        yield Difference("name", *zip(*apart, strict=True))


def _symbols(asked: Reading, cached: Reading) -> Iterator[Difference]:
    signs = asked.signs != cached.signs
    if signs or (asked.emoji and cached.emoji and asked.emoji != cached.emoji):
        mine, theirs = (tuple(sorted(each.signs | each.emoji)) for each in (asked, cached))
        yield Difference("symbol", mine, theirs)


def _names(asked: Reading, cached: Reading) -> Iterator[Difference]:
    mine = tuple(name for name in asked.names if not _named(name, cached))
    theirs = tuple(name for name in cached.names if not _named(name, asked))
    if mine or theirs:
        yield Difference("name", mine, theirs)


def _named(name: str, reading: Reading) -> bool:
    words = reading.words
    return (
        name in words
        or canonical(name) in reading.terms
        or f"{name}s" in words
        or name.removesuffix("s") in words
        or any(_inflected(name, word) for word in words)
    )


def _inflected(one: str, other: str) -> bool:
    """Tell whether two words are forms of one word, by a common front and usual endings."""
    if one[:_FRONT] != other[:_FRONT]:
        return False
    front = _shared(one, other)
    return one[front:] in ALIKE_ENDINGS and other[front:] in ALIKE_ENDINGS


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Count the items that two sequences have in common from their beginning on."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _opposites(asked: Reading, cached: Reading) -> Iterator[Difference]:
    mine, theirs = asked.terms - cached.terms, cached.terms - asked.terms
    for term in sorted(mine):
        against = opposites_of(term) & theirs
        if against:
            yield Difference("opposite", (term,), tuple(sorted(against)))


def _direction(asked: Reading, cached: Reading) -> Iterator[Difference]:
    if (asked.terms | cached.terms) & UNSIDED:
        return
    sides = (
        turned(asked, cached)
        or reversed_operands(asked.operands, cached.operands)
        or swapped(asked.line, cached.line)
        or reversed_neighbours(asked, cached)
    )
    if sides:
        yield Difference("direction", *sides)


def _frame(asked: Reading, cached: Reading) -> Iterator[Difference]:
    mine, theirs = asked.sequence, cached.sequence
    shortest = min(len(mine), len(theirs))
    if shortest < FRAME:
        return
    front = _shared(mine, theirs)
    back = min(_shared(mine[::-1], theirs[::-1]), shortest - front)
    if front + back < FRAME:
        return
    only_mine, only_theirs = (
        {canonical(word) for word in words[front : len(words) - back] if word not in STOP}
        for words in (mine, theirs)
    )
    fewer = min(len(only_mine), len(only_theirs))
    if max(len(only_mine), len(only_theirs)) < (1 if fewer else 2):
        return
    if len(only_mine & only_theirs) <= fewer / 4:
        yield Difference("frame", tuple(sorted(only_mine)), tuple(sorted(only_theirs)))


def _content(asked: Reading, cached: Reading) -> Iterator[Difference]:
    """Find a word of a class of alternatives where the other side has another of that class."""
    mine, theirs = asked.terms - cached.terms, cached.terms - asked.terms
    for term in sorted(mine & ALTERNATIVES.keys()):
        for other in sorted(theirs & ALTERNATIVES.keys()):
            if exclude(term, other) and not _inflected(term, other):
                yield Difference("content", (term,), (other,))
                return


def _quotes(asked: Reading, cached: Reading) -> Iterator[Difference]:
    return _absent("quote", asked.quotes, cached.quotes, asked, cached)


def _identifiers(asked: Reading, cached: Reading) -> Iterator[Difference]:
    return _absent("identifier", asked.identifiers, cached.identifiers, asked, cached)


_KINDS = (
    _figures, _units, _negation, _quotes, _identifiers, _names, _letters, _opposites, _direction,
    _frame, _symbols,
)  # fmt: skip
