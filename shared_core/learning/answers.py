"""What an answer says: its words, figures, names and verdict; and what two answers share.

text --> AnswerReading, once; two of them --> a row of numbers that a judge weighs. Pure. The words
of ``phrases`` are English; numbers, code, JSON and tables are read in any language.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

from shared_core.guard import ALTERNATIVES, STOP, canonical, meanings, opposites
from shared_core.learning.phrases import (
    AFFIRMS,
    ANNOUNCES,
    CLAUSE,
    COMMON_WORDS,
    COPULAS,
    DECLINES,
    DENYING_WORDS,
    GOES_ON,
    IDLE_WORDS,
    OPPOSITE_WORDS,
    PLEASANTRY,
    REJECTS,
    SORRY_BUT,
    YES_OR_NO,
    YES_WORDS,
)

READ_CHARACTERS = 20_000
"""How much of an answer is read; longer ones are the same only if they are equal."""

MAX_READINGS = 2048

BRIEF = 6
"""Words of an answer that is no more than a name, a figure, a verdict or a short phrase."""

BRIEFEST, CONTEXT = 3, 3
"""Words on either side of a number that say what it counts, and of a word what it is said of."""

REACH = 6
"""How far away they stand at most, where only those with content count."""

OPENING_CHARACTERS = 80
PLEASANTRY_CHARACTERS = 160
REFUSAL_WORDS = 20
REFUSING = 0.5
"""Share of the sentences that decline in an answer that does nothing else."""

ENGLISH_WORDS = 6
ENGLISH_SHARE = 0.1
"""Share of an English text's words that are of its commonest, at the very least."""


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _pairs(table: str) -> Iterator[tuple[str, str]]:
    for pair in table.split():
        one, other = pair.split(":")
        yield one, other


def _either(table: str) -> dict[str, frozenset[str]]:
    """Read pairs as a map from each word to all that it is paired with."""
    found: dict[str, set[str]] = {}
    for one, other in _pairs(table):
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in found.items()}


# ------------------------------------------------------------------------------ what is looked for

