"""Numbers, dates, versions and units in a stream of tokens.

A figure is compared by its value, whatever its spelling: "50", "fifty" and "٥٠" are one. A unit is
bound to the number before it ("5 kg"), or stands alone ("in kg").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shared_core.guard.thesaurus import canonical
from shared_core.guard.tokens import Token, fold


class Figure(NamedTuple):
    """A number: its value as text, its kind, its unit or "".

    ``soft``: it may be no number at all ("one of them"). ``role`` is the word after it, or its unit.
    """

    value: str
    kind: str
    unit: str = ""
    soft: bool = False
    role: str = ""


_ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen""".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = """zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth
thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth""".split()

SMALL = {word: number for words in (_ONES, _ORDINALS) for number, word in enumerate(words)} | {
    word: 10 * number
    for tens in (_TENS, [word[:-1] + "ieth" for word in _TENS])
    for number, word in enumerate(tens, 2)
}
SMALL |= {"dozen": 12, "twice": 2, "thrice": 3, "ii": 2, "iii": 3, "vii": 7, "viii": 8}
SOFT = frozenset({"one", "first", "second", "zero"})
"""Number words that are often something else: "which one", "first of all", "a second"."""

LARGE = {
    "hundred": 100, "thousand": 1000, "k": 1000, "lakh": 10**5, "lac": 10**5, "million": 10**6,
    "mn": 10**6, "crore": 10**7, "billion": 10**9, "bn": 10**9, "trillion": 10**12,
}  # fmt: skip
LARGE |= {f"{word}s": value for word, value in LARGE.items() if len(word) > 2}

MONTHS = {
    name: str(number)
    for number, names in enumerate(
        "january jan|february feb|march|april apr|may|june jun|july jul|august aug"
        "|september sept sep|october oct|november nov|december dec".split("|"),
        1,
    )
    for name in names.split()
}
DAYS = {
    name: names.split()[0]
    for names in (
        "monday mondays mon|tuesday tuesdays tue tues|wednesday wednesdays|thursday thursdays thu"
        "|friday fridays fri|saturday saturdays|sunday sundays"
    ).split("|")
    for name in names.split()
}
SEASONS = frozenset({"winter", "summer", "autumn"})
_MONTH_CUES = frozenset(
    "in of since until till by this next last every during from early late mid".split()
)
_VERSION_CUES = frozenset(
    """version versions ver v release python java node nodejs php ruby django rails react angular vue
    ubuntu debian android ios macos kubernetes postgres postgresql mysql redis numpy pandas pytorch
    tensorflow dotnet net go kotlin swift rust scala spring laravel""".split()
)

UNITS = {
    name: names.split()[0]
    for names in (
        "kg kgs kilo kilos kilogram kilograms|g gram grams|mg milligram milligrams|mcg microgram "
        "micrograms|lb lbs|pound pounds quid|oz ounce ounces|tonne tonnes ton tons"
        "|stone stones|km kms kilometer kilometers kilometre kilometres|m meter meters metre metres"
        "|cm centimeter centimeters centimetre centimetres|mm millimeter millimeters millimetre "
        "millimetres|mile miles mi|yard yards yd|foot feet ft|inch inches|mph|kph kmh"
        "|liter liters litre litres l|ml milliliter milliliters millilitre millilitres"
        "|gallon gallons|pint pints|cup cups|tablespoon tablespoons tbsp|teaspoon teaspoons tsp"
        "|celsius centigrade c|fahrenheit f|kelvin|degree degrees °"
        "|percent % pct percentage|usd $ dollar dollars bucks|eur € euro euros|gbp £ sterling"
        "|jpy ¥ yen|cny yuan rmb|inr ₹ rupee rupees rs|cad|aud|chf franc francs|btc bitcoin bitcoins"
        "|eth|peso pesos|cent cents|byte bytes|kb kilobyte kilobytes|mb megabyte megabytes"
        "|gb gigabyte gigabytes|tb terabyte terabytes|bit bits|mbps|gbps|hz hertz|mhz|ghz|watt watts w"
        "|kw|kwh|volt volts|amp amps|calorie calories kcal|joule joules|acre acres|hectare hectares"
        "|ms millisecond milliseconds|s sec secs second seconds|minute minutes min mins|hour hours hr hrs h"
        "|day days|week weeks wk wks|month months|year years yr yrs yo|decade decades"
        "|century centuries|am|pm|px pixel pixels"
    ).split("|")
    for name in names.split()
}
_LOOSE = frozenset(
    """g m l ml c f s h w am pm min amp cup foot stone second minute hour day week month year decade century
    bit degree mile cent yard peso eth watt px percentage""".split()
)
"""Units that, without a number, are often no unit at all ("one day", "a bit")."""

