"""Compare two readings, kind by kind, and return their differences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from operator import attrgetter

from shared_core.guard.grammar import (
    Grammar,
    Sides,
    actors_apart,
    asked_apart,
    conditions_apart,
    contradiction,
    doers_apart,
    focus_apart,
    modal_differs,
    quantifiers_apart,
    roles_apart,
    small_word_exchanged,
    tense_differs,
)
from shared_core.guard.reading import (
    ARTICLES,
    SYMMETRIC,
    UNSIDED,
    Reading,
    is_content,
    is_english,
    is_timeless,
    read,
    reversed_operands,
    swapped,
    turned,
)
from shared_core.guard.tokens import TIME_UNITS, Figure
from shared_core.guard.vocabulary import (
    ALTERNATIVES,
    CANCELLING,
    CEASED,
    DAYS_AND_MONTHS,
    FAILURES,
    FILLERS,
    NEGATIONS,
    OPPOSED,
    QUALIFIERS,
    STOP,
    alike,
    canonical,
    exchangeable,
    inflected,
    listed,
    opposites,
    phrasal,
    shared,
)


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
        or (len(name) in (2, 3, 4) and name in "".join([word[0] for word in reading.sequence]))
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


def relabelled(asked: Reading, cached: Reading) -> Sides | None:
    """Find letters that follow one word and differ: appendix a and appendix b, vitamin c and d."""
    if asked.labels and cached.labels:
        for word in {word for word, _ in asked.labels} & {word for word, _ in cached.labels}:
            mine, theirs = asked.labelled(word), cached.labelled(word)
            if set(mine) != set(theirs):
                return mine, theirs
    return None


def enumerated(line: Sequence[str]) -> bool:
    """Tell whether the numbers are joined by words of no direction: 3 and 5; 1, 2 or 3."""
    at = [place for place, term in enumerate(line) if term.startswith("#")]
    joints = [set(line[one + 1 : other]) for one, other in pairwise(at)]
    return all(joint <= SYMMETRIC for joint in joints) and any(joint - {","} for joint in joints)


KINDS = frozenset(
    listed("""
    number unit date version negation quote identifier name opposite direction symbol script
    frame content unread
    tense modal quantifier conditional focus role preposition qualifier exchange addition
    notation
    """)
)
"""Every kind of difference. "unread": the texts differ beyond what the guard reads closely."""

FRAME = 25
"""Words that two questions must share at their ends to be called one frame filled twice."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that matters and is not the same: its kind, and what either question says.

    The guard returns them:

        (found,) = Guard().differences("Flights on May 3", "Flights on May 4")
        assert found == Difference("number", ("3",), ("4",))
    """

    kind: str
    asked: tuple[str, ...]
    cached: tuple[str, ...]


def compare(asked: Reading, cached: Reading) -> tuple[Difference, ...]:
    """Return every difference; none between readings of one sequence of words."""
    same = asked.sequence == cached.sequence and asked.quotes == cached.quotes
    kinds = () if same else _KINDS
    found = [each for of, kind in kinds if of(asked) != of(cached) for each in kind(asked, cached)]
    if not same:
        found += _small_words(asked, cached)
    if not found and not same:
        found = list(_content(asked, cached)) + list(_qualifiers(asked, cached))
    if not found and not same:
        found = list(_exchange(asked, cached)) + list(_addition(asked, cached))
    if asked.notation != cached.notation or asked.cased != cached.cased:
        found += _notation(asked, cached)
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
    for figure in sorted(some, key=lambda figure: figure.soft):
        values[figure.value] -= 1
        if values[figure.value] < 0:
            found.append(figure)
    return found


def _values(figures: Iterable[Figure], kind: str | None = None) -> tuple[str, ...]:
    return tuple(f"{f.value} {f.unit}".strip() for f in figures if kind in (None, f.kind))


def _reordered(asked: Reading, cached: Reading) -> bool:
    """Tell whether the same numbers stand in another order, in roles that the order gives them."""
    unsure = {f.value for f in asked.figures + cached.figures if f.soft}
    mine, theirs = (
        [f for f in each.figures if f.kind == "number" and f.value not in unsure]
        for each in (asked, cached)
    )
    if [f.value for f in mine] == [f.value for f in theirs]:
        return False
    if {f.value: f.role for f in mine} == {f.value: f.role for f in theirs}:
        return False  # each still counts the same things
    return not (enumerated(asked.line) and enumerated(cached.line))


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
    mine, theirs = _contradicted(asked, cached), _contradicted(cached, asked)
    if (asked.odd + len(mine) + cached.odd + len(theirs)) % 2 == 0:
        sides = contradiction(asked.grammar, cached.grammar)
        if sides:
            yield Difference("negation", *sides)
        return
    if asked.odd != cached.odd:
        plain, negated = (cached, asked) if asked.odd else (asked, cached)
        only_plain = plain.terms - negated.terms
        if only_plain & FAILURES:
            return  # "the payment failed" beside "the payment did not go through"
        ceased = negated.terms & CEASED
        if ceased and (only_plain & CANCELLING or ceased & plain.terms):
            return  # "unsubscribe from the list" beside "stop receiving the list"
        wished = plain.grammar.wh == "how" != negated.grammar.wh and {"get", "mak"} & plain.terms
        if wished and negated.content_terms <= plain.content_terms | FILLERS:
            return  # "how do I get it to work" beside "it does not work"
    yield Difference("negation", ("not",) * asked.odd + mine, ("not",) * cached.odd + theirs)


def _contradicted(one: Reading, other: Reading) -> tuple[str, ...]:
    """Return the words such as "unsafe" of one side where the other says "safe"."""
    if not one.negatives:
        return ()
    said = other.terms.difference(p for _, p in other.negatives)  # "pain-free" is "painless"
    against = {n for n, p in one.negatives if p in said and n not in other.terms}
    return tuple(sorted(against))


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


def _names(asked: Reading, cached: Reading) -> Iterator[Difference]:
    sides = relabelled(asked, cached)
    mine, theirs = unnamed(asked, cached)
    if sides or mine or theirs:
        yield Difference("name", *(sides or (mine, theirs)))


_LESS = frozenset({"least", "les"})
_DEGREES = _LESS | {"most", "mor"}


def _opposites(asked: Reading, cached: Reading) -> Iterator[Difference]:
    mine, theirs = asked.terms - cached.terms, cached.terms - asked.terms
    if _LESS.isdisjoint(mine) != _LESS.isdisjoint(theirs):
        mine, theirs = mine & _DEGREES, theirs & _DEGREES  # "cheapest", "least expensive"
    for term in sorted(mine) if theirs else ():
        against = opposites(term)
        if not against.isdisjoint(theirs):
            yield Difference("opposite", (term,), tuple(sorted(against & theirs)))


def _direction(asked: Reading, cached: Reading) -> Iterator[Difference]:
    if (asked.terms | cached.terms) & UNSIDED:
        return
    sides = turned(asked, cached) or reversed_operands(asked.operands, cached.operands)
    if not sides and asked.line != cached.line:
        all_same = asked.content_terms == cached.content_terms
        same = {} if all_same else _one_exchanged(asked, cached)
        if same is not None:
            names = set(map(canonical, asked.names + cached.names))
            mine, theirs = (
                [same.get(term, term) for term in each.line if term not in ARTICLES]
                for each in (asked, cached)
            )
            sides = swapped(mine, theirs, names)
    if sides:
        yield Difference("direction", *sides)


def _one_exchanged(asked: Reading, cached: Reading) -> dict[str, str] | None:
    """Return the one word that stands for another, if all others are the same."""
    mine, theirs = asked.terms, cached.terms
    if len(asked.line) != len(cached.line) or len(mine) != len(theirs):
        return None
    only_mine, only_theirs = mine - theirs, theirs - mine
    if len(only_mine) == 1 and alike(*only_mine, *only_theirs):
        return dict(zip(only_theirs, only_mine, strict=True))
    return None


def _symbols(asked: Reading, cached: Reading) -> Iterator[Difference]:
    mine, theirs = asked.symbols, cached.symbols
    if mine == theirs:
        return
    if sorted(mine) == sorted(theirs) and (asked.terms | cached.terms) & UNSIDED:
        return
    if (mine and theirs) or not all(map(str.isascii, mine + theirs)):  # "=" alone: "equals"
        yield Difference("symbol", mine, theirs)


def _scripts(asked: Reading, cached: Reading) -> Iterator[Difference]:
    mine, theirs = asked.foreign, cached.foreign
    if set(mine) != set(theirs) and "".join(mine) != "".join(theirs):  # spaces may not count
        yield Difference(
            "script",
            tuple(word for word in mine if word not in theirs),
            tuple(word for word in theirs if word not in mine),
        )


def _frame(asked: Reading, cached: Reading) -> Iterator[Difference]:
    mine, theirs = asked.sequence, cached.sequence
    shortest = min(len(mine), len(theirs))
    if shortest < FRAME:
        return
    front = shared(mine, theirs)
    back = min(shared(mine[::-1], theirs[::-1]), shortest - front)
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


def _qualifiers(asked: Reading, cached: Reading) -> Iterator[Difference]:
    """Find another qualifier of one class, and "self-employed" beside "employed"."""
    prefixed = set(asked.prefixed).symmetric_difference(cached.prefixed)
    for prefix, word in sorted(prefixed):
        both = word in asked.terms and word in cached.terms
        if both and (prefix in asked.terms) != (prefix in cached.terms):
            one, other = (f"{prefix}-{word}",), (word,)
            here = (prefix, word) in asked.prefixed
            yield Difference("qualifier", *((one, other) if here else (other, one)))
            return
    ours, yours = asked.grammar.capacity, cached.grammar.capacity
    for alone, there in ((ours - cached.terms, yours), (yours - asked.terms, ours)):
        if alone and not any(exchangeable(a, b) for a in alone for b in there):
            yield Difference("qualifier", tuple(sorted(ours)), tuple(sorted(yours)))
            return
    mine, theirs = asked.qualifiers - cached.terms, cached.qualifiers - asked.terms
    if len(mine) == 1 == len(theirs):
        (term,), (other_term,) = mine, theirs
        if QUALIFIERS[term] & QUALIFIERS[other_term] and not exchangeable(term, other_term):
            yield Difference("qualifier", (term,), (other_term,))


def _content(asked: Reading, cached: Reading) -> Iterator[Difference]:
    """Find a word of a class of alternatives where the other side has another of that class."""
    mine, theirs = asked.alternatives - cached.terms, cached.alternatives - asked.terms
    for term in sorted(mine) if theirs else ():
        for other in sorted(theirs):
            if ALTERNATIVES[term] & ALTERNATIVES[other] and not inflected(term, other):
                yield Difference("content", (term,), (other,))
                return


def _prepositions_apart(asked: Grammar, cached: Grammar) -> Sides | None:
    """Find a noun before which the prepositions contradict each other."""
    if asked.relations == cached.relations:
        return None
    theirs: dict[str, set[str]] = {}
    for noun, relation in cached.relations:
        theirs.setdefault(noun, set()).add(relation)
    for noun, relation in sorted(asked.relations):
        others = theirs.get(noun, set())
        if relation in others:
            continue
        for other in sorted(others):
            due = "by" in (relation, other) and not {"on", "in"}.isdisjoint((relation, other))
            opposed = (relation, other) in OPPOSED or (due and noun in _DAYS)
            if opposed and (noun, other) not in asked.relations:
                return (f"{relation} {noun}",), (f"{other} {noun}",)
    return None


_DAYS = frozenset(map(canonical, listed(DAYS_AND_MONTHS)))
"""Name what a thing may be done by, and on."""


def _outside(asked: Reading, cached: Reading) -> Iterator[Difference]:
    """Find what is to be outside of something on one side, and not on the other."""
    mine, theirs = (
        {noun for noun, relation in one.grammar.relations if relation == "outside"}
        for one in (asked, cached)
    )
    only_mine, only_theirs = (
        (mine - theirs) & {t.removeprefix("#") for t in cached.terms},
        (theirs - mine) & {t.removeprefix("#") for t in asked.terms},
    )
    if only_mine or only_theirs:
        nouns = sorted(only_mine), sorted(only_theirs)
        yield Difference("preposition", *[tuple(f"outside {n}" for n in each) for each in nouns])


_WITH = frozenset({"with", "against"})
"""Words that make another deed of a verb: "leave the food", "leave with the food"."""

_MOVED = frozenset({"away", "back", "instead", "rather"})


def _word_apart(asked: Reading, cached: Reading) -> tuple[str, Sides] | None:
    """Find the small word that is another, or that one side adds, where all else is the same."""
    longer = abs(len(asked.sequence) - len(cached.sequence))
    if not longer and (found := small_word_exchanged(asked.sequence, cached.sequence)):
        return found
    if longer > 1:
        return None
    one, other = asked.grammar.wh, cached.grammar.wh
    if one and other and (one == "how" or one != other):
        sought = asked_apart(asked.sequence, cached.sequence)
        return ("exchange", sought) if sought else None
    mine, theirs = asked.words - cached.words, cached.words - asked.words
    if longer and (mine or theirs) and mine | theirs <= _WITH:
        return "preposition", (tuple(sorted(mine)), tuple(sorted(theirs)))
    return None


def _small_words(asked: Reading, cached: Reading) -> Iterator[Difference]:
    """Find what differs in tense, modals, quantifiers, conditions, roles and prepositions."""
    exchanged = _word_apart(asked, cached)
    if exchanged:
        kind, sides = exchanged
        yield Difference(kind, *sides)
        return
    one, other = asked.grammar, cached.grammar
    mine, theirs = asked.content_terms, cached.content_terms
    if mine == theirs:
        acting = actors_apart(asked.sequence, cached.sequence) or doers_apart(one, other)
        if acting:
            yield Difference("role", *acting)
            return
    if abs(len(mine) - len(theirs)) > 1:
        two = {one.modal, other.modal} if one.modal != other.modal else ()
        if two == {"have to", "can"} and (mine < theirs or theirs < mine):
            yield Difference("modal", (one.modal,), (other.modal,))
        return
    apart = mine ^ theirs
    if len(apart) > 2 or one == other:  # noqa: PLR2004
        return  # the whole is said in other words, so that a small word tells little
    only_mine, only_theirs = mine - theirs, theirs - mine
    same, moved = not apart, apart <= _MOVED  # "sent away from you", "sent to you"
    if apart <= FILLERS and tense_differs(one, other):
        yield Difference("tense", (one.tense,), (other.tense,))
    if modal_differs(one, other) and (same or "will" not in (one.modal, other.modal)):
        yield Difference("modal", (one.modal,), (other.modal,))
    found = {
        "quantifier": quantifiers_apart(one, other),
        "conditional": conditions_apart(one, other),
        "focus": focus_apart(one, other),
        "role": roles_apart(one, other, only_mine, only_theirs),
        "preposition": _prepositions_apart(one, other) if moved else None,
    }
    for kind, differs in found.items():
        if differs:
            yield Difference(kind, *differs)


def _exchange(asked: Reading, cached: Reading) -> Iterator[Difference]:
    """Find the one content word in the place of which the other side has another."""
    mine, theirs = asked.content, cached.content
    if abs(len(mine) - len(theirs)) == 1:
        mine, theirs = asked.core, cached.core
    if len(mine) != len(theirs) or mine == theirs or asked.grammar.wh != cached.grammar.wh:
        return
    apart = [(a, b) for a, b in zip(mine, theirs, strict=True) if a != b]
    if len(set(apart)) != 1:
        return
    ((one, other),) = set(apart)
    if {(one, other), (other, one)} & {*asked.negatives, *cached.negatives} or (
        one in NEGATIONS and other in NEGATIONS
    ):
        return  # "unsafe" beside "not safe": negations are compared by themselves
    light = mine is asked.core and not (
        {one, other} & _LIGHT and (is_content(one) or is_content(other))
    )
    again = len(apart) > 1 and (one in theirs or other in mine)
    if light or again or inflected(one, other) or exchangeable(one, other):
        return
    if other in opposites(one) and not _LESS.isdisjoint(asked.terms ^ cached.terms):
        return
    if {one, other} <= FILLERS or (asked.odd != cached.odd and {one, other} & FAILURES):
        return  # "the wrong amount" beside "not the right amount"
    long = "long" in (one, other) and {one, other} & TIME_UNITS  # "how long", "how many days"
    if not long and not _are_verbs_alike(one, other, asked, cached):
        yield Difference("exchange", (one,), (other,))


def _are_verbs_alike(one: str, other: str, asked: Reading, cached: Reading) -> bool:
    """Tell whether two terms, with the particles behind them, are alike: "call off", "cancel"."""
    verbs, others = (
        (term, *phrasal(term, side.sequence)) for term, side in ((one, asked), (other, cached))
    )
    return any(alike(a, b) for a in verbs for b in others)


_LIGHT = frozenset(map(canonical, listed("best worst single double triple use find get")))
"""Terms that are no content by themselves, but in the place of a term that is."""


def _addition(asked: Reading, cached: Reading) -> Iterator[Difference]:
    """Find what one side adds, in one place, to all that the other says: "a burn", "a bad burn".

    Words that frame a question do not count; all others must be the same and in one order. Where
    one side is of more than one clause, what is more in it may be the story around the question.
    """
    one, other = asked.grammar, cached.grammar
    size = abs(len(asked.core) - len(cached.core))
    if not size or one.wh != other.wh or not (one.single and other.single):
        return
    fewer, more = sorted((asked.core, cached.core), key=len)
    front = shared(more, fewer)
    if not fewer or more[front + size :] != fewer[front:]:
        return
    if more[front - 1] in CEASED if front else more[size] in _ASKING:
        return  # "avoid buying tickets", "avoid tickets"; what is said before one asks
    between = more[front : front + size]
    added = [term for term in between if len(term) > 1 and is_content(term) and term not in FILLERS]
    whole, other_whole = asked.sequence, cached.sequence
    if more is cached.core:
        whole, other_whole = other_whole, whole
    if added and not (len(added) == 1 and _adds_nothing(added[0], whole, other_whole)):
        yield Difference(
            "addition", *(((), tuple(added)) if fewer is asked.core else (tuple(added), ()))
        )


_ASKING = frozenset({"how", "where", "when", "why", "who"})
_DO, _IS = frozenset({"do", "does", "did"}), frozenset({"is", "are", "was", "were"})
_ASKED_FOR = {"when": "tim", "where": "location", "why": "reason", "who": "person"}
_ALLOWED = frozenset({"legal", "lawful", "acceptabl", "fin"})
_OWN_BACK = frozenset((each, "back") for each in ("my", "the", "your", "his", "her", "lower"))


def _adds_nothing(term: str, whole: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether a term that one side adds is asked in another way by the other.

    It is the verb ("do trains run", "are there trains"), the class that is asked for ("which city
    is", "what is"; "when is the best time to", "when should I"), says that "a new" one is made, or
    what a modal says ("is it legal to", "can I").
    """
    helped = [_DO.isdisjoint(each) for each in (whole, other)]
    if helped[0] != helped[1] and not (_IS.isdisjoint(whole) and _IS.isdisjoint(other)):
        return True
    if term == "back" and _OWN_BACK.isdisjoint(pairwise(whole)):
        return True  # "get my coat back", and not "a pain in my back"
    if (term == "new" and "a" in whole) or any(_ASKED_FOR.get(word) == term for word in whole):
        return True
    for word, then, after in zip(whole, whole[1:], whole[2:], strict=False):
        asks = after in _IS if word in ("what", "which") else word == "it" and term in _ALLOWED
        if canonical(then) == term and (asks or after.isdigit()):  # "in the year 2024"
            return True
    return False