_FENCE = re.compile(r"```[^\n`]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_INLINE_CODE = re.compile(r"`([^`\n]+)`")
_MARKUP = re.compile(r"\*\*|__|~~|(?m:^[ \t]{0,3}(?:#{1,6}\s|>\s?|[-*+•]\s+))|\[\^?\d+\]")
_STEP = re.compile(r"(?m)^[^\S\n]*\(?(\d{1,2})[.)]\s")
_LINK = re.compile(r"\[([^\[\]\n]{1,300})\]\([^()\s]{1,500}\)")
_RULE = re.compile(r"(?m)^[ \t]*+\|?(?:[ \t]*+:?-{2,}:?[ \t]*+\|)+[ \t]*+:?-*:?[ \t]*+\|?[ \t]*+$")
_SENTENCE = re.compile(r"[^.!?;\n。！？]+(?:[.!?;](?=\S)[^.!?;\n。！？]+)*[.!?;。！？]*")
_TOKEN = re.compile(
    r"\d{4}-\d{1,2}-\d{1,2}(?!\d)|"
    r"(?:(?<![\w)\]])-(?=[$€£¥₹]?\d))?[$€£¥₹]?\d+(?:[.,:/]\d+)*(?:st|nd|rd|th)?"
    r"|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"  # written without spaces: one by one
    r"|[^\W\d_]+(?:'[^\W\d_]+)?|[%°$€£¥₹½¼¾]"
)
_PAIR = re.compile(
    r"^\s*(?:[-*•]\s+)?(?:\*\*)?([\w][\w /-]{0,40}?)(?:\*\*)?\s*[:=]\s*(?:\*\*)?\s*(\S.*?)\s*$"
)
_OPERATOR = re.compile(r"[<>=+^&%]+")

_YES, _NEGATIONS, _FILLERS = map(_listed, (YES_WORDS, DENYING_WORDS, IDLE_WORDS))
_ENGLISH, _COPULAS = _listed(COMMON_WORDS), _listed(COPULAS)
_TURNED: Mapping[str, frozenset[str]] = _either(OPPOSITE_WORDS)
_AT = _listed("least most")
"""Of these, words that bound a number after "at" and are no opposites there."""

DENYING = 2
"""How far before a word a negation stands that makes it say its opposite."""

# ------------------------------------------------------------------------------------ numbers

_COUNTING = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = {
    **{word: float(number) for number, word in enumerate(_COUNTING)},
    **{word: 10.0 * number for number, word in enumerate(_TENS, 2)},
    "twice": 2.0,
}
_DIGITS = frozenset(_COUNTING[1:10])
_VAGUE = frozenset({"one", "zero"})
"""Words that are numbers only before a unit."""

_LARGE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_FRACTIONS = {"½": 0.5, "¼": 0.25, "¾": 0.75, "half": 0.5}
_BETWEEN = _listed("a an and working business calendar full more")
"""Words that stand between a number and its unit."""

_HALVES, HALF_DAY = {"am": 0, "pm": 12}, 12
"""The hour at which each half of a day begins, and how many it has."""

_ORDINAL = re.compile(r"(?:st|nd|rd|th)$")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_COMMA = re.compile(r"\d+,\d{1,2}")
_SCALES: Mapping[str, tuple[str, float]] = {
    unit: (kind, float(factor))
    for kind, table in {
        "time": """second:1 seconds:1 sec:1 s:1 minute:60 minutes:60 min:60 mins:60 hour:3600
            hours:3600 h:3600 day:86400 days:86400 week:604800 weeks:604800 fortnight:1209600""",
        "span": "month:1 months:1 quarter:3 year:12 years:12 decade:120 decades:120 century:1200",
        "mass": """mg:1 milligrams:1 milligram:1 g:1e3 gram:1e3 grams:1e3 kg:1e6 kilogram:1e6
            kilograms:1e6 kilo:1e6 kilos:1e6""",
        "length": """mm:1 cm:10 m:1e3 metre:1e3 metres:1e3 meter:1e3 meters:1e3 km:1e6
            kilometres:1e6 kilometers:1e6 centimetres:10 centimeters:10""",
        "volume": """ml:1 millilitres:1 milliliters:1 cl:10 dl:100 l:1e3 litre:1e3 litres:1e3
            liter:1e3 liters:1e3""",
        "bytes": "kb:1 mb:1e3 gb:1e6 tb:1e9",
    }.items()
    for unit, factor in _pairs(table)
}
"""Units of one kind, in multiples of the smallest. A month has no fixed number of days."""


class SaidFigure(NamedTuple):
    """A number in its place: its value, what it counts, and the content words beside it."""

    value: str
    unit: tuple[str, float] | None
    quantity: tuple[str, float] | None
    near: frozenset[str]


class SaidFigures(NamedTuple):
    """The numbers of a text: values as written, quantities in a common unit, and each in place."""

    plain: frozenset[str]
    quantities: frozenset[tuple[str, float]]
    each: tuple[SaidFigure, ...]

    def beside(self, values: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return what stands beside each of some values, wherever they stand."""
        empty: frozenset[str] = frozenset()
        return {
            value: empty.union(*(figure.near for figure in self.each if figure.value == value))
            for value in values
        }


def figures_of(sentences: Iterable[Sequence[str]]) -> SaidFigures:
    """Find the numbers among the words of a text, in lower case, sentence by sentence."""
    found = [figure for words in sentences for figure in _figures_in(words)]
    quantities = frozenset(figure.quantity for figure in found if figure.quantity)
    return SaidFigures(frozenset(figure.value for figure in found), quantities, tuple(found))


def _figures_in(words: Sequence[str]) -> Iterator[SaidFigure]:
    place = 0
    while place < len(words):
        start = place
        value, place = _number_at(words, place)
        if value is None:
            continue
        after = words[place : place + 2]
        clock = _clock(words[start], after[0] if after else "")
        if after and after[0] in _BETWEEN:
            after = after[1:]
        unit = _SCALES.get(after[0]) if after else None
        if words[start] in _VAGUE and place == start + 1 and not unit:
            continue
        near = (*words[max(0, start - CONTEXT) : start], *words[place : place + CONTEXT])
        terms = frozenset(filter(None, map(content_word, near)))
        if isinstance(value, str):
            yield SaidFigure(value, unit, clock, terms)
        else:
            quantity = (unit[0], value * unit[1]) if unit else None
            yield SaidFigure(f"{value:.12g}", unit, quantity or clock, terms)


def _number_at(words: Sequence[str], place: int) -> tuple[float | str | None, int]:
    """Return the number that begins here, and where the text goes on behind it."""
    value = _value(words[place])
    place += 1
    if not isinstance(value, float):
        return value, place
    after = words[place : place + 1]
    if words[place - 1] in _TENS and after and after[0] in _DIGITS:
        value, place = value + _SMALL[after[0]], place + 1
        after = words[place : place + 1]
    if after and after[0] in _FRACTIONS and after[0] != "half":
        value, place = value + _FRACTIONS[after[0]], place + 1
    elif tuple(words[place : place + 3]) == ("and", "a", "half"):
        value, place = value + 0.5, place + 3
    while place < len(words) and words[place] in _LARGE:
        value, place = value * _LARGE[words[place]], place + 1
    return value, place


def _clock(word: str, after: str) -> tuple[str, float] | None:
    """Return a time of day in hours: "5:30" or "5.30" before "pm", "17:30", "9" before "am"."""
    hour, mark, minutes = word.replace(".", ":").partition(":")
    is_said = after in _HALVES
    if not (hour + minutes).isdecimal() or not (is_said or (mark and mark in word)):
        return None
    hours = int(hour) % HALF_DAY + _HALVES[after] if is_said else int(hour)
    return "clock", hours + int(minutes or 0) / 60


def _value(word: str) -> float | str | None:
    """Return the number that a word spells: a float, or the text of a date, time or version."""
    if word in _FRACTIONS:
        return _FRACTIONS[word]
    if word in _SMALL:
        return _SMALL[word]
    sign, word = word[:1] == "-", word.lstrip("-$€£¥₹")
    if not word or not word[0].isdecimal():
        return None
    word = _ORDINAL.sub("", word)
    if _THOUSANDS.fullmatch(word):
        word = word.replace(",", "")
    elif _COMMA.fullmatch(word):
        word = word.replace(",", ".")
    word = word.removesuffix(":00")
    try:
        return -float(word) if sign else float(word)
    except ValueError:
        return word


def content_word(word: str) -> str:
    """Return the form in which a word in lower case is compared, "" if it has no content."""
    bare = word.partition("'")[0]
    if not bare or not bare[0].isalpha() or bare in STOP or bare in _FILLERS or bare in _SMALL:
        return ""
    if len(bare) == 1 and bare.isascii():
        return ""
    return canonical(bare)


# ---------------------------------------------------------------------------------- one answer


class Sentence(NamedTuple):
    """The content words of a sentence, and whether it says no to what it says."""

    terms: frozenset[str]
    negates: bool


class AnswerReading:
    """What counts in an answer's text.

    ``words`` is all of it without spelling, marks and pleasantries, ``terms`` the content words in
    one form for all inflections, ``parts`` those of each sentence; ``denied`` those of clauses
    that negate alone, ``affirmed`` those of others alone; ``turns`` what stands beside each word
    that has an opposite; ``said_in_any_order`` the words of each sentence, sorted by sentence.
    ``verdict`` is True for an answer that begins with "yes" or affirms, False for "no" or a denial;
    ``explicit`` says that it is the very word. ``fields`` are the names and values of an answer
    that is nothing but those: JSON, a table, lines of "name: value". ``polite`` says that it is
    nothing but pleasantries, ``refuses`` that it declines to answer and does nothing else;
    ``whole`` that all of it was read, ``english`` that the word lists of ``phrases`` speak for it.
    """

    __slots__ = (
        "affirmed", "code", "denied", "english", "explicit", "fields", "marks", "names",
        "negates", "numbers", "order", "parts", "polite", "refuses", "said", "said_in_any_order",
        "sentences", "steps", "terms", "turns", "verdict", "whole", "words",
    )  # fmt: skip

    def __init__(self, text: str) -> None:
        self.whole = len(text) <= READ_CHARACTERS
        text = text[:READ_CHARACTERS].replace("’", "'").replace("‘", "'")
        self.fields = _fields(text)
        self.code = tuple("".join(code.split()) for code in _FENCE.findall(text))
        self.marks = sorted(_OPERATOR.findall(text))
        self.steps = len(_STEP.findall(text)) > 1
        sentences = _sentences(text)
        self.polite = bool(sentences) and all(map(_is_pleasantry, sentences))
        self.explicit = (
            bool(sentences) and YES_OR_NO.match(sentences[0][:OPENING_CHARACTERS]) is not None
        )
        self.verdict = _verdict(sentences)
        split = [_TOKEN.findall(sentence) for sentence in sentences]
        folded = [tuple(word.casefold() for word in words) for words in split]
        self.words = tuple(word for words in folded for word in words)
        self.said_in_any_order = sorted(folded)
        self.said = frozenset(self.words)
        self.numbers = figures_of(folded)
        self.names = _names(split)
        self.parts = tuple(
            tuple(filter(None, (content_word(word.casefold()) for word in words)))
            for words in split
        )
        self.sentences = tuple(
            Sentence(frozenset(part), _negates(words))
            for part, words in zip(self.parts, split, strict=True)
        )
        self.order = tuple(term for part in self.parts for term in part)
        self.terms = frozenset(self.order)
        self.denied, self.affirmed = _denied(sentences)
        self.turns = _turns(folded)
        self.negates = any(sentence.negates for sentence in self.sentences)
        self.english = self._is_english()
        plain = " ".join(sentences)
        declining = sum(DECLINES.search(sentence) is not None for sentence in sentences)
        self.refuses = (
            declining >= REFUSING * len(sentences) > 0
            and len(self.words) <= REFUSAL_WORDS
            and not self.numbers.plain
            and GOES_ON.search(SORRY_BUT.sub("", plain)) is None
        )

    @property
    def is_brief(self) -> bool:
        """Tell whether it is no more than a name, a figure, a verdict or a short phrase."""
        return len(self.words) <= BRIEF

    def _is_english(self) -> bool:
        letters = [word for word in self.words if word[0].isalpha()]
        if self.fields or self.code or len(letters) < ENGLISH_WORDS:
            return all(map(str.isascii, letters))
        return sum(word in _ENGLISH for word in letters) >= ENGLISH_SHARE * len(letters)


@lru_cache(maxsize=MAX_READINGS)
def read_answer(text: str) -> AnswerReading:
    """Read an answer, or remember what was read in it."""
    return AnswerReading(text)


def _sentences(text: str) -> list[str]:
    """Return the sentences without marks and, unless they are all there is, pleasantries."""
    plain = _LINK.sub(r"\1", _RULE.sub(" ", _FENCE.sub(r"\n\1\n", text)))
    plain = _STEP.sub("\n", _MARKUP.sub(" ", _INLINE_CODE.sub(r" \1 ", plain)))
    found = [one.strip() for one in _SENTENCE.findall(plain) if one.strip()]
    if found and (opening := ANNOUNCES.match(found[0])) and opening.end() < len(found[0]):
        found[0] = found[0][opening.end() :]
    return [one for one in found if not _is_pleasantry(one)] or found


def _is_pleasantry(sentence: str) -> bool:
    return len(sentence) <= PLEASANTRY_CHARACTERS and PLEASANTRY.match(sentence) is not None


def _verdict(sentences: list[str]) -> bool | None:
    """Return what an answer begins with, yes or no, and take the word itself away."""
    if not sentences:
        return None
    said = YES_OR_NO.match(sentences[0][:OPENING_CHARACTERS])
    if said is not None:
        if said.end() < len(sentences[0]):
            sentences[0] = sentences[0][said.end() :]
        elif len(sentences) > 1:
            del sentences[0]
        return said[1].casefold() in _YES
    if AFFIRMS.match(sentences[0][:OPENING_CHARACTERS]):
        return True
    return False if REJECTS.match(sentences[0][:OPENING_CHARACTERS]) else None


def _negates(words: Sequence[str]) -> bool:
    return sum(word.casefold() in _NEGATIONS for word in words) % 2 == 1


def _denied(sentences: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the content words of negating clauses alone, and those of the others alone."""
    denied: set[str] = set()
    affirmed: set[str] = set()
    for sentence in sentences:
        for clause in CLAUSE.split(sentence):
            words = [word.casefold() for word in _TOKEN.findall(clause)]
            (denied if _negates(words) else affirmed).update(map(content_word, words))
    return frozenset(denied - affirmed - {""}), frozenset(affirmed - denied - {""})


def _turns(sentences: Iterable[Sequence[str]]) -> Mapping[str, frozenset[str]]:
    """Return the content words on either side of each word that has an opposite.

    "Not open" is read as "closed".
    """
    found: dict[str, frozenset[str]] = {}
    for words in sentences:
        if _TURNED.keys().isdisjoint(words):
            continue
        terms = [content_word(word) or (word if word[0].isdecimal() else "") for word in words]
        for place, word in enumerate(words):
            if word not in _TURNED or (word in _AT and words[max(0, place - 1)] == "at"):
                continue
            before = [*filter(None, terms[max(0, place - REACH) : place])][-CONTEXT:]
            after = [*filter(None, terms[place + 1 : place + 1 + REACH])][:CONTEXT]
            denied = not _NEGATIONS.isdisjoint(words[max(0, place - DENYING) : place])
            for said in _TURNED[word] if denied else (word,):
                found[said] = found.get(said, frozenset()).union(before, after)
    return found


def _names(sentences: Iterable[Sequence[str]]) -> frozenset[str]:
    """Return the words that a capital marks as names; at a sentence's start, those before "is"."""
    found: set[str] = set()
    for words in sentences:
        for place, word in enumerate(words):
            folded = word.casefold().partition("'")[0]
            if len(word) == 1 and word.isupper() and place and word not in "AI":
                found.add(folded)  # "platform B"
            if len(word) == 1 or not word[0].isupper() or folded in STOP or folded in _FILLERS:
                continue
            after = words[place + 1] if place + 1 < len(words) else ""
            if place or after in _COPULAS or after[:1].isupper() or len(words) <= BRIEFEST:
                found.add(folded)
    return frozenset(found)


# ------------------------------------------------------------------- answers of names and values

Fields = Mapping[tuple[str, ...], str]


def _fields(text: str) -> Fields | None:
    """Return what an answer of nothing but names and values says, else None."""
    body = text.strip()
    fenced = _FENCE.fullmatch(body)
    body = fenced[1].strip() if fenced else body
    if body[:1] in ("{", "["):
        try:
            return dict(_flat(json.loads(body), ()))
        except (ValueError, RecursionError):
            return None
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    rows = [line for line in lines if line.startswith("|")]
    if len(rows) > 1 and len(lines) - len(rows) <= 1:
        return _table(rows)
    if len(lines) == 1 and body.count("=") > 1 and "(" not in body:
        lines = body.split(",")
    pairs = [_PAIR.match(line) for line in lines]
    if len(pairs) > 1 and all(pairs):
        return {(_folded(pair[1]),): _folded(pair[2]) for pair in pairs if pair}
    return None


def _flat(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, (*path, _folded(str(key))))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _flat(inner, (*path, str(place)))
    else:
        yield path, _folded(json.dumps(value) if not isinstance(value, str) else value)


def _table(rows: Sequence[str]) -> Fields | None:
    cells = [
        [_folded(cell) for cell in row.strip("|").split("|")]
        for row in rows
        if not _RULE.match(row)
    ]
    if len({len(row) for row in cells}) != 1:
        return None
    head, *body = cells
    return {
        tuple(sorted((row[0], column))): cell  # the same table lying on its side says the same
        for row in body
        for column, cell in zip(head[1:], row[1:], strict=True)
    }


def _folded(text: str) -> str:
    return " ".join(re.sub(r"[*_`\"']", "", text).strip().rstrip(".,;").casefold().split())