Found = tuple[list[Figure], list[tuple[str, bool]], dict[int, str]]


def read_figures(stream: Sequence[Token]) -> Found:
    """Return figures; units, each with whether it is soft; and the place of what was read -> its name.

    The third tells the reader of words which tokens are taken: "" where a token is part of a figure,
    a unit's name where it is a unit.
    """
    figures: list[Figure] = []
    units: list[tuple[str, bool]] = []
    taken: dict[int, str] = {}
    folded = [fold(token.text) if token.kind == "word" else token.text for token in stream]
    place = 0
    while place < len(stream):
        kind = stream[place].kind
        if kind == "number" or (kind == "word" and folded[place] in SMALL):
            place = _read_number(stream, folded, place, figures, units, taken)
        elif kind in ("iso", "date"):
            figures += _dated(stream[place])
            taken[place] = ""
            place += 1
        elif kind in ("version", "clock"):
            value = folded[place].lower().removeprefix("v")
            figures.append(Figure(value, "version" if kind == "version" else "number"))
            taken[place] = ""
            place += 1
        else:
            _read_word(folded, place, stream, figures, units, taken)
            place += 1
    return figures, units, taken


def _read_word(
    folded: Sequence[str],
    place: int,
    stream: Sequence[Token],
    figures: list[Figure],
    units: list[tuple[str, bool]],
    taken: dict[int, str],
) -> None:
    """Read a month, a weekday, or a unit that stands alone."""
    word = folded[place]
    if word in MONTHS and (word not in ("may", "march") or _is_month(folded, stream, place)):
        figures.append(Figure(f"month {MONTHS[word]}", "date"))
        taken[place] = ""
    elif word in DAYS or word in SEASONS:
        figures.append(Figure(DAYS.get(word, word), "date"))
        taken[place] = ""
    elif word in UNITS and len(word) > 1 and word not in ("am", "pm") and not stream[place].tail:
        unit = UNITS[word]
        units.append((unit, unit in _LOOSE or word in _LOOSE))
        if unit not in _LOOSE:
            taken[place] = unit
    elif word in UNITS and stream[place].kind == "sign":
        units.append((UNITS[word], False))
        taken[place] = UNITS[word]


def _is_month(folded: Sequence[str], stream: Sequence[Token], place: int) -> bool:
    near = [*range(max(0, place - 1), place), *range(place + 1, min(len(stream), place + 2))]
    return any(stream[i].kind == "number" for i in near) or (
        place > 0 and folded[place - 1] in _MONTH_CUES
    )