def _notation(asked: Reading, cached: Reading) -> Iterator[Difference]:
    """Find code and formulas that differ as they are written, and "Polish" beside "polish"."""
    mine, theirs = asked.notation, cached.notation
    if mine != theirs:
        only_mine = tuple(each for each in mine if each not in theirs)
        only_theirs = tuple(each for each in theirs if each not in mine)
        if mine and theirs and (only_mine or only_theirs or sorted(mine) == sorted(theirs)):
            yield Difference("notation", only_mine or mine, only_theirs or theirs)
        elif any(_NOT.search(each) for each in only_mine + only_theirs):
            yield Difference("notation", only_mine, only_theirs)
    if asked.cased and cached.cased:
        for one in asked.cased:
            for other in cached.cased:
                if one != other and one.lower() == other.lower():
                    yield Difference("notation", (one,), (other,))
                    return


_NOT = re.compile(r"^[!~]\w|^\w!$|^[*&]\w")
"""Signs that turn a value into another: !x, ~x, n!, *p, &p."""


def _quotes(asked: Reading, cached: Reading) -> Iterator[Difference]:
    return _absent("quote", asked.quotes, cached.quotes, asked, cached)


def _identifiers(asked: Reading, cached: Reading) -> Iterator[Difference]:
    return _absent("identifier", asked.identifiers, cached.identifiers, asked, cached)