# ------------------------------------------------------------------------------- two answers

OVERLAP = (
    "contained", "akin", "nothing", "copied", "numbers", "numbers_shared", "numbers_more", "unit",
    "roles", "verdicts", "other_names", "negation", "denied", "opposite", "alternative", "flipped",
)  # fmt: skip
"""What two readings have in common and what not; see ``overlap``."""

SENTENCES_READ = 12
NEARLY_ALL = 0.75
"""Jaccard index of the content words of two sentences that say one thing, or deny it."""

MAX_AKIN = 5
MAX_NAMES = 3
ROLES_READ = 8
MAX_DENIED = 3
MAX_OPPOSITES = 2
SEVERAL = 4
LONGER = 1.5
"""From how many times the words on an answer is one that says the same and more."""


def overlap(one: AnswerReading, two: AnswerReading) -> tuple[float, ...]:
    """Return the numbers that a judge weighs, in the order of ``OVERLAP``; symmetric.

    contained: shared content words / those of the answer with fewer; akin: words of one side alone
    that mean what words of the other alone do; nothing: several words on either side and none of
    them shared; copied: Jaccard index above a half, where each side has words of its own; numbers:
    each side has others, that may be said of one thing; numbers_shared: share of the fewer;
    numbers_more: there are others, and not because one side is much longer; unit, roles: a number
    counts another thing; verdicts: yes and no; other_names: names of the side with fewer that the
    other lacks; negation: on one side only; denied: words that one side denies and the other
    affirms; opposite: pairs of words, said beside one word, that say the opposite; alternative:
    words that exclude each other; flipped: of two sentences of nearly the same words one negates.
    """
    both = one.terms & two.terms
    mine, theirs = one.terms - both, two.terms - both
    less, every = min(len(one.terms), len(two.terms)), len(one.terms | two.terms)
    own = min(len(mine), len(theirs))
    figures = figures_apart(one.numbers, two.numbers)
    conflict = _figures_conflict(one.numbers, two.numbers, figures)
    fewest = min(len(one.numbers.plain), len(two.numbers.plain))
    shared = len(one.numbers.plain) - len(figures[0]), len(two.numbers.plain) - len(figures[1])
    others = min(len(one.names - two.said - two.terms), len(two.names - one.said - one.terms))
    return (
        len(both) / less if less else 0.0,
        min(MAX_AKIN, _akin(mine, theirs)),
        float(not both and less >= SEVERAL),
        max(0.0, len(both) / every - 0.5) if own else 0.0,
        float(conflict),
        min(1.0, max(shared) / fewest) if fewest else 0.0,
        float(not conflict and _figures_more(one, two, figures)),
        float(_other_units(one.numbers, two.numbers)),
        float(_other_roles(one.numbers, two.numbers)),
        float(verdicts_differ(one, two)),
        min(MAX_NAMES, others),
        float(one.negates != two.negates),
        min(MAX_DENIED, len(one.denied & two.affirmed) + len(two.denied & one.affirmed)),
        min(MAX_OPPOSITES, _turned(one.turns, two.turns)),
        float(_alternatives(mine, theirs)),
        float(_flipped(one, two)),
    )