def _read_number(
    stream: Sequence[Token],
    folded: Sequence[str],
    place: int,
    figures: list[Figure],
    units: list[tuple[str, bool]],
    taken: dict[int, str],
) -> int:
    """Read one number with its multipliers and its unit; return the place after it."""
    first, token, tail = place, stream[place], fold(stream[place].tail)
    if token.kind == "number":
        value, ordinal = token.text, tail in ("st", "nd", "rd", "th")
        place += 1
        decade = tail == "s" and len(value) in (2, 4) and value.endswith("0")
        if tail and not (ordinal or decade or tail in LARGE or (tail in UNITS and tail != "s")):
            return place  # an identifier such as 4g: the reader of words takes it
        if tail in LARGE:
            value, tail = _times(value, LARGE[tail]), ""
    else:
        value, ordinal, place, tail = *_spelt(folded, place), ""
        if token.tail:
            return place
    while place < len(stream) and folded[place] in LARGE and not ordinal:
        value = _times(value, LARGE[folded[place]])
        place += 1
    unit = ""
    if tail in UNITS and tail != "s":
        unit = UNITS[tail]
    elif first and stream[first - 1].kind == "sign" and folded[first - 1] in UNITS:
        unit = UNITS[folded[first - 1]] if folded[first - 1] in "$€£¥₹" else ""
    soft = token.kind == "word" and place == first + 1 and folded[first] in SOFT
    if not unit and place < len(stream) and folded[place] in UNITS and not ordinal:
        unit = UNITS[folded[place]]
        taken[place] = unit
        place += 1
    for index in range(first, place):
        taken.setdefault(index, "")
    if unit:
        units.append((unit, soft))
    role = unit or (canonical(folded[place]) if place < len(folded) else "")
    before = folded[first - 1] if first else ""
    figures.append(_figure(value, unit, tail, soft, before)._replace(role=role))
    return place


def _figure(value: str, unit: str, tail: str, soft: bool, before: str) -> Figure:
    value = _plain(value)
    if tail == "s" and value.endswith("0"):  # the 1990s, the 90s
        return Figure((value if len(value) > 2 else "19" + value) + "s", "date")
    if before in _VERSION_CUES:
        return Figure(value, "version", unit)
    if not unit and len(value) == 4 and value.isdecimal() and 1500 <= int(value) < 2100:  # noqa: PLR2004
        return Figure(value, "date")
    return Figure(value, "number", unit, soft or (value == "1" and bool(unit)))


def _spelt(folded: Sequence[str], place: int) -> tuple[str, bool, int]:
    """Read number words: value, whether it is an ordinal, the place after them."""
    value = SMALL[folded[place]]
    ordinal = folded[place] in _ORDINALS
    place += 1
    if value >= 20 and value % 10 == 0 and place < len(folded):  # noqa: PLR2004
        ones = SMALL.get(folded[place], 0)
        if 0 < ones < 10:  # noqa: PLR2004
            return str(value + ones), folded[place] in _ORDINALS, place + 1
    return str(value), ordinal, place


def _times(value: str, factor: int) -> str:
    whole, _, part = value.partition(".")
    if len(value) > 30:  # noqa: PLR2004 - not a quantity, and slow to multiply
        return f"{value} {factor}"
    places = len(part)
    product = int(whole + part) * factor
    divisor = 10**places
    rest = str(product % divisor).rjust(places, "0").rstrip("0") if places else ""
    return str(product // divisor) + ("." + rest if rest else "")


def _plain(value: str) -> str:
    """Drop what does not count: leading zeros, and a fraction of zero. 3.1 and 3.10 stay apart."""
    sign, digits = ("-", value[1:]) if value.startswith("-") else ("", value)
    whole, _, part = digits.partition(".")
    whole = whole.lstrip("0") or "0"
    return sign + (f"{whole}.{part}" if part.strip("0") else whole)


def _dated(token: Token) -> list[Figure]:
    """Take a numeric date apart: year, month, day. Of 3/4/2024 the month is taken to be first."""
    one, two, three = token.text.replace("/", "-").replace(".", "-").split("-")
    if token.kind == "iso":
        year, month, day = one, two, three
    elif int(one) > 12 or "." in token.text:  # noqa: PLR2004
        day, month, year = one, two, three
    else:
        month, day, year = one, two, three
    year = year if len(year) == 4 else "20" + year  # noqa: PLR2004
    return [
        Figure(_plain(year), "date"),
        Figure(f"month {_plain(month)}", "date"),
        Figure(_plain(day), "number"),
    ]