_KINDS = tuple(
    (attrgetter(*fields.split()), kind)
    for fields, kind in (
        ("figures", _figures), ("figures units", _units), ("terms odd grammar.done", _negation),
        ("quotes", _quotes), ("identifiers", _identifiers), ("names labels", _names),
        ("terms", _opposites), ("line", _direction), ("symbols", _symbols), ("foreign", _scripts),
        ("sequence", _frame), ("grammar.relations", _outside),
    )
)  # fmt: skip
"""What a kind of difference is read from, and how: where that is the same, there is none."""


_SHORT = 1000
"""Characters of the longest texts whose comparison is remembered."""


@lru_cache(maxsize=4096)
def _compared(asked: str, cached: str) -> tuple[Difference, ...]:
    """Compare two texts, once: what is asked often in one other wording comes again and again."""
    return compare(read(asked), read(cached))


@dataclass(frozen=True, slots=True)
class Guard:
    """Tells in what two questions differ where it matters.

    ``kinds`` are those that it reports; all by default. A question in a language other than English
    is matched exactly only, unless ``any_language`` is True: of other languages the guard knows no
    more than numbers, quotes, code and addresses. What was read in a text is remembered for
    the latest few thousand texts of the process, so that a candidate is read once.

    >>> Guard().differences("Flights on May 3", "Flights on May 4")
    (Difference(kind='number', asked=('3',), cached=('4',)),)
    >>> Guard().differences("Please delete my account!", "how can I remove my account")
    ()

    Raises ValueError for a kind that does not exist.
    """

    kinds: Iterable[str] = KINDS
    any_language: bool = False

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
        is_short = len(asked) <= _SHORT and len(cached) <= _SHORT
        found = _compared(asked, cached) if is_short else compare(read(asked), read(cached))
        if self.kinds is KINDS:
            return found
        return tuple(each for each in found if each.kind in self.kinds)

    def timeless(self, question: str) -> bool:
        """Tell whether a question has no "today", "latest", "this week" and the like."""
        return is_timeless(question)

    def understands(self, question: str) -> bool:
        """Tell whether the question may be matched by meaning, as far as its language goes.

        >>> Guard().understands("Wo ist mein Paket?"), Guard().understands("Where is my parcel?")
        (False, True)
        """
        return self.any_language or is_english(question)