def verdicts_differ(one: AnswerReading, two: AnswerReading) -> bool:
    """Tell whether one answer begins with yes and the other with no."""
    return None not in (one.verdict, two.verdict) and one.verdict != two.verdict


def figures_apart(one: SaidFigures, two: SaidFigures) -> tuple[set[str], set[str]]:
    """Return the numbers of either side that the other has neither as such nor in other units."""
    mine, theirs = set(one.plain - two.plain), set(two.plain - one.plain)
    if mine and theirs and (alike := one.quantities & two.quantities):
        for side, left in ((one, mine), (two, theirs)):
            left -= {figure.value for figure in side.each if figure.quantity in alike}
    return mine, theirs


def _other_units(one: SaidFigures, two: SaidFigures) -> bool:
    """Tell whether a number counts one thing here and another of the same kind there."""
    for value in one.plain & two.plain:
        mine, theirs = ({f.unit for f in side.each if f.value == value} for side in (one, two))
        if None not in mine | theirs and not mine & theirs:
            return True
    return False


def _other_roles(one: SaidFigures, two: SaidFigures) -> bool:
    """Tell whether two numbers have changed places: 206 bones and 300, or 300 and 206."""
    shared = sorted(one.plain & two.plain)[:ROLES_READ]
    if len(shared) < 2:  # noqa: PLR2004 - it takes two to change places
        return False
    mine, theirs = one.beside(shared), two.beside(shared)
    for a, b in combinations(shared, 2):
        straight = len(mine[a] & theirs[a]) + len(mine[b] & theirs[b])
        crossed = mine[a] & theirs[b], mine[b] & theirs[a]
        if all(crossed) and len(crossed[0]) + len(crossed[1]) > straight:
            return True
    return False


def excludes(one: AnswerReading, two: AnswerReading) -> bool:
    """Tell whether a word of one side alone excludes one of the other side alone."""
    mine, theirs = one.terms - two.terms, two.terms - one.terms
    if any(not opposites(term).isdisjoint(theirs) for term in mine) or _alternatives(mine, theirs):
        return True
    if not (one.is_brief and two.is_brief):
        return False
    here, there = one.said - two.said, two.said - one.said
    return any(not _TURNED[word].isdisjoint(there) for word in here & _TURNED.keys())


def _akin(mine: frozenset[str], theirs: frozenset[str]) -> int:
    """Count the words of the side with fewer that the other has another word for: cost, price."""
    here, there = ({term: meanings(term) for term in side} for side in (mine, theirs))
    mine_mean = frozenset[object]().union(*here.values())
    theirs_mean = frozenset[object]().union(*there.values())
    return min(
        sum(not each.isdisjoint(theirs_mean) for each in here.values()),
        sum(not each.isdisjoint(mine_mean) for each in there.values()),
    )


def _figures_conflict(one: SaidFigures, two: SaidFigures, apart: tuple[set[str], set[str]]) -> bool:
    """Tell whether figures that either side alone has may be said of one thing.

    They are in units of one kind, or beside one word, or all without a unit.
    """
    if not apart[0] or not apart[1]:
        return False
    mine, theirs = (
        [figure for figure in side.each if figure.value in own]
        for side, own in zip((one, two), apart, strict=True)
    )
    kinds = [{figure.unit and figure.unit[0] for figure in side} for side in (mine, theirs)]
    near = [frozenset[str]().union(*(figure.near for figure in side)) for side in (mine, theirs)]
    shared = kinds[0] & kinds[1]
    return bool(near[0] & near[1] or shared - {None}) or kinds[0] == kinds[1] == {None}


def _figures_more(one: AnswerReading, two: AnswerReading, apart: tuple[set[str], set[str]]) -> bool:
    """Tell whether a side has figures of its own, and not for being much longer."""
    if bool(apart[0]) == bool(apart[1]):
        return bool(apart[0])
    more, less = (one, two) if apart[0] else (two, one)
    return len(more.words) < LONGER * len(less.words)


def _turned(mine: Mapping[str, frozenset[str]], theirs: Mapping[str, frozenset[str]]) -> int:
    """Count the pairs of opposite words that are said beside one word, where neither says both."""
    nowhere: frozenset[str] = frozenset()
    found: set[frozenset[str]] = set()
    for word, beside in mine.items():
        for other in _TURNED[word] & theirs.keys():
            shared = beside & theirs[other] - {content_word(word), content_word(other)}
            if shared - theirs.get(word, nowhere) - mine.get(other, nowhere):
                found.add(frozenset((word, other)))
    return len(found)


def _flipped(one: AnswerReading, two: AnswerReading) -> bool:
    """Tell whether two sentences of nearly the same words differ in that one says no."""
    for mine in one.sentences[:SENTENCES_READ]:
        for theirs in two.sentences[:SENTENCES_READ]:
            if mine.negates != theirs.negates and mine.terms and theirs.terms:
                shared = len(mine.terms & theirs.terms)
                if shared >= NEARLY_ALL * len(mine.terms | theirs.terms):
                    return True
    return False


def _alternatives(mine: frozenset[str], theirs: frozenset[str]) -> bool:
    """Tell whether the sides have two members of one class that exclude each other: red, green."""
    found = theirs & ALTERNATIVES.keys()
    return bool(found) and any(
        not ALTERNATIVES[a].isdisjoint(ALTERNATIVES[b])
        for a in mine & ALTERNATIVES.keys()
        for b in found
    )
